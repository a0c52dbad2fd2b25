"""Which real values the 256 steps of each tensor stand for. Pure.

TensorFlow's converter takes the smallest and largest value that the pictures produce. Here a range is what
loses least: clipping the outermost values a little makes the steps finer for all others. What counts is the
error behind the activation function, of values below -6 nearly nothing; and of the outputs only what makes
a detection: anchors with a score, scores near the threshold.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .graph import BINS, FIXED, SAME_SCALE, Graph, Head

Float32s = NDArray[np.float32]
Function = Callable[[Float32s], Float32s]

LOWEST_LOGIT: Final = -6.0
"""Of a score of 0.0025, below what a second look still considers; all below may be one value."""
HIGHEST_LOGIT: Final = 3.0
"""Of a score of 0.95: scores up to there are told apart even if the pictures have none so high."""
SIGMOID_RANGE: Final = (-5.5, 5.54)
"""The int8 sigmoid's output ends at 1/256 and 255/256: its input needs no more."""
LOWEST_INPUT: Final = -14.0
"""No SiLU needs its input to reach further down, before its channels are scaled."""
PARTS: Final = np.append(np.linspace(0.3, 1.0, 15), 1.05)
"""Of the extremes, tried as ends of a range; 1.05 as other pictures will go beyond."""
SAMPLES: Final = 40_000
"""Values that a range is tried on."""
BOX_SAMPLES: Final = 4_000
"""Anchors that the range of box logits is tried on, and up to twice as many."""


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = scale * (stored - zero_point), stored in -128..127."""

    scale: float
    zero_point: int

    @classmethod
    def of(cls, low: float, high: float) -> Quantisation:
        """The finest that covers both ends and has a step for zero, which padding needs."""
        low, high = min(low, 0.0), max(high, 0.0)
        scale = max((high - low) / 255, 1e-8)
        return cls(scale, int(np.clip(round(-128 - low / scale), -128, 127)))

    def narrowed(self, low: float, high: float) -> Quantisation:
        """One whose ends are these parts of this one's."""
        return Quantisation.of(
            low * (-128 - self.zero_point) * self.scale, high * (127 - self.zero_point) * self.scale
        )

    def __call__(self, real: Float32s) -> Float32s:
        """The real values that the stored ones stand for."""
        stored = np.clip(np.rint(real / np.float32(self.scale)) + self.zero_point, -128, 127)
        restored: Float32s = ((stored - self.zero_point) * np.float32(self.scale)).astype(np.float32)
        return restored


FRACTIONS: Final = Quantisation(1 / 256, -128)
"""Of the outputs of sigmoid and softmax, as TFLite wants it."""
COLOURS: Final = Quantisation(1 / 255, -128)
"""Of the input: a colour's value less 128."""


@dataclass(frozen=True, slots=True, eq=False)
class Observed:
    """What the calibration pictures made of one tensor with C channels."""

    low: Float32s
    """(C,)."""
    high: Float32s
    """(C,)."""
    samples: Float32s
    """(N, C), values at random places."""

    def scaled(self, scale: Float32s) -> Observed:
        """What they would have made with the channels multiplied by (C,), all positive."""
        return Observed(self.low * scale, self.high * scale, self.samples * scale)


def silu(x: Float32s) -> Float32s:
    """The activation function: x * sigmoid(x)."""
    with np.errstate(over="ignore"):
        y: Float32s = x / (1 + np.exp(-x))
    return y


def identity(x: Float32s) -> Float32s:
    """No activation function."""
    return x


def best_range(
    values: Float32s, function: Function, lows: NDArray[np.float64], highs: NDArray[np.float64]
) -> Quantisation:
    """The ends, out of those offered, that give `function` of the values the least mean square error.

    One end at a time, twice, which finds what trying all pairs would in a fraction of the time.
    """
    wanted = function(values)

    def error(low: float, high: float) -> float:
        return float(np.square(function(Quantisation.of(low, high)(values)) - wanted).mean())

    low, high = float(min(lows)), float(max(highs))
    for _ in range(2):
        low = min(lows.tolist(), key=lambda end: error(end, high))
        high = min(highs.tolist(), key=lambda end: error(low, end))
    return Quantisation.of(low, high)


def silu_range(observed: Observed, scale: Float32s) -> Quantisation:
    """For the input of a SiLU whose channels were multiplied by `scale` (C,): least error of its output."""
    values = _thinned(observed)
    lowest, highest = float(observed.low.min()), float(observed.high.max())
    lowest = min(lowest, -0.1)
    lows = np.linspace(max(lowest, LOWEST_INPUT * float(scale.max())), max(lowest, -2.0), 25)

    def scaled_silu(x: Float32s) -> Float32s:
        return scale * silu(x / scale)

    return best_range(values, scaled_silu, lows, max(highest, 0.1) * PARTS)


def plain_range(observed: list[Observed]) -> Quantisation:
    """For tensors that share a scale and are used as they are."""
    values = np.concatenate([_thinned(one).ravel() for one in observed])
    lowest, highest = min(float(values.min()), 0.0), max(float(values.max()), 0.0)
    return best_range(values, identity, lowest * PARTS, highest * PARTS)


def box_range(logits: Float32s) -> Quantisation:
    """For box logits (N, 64): least error of the distances that are decoded from them."""
    low, high = float(logits.min()), float(logits.max())
    logits = logits[:: max(1, len(logits) // BOX_SAMPLES)]
    wanted = distances(logits)
    candidates = (
        Quantisation.of(low * a, high * b) for a in np.linspace(0.2, 1, 17) for b in np.linspace(0.4, 1, 13)
    )
    return min(candidates, key=lambda q: float(np.abs(distances(q(logits)) - wanted).mean()))


def class_range(observed: Observed) -> Quantisation:
    """For class logits: the scores that a threshold may be set to, and all above."""
    return Quantisation.of(LOWEST_LOGIT, max(float(observed.high.max()) + 0.2, HIGHEST_LOGIT))


def choose(
    graph: Graph,
    head: Head,
    observed: dict[int, Observed],
    scales: dict[int, Float32s],
    unscaled: dict[int, int],
) -> dict[int, Quantisation]:
    """The quantisation of every activation.

    `observed` has the tensors that no operator of `SAME_SCALE` or `FIXED` gives, already scaled; those of
    boxes and coefficients hold the samples of anchors with a score only. `scales` are those of
    `exact.scale_channels` by convolution, `unscaled` what goes into the sigmoid there.
    """
    chosen: dict[int, Quantisation] = {
        tensor: Quantisation.of(*SIGMOID_RANGE) for tensor in unscaled.values()
    }
    for level in head.levels:
        chosen[level.boxes] = box_range(observed[level.boxes].samples)
        chosen[level.classes] = class_range(observed[level.classes])
    for group in graph.scale_groups():
        if group[0] in chosen:
            continue
        sources = [tensor for tensor in group if graph.kind_of(tensor) not in SAME_SCALE]
        first = sources[0]
        if first in graph.inputs:
            quantisation = COLOURS
        elif graph.kind_of(first) in FIXED:
            quantisation = FRACTIONS
        elif len(sources) == 1 and graph.silu_of(first) is not None:
            ones = np.ones(len(observed[first].low), np.float32)
            quantisation = silu_range(observed[first], scales.get(first, ones))
        else:
            quantisation = plain_range([observed[tensor] for tensor in sources])
        chosen.update(dict.fromkeys(group, quantisation))
    return chosen


def first_variants(
    graph: Graph, chosen: dict[int, Quantisation], convolutions: Sequence[int]
) -> Iterator[dict[int, Quantisation]]:
    """The same, and with the ranges of the first activations a little narrower, in all combinations.

    Flat areas, the grey bars among them, go through the first layers with the same rounding errors in every
    picture, so that a few steps more or less there make a better or worse model by chance.
    """
    groups = {tensor: group for group in graph.scale_groups() for tensor in group}
    ends = ((1.0, 0.9, 0.8), (1.0, 0.9), *((1.0,) for _ in convolutions[2:]))[: len(convolutions)]
    for *highs, low in itertools.product(*ends, (1.0, 0.6)):
        variant = dict(chosen)
        for tensor, high in zip(convolutions, highs, strict=True):
            product = graph.silu_of(tensor)
            assert product is not None  # `exact.scalable` says so
            variant.update(dict.fromkeys(groups[tensor], chosen[tensor].narrowed(low, high)))
            variant.update(dict.fromkeys(groups[product], chosen[product].narrowed(1.0, high)))
        yield variant


def centred(boxes: Observed) -> Observed:
    """What `exact.centre_boxes` makes of box logits. The extremes are those of the samples."""
    sides = boxes.samples.reshape(-1, 4, BINS)
    samples = (sides - sides.mean(2, keepdims=True)).reshape(boxes.samples.shape)
    return Observed(samples.min(0), samples.max(0), samples)


def distances(logits: Float32s) -> Float32s:
    """Box logits (N, 64) decoded: the distances (N, 4) from an anchor to its box's edges, in strides."""
    bins = logits.reshape(-1, 4, BINS)
    weights = np.exp(bins - bins.max(2, keepdims=True))
    distances: Float32s = (weights @ np.arange(BINS, dtype=np.float32)) / weights.sum(2)
    return distances


def _thinned(observed: Observed) -> Float32s:
    """Up to `SAMPLES` of the values, evenly chosen, with the extremes of every channel."""
    rows, channels = observed.samples.shape
    step = max(1, rows * channels // SAMPLES)
    return np.concatenate([observed.samples[::step], observed.low[None], observed.high[None]])

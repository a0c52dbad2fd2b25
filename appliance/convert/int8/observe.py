"""What calibration pictures make of each tensor of the float model."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import tensorflow as tf  # type: ignore[import-untyped]
from numpy.typing import NDArray

from .graph import FIXED, SAME_SCALE, Graph, Head
from .ranges import Float32s, Observed

VALUES_PER_PICTURE: Final = 2048
"""Of each tensor, at random places."""
LEAST_LOGIT: Final = -2.2
"""Of a score of 0.1: anchors above may become detections."""
LEAST_ANCHORS: Final = 8
"""The best ones of each level and picture count, however low their scores."""


def observe(
    content: bytes, graph: Graph, head: Head, pictures: Any, tick: Callable[[float], None]
) -> dict[int, Observed]:
    """Run the float model on pictures (N, H, W, 3) uint8; the same places are sampled each time.

    `tick` is told which part is done, 0..1.
    Returns what `ranges.choose` wants to see; of box logits and coefficients, anchors with a score only.
    """
    interpreter = tf.lite.Interpreter(
        model_content=content,
        num_threads=len(os.sched_getaffinity(0)),
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    passive = SAME_SCALE | FIXED
    tensors = [t for t in graph.activations() if t not in graph.inputs and graph.kind_of(t) not in passive]
    detections = {tensor for level in head.levels for tensor in (level.boxes, level.coefficients)}
    lows: dict[int, Float32s] = {}
    highs: dict[int, Float32s] = {}
    samples: dict[int, list[Float32s]] = {tensor: [] for tensor in tensors}
    random = np.random.default_rng(0)
    for number, picture in enumerate(pictures):
        tick(number / len(pictures))
        interpreter.set_tensor(graph.inputs[0], picture[np.newaxis].astype(np.float32) / 255)
        interpreter.invoke()
        for tensor in tensors:
            values = interpreter.get_tensor(tensor)
            values = values.reshape(-1, values.shape[-1])
            low, high = values.min(0), values.max(0)
            lows[tensor] = np.minimum(lows.get(tensor, low), low)
            highs[tensor] = np.maximum(highs.get(tensor, high), high)
            if tensor not in detections:
                count = max(1, VALUES_PER_PICTURE // values.shape[1])
                samples[tensor].append(values[random.integers(0, len(values), count)])
        for level in head.levels:
            chosen = anchors_with_a_score(interpreter.get_tensor(level.classes))
            for tensor in (level.boxes, level.coefficients):
                values = interpreter.get_tensor(tensor)
                samples[tensor].append(values.reshape(-1, values.shape[-1])[chosen])
    return {t: Observed(lows[t], highs[t], np.concatenate(samples[t])) for t in tensors}


def anchors_with_a_score(logits: Float32s) -> NDArray[np.intp]:
    """Which anchors of class logits (1, h, w, classes) may become detections, best first."""
    best = logits.reshape(-1, logits.shape[-1]).max(1)
    order = np.argsort(-best, kind="stable")
    return order[: max(LEAST_ANCHORS, int(np.count_nonzero(best >= LEAST_LOGIT)))]

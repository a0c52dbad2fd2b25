"""A TFLite graph as far as quantisation is concerned: operators, constants, and what shares a scale. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Constant = NDArray[Any]

WEIGHTED: Final = {"CONV_2D": (0, 1, 2), "DEPTHWISE_CONV_2D": (0, 1, 2), "TRANSPOSE_CONV": (2, 1, 3)}
"""Operators with weights: where among their inputs the data, the weights and the bias are."""
SAME_SCALE: Final = frozenset(
    {
        "CONCATENATION",
        "MAX_POOL_2D",
        "PAD",
        "RESHAPE",
        "RESIZE_NEAREST_NEIGHBOR",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
)
"""Operators that move int8 values about: TFLite wants one scale for all that goes in and comes out."""
FIXED: Final = frozenset({"LOGISTIC", "SOFTMAX"})
"""Operators whose int8 output is 0..255/256 in every model."""
FREE: Final = frozenset({*WEIGHTED, "ADD", "BATCH_MATMUL", "MUL"})
"""Operators whose output may have any scale."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; tensors are named by their indices in the file."""

    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    source: int | None = None
    """Its index in the file; None if it is not in there yet."""


@dataclass(frozen=True, slots=True, eq=False)
class Graph:
    """Operators in the order in which they run."""

    operators: tuple[Operator, ...]
    constants: dict[int, Constant]
    shapes: dict[int, tuple[int, ...]]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    producers: dict[int, Operator] = field(init=False)
    readers: dict[int, list[Operator]] = field(init=False)

    def __post_init__(self) -> None:
        producers = {tensor: operator for operator in self.operators for tensor in operator.outputs}
        readers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for tensor in operator.inputs:
                readers.setdefault(tensor, []).append(operator)
        object.__setattr__(self, "producers", producers)
        object.__setattr__(self, "readers", readers)

    def with_constants(self, constants: dict[int, Constant]) -> Graph:
        """The same graph, some of its constants replaced."""
        return replace(self, constants={**self.constants, **constants})

    def activations(self) -> Iterator[int]:
        """The input, then what each operator gives."""
        yield from self.inputs
        for operator in self.operators:
            yield from operator.outputs

    def kind_of(self, tensor: int) -> str:
        """The kind of the operator that gives a tensor; "" for the graph's input."""
        return self.producers[tensor].kind if tensor in self.producers else ""

    def unknown(self) -> str | None:
        """The first kind of operator that this package cannot quantise, if any."""
        return next((o.kind for o in self.operators if o.kind not in FREE | FIXED | SAME_SCALE), None)

    def silu_of(self, tensor: int) -> int | None:
        """The tensor x * sigmoid(x), if nothing else is made of x; the sigmoid's input may be scaled."""
        readers = self.readers.get(tensor, [])
        products = [r for r in readers if r.kind == "MUL" and all(i not in self.constants for i in r.inputs)]
        if len(readers) != 2 or len(products) != 1 or products[0].inputs == (tensor, tensor):
            return None
        (other,) = (i for i in products[0].inputs if i != tensor)
        sigmoid = self.producers.get(other)
        if sigmoid is None or sigmoid.kind != "LOGISTIC":
            return None
        scaled = self.producers.get(sigmoid.inputs[0])
        is_scaled = scaled is not None and scaled.kind == "MUL" and tensor in scaled.inputs
        return products[0].outputs[0] if sigmoid.inputs[0] == tensor or is_scaled else None

    def scale_groups(self) -> list[list[int]]:
        """The activations, those that must have one scale together."""
        parent: dict[int, int] = {}

        def root(tensor: int) -> int:
            while (above := parent.get(tensor, tensor)) != tensor:
                tensor = above
            return tensor

        for operator in self.operators:
            if operator.kind in SAME_SCALE:
                for tensor in operator.inputs:
                    if tensor not in self.constants:
                        parent[root(tensor)] = root(operator.outputs[0])
        groups: dict[int, list[int]] = {}
        for tensor in self.activations():
            groups.setdefault(root(tensor), []).append(tensor)
        return list(groups.values())


@dataclass(frozen=True, slots=True)
class Level:
    """The three outputs of one stride."""

    boxes: int
    classes: int
    coefficients: int


@dataclass(frozen=True, slots=True)
class Head:
    """Which output of a raw head is which."""

    levels: tuple[Level, ...]
    prototypes: int


BINS: Final = 16
"""Of the distribution over each of the four distances from an anchor to its box's edges."""
BOX_CHANNELS: Final = 4 * BINS
MASK_CHANNELS: Final = 32


def find_head(graph: Graph) -> Head:
    """Tell the outputs apart by their shapes (1, h, w, channels). Raises `ValueError` if that fails."""
    by_height: dict[int, dict[int, int]] = {}
    for tensor in graph.outputs:
        _, height, _, channels = graph.shapes[tensor]
        by_height.setdefault(height, {})[channels] = tensor
    prototypes, *levels = (by_height[height] for height in sorted(by_height, reverse=True))
    known = {BOX_CHANNELS, MASK_CHANNELS}
    if prototypes.keys() != {MASK_CHANNELS} or any(len(lv) != 3 or not known < lv.keys() for lv in levels):
        raise ValueError(f"the outputs {[graph.shapes[tensor] for tensor in graph.outputs]} are no raw head")
    return Head(
        tuple(
            Level(level[BOX_CHANNELS], level[(level.keys() - known).pop()], level[MASK_CHANNELS])
            for level in levels
        ),
        prototypes[MASK_CHANNELS],
    )


def per_channel_extent(weights: Constant, kind: str) -> NDArray[np.float64]:
    """The largest magnitude of each output channel's weights."""
    axis = channel_axis(kind)
    others = tuple(i for i in range(weights.ndim) if i != axis)
    extent: NDArray[np.float64] = np.abs(weights).max(others).astype(np.float64)
    return extent


def channel_axis(kind: str) -> int:
    """Which axis of an operator's weights counts the output channels."""
    return 3 if kind == "DEPTHWISE_CONV_2D" else 0

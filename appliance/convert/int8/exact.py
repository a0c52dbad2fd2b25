"""Changes of the graph that alter nothing in float and leave more of 8 bits to what matters. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from .graph import BINS, WEIGHTED, Constant, Graph, Head, Operator

SCALED_LAYERS: Final = 2
"""How many activations get channel scales. The first ones have outliers and see the finest detail; further on
the weights, whose rows the scales make uneven, lose what the activations gain."""
LARGEST_SCALE: Final = 16.0
SMALLEST_STEPS: Final = 127
"""1 / scale is a whole number of 1/127, so that int8 holds it exactly."""
LOWEST_INPUT: Final = 6.0
"""SiLU is within 0.015 of zero below -6."""
LOWEST_PART: Final = 0.6
"""How far the range of a scaled activation may reach below zero, as a part of its reach above."""


def centre_boxes(graph: Graph, head: Head) -> Graph:
    """Take from the box logits of each side their mean over the bins, of which a softmax knows nothing."""
    constants: dict[int, Constant] = {}
    for level in head.levels:
        convolution = graph.producers[level.boxes]
        if convolution.kind != "CONV_2D":
            continue
        for tensor in convolution.inputs[1:3]:
            sides = graph.constants[tensor].reshape(4, BINS, -1)
            centred = sides - sides.mean(1, keepdims=True)
            constants[tensor] = centred.reshape(graph.constants[tensor].shape)
    return graph.with_constants(constants)


def scalable(graph: Graph) -> list[int]:
    """The first few convolutions whose SiLU is read by nothing but convolutions, some through padding."""

    def only_convolved(tensor: int) -> bool:
        readers = graph.readers.get(tensor, [])
        return bool(readers) and all(
            (r.kind == "CONV_2D" and _full_depth(graph, r, tensor))
            or (r.kind == "PAD" and only_convolved(r.outputs[0]))
            for r in readers
        )

    found = []
    for operator in graph.operators:
        silu = graph.silu_of(operator.outputs[0]) if operator.kind == "CONV_2D" else None
        if silu is not None and silu not in graph.outputs and only_convolved(silu):
            found.append(operator.outputs[0])
    return found[:SCALED_LAYERS]


def channel_scales(low: NDArray[np.float32], high: NDArray[np.float32]) -> NDArray[np.float32]:
    """What to multiply each channel of a SiLU's input with so that all fill one int8 range: 1..16, (C,).

    `low` and `high` are the channels' extremes. 127 / scale is whole.
    """
    lowest = np.minimum(np.maximum(-low, 0.3), LOWEST_INPUT)
    wanted = np.minimum(1 / np.maximum(high, 1e-3), LOWEST_PART / lowest)
    wanted = wanted / wanted.min()
    steps = np.clip(np.rint(SMALLEST_STEPS / wanted), np.ceil(SMALLEST_STEPS / LARGEST_SCALE), SMALLEST_STEPS)
    scales: NDArray[np.float32] = (SMALLEST_STEPS / steps).astype(np.float32)
    return scales


def scale_channels(graph: Graph, scales: dict[int, NDArray[np.float32]]) -> tuple[Graph, dict[int, int]]:
    """Scale the channels of `scalable` convolutions, and undo it before the sigmoid and in the next weights.

    x * sigmoid(x) becomes k * x * sigmoid((k * x) * (1 / k)), and the next weights are divided by k.
    Returns the graph and, for each convolution, the tensor that goes into its sigmoid now.
    """
    constants, shapes = dict(graph.constants), dict(graph.shapes)
    following = max(*shapes, *constants) + 1
    unscaled: dict[int, int] = {}
    inverse: dict[int, int] = {}
    for tensor, scale in scales.items():
        silu = graph.silu_of(tensor)
        assert silu is not None  # `scalable` says so
        _, weights, bias = graph.producers[tensor].inputs
        constants[weights] = constants[weights] * scale[:, None, None, None]
        constants[bias] = constants[bias] * scale
        for reader in _convolutions(graph, silu):
            constants[reader.inputs[1]] = constants[reader.inputs[1]] / scale
        inverse[tensor], unscaled[tensor] = following, following + 1
        following += 2
        constants[inverse[tensor]] = (1 / scale).reshape(1, 1, 1, -1)
        shapes[inverse[tensor]], shapes[unscaled[tensor]] = (1, 1, 1, len(scale)), shapes[tensor]
    operators: list[Operator] = []
    for operator in graph.operators:
        if operator.kind == "LOGISTIC" and (tensor := operator.inputs[0]) in scales:
            operators.append(Operator("MUL", (tensor, inverse[tensor]), (unscaled[tensor],)))
            operator = replace(operator, inputs=(unscaled[tensor],))
        operators.append(operator)
    return Graph(tuple(operators), constants, shapes, graph.inputs, graph.outputs), unscaled


def _convolutions(graph: Graph, tensor: int) -> list[Operator]:
    found: list[Operator] = []
    for reader in graph.readers[tensor]:
        found += _convolutions(graph, reader.outputs[0]) if reader.kind == "PAD" else [reader]
    return found


def _full_depth(graph: Graph, convolution: Operator, tensor: int) -> bool:
    """Whether a convolution reads the tensor as data, all channels of it for each of its own."""
    data, weights, _ = WEIGHTED[convolution.kind]
    depth = graph.constants[convolution.inputs[weights]].shape[3]
    return convolution.inputs[data] == tensor and depth == graph.shapes[tensor][3]

"""A TFLite model run so that every tensor can be looked at, and what quantising did to each."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ai_edge_litert import schema_py_generated as schema  # type: ignore[import-untyped]
from ai_edge_litert.interpreter import Interpreter, OpResolverType  # type: ignore[import-untyped]
from numpy.typing import NDArray

from appliance.layouts import BINS, BOX_CHANNELS, COEFFICIENTS

Float32s = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class View:
    """What whoever reads a tensor makes of its values."""

    of: Callable[[Float32s], Float32s]
    least_spread: float = 1e-9
    """Differences count in parts of the values' spread, and of this where they hardly differ."""


LOWEST_LOGIT: Final = -6.0
"""Of a score of 0.0025: all below are alike."""
RAW_HEAD_AXES: Final = 4
"""Of each output of a raw head; the predictions of other layouts have three."""
LEAST_SCORE_SPREAD: Final = 0.05
LEAST_DISTANCE_SPREAD: Final = 0.5
"""In strides."""

KINDS: Final = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator; tensors are named by their indices."""

    kind: str
    inputs: tuple[int, ...]
    """Constants among them."""
    output: int


class Run:
    """What a model makes of one picture, (H, W, 3) uint8: all its tensors."""

    def __init__(self, content: bytes, picture: NDArray[np.uint8]) -> None:
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        (graph,) = model.subgraphs
        self.names: dict[int, str] = {
            index: tensor.name.decode(errors="replace") for index, tensor in enumerate(graph.tensors)
        }
        self.operators = [
            Operator(
                KINDS[_code(model.operatorCodes[operator.opcodeIndex])],
                tuple(int(tensor) for tensor in operator.inputs if tensor >= 0),
                int(operator.outputs[0]),
            )
            for operator in graph.operators
        ]
        self.outputs = frozenset(int(tensor) for tensor in graph.outputs)
        self._interpreter = Interpreter(
            model_content=content,
            num_threads=len(os.sched_getaffinity(0)),
            experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )
        self._interpreter.allocate_tensors()
        self._details: dict[int, dict[str, Any]] = {
            int(details["index"]): details for details in self._interpreter.get_tensor_details()
        }
        (entry,) = self._interpreter.get_input_details()
        real = picture[np.newaxis].astype(np.float32) / np.float32(255)
        stored = self.store(entry["index"], real) if entry["dtype"] != np.float32 else real
        self._interpreter.set_tensor(entry["index"], stored)
        self._interpreter.invoke()

    def values(self, tensor: int) -> Float32s:
        """Real values of a tensor."""
        return self.restore(tensor, self._interpreter.get_tensor(tensor))

    def store(self, tensor: int, real: Float32s) -> NDArray[Any]:
        """Real values as this tensor holds them."""
        scale, zero_point = self._quantisation(tensor)
        if not scale:
            return real
        limits = np.iinfo(self._details[tensor]["dtype"])
        stored: NDArray[Any] = np.clip(np.rint(real / scale) + zero_point, limits.min, limits.max)
        return stored.astype(limits.dtype)

    def restore(self, tensor: int, stored: NDArray[Any]) -> Float32s:
        """The real values that stored ones stand for; a scale for each channel belongs to the last axis."""
        scales = self._details[tensor]["quantization_parameters"]["scales"]
        zero_points = self._details[tensor]["quantization_parameters"]["zero_points"]
        if not len(scales):
            return stored.astype(np.float32)
        real: Float32s = ((stored.astype(np.float32) - zero_points) * scales).astype(np.float32)
        return real

    def range_of(self, tensor: int) -> tuple[float, float]:
        """The smallest and the largest real value that a tensor can hold."""
        scale, zero_point = self._quantisation(tensor)
        if not scale:
            return -np.inf, np.inf
        limits = np.iinfo(self._details[tensor]["dtype"])
        return scale * (limits.min - zero_point), scale * (limits.max - zero_point)

    def channel_scales(self) -> dict[int, Float32s]:
        """Tensors that hold k * x instead of x, k for each channel: the sigmoid is of (1 / k) * k * x."""
        scales: dict[int, Float32s] = {}
        for operator in self.operators:
            if operator.kind == "PAD" and operator.inputs[0] in scales:
                scales[operator.output] = scales[operator.inputs[0]]
            if (scaled := self._scaled_by(operator)) is not None:
                scales[scaled] = (1 / self.values(operator.inputs[1])).astype(np.float32)
                products = (o for o in self._readers(scaled) if o.kind == "MUL" and o is not operator)
                scales.update((product.output, scales[scaled]) for product in products)
        return scales

    def view_of(self, tensor: int) -> View:
        """What the next operator, or the reader of the outputs, makes of a tensor's values."""
        if self._goes_into_silu(tensor):
            return View(_silu)
        shape = self._details[tensor]["shape"]
        channels = shape[-1]
        if tensor not in self.outputs or len(shape) != RAW_HEAD_AXES or channels == COEFFICIENTS:
            return View(_identity)
        if channels == BOX_CHANNELS:
            return View(_distances, LEAST_DISTANCE_SPREAD)
        return View(_score, LEAST_SCORE_SPREAD)

    def name_of(self, tensor: int) -> str:
        """What to call a tensor: outputs by what they are, others by what TensorFlow calls the operator."""
        shape = self._details[tensor]["shape"]
        if tensor in self.outputs and len(shape) == RAW_HEAD_AXES:
            height, width, channels = (int(side) for side in shape[1:])
            kinds = {BOX_CHANNELS: "box output", COEFFICIENTS: "coefficient or prototype output"}
            return f"{kinds.get(channels, 'class output')} at {width} x {height}"
        # TensorFlow strings together the names of all that it has made into one operator.
        names = self.names[tensor].split(";")
        last = names[-2 if len(names) > 2 else 0]
        return last.partition("/")[2] if last.startswith("model") else last

    def _readers(self, tensor: int) -> list[Operator]:
        return [operator for operator in self.operators if tensor in operator.inputs]

    def _scaled_by(self, operator: Operator) -> int | None:
        """What an operator that multiplies the input of a sigmoid by constants takes, if it is one."""
        if operator.kind != "MUL" or {one.kind for one in self._readers(operator.output)} != {"LOGISTIC"}:
            return None
        return operator.inputs[0]

    def _goes_into_silu(self, tensor: int) -> bool:
        """Whether a tensor x is read as x * sigmoid(x) only."""
        readers = self._readers(tensor)
        return {one.kind for one in readers} == {"MUL", "LOGISTIC"} or (
            len(readers) == 2 and any(self._scaled_by(one) == tensor for one in readers)
        )

    def _quantisation(self, tensor: int) -> tuple[float, int]:
        scale, zero_point = self._details[tensor]["quantization"]
        return float(scale), int(zero_point)


def _code(operator_code: Any) -> int:
    """Old files have the code in the smaller field only."""
    return max(int(operator_code.builtinCode), int(operator_code.deprecatedBuiltinCode))


def _identity(x: Float32s) -> Float32s:
    return x


def _silu(x: Float32s) -> Float32s:
    y: Float32s = (x / (1 + np.exp(-np.clip(x, -50, 50)))).astype(np.float32)
    return y


def _score(x: Float32s) -> Float32s:
    y: Float32s = (1 / (1 + np.exp(-np.clip(x, LOWEST_LOGIT, 50)))).astype(np.float32)
    return y


def _distances(x: Float32s) -> Float32s:
    bins = x.reshape(-1, 4, BINS)
    weights = np.exp(bins - bins.max(2, keepdims=True))
    distances: Float32s = (weights @ np.arange(BINS, dtype=np.float32) / weights.sum(2)).astype(np.float32)
    return distances

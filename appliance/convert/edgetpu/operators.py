"""What an Edge TPU can run.

Ops and their limits: the table "Supported operations" of https://coral.ai/docs/edgetpu/models-intro/, runtime
14, and the requirements above it. They are what is documented: the compiler has its own mind, and has been
seen to map more (a SOFTMAX of several rows) and less (RESHAPE and RESIZE of big tensors).

Versions: edgetpu_compiler 16.0.384591198 is of 2021 and loads a model with the TFLite of that time, which
refuses the whole file for one op that it does not know. The numbers are those that TensorFlow's
tensorflow/lite/tools/versioning/runtime_version.cc gives for releases up to 2.5. Compiler 15 has also been
seen to leave RESIZE_NEAREST_NEIGHBOR version 3 to the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from appliance.convert.edgetpu.model import Operator, Tensor

LARGEST_SOFTMAX: Final = 16_000
_INTEGERS: Final = ("INT8", "UINT8")
_NO_ACTIVATION: Final = 0


@dataclass(frozen=True, slots=True)
class Use:
    """An operator with its tensors."""

    operator: Operator
    inputs: tuple[Tensor | None, ...]
    outputs: tuple[Tensor, ...]

    def input(self, position: int) -> Tensor | None:
        """An input, or None if it is left out."""
        return self.inputs[position] if position < len(self.inputs) else None

    def numbers(self, position: int) -> tuple[int, ...] | None:
        """The values of a constant input, or None."""
        tensor = self.input(position)
        values = None if tensor is None else tensor.integers()
        return None if values is None else tuple(values.tolist())


Check = Callable[[Use], str | None]
"""Says why an op cannot be mapped, or None."""


@dataclass(frozen=True, slots=True)
class Limit:
    """What the Edge TPU asks of an op."""

    version: int
    """The newest that the compiler knows."""
    check: Check | None = None
    weights: int | None = None
    """Position of the input that has to be constant."""
    shape: tuple[int, ...] = ()
    """Positions of the inputs that set the output's shape, so have to be constant."""
    note: str | None = None
    """What decides, but cannot be seen from here."""


def refusal(use: Use) -> str | None:
    """Why an op cannot run on the Edge TPU, wherever it stands, or None if nothing is known against it."""
    if use.operator.custom:
        return "a custom op"
    limit = LIMITS.get(use.operator.name)
    if limit is None:
        return "not on the Edge TPU's list of ops"
    if use.operator.version > limit.version:
        return f"version {use.operator.version}, and the compiler knows them up to {limit.version}"
    for reason in (_wrong_type(use), _wrong_shape(use), _computed(use, limit)):
        if reason is not None:
            return reason
    return None if limit.check is None else limit.check(use)


def too_new(use: Use) -> bool:
    """Whether the compiler refuses the whole model for this op."""
    limit = LIMITS.get(use.operator.name)
    return limit is not None and use.operator.version > limit.version


def computed_shape(use: Use) -> Tensor | None:
    """The output, if its shape is computed while the model runs."""
    limit = LIMITS.get(use.operator.name)
    for position in () if limit is None else limit.shape:
        tensor = use.input(position)
        if tensor is not None and not tensor.constant and use.outputs:
            return use.outputs[0]
    return next((tensor for tensor in use.outputs if any(length < 0 for length in tensor.shape)), None)


def _wrong_type(use: Use) -> str | None:
    for tensor in (*use.inputs, *use.outputs):
        if tensor is None or (tensor.constant and tensor.dtype in ("INT32", "INT64")):
            continue  # biases, axes, shapes
        if tensor.dtype not in _INTEGERS or not tensor.quantised:
            return f"works on {tensor.dtype}, not on quantised 8-bit numbers"
    return None


def _wrong_shape(use: Use) -> str | None:
    for tensor in (*use.inputs, *use.outputs):
        if tensor is not None and not tensor.constant and any(length != 1 for length in tensor.shape[:-3]):
            return f"a tensor of shape {list(tensor.shape)}: only the last three lengths may be more than 1"
    return None


def _computed(use: Use, limit: Limit) -> str | None:
    if limit.weights is None:
        return None
    weights = use.input(limit.weights)
    return None if weights is None or weights.constant else "its weights are computed, not constant"


def _no_activation(use: Use) -> str | None:
    fused = use.operator.options.get("FusedActivationFunction", _NO_ACTIVATION)
    return None if fused == _NO_ACTIVATION else "has a fused activation"


def _concatenation(use: Use) -> str | None:
    constants = [tensor.data for tensor in use.inputs if tensor is not None and tensor.data is not None]
    if constants and (len(use.inputs) != 2 or any(any(data) for data in constants)):
        return "joins a constant that is not padding with zeros"
    return _no_activation(use)


def _dilation(use: Use) -> str | None:
    options = use.operator.options
    same = options.get("DilationWFactor", 1) == options.get("DilationHFactor", 1)
    return None if same else "its dilation differs between x and y"


def _fully_connected(use: Use) -> str | None:
    if use.operator.options.get("WeightsFormat", 0) != 0:
        return "its weights are not in the default format"
    return None if _one_row(use.outputs) else "its output is not one-dimensional"


def _softmax(use: Use) -> str | None:
    if not _one_row(use.outputs):
        return "its input is not one-dimensional"
    small = all(math.prod(tensor.shape) <= LARGEST_SOFTMAX for tensor in use.outputs)
    return None if small else f"more than {LARGEST_SOFTMAX} elements"


def _strided_slice(use: Use) -> str | None:
    strides = use.numbers(3)
    if strides is None or any(stride != 1 for stride in strides):
        return "its strides are not all 1"
    masks = [use.operator.options.get(mask, 0) for mask in ("EllipsisMask", "NewAxisMask")]
    return "uses an ellipsis or a new axis" if any(masks) else None


def _prelu(use: Use) -> str | None:
    slopes = use.input(1)
    flat = slopes is not None and all(length == 1 for length in slopes.shape[:-1])
    return None if flat else "its slopes differ from place to place"


def _pad(use: Use) -> str | None:
    amounts = use.numbers(1)
    if amounts is None:
        return "its padding is computed, not constant"
    rank = len(amounts) // 2
    return "pads the batch" if rank > 3 and any(amounts[:2]) else None


def _pack(use: Use) -> str | None:
    return "packs along the batch" if use.operator.options.get("Axis", 0) == 0 else None


def _split(use: Use) -> str | None:
    whole, axis = use.input(1), use.numbers(0)
    if whole is None or not axis:
        return "its axis is computed, not constant"
    return "splits the batch" if axis[0] % max(len(whole.shape), 1) == 0 else None


def _reduce(use: Use) -> str | None:
    whole, axes = use.input(0), use.numbers(1)
    if whole is None or axes is None:
        return "its axes are computed, not constant"
    return "reduces the batch" if any(axis % max(len(whole.shape), 1) == 0 for axis in axes) else None


def _mean(use: Use) -> str | None:
    whole, axes = use.input(0), use.numbers(1)
    if whole is not None and whole.shape and axes is not None:
        rank = len(whole.shape)
        if any(axis % rank == rank - 1 for axis in axes) and whole.shape[-1] % 4:
            return "averages channels whose number is no multiple of 4"
    return _reduce(use)


def _one_row(tensors: tuple[Tensor, ...]) -> bool:
    return all(math.prod(tensor.shape[:-1]) == 1 for tensor in tensors)


_BIG_RESHAPE: Final = "big tensors may not be mapped"
_RESIZE: Final = "whether it is mapped depends on its sizes"

LIMITS: Final[Mapping[str, Limit]] = {
    "ADD": Limit(3),
    "AVERAGE_POOL_2D": Limit(3, _no_activation),
    "CONCATENATION": Limit(3, _concatenation),
    "CONV_2D": Limit(5, _dilation, weights=1),
    "DEPTHWISE_CONV_2D": Limit(6, _dilation, weights=1),
    "EXPAND_DIMS": Limit(1, shape=(1,)),
    "FULLY_CONNECTED": Limit(9, _fully_connected, weights=1),
    "L2_NORMALIZATION": Limit(2),
    "LOGISTIC": Limit(3),
    "LSTM": Limit(4),
    "MAXIMUM": Limit(4),
    "MAX_POOL_2D": Limit(3, _no_activation),
    "MEAN": Limit(3, _mean),
    "MINIMUM": Limit(4),
    "MUL": Limit(4),
    "PACK": Limit(3, _pack),
    "PAD": Limit(3, _pad, shape=(1,)),
    "PRELU": Limit(1, _prelu, weights=1),
    "QUANTIZE": Limit(2),
    "REDUCE_MAX": Limit(3, _reduce),
    "REDUCE_MIN": Limit(3, _reduce),
    "RELU": Limit(3),
    "RELU6": Limit(3),
    "RELU_N1_TO_1": Limit(1),
    "RESHAPE": Limit(1, shape=(1,), note=_BIG_RESHAPE),
    "RESIZE_BILINEAR": Limit(4, shape=(1,), note=_RESIZE),
    "RESIZE_NEAREST_NEIGHBOR": Limit(4, shape=(1,), note=_RESIZE),
    "RSQRT": Limit(2),
    "SLICE": Limit(5, shape=(1, 2)),
    "SOFTMAX": Limit(3, _softmax),
    "SPACE_TO_DEPTH": Limit(2),
    "SPLIT": Limit(4, _split),
    "SQUARED_DIFFERENCE": Limit(2),
    "SQUEEZE": Limit(2),
    "STRIDED_SLICE": Limit(5, _strided_slice, shape=(1, 2)),
    "SUB": Limit(5),
    "SUM": Limit(2, _reduce),
    "TANH": Limit(3),
    "TRANSPOSE": Limit(5, shape=(1,)),
    "TRANSPOSE_CONV": Limit(3, weights=1, shape=(0,)),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": Limit(3),
}

"""A .tflite file as plain data: operators in execution order, with their tensors.

The file may be anything: every offset and length is checked before it is used, so that a damaged one is an
error and no traceback. The schema comes with ai-edge-litert.
"""

from __future__ import annotations

import importlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from appliance.errors import ModelError, NotAModel

CUSTOM: Final = "CUSTOM"
MOST: Final = 100_000
"""Operators or tensors that a real model never has; a damaged length can be any number."""
_IDENTIFIER: Final = b"TFL3"
_OPTIONS: Final = (
    "FusedActivationFunction",
    "DilationWFactor",
    "DilationHFactor",
    "WeightsFormat",
    "EllipsisMask",
    "NewAxisMask",
    "Axis",
)
"""Fields of operators' options that some limit of the Edge TPU is about."""
_DAMAGE: Final = (struct.error, IndexError, KeyError, ValueError, TypeError, AttributeError, OverflowError)
"""What the flatbuffers package and NumPy raise for bytes that are no flatbuffer."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of the graph."""

    name: str
    shape: tuple[int, ...]
    """As stored; negative lengths are known at run time only."""
    dtype: str
    """As the schema calls it: "INT8", "FLOAT32"."""
    quantised: bool
    """Whether it has a scale."""
    buffer: int
    """Tensors that share a buffer share the data."""
    data: memoryview | None = field(repr=False)
    """Its bytes if it is constant, or None."""

    @property
    def constant(self) -> bool:
        """Whether it is known before the model runs."""
        return self.data is not None

    def integers(self) -> NDArray[np.int64] | None:
        """The values of a constant of int8, int32 or int64, flat; None for all else."""
        kinds = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "INT64": np.int64}
        kind = kinds.get(self.dtype)
        if self.data is None or kind is None or len(self.data) % np.dtype(kind).itemsize:
            return None
        return np.frombuffer(self.data, kind).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator. Inputs that are left out are None."""

    name: str
    """As the schema calls it: "CONV_2D"; a custom one by its own name."""
    version: int
    custom: bool
    inputs: tuple[int | None, ...]
    outputs: tuple[int, ...]
    """Indices into the model's tensors."""
    options: Mapping[str, int]
    """Those of its options that matter here."""


@dataclass(frozen=True, slots=True)
class Model:
    """The main graph of a model."""

    operators: tuple[Operator, ...]
    """In execution order."""
    tensors: tuple[Tensor, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    graphs: int
    """How many graphs the file has; more than one means control flow."""
    weights_outside: bool
    """Whether weights lie behind the flatbuffer, where only newer readers look."""


def parse(content: bytes, name: str) -> Model:
    """Read a model. `name` is what errors call it.

    Raises `NotAModel` for anything else and for damaged files; `ModelError` where ai-edge-litert is missing.
    """
    if content[4:8] != _IDENTIFIER:
        raise NotAModel(f"{name} is not a TFLite model: give a .tflite file")
    try:
        schema = importlib.import_module("ai_edge_litert.schema_py_generated")
    except ModuleNotFoundError as error:
        raise ModelError(
            "reading a model's graph needs ai-edge-litert, which is not installed (tflite-runtime lacks it)"
        ) from error
    try:
        return _Reader(schema, content).model()
    except _DAMAGE as error:
        raise NotAModel(
            f"{name} is damaged or cut short: copy or convert it again ({error or type(error).__name__})"
        ) from error


class _Reader:
    def __init__(self, schema: Any, content: bytes) -> None:
        self._schema, self._content = schema, content
        self._builtin = _names(schema.BuiltinOperator)
        self._dtypes = _names(schema.TensorType)
        self._options = _names(schema.BuiltinOptions)
        self._model = schema.Model.GetRootAs(content, 0)

    def model(self) -> Model:
        model = self._model
        graphs = self._count(model.SubgraphsLength())
        if graphs < 1:
            raise ValueError("it has no graph")
        graph = model.Subgraphs(0)
        tensors = tuple(self._tensor(graph.Tensors(i)) for i in range(self._count(graph.TensorsLength())))
        operators = tuple(
            self._operator(graph.Operators(i), len(tensors))
            for i in range(self._count(graph.OperatorsLength()))
        )
        if not operators:
            raise ValueError("it has no operators")
        return Model(
            operators,
            tensors,
            _known(_integers(graph.InputsAsNumpy()), len(tensors)),
            _known(_integers(graph.OutputsAsNumpy()), len(tensors)),
            graphs,
            any(
                model.Buffers(i).Offset() > 1 for i in range(self._count(model.BuffersLength()))
            ),  # 1 marks one that is still to be written
        )

    def _count(self, length: int) -> int:
        """A vector's length, if the file can hold that many tables."""
        if not 0 <= length <= min(MOST, len(self._content) // 4):
            raise ValueError(f"a list of {length}")
        return length

    def _tensor(self, tensor: Any) -> Tensor:
        shape = _integers(tensor.ShapeAsNumpy())
        signature = _integers(tensor.ShapeSignatureAsNumpy())
        if len(signature) == len(shape):  # -1 there says that the length in `shape` is only a default
            # An open batch is no harm: whatever does not resize the model runs it with the default.
            shape = shape[:1] + tuple(
                -1 if sign < 0 else length for sign, length in zip(signature[1:], shape[1:], strict=True)
            )
        quantisation = tensor.Quantization()
        return Tensor(
            name=_text(tensor.Name()),
            shape=shape,
            dtype=self._dtypes[tensor.Type()],
            quantised=quantisation is not None and quantisation.ScaleLength() > 0,
            buffer=tensor.Buffer(),
            data=self._data(tensor.Buffer()),
        )

    def _data(self, index: int) -> memoryview | None:
        if not 0 <= index < self._count(self._model.BuffersLength()):
            raise ValueError(f"there is no buffer {index}")
        buffer = self._model.Buffers(index)
        if buffer.Offset() > 1:
            start, length = buffer.Offset(), buffer.Size()
        else:
            length = buffer.DataLength()
            if not length:
                return None
            start = buffer._tab.Vector(buffer._tab.Offset(4))  # the first field, `data`
        if start < 0 or start + length > len(self._content):
            raise ValueError("the weights end early")
        return memoryview(self._content)[start : start + length]

    def _operator(self, operator: Any, tensors: int) -> Operator:
        index = operator.OpcodeIndex()
        if not 0 <= index < self._count(self._model.OperatorCodesLength()):
            raise ValueError(f"there is no operator code {index}")
        code = self._model.OperatorCodes(index)
        # Files from before 2020 have the number in the narrower field only.
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        name = self._builtin.get(number, f"operator {number}")
        custom = name == CUSTOM
        if custom:
            name = _text(code.CustomCode()) or CUSTOM
        inputs = _integers(operator.InputsAsNumpy())
        return Operator(
            name=name,
            version=code.Version(),
            custom=custom,
            inputs=tuple(None if tensor == -1 else _known((tensor,), tensors)[0] for tensor in inputs),
            outputs=_known(_integers(operator.OutputsAsNumpy()), tensors),
            options=MappingProxyType(self._read_options(operator)),
        )

    def _read_options(self, operator: Any) -> dict[str, int]:
        union = getattr(self._schema, self._options.get(operator.BuiltinOptionsType(), ""), None)
        table = operator.BuiltinOptions()
        if union is None or table is None:
            return {}
        options = union()
        options.Init(table.Bytes, table.Pos)
        return {name: int(getattr(options, name)()) for name in _OPTIONS if hasattr(options, name)}


def _names(enumeration: type) -> dict[int, str]:
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _text(stored: bytes | None) -> str:
    """What can be printed of a name: it may come from anywhere."""
    return "".join(
        letter if letter.isprintable() else "?" for letter in (stored or b"").decode("utf-8", "replace")
    )


def _integers(vector: Any) -> tuple[int, ...]:
    """A vector that may be missing, which the schema's code gives as 0."""
    return () if isinstance(vector, int) else tuple(int(number) for number in vector)


def _known(tensors: tuple[int, ...], count: int) -> tuple[int, ...]:
    for tensor in tensors:
        if not 0 <= tensor < count:
            raise ValueError(f"there is no tensor {tensor}")
    return tensors

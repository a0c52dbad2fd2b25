"""A float TFLite file to a `Graph`, and back as int8.

Operator versions are the oldest that know int8: the Edge TPU's compiler is of 2021.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from tensorflow.lite.python import schema_py_generated as schema  # type: ignore[import-untyped]
from tensorflow.lite.tools import flatbuffer_utils  # type: ignore[import-untyped]

from .graph import WEIGHTED, Constant, Graph, Operator, channel_axis, per_channel_extent
from .ranges import Quantisation

KINDS: Final = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
INT8_VERSIONS: Final = {
    "ADD": 2,
    "BATCH_MATMUL": 2,
    "CONCATENATION": 2,
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "LOGISTIC": 2,
    "MAX_POOL_2D": 2,
    "MUL": 2,
    "PAD": 2,
    "RESHAPE": 1,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "SOFTMAX": 2,
    "STRIDED_SLICE": 2,
    "TRANSPOSE": 2,
    "TRANSPOSE_CONV": 3,
}
GROUPED_CONVOLUTION: Final = 6
"""The version of CONV_2D that knows groups; a network without any does not have it."""
DTYPES: Final = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
}
ALIGNMENT: Final = 16


class AlignedBuffer(schema.BufferT):  # type: ignore[misc]
    """Constant data where TFLite wants it: Python's flatbuffers alone would align it to 4 bytes."""

    def Pack(self, builder: Any) -> Any:  # noqa: N802
        """Write it."""
        content = bytes(self.data)
        builder.StartVector(1, len(content), ALIGNMENT)
        start = builder.head = builder.Head() - len(content)
        builder.Bytes[start : start + len(content)] = content
        data = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, data)
        return schema.BufferEnd(builder)


def read(content: bytes) -> tuple[Any, Graph]:
    """A float model's object, and its graph. Raises `ValueError` for dtypes that no float model needs."""
    model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
    (subgraph,) = model.subgraphs
    constants: dict[int, Constant] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    for index, tensor in enumerate(subgraph.tensors):
        shapes[index] = () if tensor.shape is None else tuple(int(size) for size in tensor.shape)
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            if tensor.type not in DTYPES:
                raise ValueError(f"the float model has a constant of type {tensor.type}")
            values = np.frombuffer(np.asarray(data, np.uint8).tobytes(), DTYPES[tensor.type])
            constants[index] = values.reshape(shapes[index])
    operators = tuple(
        Operator(
            KINDS[model.operatorCodes[operator.opcodeIndex].builtinCode],
            tuple(int(i) for i in operator.inputs),
            tuple(int(i) for i in operator.outputs),
            source,
        )
        for source, operator in enumerate(subgraph.operators)
    )
    inputs, outputs = (tuple(int(i) for i in ends) for ends in (subgraph.inputs, subgraph.outputs))
    return model, Graph(operators, constants, shapes, inputs, outputs)


def write(model: Any, graph: Graph, quantisations: dict[int, Quantisation]) -> bytes:
    """The int8 model: `graph`, made from that of `model`, quantised. Changes `model`."""
    writer = _Writer(model, graph)
    for tensor, quantisation in quantisations.items():
        writer.set_activation(tensor, quantisation)
    (subgraph,) = model.subgraphs
    subgraph.operators = [writer.operator(operator, quantisations) for operator in graph.operators]
    for code in model.operatorCodes:
        kind = KINDS[code.builtinCode]
        grouped = kind == "CONV_2D" and code.version >= GROUPED_CONVOLUTION
        code.version = GROUPED_CONVOLUTION if grouped else INT8_VERSIONS[kind]
    writer.drop_unused()
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


class _Writer:
    def __init__(self, model: Any, graph: Graph) -> None:
        self._model, self._graph = model, graph
        (self._subgraph,) = model.subgraphs
        self._originals = list(self._subgraph.operators)
        self._count = len(self._subgraph.tensors)
        self._of: dict[int, int] = {}
        """Tensors of the graph that are not in the file: their indices in it."""

    def set_activation(self, tensor: int, quantisation: Quantisation) -> None:
        """Make an activation int8."""
        if tensor >= self._count:
            self._of[tensor] = self._add(f"activation_{tensor}", self._graph.shapes[tensor])
        target = self._subgraph.tensors[self._of.get(tensor, tensor)]
        target.type = schema.TensorType.INT8
        target.quantization = _parameters(
            np.array([quantisation.scale]), np.array([quantisation.zero_point]), axis=0
        )

    def operator(self, operator: Operator, quantisations: dict[int, Quantisation]) -> Any:
        """The file's form of an operator, with its constants."""
        inputs = [self._of.get(tensor, tensor) for tensor in operator.inputs]
        if operator.kind in WEIGHTED:
            data, weights, bias = WEIGHTED[operator.kind]
            scales = self._weights(operator, weights, inputs)
            if len(inputs) > bias and inputs[bias] >= 0:
                steps = quantisations[operator.inputs[data]].scale * scales
                self._bias(operator, bias, inputs, steps)
        else:
            for position, tensor in enumerate(operator.inputs):
                constant = self._graph.constants.get(tensor)
                if constant is not None and constant.dtype.kind == "f":
                    inputs[position] = self._plain_constant(tensor, constant)
        raw = schema.OperatorT() if operator.source is None else self._originals[operator.source]
        if operator.source is None:
            raw.opcodeIndex = self._code(operator.kind)
            raw.builtinOptionsType = schema.BuiltinOptions.MulOptions
            raw.builtinOptions = schema.MulOptionsT()
        raw.inputs = np.array(inputs, np.int32)
        raw.outputs = np.array([self._of.get(tensor, tensor) for tensor in operator.outputs], np.int32)
        return raw

    def drop_unused(self) -> None:
        """Leave out the tensors and buffers that nothing refers to any more."""
        subgraph = self._subgraph
        ends = [subgraph.inputs, subgraph.outputs]
        for operator in subgraph.operators:
            ends += [operator.inputs, operator.outputs]
        used = sorted({int(tensor) for end in ends for tensor in end if tensor >= 0})
        renamed = {old: new for new, old in enumerate(used)} | {-1: -1}
        subgraph.tensors = [subgraph.tensors[tensor] for tensor in used]
        for owner in (subgraph, *subgraph.operators):
            owner.inputs, owner.outputs = (
                np.array([renamed[int(tensor)] for tensor in end], np.int32)
                for end in (owner.inputs, owner.outputs)
            )
        for signature in self._model.signatureDefs or []:
            for end in (*signature.inputs, *signature.outputs):
                end.tensorIndex = renamed[end.tensorIndex]
        owners = [*subgraph.tensors, *(self._model.metadata or [])]
        buffers = [self._model.buffers[0]]
        moved = {0: 0}
        for owner in owners:
            if owner.buffer not in moved:
                moved[owner.buffer] = len(buffers)
                buffers.append(self._model.buffers[owner.buffer])
            owner.buffer = moved[owner.buffer]
        self._model.buffers = buffers

    def _weights(self, operator: Operator, position: int, inputs: list[int]) -> NDArray[np.float64]:
        """Add the int8 weights; returns the scale of each output channel."""
        weights = self._graph.constants[operator.inputs[position]]
        axis = channel_axis(operator.kind)
        scales = np.maximum(per_channel_extent(weights, operator.kind), 1e-9) / 127
        scales = scales.astype(np.float32).astype(np.float64)  # as they are stored
        shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
        stored = np.clip(np.rint(weights / scales.reshape(shape)), -127, 127).astype(np.int8)
        parameters = _parameters(scales, np.zeros(len(scales)), axis)
        name = f"weights_{operator.outputs[0]}"
        inputs[position] = self._add(name, stored.shape, stored, schema.TensorType.INT8, parameters)
        return scales

    def _bias(self, operator: Operator, position: int, inputs: list[int], steps: NDArray[np.float64]) -> None:
        bias = self._graph.constants[operator.inputs[position]]
        limits = np.iinfo(np.int32)
        stored = np.clip(np.rint(bias / steps), limits.min, limits.max).astype(np.int32)
        parameters = _parameters(steps, np.zeros(len(steps)), axis=0)
        name = f"bias_{operator.outputs[0]}"
        inputs[position] = self._add(name, stored.shape, stored, schema.TensorType.INT32, parameters)

    def _plain_constant(self, tensor: int, constant: Constant) -> int:
        """Add an int8 constant with one scale."""
        scale = max(float(np.abs(constant).max()), 1e-9) / 127
        stored = np.rint(constant / scale).astype(np.int8)
        parameters = _parameters(np.array([scale]), np.zeros(1), axis=0)
        return self._add(f"constant_{tensor}", stored.shape, stored, schema.TensorType.INT8, parameters)

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        values: Constant | None = None,
        kind: int = schema.TensorType.INT8,
        parameters: Any = None,
    ) -> int:
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name.encode(), np.array(shape, np.int32), kind
        tensor.hasRank, tensor.quantization = True, parameters
        tensor.buffer = 0
        if values is not None:
            buffer = AlignedBuffer()
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        self._subgraph.tensors.append(tensor)
        return len(self._subgraph.tensors) - 1

    def _code(self, kind: str) -> int:
        codes = [KINDS[code.builtinCode] for code in self._model.operatorCodes]
        return codes.index(kind)  # wherever there is a SiLU, there is a MUL


def _parameters(scales: NDArray[Any], zero_points: NDArray[Any], axis: int) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale, parameters.zeroPoint = scales.astype(np.float32), zero_points.astype(np.int64)
    parameters.quantizedDimension = axis
    return parameters

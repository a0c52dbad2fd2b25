"""Real .tflite files, changed: an int8 model's float twin, and int8 models that were quantised badly."""

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

KINDS = {code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)}
WEIGHTS_AND_BIAS = {"CONV_2D": (1, 2), "DEPTHWISE_CONV_2D": (1, 2), "TRANSPOSE_CONV": (1, 3)}
SAME_SCALE = {"CONCATENATION", "MAX_POOL_2D", "PAD", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR", "STRIDED_SLICE"}


def read(content: bytes) -> Any:
    """A model as an object."""
    return schema.ModelT.InitFromPackedBuf(content, 0)


def write(model: Any) -> bytes:
    """The object as a file."""
    builder = flatbuffers.Builder(1 << 22)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def kind_of(model: Any, operator: Any) -> str:
    """What an operator does."""
    return KINDS[model.operatorCodes[operator.opcodeIndex].builtinCode]


def float_twin(content: bytes) -> bytes:
    """The float model that has an int8 model's weights: what that one is the quantised form of."""
    model = read(content)
    (graph,) = model.subgraphs
    for tensor in graph.tensors:
        quantisation = tensor.quantization
        if quantisation is None or quantisation.scale is None or not len(quantisation.scale):
            continue
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            dtype = np.int8 if tensor.type == schema.TensorType.INT8 else np.int32
            stored = np.frombuffer(np.asarray(data, np.uint8).tobytes(), dtype).reshape(tensor.shape)
            shape = [1] * stored.ndim
            if len(quantisation.scale) > 1:
                shape[quantisation.quantizedDimension] = -1
            scale = np.asarray(quantisation.scale, np.float32).reshape(shape)
            zero = np.asarray(quantisation.zeroPoint).reshape(shape)
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(((stored - zero) * scale).astype(np.float32).tobytes(), np.uint8)
            tensor.buffer = len(model.buffers)
            model.buffers.append(buffer)
        tensor.type, tensor.quantization = schema.TensorType.FLOAT32, None
    # From one scale to another: nothing in float.
    renamed = {
        int(o.outputs[0]): int(o.inputs[0]) for o in graph.operators if kind_of(model, o) == "QUANTIZE"
    }
    graph.operators = [operator for operator in graph.operators if int(operator.outputs[0]) not in renamed]
    for operator in graph.operators:
        operator.inputs = np.array(
            [renamed.get(int(tensor), int(tensor)) for tensor in operator.inputs], np.int32
        )
    for buffer in model.buffers[1:]:
        if not any(tensor.buffer and model.buffers[tensor.buffer] is buffer for tensor in graph.tensors):
            buffer.data = None
    return write(model)


def rescale(content: bytes, factor: float, choose: Callable[[Any, int], bool]) -> bytes:
    """The same stored weights, with the ranges of some operators' outputs multiplied by `factor`.

    `choose(model, number)` is asked for each operator, by its place. What has to have the same scale gets it.
    """
    model = read(content)
    (graph,) = model.subgraphs
    fixed = {
        int(operator.outputs[0])
        for operator in graph.operators
        if kind_of(model, operator) in {"LOGISTIC", "SOFTMAX"}
    } | {int(tensor) for tensor in graph.inputs}
    parent: dict[int, int] = {}

    def root(tensor: int) -> int:
        while tensor in parent:
            tensor = parent[tensor]
        return tensor

    for operator in graph.operators:
        if kind_of(model, operator) in SAME_SCALE:
            constants = {int(t) for t in operator.inputs if _is_constant(model, int(t))}
            for tensor in set(map(int, operator.inputs)) - constants:
                if (above := root(int(operator.outputs[0]))) != root(tensor):
                    parent[root(tensor)] = above
    chosen = {
        root(int(operator.outputs[0]))
        for number, operator in enumerate(graph.operators)
        if choose(model, number) and int(operator.outputs[0]) not in fixed
    } - {root(tensor) for tensor in fixed}
    for index, tensor in enumerate(graph.tensors):
        if root(index) in chosen and not _is_constant(model, index):
            tensor.quantization.scale = np.asarray(tensor.quantization.scale, np.float32) * np.float32(factor)
    for operator in graph.operators:
        _fit_bias(model, operator)
    return write(model)


def scale_weights(content: bytes, factor: float, number: int) -> bytes:
    """The weights of one operator, by its place, taken for others that are `factor` times as large."""
    model = read(content)
    (graph,) = model.subgraphs
    operator = graph.operators[number]
    weights = graph.tensors[operator.inputs[WEIGHTS_AND_BIAS[kind_of(model, operator)][0]]]
    weights.quantization.scale = np.asarray(weights.quantization.scale, np.float32) * np.float32(factor)
    _fit_bias(model, operator)
    return write(model)


def _is_constant(model: Any, index: int) -> bool:
    data = model.buffers[model.subgraphs[0].tensors[index].buffer].data
    return data is not None and len(data) > 0


def _fit_bias(model: Any, operator: Any) -> None:
    """Store the bias anew: its step is that of the input times that of the weights."""
    places = WEIGHTS_AND_BIAS.get(kind_of(model, operator))
    if places is None or len(operator.inputs) <= places[1]:
        return
    tensors = model.subgraphs[0].tensors
    data = tensors[operator.inputs[2 if kind_of(model, operator) == "TRANSPOSE_CONV" else 0]]
    weights, bias = (tensors[operator.inputs[place]] for place in places)
    steps = (np.float32(data.quantization.scale[0]) * np.asarray(weights.quantization.scale)).astype(
        np.float32
    )
    stored = np.frombuffer(np.asarray(model.buffers[bias.buffer].data, np.uint8).tobytes(), np.int32)
    real = stored * np.asarray(bias.quantization.scale, np.float64)
    buffer = schema.BufferT()
    limits = np.iinfo(np.int32)
    buffer.data = np.frombuffer(
        np.clip(np.rint(real / steps), limits.min, limits.max).astype(np.int32).tobytes(), np.uint8
    )
    bias.buffer = len(model.buffers)
    model.buffers.append(buffer)
    bias.quantization.scale = steps

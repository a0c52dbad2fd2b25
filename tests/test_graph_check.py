"""Which ops of a model would run on an Edge TPU: known models, made-up ones, damaged files."""

from __future__ import annotations

import ast
import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.__main__ import main
from appliance.config import PROJECT_ROOT
from appliance.convert.edgetpu.graph import GraphReport, check, check_content
from appliance.convert.edgetpu.operators import LIMITS
from appliance.errors import ApplianceError, ModelError, ModelMissing, NotAModel, NotForEdgeTpu

DEMO = PROJECT_ROOT / "models" / "demo.tflite"
SHARED = PROJECT_ROOT.parent / "shared" / "models"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared is not here")
BEHIND = "behind an op that runs on the CPU"


@dataclass
class Op:
    """An op of a made-up model. Constants are arrays, other tensors are called by name."""

    kind: str
    inputs: Sequence[str | np.ndarray[Any, Any] | None]
    outputs: Sequence[str]
    version: int = 1
    options: Any = None


@dataclass
class Made:
    """A made-up model; tensors are int8 of shape (1, 8, 8, 4) unless `tensors` says otherwise."""

    ops: Sequence[Op]
    shapes: dict[str, Sequence[int]] = field(default_factory=dict)
    dtypes: dict[str, str] = field(default_factory=dict)
    signatures: dict[str, Sequence[int]] = field(default_factory=dict)
    graphs: int = 1

    def content(self) -> bytes:
        self._model = schema.ModelT()
        self._model.version = 3
        self._model.buffers, self._model.operatorCodes = [schema.BufferT()], []
        self._graph = schema.SubGraphT()
        self._graph.tensors, self._graph.operators = [], []
        self._names: dict[str, int] = {}
        for op in self.ops:
            self._add(op)
        made = {name for op in self.ops for name in op.outputs}
        self._graph.inputs = [index for name, index in self._names.items() if name not in made]
        self._graph.outputs = [self._names[name] for name in self.ops[-1].outputs]
        self._model.subgraphs = [self._graph] * self.graphs
        builder = flatbuffers.Builder(1024)
        builder.Finish(self._model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    def _add(self, op: Op) -> None:
        code = schema.OperatorCodeT()
        code.version = op.version
        if hasattr(schema.BuiltinOperator, op.kind):
            code.builtinCode = getattr(schema.BuiltinOperator, op.kind)
        else:
            code.builtinCode, code.customCode = schema.BuiltinOperator.CUSTOM, op.kind
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)
        self._model.operatorCodes.append(code)
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self._model.operatorCodes) - 1
        operator.inputs = [-1 if tensor is None else self._tensor(tensor) for tensor in op.inputs]
        operator.outputs = [self._tensor(name) for name in op.outputs]
        if op.options is not None:
            operator.builtinOptions = op.options
            kind = type(op.options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
        self._graph.operators.append(operator)

    def _tensor(self, given: str | np.ndarray[Any, Any]) -> int:
        if isinstance(given, str) and given in self._names:
            return self._names[given]
        tensor = schema.TensorT()
        tensor.buffer = 0
        if isinstance(given, str):
            tensor.name, tensor.shape = given, list(self.shapes.get(given, (1, 8, 8, 4)))
            dtype = self.dtypes.get(given, "INT8")
            if given in self.signatures:
                tensor.shapeSignature = list(self.signatures[given])
            self._names[given] = len(self._graph.tensors)
        else:
            tensor.name, tensor.shape, dtype = "constant", list(given.shape), given.dtype.name.upper()
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(given.tobytes(), np.uint8)
            tensor.buffer = len(self._model.buffers)
            self._model.buffers.append(buffer)
        tensor.type = getattr(schema.TensorType, dtype)
        if dtype in ("INT8", "UINT8", "INT16"):
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [0.5], [0]
        self._graph.tensors.append(tensor)
        return len(self._graph.tensors) - 1


def options(kind: str, **values: int) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        assert hasattr(made, name)
        setattr(made, name, value)
    return made


def numbers(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int32)


def report(*ops: Op, **how: Any) -> GraphReport:
    return check_content(Made(ops, **how).content(), "made.tflite")


WEIGHTS = np.ones((4, 1, 1, 4), np.int8)
RELU6 = 3


def conv(inputs: str, outputs: str, version: int = 3, **values: int) -> Op:
    with_dilation = {"dilationWFactor": 1, "dilationHFactor": 1, **values}
    tensors = [inputs, WEIGHTS, numbers(1, 2, 3, 4)]
    return Op("CONV_2D", tensors, [outputs], version, options("Conv2D", **with_dilation))


def test_the_demo_model_is_mapped() -> None:
    demo = check(DEMO)
    assert (demo.edge_tpu, demo.cpu, demo.all_mapped, demo.compiled) == (257, 0, True, False)
    counts = {line.name: (line.version, line.count) for line in demo.lines}
    assert counts["CONV_2D"] == (3, 75)
    assert counts["TRANSPOSE_CONV"] == (3, 1)
    assert demo.first_on_cpu is None
    assert demo.weight_bytes is not None
    assert 1_500_000 < demo.weight_bytes < DEMO.stat().st_size
    assert demo.streamed_bytes == 0


def test_weights_beyond_the_chip_are_streamed() -> None:
    weights = np.zeros((3000, 1, 1, 3000), np.int8)
    op = Op("CONV_2D", ["a", weights, None], ["b"], 3, options("Conv2D"))
    shapes = {"a": (1, 1, 1, 3000), "b": (1, 1, 1, 3000)}
    made = report(op, shapes=shapes)
    assert made.weight_bytes == 9_000_000
    assert made.streamed_bytes == 9_000_000 - 8 * 2**20


def test_weights_that_are_used_twice_count_once() -> None:
    content = Made([conv("a", "b")]).content()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    model.subgraphs[0].operators *= 2
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    assert check_content(bytes(builder.Output()), "made").weight_bytes == 16 + 16


def test_an_op_that_is_not_on_the_list_ends_the_part() -> None:
    made = report(conv("a", "b"), Op("GELU", ["b"], ["c"]), conv("c", "d"))
    assert (made.edge_tpu, made.cpu, made.all_mapped) == (1, 2, False)
    first = made.first_on_cpu
    assert first is not None
    assert (first.name, first.output, first.output_shape) == ("GELU", "c", (1, 8, 8, 4))
    assert first.reason == "not on the Edge TPU's list of ops"
    assert [line.reason for line in made.lines] == [None, BEHIND, first.reason]


def test_what_stands_beside_it_is_mapped() -> None:
    made = report(
        conv("a", "b"),
        Op("GELU", ["b"], ["c"]),
        conv("b", "d"),
        Op("LOGISTIC", ["d"], ["e"]),
        Op("ADD", ["c", "e"], ["f"]),
    )
    assert (made.edge_tpu, made.cpu) == (3, 2)


def test_what_the_input_needs_may_be_on_the_cpu() -> None:
    quantise, back = Op("QUANTIZE", ["x"], ["a"]), Op("DEQUANTIZE", ["b"], ["y"])
    made = report(quantise, conv("a", "b"), back, dtypes={"x": "FLOAT32", "y": "FLOAT32"})
    reasons = {line.name: line.reason for line in made.lines}
    assert reasons["QUANTIZE"] == "works on FLOAT32, not on quantised 8-bit numbers"
    assert reasons["CONV_2D"] is None
    assert reasons["DEQUANTIZE"] is not None


def test_ops_in_a_ring_are_no_endless_loop() -> None:
    made = report(Op("ADD", ["a", "c"], ["b"]), Op("ADD", ["b", "a"], ["c"]))
    assert (made.edge_tpu, made.cpu) == (0, 2)


def pool(kind: str, activation: int) -> Op:
    return Op(kind, ["a"], ["b"], 2, options("Pool2D", fusedActivationFunction=activation))


def joined(*inputs: str | np.ndarray[Any, Any], activation: int = 0) -> Op:
    values = options("Concatenation", fusedActivationFunction=activation)
    return Op("CONCATENATION", inputs, ["b"], 2, values)


def dense(**values: int) -> Op:
    return Op("FULLY_CONNECTED", ["a", WEIGHTS, None], ["b"], 4, options("FullyConnected", **values))


def cut(stride: int, **values: int) -> Op:
    tensors = ["a", numbers(0), numbers(8), numbers(stride)]
    return Op("STRIDED_SLICE", tensors, ["b"], 2, options("StridedSlice", **values))


ZEROS = np.zeros((1, 8, 8, 4), np.int8)
LONG = {"shapes": {"a": (1, 16001), "b": (1, 16001)}}
ONE_LIMIT: list[tuple[str, Op, dict[str, Any]]] = [
    ("activation", pool("MAX_POOL_2D", RELU6), {}),
    ("activation", pool("AVERAGE_POOL_2D", 1), {}),
    ("activation", joined("a", "a", activation=1), {}),
    ("constant", joined("a", WEIGHTS), {}),
    ("constant", joined("a", "a", ZEROS), {}),
    ("dilation", conv("a", "b", dilationWFactor=2), {}),
    ("weights are computed", Op("CONV_2D", ["a", "w", None], ["b"], 3, options("Conv2D")), {}),
    ("format", dense(weightsFormat=1), {}),
    ("one-dimensional", dense(), {"shapes": {"b": (2, 4)}}),
    ("one-dimensional", Op("SOFTMAX", ["a"], ["b"], 2), {}),
    ("16000", Op("SOFTMAX", ["a"], ["b"], 2), LONG),
    ("strides", cut(2), {}),
    ("new axis", cut(1, newAxisMask=1), {}),
    ("pads the batch", Op("PAD", ["a", np.array([[1, 0]] + 3 * [[0, 0]], np.int32)], ["b"], 2), {}),
    ("packs along the batch", Op("PACK", ["a", "a"], ["b"], 2, options("Pack", axis=0)), {}),
    ("splits the batch", Op("SPLIT", [numbers(0), "a"], ["b", "c"], 2), {}),
    ("reduces the batch", Op("REDUCE_MAX", ["a", numbers(-4)], ["b"], 2), {}),
    ("reduces the batch", Op("MEAN", ["a", numbers(0)], ["b"], 2), {}),
    ("multiple of 4", Op("MEAN", ["a", numbers(3)], ["b"], 2), {"shapes": {"a": (1, 8, 8, 6)}}),
    ("slopes", Op("PRELU", ["a", np.ones((8, 8, 4), np.int8)], ["b"]), {}),
    ("last three", Op("ADD", ["a", "a"], ["b"], 2), {"shapes": {"a": (2, 8, 8, 4)}}),
    ("last three", Op("RESHAPE", ["a", numbers(1, 2, 4, 8, 4)], ["b"]), {"shapes": {"b": (1, 2, 4, 8, 4)}}),
    ("INT16", Op("ADD", ["a", "a"], ["b"], 2), {"dtypes": {"a": "INT16"}}),
    ("INT32", Op("ADD", ["a", "a"], ["b"], 2), {"dtypes": {"a": "INT32"}}),
    ("custom", Op("TFLite_Detection_PostProcess", ["a"], ["b"]), {}),
]


@pytest.mark.parametrize(("words", "op", "how"), ONE_LIMIT)
def test_each_limit_is_known(words: str, op: Op, how: dict[str, Any]) -> None:
    made = report(op, **how)
    assert made.first_on_cpu is not None
    assert words in made.first_on_cpu.reason
    assert (made.edge_tpu, made.cpu) == (0, 1)


WITHIN_LIMITS = [
    conv("a", "b", fusedActivationFunction=RELU6),
    conv("a", "b", dilationWFactor=2, dilationHFactor=2),
    joined("a", ZEROS),
    cut(1),
    Op("PAD", ["a", np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32)], ["b"], 2),
    Op("PACK", ["a", "a"], ["b"], 2, options("Pack", axis=1)),
    Op("SPLIT", [numbers(-1), "a"], ["b", "c"], 2),
    Op("MEAN", ["a", numbers(1, 2)], ["b"], 2),
    Op("MEAN", ["a", numbers(-1)], ["b"], 2),
    Op("PRELU", ["a", np.ones((1, 1, 4), np.int8)], ["b"]),
    Op("SUM", ["a", numbers(3)], ["b"]),
]


@pytest.mark.parametrize("op", WITHIN_LIMITS)
def test_what_is_within_the_limits_is_mapped(op: Op) -> None:
    made = report(op)
    assert made.all_mapped, made.first_on_cpu


def test_unsigned_numbers_are_as_good() -> None:
    assert report(conv("a", "b"), dtypes={"a": "UINT8", "b": "UINT8"}).all_mapped


@pytest.mark.parametrize(("version", "mapped"), [(5, True), (6, False)])
def test_a_version_after_the_compiler_refuses_the_model(version: int, mapped: bool) -> None:
    made = report(conv("a", "b", version))
    assert made.all_mapped is mapped
    if not mapped:
        assert made.refused == "versions of ops that are newer than the compiler: CONV_2D 6"


def test_several_graphs_are_refused() -> None:
    assert "2 graphs" in str(report(conv("a", "b"), graphs=2).refused)


def test_a_float_model_is_refused() -> None:
    with pytest.raises(NotForEdgeTpu, match=r"FLOAT32 .* make one with `appliance convert`"):
        report(Op("ADD", ["a", "a"], ["b"]), dtypes={"a": "FLOAT32", "b": "FLOAT32"})


def test_weights_alone_make_no_integer_model() -> None:
    with pytest.raises(NotForEdgeTpu, match="FLOAT32"):
        report(conv("a", "b"), dtypes={"a": "FLOAT32", "b": "FLOAT32"})


@pytest.mark.parametrize(
    "how",
    [
        {"shapes": {"b": (1, -1, 8, 4)}},
        {"signatures": {"b": (1, -1, -1, 4)}},
    ],
)
def test_open_shapes_are_refused(how: dict[str, Any]) -> None:
    with pytest.raises(NotForEdgeTpu, match=r"shape of 'b' .* known at run time only"):
        report(conv("a", "b"), **how)


def test_computed_shapes_are_refused() -> None:
    with pytest.raises(NotForEdgeTpu, match="known at run time only"):
        report(Op("SHAPE", ["a"], ["s"]), Op("RESHAPE", ["a", "s"], ["b"]), dtypes={"s": "INT32"})


def test_an_open_batch_is_no_harm() -> None:
    assert report(conv("a", "b"), signatures={"a": (-1, 8, 8, 4), "b": (-1, 8, 8, 4)}).all_mapped


def test_a_compiled_model_is_known(parts: Path) -> None:
    made = check(parts / "models" / "demo_edgetpu.tflite")
    assert (made.compiled, made.edge_tpu, made.cpu, made.all_mapped) == (True, 1, 0, True)
    assert made.weight_bytes is None


def test_what_a_compiled_model_leaves_outside_is_counted() -> None:
    made = report(Op("edgetpu-custom-op", ["a"], ["b"]), Op("SOFTMAX", ["b"], ["c"]))
    assert (made.compiled, made.cpu, made.all_mapped) == (True, 1, False)
    assert made.first_on_cpu is not None
    assert made.first_on_cpu.name == "SOFTMAX"


@needs_shared
def test_a_really_compiled_model_is_known() -> None:
    made = check(SHARED / "yolov8n-seg_256_edgetpu.tflite")
    assert (made.compiled, made.edge_tpu, made.cpu) == (True, 1, 23)


@needs_shared
@pytest.mark.parametrize(
    ("name", "first", "refused"),
    [
        ("yolo11n-seg_stock_full_integer_640", "SPLIT", None),
        ("yolo11n-seg_one-scale_full_integer_640", "CONV_2D", "ADD 4, CONV_2D 6, MUL 5"),
        ("yolov8n-seg_float-io_int8_640", "QUANTIZE", "weights lie behind the flatbuffer"),
    ],
)
def test_other_exports_are_told_apart(name: str, first: str, refused: str | None) -> None:
    made = check(SHARED / f"{name}.tflite")
    assert not made.all_mapped
    assert made.first_on_cpu is not None
    assert made.first_on_cpu.name == first
    assert refused in (made.refused, None) if refused is None else refused in str(made.refused)


def test_our_own_ops_are_on_the_list() -> None:
    """Those that the conversion writes, read from its source: it runs where TensorFlow is."""
    source = (PROJECT_ROOT / "appliance/convert/int8/flatbuffer.py").read_text()
    (versions,) = (
        ast.literal_eval(node.value)
        for node in ast.parse(source).body
        if isinstance(node, ast.AnnAssign)
        and node.value is not None
        and getattr(node.target, "id", "") == "INT8_VERSIONS"
    )
    assert set(versions) - set(LIMITS) <= {"BATCH_MATMUL"}  # of YOLO11's attention, not of YOLOv8's
    for name in set(versions) & set(LIMITS):
        assert versions[name] <= LIMITS[name].version, name


SMALL = Made([conv("a", "b"), Op("LOGISTIC", ["b"], ["c"]), Op("MUL", ["b", "c"], ["d"], 2)]).content()


def survive(content: bytes) -> None:
    """Whatever the bytes are, there is a report or an error of one line."""
    words = ""
    try:
        check_content(content, "damaged.tflite")
    except ApplianceError as error:
        words = str(error)
    assert "\n" not in words
    assert len(words) < 500


def test_every_shorter_file_is_damaged() -> None:
    for length in range(len(SMALL)):
        with pytest.raises(NotAModel):
            check_content(SMALL[:length], "short.tflite")


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_a_download_that_broke_off_is_damaged(part: float) -> None:
    content = DEMO.read_bytes()
    with pytest.raises(NotAModel, match="damaged or cut short"):
        check_content(content[: int(len(content) * part)], "short.tflite")


def test_every_byte_may_be_damaged() -> None:
    for position in range(len(SMALL)):
        for value in (0, 1, 0x7F, 0x80, 0xFF):
            survive(SMALL[:position] + bytes([value]) + SMALL[position + 1 :])


@settings(max_examples=300, deadline=2000)
@given(st.lists(st.tuples(st.integers(8, len(SMALL) - 4), st.integers(0, 2**32 - 1)), min_size=1, max_size=8))
def test_numbers_may_be_damaged(changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(SMALL)
    for position, number in changes:
        damaged[position : position + 4] = number.to_bytes(4, "little")
    survive(bytes(damaged))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_anything_may_follow_the_mark(rest: bytes) -> None:
    survive(b"\x08\x00\x00\x00TFL3" + rest)
    survive(rest)


def test_a_big_model_with_damage_takes_no_time() -> None:
    """The structure of a real model lies at its ends; weights are in the middle."""
    content = DEMO.read_bytes()
    source = random.Random(3)
    start = time.monotonic()
    for _ in range(60):
        damaged = bytearray(content)
        for _ in range(20):
            damaged[source.randrange(8, 60_000)] = source.randrange(256)
            damaged[-source.randrange(1, 60_000)] = source.randrange(256)
        survive(bytes(damaged))
    assert time.monotonic() - start < 40


def test_without_the_schema_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.schema_py_generated", None)
    with pytest.raises(ModelError, match="needs ai-edge-litert"):
        check(DEMO)


def test_names_are_printable() -> None:
    made = report(Op("a\x1b[2Jb\nc", ["a"], ["b"]))
    assert made.lines[0].name == "a?[2Jb?c"


def test_a_missing_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing):
        check(tmp_path / "none.tflite")


def test_the_command_shows_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-model", str(DEMO)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["op", "version", "count", "runs", "on", "why"]
    assert ["CONV_2D", "3", "75", "Edge", "TPU"] in [line.split() for line in lines]
    assert "weights: 1.6 MiB of at most 8 on the chip: they fit, unless the program needs more" in lines[-3]
    assert lines[-1] == f"{DEMO}: 257 of 257 ops would run on the Edge TPU"


def test_the_command_says_what_falls_to_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made.tflite"
    path.write_bytes(Made([conv("a", "b"), Op("GELU", ["b"], ["c"])]).content())
    assert main(["check-model", str(path)]) == NotForEdgeTpu.exit_code == 19
    out = capsys.readouterr().out
    reason = "not on the Edge TPU's list of ops"
    assert f"first op on the CPU: GELU version 1, which gives 'c' [1, 8, 8, 4]: {reason}" in out
    assert out.endswith("1 of 2 ops would run on the Edge TPU\n")


def test_the_command_gives_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made.tflite"
    path.write_bytes(Made([conv("a", "b"), Op("GELU", ["b"], ["c"])]).content())
    assert main(["check-model", "--json", str(path)]) == 19
    answer = json.loads(capsys.readouterr().out)
    assert answer["op_map"] == {"edge_tpu": 1, "cpu": 1}
    assert answer["ops"][0] == {
        "op": "CONV_2D",
        "version": 3,
        "count": 1,
        "runs_on": "edge_tpu",
        "reason": None,
    }
    assert answer["first_on_cpu"]["output_shape"] == [1, 8, 8, 4]
    assert (answer["weight_bytes"], answer["streamed_bytes"], answer["all_mapped"]) == (32, 0, False)


def test_the_command_says_what_is_outside(capsys: pytest.CaptureFixture[str], parts: Path) -> None:
    path = parts / "models" / "demo_edgetpu.tflite"
    assert main(["check-model", str(path)]) == 0
    assert capsys.readouterr().out.endswith("compiled for the Edge TPU, no op is left to the CPU\n")


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (b"", 12, "is not a TFLite model"),
        (b"a text, not a model", 12, "is not a TFLite model"),
        (DEMO.read_bytes()[:500_000], 12, "damaged or cut short"),
        (
            Made([Op("ADD", ["a", "a"], ["b"])], dtypes={"a": "FLOAT32", "b": "FLOAT32"}).content(),
            19,
            "works on FLOAT32 numbers",
        ),
    ],
)
def test_the_program_ends_with_one_line(tmp_path: Path, content: bytes, code: int, words: str) -> None:
    path = tmp_path / "some.tflite"
    path.write_bytes(content)
    command = [sys.executable, "-m", "appliance", "check-model", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("appliance: ")
    assert done.stderr.count("\n") == 1
    assert words in done.stderr

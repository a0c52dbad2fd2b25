"""A stand-in for the Edge TPU: its library, models that are compiled for it, and how it is to behave."""

from __future__ import annotations

import dataclasses
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from appliance.capture.scene import Scene
from appliance.data import Frame
from appliance.invoke.tflite import TfliteBackend
from appliance.preprocess import Preprocessor

OPERATOR = "edgetpu-custom-op"
DEVICE_GONE = (
    "F driver/usb/usb_driver.cc:1148] HandleQueuedBulkIn transfer in failed. "
    "Not found: USB transfer error 5 [LibUsbDataInCallback]"
)
"""What users of libedgetpu report it to say last, before it aborts; libusb's error 5: no device."""


def build_stand_in(folder: Path) -> Path:
    """Compile the library; its path."""
    library = folder / "libedgetpu.so.1"
    source = Path(__file__).with_name("standin_edgetpu.c")
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=50)
    return library


@dataclass(frozen=True)
class Script:
    """How the stand-in behaves; see the C source. What is None is left out."""

    outputs: Path | None = None
    present: Path | None = None
    loads: Path | None = None
    log: str | None = None
    invoke_ms: int | None = None
    slower_ms: int | None = None
    load_ms: int | None = None
    abort_at: int | None = None
    hang_at: int | None = None
    fail_at: int | None = None
    no_device: int | None = None
    crash_at_load: int | None = None
    needs_runtime: int | None = None

    def write(self, path: Path) -> None:
        """Into the file that the environment variable names; counts from the next load."""
        pairs = ((name, value) for name, value in vars(self).items() if value is not None)
        other = path.with_suffix(".new")
        other.write_text("".join(f"{name} {value}\n" for name, value in pairs))
        other.rename(path)

    def but(self, **changes: Any) -> Script:
        """The same with some things otherwise."""
        return dataclasses.replace(self, **changes)


def compile_model(plain: Path, compiled: Path) -> None:
    """Make what the compiler makes of a model: the same inputs and outputs around a single operator."""
    model = schema.ModelT.InitFromPackedBuf(plain.read_bytes(), 0)
    graph = model.subgraphs[0]
    kept = [*graph.inputs, *graph.outputs]
    tensors = [graph.tensors[index] for index in kept]
    for tensor in tensors:
        tensor.buffer = 0
    count = len(graph.inputs)
    graph.tensors = tensors
    graph.inputs = list(range(count))
    graph.outputs = list(range(count, len(kept)))
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, graph.inputs, graph.outputs
    operator.customOptions = [0]
    graph.operators = [operator]
    code = schema.OperatorCodeT()
    code.builtinCode = schema.BuiltinOperator.CUSTOM
    code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = OPERATOR, 1
    model.operatorCodes, model.buffers = [code], [schema.BufferT()]
    model.metadata, model.signatureDefs = None, None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    compiled.write_bytes(bytes(builder.Output()))


def record_outputs(plain: Path, path: Path) -> None:
    """Leave what the model finds in a picture of the scene, for the stand-in to give."""
    backend = TfliteBackend(plain, threads=1)
    rgb = Scene(seed=1, size_wh=(640, 360), rate_hz=30).render(30)[0]
    made = backend.invoke(Preprocessor(backend.spec)(Frame(0, 0, rgb)).tensor)
    path.write_bytes(b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in made.tensors))

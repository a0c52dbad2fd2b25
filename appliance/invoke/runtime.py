"""The TFLite runtime: a model file becomes an interpreter, or an error that says what is wrong with it."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from appliance.data import ModelSpec, Tensor, TensorSpec
from appliance.errors import ModelError, ModelMissing, NeedsEdgeTpu, NotAModel, WrongLayout
from appliance.invoke.sidecar import check_content, read_sidecar
from appliance.layouts import arrange, check_scores, layout_of

_IDENTIFIER = b"TFL3"
"""At byte 4 of every TFLite file, by its flatbuffer schema."""
_EDGE_TPU_OPERATOR = b"edgetpu-custom-op"
"""The operator that stands for everything that runs on the device."""
_RUNTIMES = (("ai_edge_litert.interpreter", "LiteRT"), ("tflite_runtime.interpreter", "tflite-runtime"))
"""Modules with an `Interpreter`, the better one first: tflite-runtime is no longer maintained, and does
int8 convolutions without XNNPACK, at a third of the speed."""


class Delegate(Protocol):
    """A library that runs parts of a model; made by `load_delegate`, for an interpreter."""


class Interpreter(Protocol):
    """What is used of the `Interpreter` of either runtime."""

    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, tensor_index: int, value: Tensor) -> None: ...
    def invoke(self) -> None: ...
    def get_tensor(self, tensor_index: int) -> Tensor: ...
    def tensor(self, tensor_index: int) -> Callable[[], Tensor]: ...


class _Runtime(Protocol):
    """A runtime's module."""

    def Interpreter(  # noqa: N802 - its name
        self,
        *,
        model_content: bytes,
        num_threads: int,
        experimental_delegates: Sequence[Delegate] | None,
    ) -> Interpreter: ...
    def load_delegate(self, library: str, options: Mapping[str, str]) -> Delegate: ...


def runtime() -> tuple[_Runtime, str]:
    """The better of the installed runtimes, and its name. Raises `ModelError`."""
    for module, name in _RUNTIMES:
        try:
            return cast(_Runtime, importlib.import_module(module)), name
        except ModuleNotFoundError:
            continue
    raise ModelError("there is no TFLite runtime: install ai-edge-litert")


def read(path: Path) -> bytes:
    """A model file. Raises `ModelMissing`, `NotAModel`; `ModelError` if its sidecar is of another file."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(
            f"there is no model {path}: give the path of a .tflite file, or of a folder with one"
        ) from None
    except OSError as error:
        raise ModelMissing(f"the model {path} cannot be read: {error.strerror}") from error
    if content[4:8] != _IDENTIFIER:
        raise NotAModel(f"{path} is not a TFLite model: give a .tflite file")
    check_content(path, content)
    return content


def is_compiled(content: bytes) -> bool:
    """Whether a model holds a part that is compiled for the Edge TPU."""
    return _EDGE_TPU_OPERATOR in content


def load_delegate(library: Path, options: Mapping[str, str]) -> Delegate:
    """Load libedgetpu and open a device. May take seconds, and may end the process.

    Raises `OSError` if the library cannot be loaded, `ValueError` if it gives no device.
    """
    return runtime()[0].load_delegate(str(library), options)


def load(path: Path, content: bytes, threads: int, delegates: Sequence[Delegate] = ()) -> Interpreter:
    """An interpreter, ready to run. `path` is named in errors. Raises `NotAModel`, `NeedsEdgeTpu`."""
    try:
        # Both runtimes verify the flatbuffer, and that the weights lie within the file, before they use it.
        interpreter = runtime()[0].Interpreter(
            model_content=content, num_threads=threads, experimental_delegates=list(delegates) or None
        )
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        if not delegates and _EDGE_TPU_OPERATOR.decode() in str(error):
            raise NeedsEdgeTpu(
                f"{path} is compiled for the Edge TPU and cannot run on the CPU: give the .tflite file that "
                "it was compiled from"
            ) from error
        raise NotAModel(
            f"{path} is damaged, cut short, or made for a newer runtime: copy or convert it again "
            f"({_first_line(error)})"
        ) from error
    return interpreter


def read_spec(path: Path, content: bytes) -> ModelSpec:
    """What a model takes and gives, without any device that it may need.

    Raises `NotAModel`, `WrongLayout`.
    """
    try:
        interpreter = runtime()[0].Interpreter(
            model_content=content, num_threads=1, experimental_delegates=None
        )
    except (ValueError, RuntimeError) as error:
        raise NotAModel(
            f"{path} is damaged or cut short: copy or convert it again ({_first_line(error)})"
        ) from error
    return model_spec(path, interpreter)


def model_spec(path: Path, interpreter: Interpreter) -> ModelSpec:
    """What a loaded model takes and gives. Raises `WrongLayout`; `ModelError` for its sidecar."""
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    sidecar = read_sidecar(path)
    if len(inputs) != 1:
        raise WrongLayout(f"{path}: the model should have one input, but has {len(inputs)}")
    model_input = tensor_spec(inputs[0])
    output_specs = tuple(tensor_spec(details) for details in outputs)
    try:
        arrangement = arrange(model_input, output_specs)
        check_scores(arrangement, output_specs)
    except WrongLayout as error:
        raise WrongLayout(f"{path}: {error}") from error
    return ModelSpec(
        sidecar.name, model_input, output_specs, layout_of(arrangement), sidecar.demo, sidecar.bins
    )


def tensor_spec(details: Mapping[str, Any]) -> TensorSpec:
    """One of an interpreter's input or output details."""
    scale, zero_point = details["quantization"]
    shape = tuple(int(length) for length in details["shape"])
    return TensorSpec(str(details["name"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]

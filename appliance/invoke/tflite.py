"""Running a TFLite model on the CPU."""

from __future__ import annotations

import importlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from appliance.data import Inference, ModelSpec, Tensor, TensorSpec
from appliance.errors import ModelError, ModelMissing, NeedsEdgeTpu, NotAModel, WrongLayout
from appliance.layouts import arrange, check_scores, layout_of
from appliance.notices import Notices
from appliance.pool import Pool

_log = logging.getLogger(__name__)

_IDENTIFIER = b"TFL3"
"""At byte 4 of every TFLite file, by its flatbuffer schema."""
_EDGE_TPU_OPERATOR = "edgetpu-custom-op"
_RUNTIMES = (("ai_edge_litert.interpreter", "LiteRT"), ("tflite_runtime.interpreter", "tflite-runtime"))
"""Modules with an `Interpreter`, the better one first: tflite-runtime is no longer maintained, and does
int8 convolutions without XNNPACK, at a third of the speed."""


class _Interpreter(Protocol):
    """What is used of the `Interpreter` of either runtime."""

    def allocate_tensors(self) -> None: ...
    def get_input_details(self) -> list[dict[str, Any]]: ...
    def get_output_details(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, tensor_index: int, value: Tensor) -> None: ...
    def invoke(self) -> None: ...
    def get_tensor(self, tensor_index: int) -> Tensor: ...


class TfliteBackend:
    """The CPU backend; see `appliance.invoke.Backend`."""

    def __init__(self, path: Path, threads: int | None = None) -> None:
        """Load a model; `threads` as the machine has them if None.

        Beside a model NAME.tflite may lie a sidecar NAME.json with a "name" to call it by, and with
        "demo": true if it is only there to show the appliance.

        Raises `ModelMissing`, `NotAModel`, `NeedsEdgeTpu`, `WrongLayout`, or `ModelError` for a sidecar that
        cannot be read.
        """
        threads = threads or _default_threads()
        # The runtime gets the bytes, not the path: a file that is replaced meanwhile then does no harm.
        self._interpreter: _Interpreter | None
        self._interpreter, runtime = _load(path, _read(path), threads)
        inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        self._input_index = int(inputs[0]["index"])
        self._output_indices = [int(details["index"]) for details in outputs]
        self.spec = _spec(path, inputs, outputs)
        self._inputs = Pool(self.spec.input.shape, self.spec.input.dtype)
        self.name = f"CPU, {threads} {'thread' if threads == 1 else 'threads'} ({runtime})"
        _log.info(
            "%s: %s, input %d x %d, %s",
            self.spec.name,
            self.spec.layout.value,
            *self.spec.input_wh,
            self.name,
        )

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        """Say what runs; there is nothing that could change."""
        del notices, stopping
        say(self.name)

    def lease(self) -> Tensor:
        """Memory for an input."""
        return self._inputs.lease()

    def invoke(self, tensor: Tensor) -> Inference:
        """Run the model on one input of `spec.input`'s shape and dtype; the outputs are fresh copies."""
        if self._interpreter is None:
            raise RuntimeError("the backend is closed")
        self._interpreter.set_tensor(self._input_index, tensor)
        self._interpreter.invoke()
        tensors = tuple(self._interpreter.get_tensor(index) for index in self._output_indices)
        return Inference(self.spec, tensors)

    def close(self) -> None:
        """Free the model."""
        self._interpreter = None


def _default_threads() -> int:
    """All cores that this process may use, but for one of four or more, which the other stages need."""
    cores = len(os.sched_getaffinity(0))
    return cores - 1 if cores >= 4 else cores


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelMissing(f"there is no model {path}: give the path of a .tflite file") from None
    except OSError as error:
        raise ModelMissing(f"the model {path} cannot be read: {error.strerror}") from error
    if content[4:8] != _IDENTIFIER:
        raise NotAModel(f"{path} is not a TFLite model: give a .tflite file")
    return content


def _load(path: Path, content: bytes, threads: int) -> tuple[_Interpreter, str]:
    """An interpreter, ready to run, and the name of its runtime."""
    interpreter_class, runtime = _runtime()
    try:
        # Both runtimes verify the flatbuffer, and that the weights lie within the file, before they use it.
        interpreter = interpreter_class(model_content=content, num_threads=threads)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        first_line = str(error).partition("\n")[0]
        if _EDGE_TPU_OPERATOR in str(error):
            raise NeedsEdgeTpu(
                f"{path} is compiled for the Edge TPU and cannot run on the CPU: give the .tflite file that "
                "it was compiled from"
            ) from error
        raise NotAModel(
            f"{path} is damaged, cut short, or made for a newer runtime: copy or convert it again "
            f"({first_line})"
        ) from error
    return interpreter, runtime


def _runtime() -> tuple[Callable[..., _Interpreter], str]:
    """The better of the installed runtimes: its interpreter class and its name."""
    for module, name in _RUNTIMES:
        try:
            return importlib.import_module(module).Interpreter, name
        except ModuleNotFoundError:
            continue
    raise ModelError("there is no TFLite runtime: install ai-edge-litert")


def _spec(path: Path, inputs: list[dict[str, Any]], outputs: list[dict[str, Any]]) -> ModelSpec:
    name, demo = _sidecar(path)
    if len(inputs) != 1:
        raise WrongLayout(f"{path}: the model should have one input, but has {len(inputs)}")
    model_input = _tensor_spec(inputs[0])
    output_specs = tuple(_tensor_spec(details) for details in outputs)
    try:
        arrangement = arrange(model_input, output_specs)
        check_scores(arrangement, output_specs)
    except WrongLayout as error:
        raise WrongLayout(f"{path}: {error}") from error
    return ModelSpec(name, model_input, output_specs, layout_of(arrangement), demo)


def _tensor_spec(details: Mapping[str, Any]) -> TensorSpec:
    scale, zero_point = details["quantization"]
    shape = tuple(int(length) for length in details["shape"])
    return TensorSpec(str(details["name"]), shape, np.dtype(details["dtype"]), float(scale), int(zero_point))


def _sidecar(path: Path) -> tuple[str, bool]:
    """The model's name, and whether it is a demo."""
    sidecar = path.with_suffix(".json")
    try:
        content = json.loads(sidecar.read_text(encoding="utf-8"))
        name, demo = content.get("name", path.stem), content.get("demo", False)
    except FileNotFoundError:
        return path.stem, False
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"the model's description {sidecar} cannot be read: {error}") from error
    if not isinstance(name, str) or not isinstance(demo, bool):
        raise ModelError(
            f'the model\'s description {sidecar} should have "name" as text and "demo" as true or false'
        )
    return name, demo

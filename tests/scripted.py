"""A source, a backend and a display that do as a test says, around which `run` wires the real pipeline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count

import numpy as np

from appliance.app import wire
from appliance.config import Config
from appliance.data import Frame, Inference, ModelSpec, Tensor
from appliance.display import UserInput, View
from appliance.display.null import NullDisplay
from appliance.metrics import Metrics
from appliance.notices import Notices
from appliance.synthetic import fastsam_spec, synthesise

SIZE_WH = (160, 96)
Read = Callable[[int], Frame | None]


def frame(index: int) -> Frame:
    return Frame(index, time.monotonic_ns(), np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8))


class ScriptedSource:
    """Gives what a function gives for 0, 1, 2, ...; the function may raise what a source may raise."""

    name = "script"

    def __init__(self, read: Read, live: bool, open_fails: tuple[type[Exception], ...] = ()) -> None:
        self.live = live
        self.opened = 0
        self.closed = 0
        self._read = read
        self._open_fails = list(open_fails)
        self._numbers = count()

    def open(self) -> None:
        self.opened += 1
        if self._open_fails:
            raise self._open_fails.pop(0)("not there")

    def read(self, timeout_s: float) -> Frame | None:
        if self.live:
            time.sleep(0.01)
        return self._read(next(self._numbers))

    def close(self) -> None:
        self.closed += 1


class ScriptedBackend:
    """Finds as many objects as a function says for the number of the invoke."""

    name = "script"

    def __init__(self, objects: Callable[[int], int], invoke_s: float = 0.0) -> None:
        self.spec: ModelSpec = fastsam_spec((160, 96))
        self.closed = False
        self._objects = objects
        self._invoke_s = invoke_s
        self._numbers = count()

    def open(self, notices: Notices, say: Callable[[str], None], stopping: threading.Event) -> None:
        say(self.name)

    def lease(self) -> Tensor:
        return np.zeros(self.spec.input.shape, self.spec.input.dtype)

    def start(self, tensor: Tensor) -> None:
        pass

    def finish(self) -> Inference | None:
        time.sleep(self._invoke_s)
        number = next(self._numbers)
        made = synthesise(frame(0), self.spec, self._objects(number), number)
        return Inference(self.spec, made.outputs.tensors, self._invoke_s * 1e3)

    def close(self) -> None:
        self.closed = True


class Witness(NullDisplay):
    """Keeps what it was shown."""

    def __init__(self, act: Callable[[int], list[UserInput]] | None = None) -> None:
        self.interactive = act is not None
        self.views: list[View] = []
        self._act = act

    def show(self, view: View) -> None:
        self.views.append(view)

    def poll(self) -> list[UserInput]:
        return [] if self._act is None else self._act(len(self.views))


def ending_after(pictures: int, end: Exception) -> Read:
    def read(number: int) -> Frame:
        if number >= pictures:
            raise end
        return frame(number)

    return read


def run(source: ScriptedSource, backend: ScriptedBackend, display: Witness, seconds: float = 10) -> Metrics:
    metrics = Metrics()
    wire(Config(), source, backend, display, metrics).run(seconds)
    return metrics

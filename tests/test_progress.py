"""What is no reason for the watchdog: the real pipeline in long waits, with limits that are soon over."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scripted import ScriptedBackend, ScriptedSource, Witness, ending_after, frame

from appliance import app
from appliance import pipeline as pipeline_module
from appliance.app import wire
from appliance.capture import EndOfSource
from appliance.config import Config
from appliance.data import Frame
from appliance.display import Command, UserInput
from appliance.errors import EdgeTpuError, SourceLost, StageStuck
from appliance.invoke.edgetpu import EdgeTpuBackend
from appliance.invoke.jobs import Work
from appliance.metrics import Metrics
from appliance.synthetic import fastsam_spec

LIMIT_S = 0.6
RUN_S = 2.5


class Heard:
    """What systemd was told, and when."""

    def __init__(self, path: Path) -> None:
        self._began_s = time.monotonic()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._messages: list[tuple[float, str]] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while (words := self._socket.recv(4096).decode()) != "end":
            self._messages.append((time.monotonic() - self._began_s, words))

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"end", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    @property
    def stuck(self) -> list[str]:
        """What was said to be stuck."""
        return [words for _, words in self._messages if words.startswith("STATUS=stuck")]

    @property
    def fed_until_s(self) -> float:
        """When the watchdog was fed for the last time."""
        return max((at_s for at_s, words in self._messages if words == "WATCHDOG=1"), default=0.0)


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Heard]:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "400000")
    monkeypatch.setattr(pipeline_module, "STUCK_S", LIMIT_S)
    monkeypatch.setattr(app, "INVOKE_STUCK_S", LIMIT_S)
    monkeypatch.setattr(pipeline_module, "JOIN_S", 0.3)
    heard = Heard(tmp_path / "notify")
    yield heard
    heard.close()


def silent(number: int) -> Frame | None:
    """A camera that gives one picture, and then nothing, without being lost."""
    return frame(0) if number == 0 else None


def away(number: int) -> Frame | None:
    """A camera that gives one picture, and cannot be opened from then on."""
    if number == 0:
        return frame(0)
    raise SourceLost("unplugged")


@pytest.mark.parametrize(
    "read", [silent, away, ending_after(1, EndOfSource())], ids=["silent", "away", "at its end"]
)
@pytest.mark.parametrize("live", [True, False], ids=["live", "paired"])
def test_a_source_that_gives_nothing(heard: Heard, read: Callable[[int], Frame | None], live: bool) -> None:
    source = ScriptedSource(read, live)
    wire(Config(), source, ScriptedBackend(lambda _: 1), Witness(lambda _: []), Metrics()).run(RUN_S)
    assert heard.stuck == []
    assert heard.fed_until_s > RUN_S - 0.5


def test_a_source_that_hangs_is_one(heard: Heard) -> None:
    def read(number: int) -> Frame:
        if number == 3:
            time.sleep(RUN_S + 1)
        return frame(number)

    pipeline = wire(Config(), ScriptedSource(read, True), ScriptedBackend(lambda _: 1), Witness(), Metrics())
    with pytest.raises(StageStuck):
        pipeline.run(RUN_S)
    assert "capture" in heard.stuck[0]
    assert heard.fed_until_s < RUN_S - 0.5


@pytest.mark.parametrize("live", [True, False], ids=["live", "paired"])
def test_a_frozen_picture(heard: Heard, live: bool) -> None:
    asked: list[Command] = []

    def act(views: int) -> list[UserInput]:
        if asked or not views or display.views[-1].layer is None:
            return []
        asked.append(Command.FREEZE)
        return [Command.FREEZE]

    display = Witness(act)
    source = ScriptedSource(frame, live)
    wire(Config(), source, ScriptedBackend(lambda _: 1), display, Metrics()).run(RUN_S)
    assert asked == [Command.FREEZE]
    assert heard.stuck == []
    assert heard.fed_until_s > RUN_S - 0.5


@pytest.mark.parametrize("patient", [True, False], ids=["waited for", "not waited for"])
def test_a_device_that_is_not_there(heard: Heard, patient: bool) -> None:
    """Without a stand-in; where every picture counts, it is waited for as long as it takes."""

    def find() -> Work:
        raise EdgeTpuError("it is not plugged in")

    backend = EdgeTpuBackend(fastsam_spec((160, 96)), find, None, must_work=False, patient=patient)
    source = ScriptedSource(frame, live=not patient)
    wire(Config(), source, backend, Witness(lambda _: []), Metrics()).run(RUN_S)
    assert heard.stuck == []
    assert heard.fed_until_s > RUN_S - 0.5


def test_a_recording_on_a_disk_that_is_slow(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[Command] = []
    slow = threading.Event()

    def fdatasync(file: int) -> None:
        del file
        slow.set()
        time.sleep(2 * LIMIT_S)

    monkeypatch.setattr(os, "fdatasync", fdatasync)

    def act(views: int) -> list[UserInput]:
        if asked or views < 3:
            return []
        asked.append(Command.RECORD)
        return [Command.RECORD]

    source = ScriptedSource(frame, live=True)
    config = Config(output=str(tmp_path / "out"))
    wire(config, source, ScriptedBackend(lambda _: 1), Witness(act), Metrics()).run(RUN_S)
    assert slow.is_set()
    assert heard.stuck == []
    assert heard.fed_until_s > RUN_S - 0.5

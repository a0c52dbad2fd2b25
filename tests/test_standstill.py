"""A service that cannot run: what its screen, systemd and its exit code say; and how its pauses grow."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from desktop import desktop, eventually, screenshot, xdotool
from notified import Listener, program

from appliance import attempts as attempts_module
from appliance import placard
from appliance.attempts import LONGEST_S, RESTART_S, Attempt, Attempts
from appliance.panels import font_of

_FALSE_KEY = "sauce: camera\n"
_FALSE_SCREEN = "display:\n  kind: television\n"


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def screen() -> Iterator[str]:
    with desktop() as display:
        yield display


def _environment(listener: Listener, screen: str = "", runtime: Path | None = None) -> dict[str, str]:
    environment = {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": "2000000"}
    if screen:
        environment |= {"DISPLAY": screen, "SDL_VIDEODRIVER": "x11"}
    if runtime is not None:
        environment["RUNTIME_DIRECTORY"] = str(runtime)
    return environment


def _says_something(screen: str) -> bool:
    """Whether there are letters on the dark panel in the middle."""
    pixels = np.asarray(screenshot(screen))
    width, height = pixels.shape[1], pixels.shape[0]
    middle = pixels[height // 3 : -height // 3, width // 4 : -width // 4].astype(int).sum(axis=2)
    return bool((middle > 500).mean() > 0.005 and (middle < 120).mean() > 0.5)


@pytest.mark.parametrize("text", [_FALSE_KEY, _FALSE_SCREEN, None], ids=["key", "screen", "no file"])
def test_a_wrong_configuration_is_on_the_screen_until_somebody_ends_it(
    listener: Listener, screen: str, tmp_path: Path, text: str | None
) -> None:
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    command = ("-m", "appliance", "run", "--config", file)
    with program(*command, environment=_environment(listener, screen)) as process:
        reason = listener.wait_for("STATUS=")
        assert str(file) in reason
        listener.wait_for("READY=1")
        for _ in range(3):
            listener.wait_for("WATCHDOG=1", 5)
        eventually(lambda: _says_something(screen), "there is no notice")
        process.send_signal(signal.SIGTERM)
        listener.wait_for("STOPPING=1", 5)
        assert process.wait(5) == 2
        assert process.stderr is not None
        assert str(file) in process.stderr.read()


def test_whoever_quits_the_notice_wants_another_start(
    listener: Listener, screen: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(_FALSE_KEY)
    command = ("-m", "appliance", "run", "--config", file)
    with program(*command, environment=_environment(listener, screen)) as process:
        listener.wait_for("READY=1")
        end_s = time.monotonic() + 20
        while process.poll() is None:  # xdotool's keys are lost now and then
            xdotool(screen, "key", "q")
            assert time.monotonic() < end_s
            time.sleep(0.3)
        assert process.returncode == 0


@pytest.mark.parametrize("option", [("--display", "null"), ()])
def test_without_a_screen_a_wrong_configuration_is_the_end(
    listener: Listener, tmp_path: Path, option: tuple[str, ...]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(_FALSE_KEY)
    command = ("-m", "appliance", "run", "--config", file, *option)
    with program(*command, environment=_environment(listener)) as process:
        assert "sauce" in listener.wait_for("STATUS=")
        assert process.wait(20) == 2
        listener.listen(0.2)
    assert "READY=1" not in listener.heard


def _records(runtime: Path, failures: int, reason: str) -> Path:
    file = runtime / "attempts.json"
    file.write_text(json.dumps({"failures": failures, "began_s": time.monotonic(), "reason": reason}))
    return file


def test_a_pause_is_shown_and_is_no_readiness(listener: Listener, screen: str, tmp_path: Path) -> None:
    _records(tmp_path, 3, "there is no camera")
    command = ("-m", "appliance", "run", "--source", "scene", "--backend", "cpu")
    began_s = time.monotonic()
    with program(*command, environment=_environment(listener, screen, tmp_path)):
        assert "there is no camera" in listener.wait_for("STATUS=")
        eventually(lambda: _says_something(screen), "there is no notice", 5)
        assert "READY=1" not in listener.listen(1)
        listener.wait_for("READY=1")
    assert time.monotonic() - began_s > 2.0**3 - RESTART_S


def test_who_ends_a_pause_is_not_kept_waiting_again(listener: Listener, tmp_path: Path) -> None:
    file = _records(tmp_path, 9, "there is no camera")
    command = ("-m", "appliance", "run", "--source", "scene")
    with program(*command, environment=_environment(listener, runtime=tmp_path)) as process:
        listener.wait_for("STATUS=")
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert not file.exists()


def test_a_failure_is_remembered_and_a_clean_end_is_not(listener: Listener, tmp_path: Path) -> None:
    environment = _environment(listener, runtime=tmp_path)
    headless = ("-m", "appliance", "run", "--display", "null", "--backend", "cpu")
    with program(*headless, "--source", tmp_path / "nothing.mp4", environment=environment) as process:
        assert process.wait(20) == 21
    record = json.loads((tmp_path / "attempts.json").read_text())
    assert record["failures"] == 1
    assert "nothing.mp4" in record["reason"]
    with program(*headless, "--source", "scene", "--seconds", "1", environment=environment) as process:
        assert process.wait(30) == 0
    assert not (tmp_path / "attempts.json").exists()


def _starts(folder: Path, count: int) -> list[Attempt]:
    """As many processes, one after the other, that all fail without a word."""
    return [Attempts(folder).begin() for _ in range(count)]


def test_pauses_grow_to_a_limit(tmp_path: Path) -> None:
    assert [attempt.pause_s for attempt in _starts(tmp_path, 8)] == [0, 0, 2, 6, 14, 30, 58, 58]
    assert max(attempt.pause_s for attempt in _starts(tmp_path, 3)) + RESTART_S == LONGEST_S
    assert "unexpectedly" in _starts(tmp_path, 1)[0].reason


def test_a_reason_is_of_the_last_failure_only(tmp_path: Path) -> None:
    _starts(tmp_path, 2)
    attempts = Attempts(tmp_path)
    attempts.begin()
    attempts.failed("no camera")
    first, second = _starts(tmp_path, 2)
    assert first.reason == "no camera"
    assert "no camera" not in second.reason


def test_a_failure_after_long_good_service_is_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    *_, last = _starts(tmp_path, 6)
    now_s = time.monotonic()
    later_s = now_s + last.pause_s + attempts_module.STEADY_S + 1
    monkeypatch.setattr(attempts_module.time, "monotonic", lambda: later_s)
    assert [attempt.pause_s for attempt in _starts(tmp_path, 3)] == [0, 0, 2]


@pytest.mark.parametrize(
    "text", ["", "{", '{"failures": 1}', '{"failures": 9, "began_s": "x", "reason": ""}']
)
def test_a_damaged_record_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempts.json").write_text(text)
    assert Attempts(tmp_path).begin() == Attempt(0, "")


def test_without_a_folder_nothing_is_remembered(tmp_path: Path) -> None:
    assert [Attempts.of_service({}).begin().pause_s for _ in range(4)] == [0, 0, 0, 0]
    assert Attempts.of_service({"RUNTIME_DIRECTORY": str(tmp_path / "gone")}).begin().pause_s == 0
    Attempts.of_service({"RUNTIME_DIRECTORY": f"{tmp_path}:/run/other"}).begin()
    assert (tmp_path / "attempts.json").exists()


@pytest.mark.parametrize("size_wh", [(1920, 1080), (640, 360), (320, 240), (1080, 1920)])
def test_a_placard_fits_into_every_window(size_wh: tuple[int, int]) -> None:
    lines = (
        "The configuration is wrong",
        "/etc/appliance/config.yaml: " + 40 * "word " + 300 * "x",
        "Correct it.",
    )
    sprite = placard.sprite(lines, size_wh)
    height, width = sprite.rgba.shape[:2]
    assert sprite.xy[0] >= 0
    assert sprite.xy[0] + width <= size_wh[0]
    assert sprite.xy[1] >= 0
    assert sprite.xy[1] + height <= size_wh[1]


def test_text_is_broken_between_words_and_none_is_lost() -> None:
    font, text = font_of(20), "some words of which not all fit into a single line of so few pixels"
    lines = list(placard.wrapped(text, font, 200))
    assert len(lines) > 2
    assert " ".join(lines) == text
    assert all(font.getlength(line) <= 200 for line in lines)

"""The flow of the stages: whole pipelines with real stages, around sources and backends of the test's own."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import pytest
from scripted import ScriptedBackend, ScriptedSource, Witness, ending_after, frame, run

from appliance import stages
from appliance.app import wire
from appliance.capture import EndOfSource
from appliance.config import Config
from appliance.data import Frame, ModelInput, RawOutputs, Tensor
from appliance.display import Click, Command, UserInput
from appliance.errors import SourceLost, SourceMissing, SourceTruncated
from appliance.metrics import Metrics
from appliance.notices import Notices
from appliance.pipeline import Closed, Slot
from appliance.preprocess import Preprocessor


def shown_pairs(display: Witness) -> list[tuple[int, int]]:
    """Indices of pictures, each with the index of the picture that its masks belong to."""
    return [
        (view.frame.index, view.layer.segmentation.frame.index)
        for view in display.views
        if view.frame is not None and view.layer is not None
    ]


@pytest.mark.parametrize("objects", [lambda _: 3, lambda _: 0, lambda number: number % 2])
def test_paired_every_picture_is_shown_once_with_its_own_masks(objects: Callable[[int], int]) -> None:
    source = ScriptedSource(ending_after(30, EndOfSource()), live=False)
    backend, display = ScriptedBackend(objects), Witness()
    metrics = run(source, backend, display)
    assert list(dict.fromkeys(shown_pairs(display))) == [(index, index) for index in range(30)]
    assert metrics.snapshot().shown == 30
    assert metrics.snapshot().dropped == 0
    assert metrics.snapshot().latency_ms is None
    assert backend.closed
    assert source.closed


def test_the_end_waits_until_all_is_written() -> None:
    class SlowWriter(Witness):
        def __init__(self) -> None:
            super().__init__()
            self.left = 5
            self.left_at_close: int | None = None

        def busy(self) -> bool:
            self.left -= 1
            return self.left > 0

        def close(self) -> None:
            self.left_at_close = self.left

    display = SlowWriter()
    run(ScriptedSource(ending_after(3, EndOfSource()), live=False), ScriptedBackend(lambda _: 1), display)
    assert display.left_at_close == 0


def test_a_source_that_ends_early_is_an_error_after_its_last_picture_was_shown() -> None:
    source = ScriptedSource(ending_after(20, SourceTruncated("ended early")), live=False)
    display = Witness()
    with pytest.raises(SourceTruncated):
        run(source, ScriptedBackend(lambda _: 2, invoke_s=0.01), display)
    assert {index for index, _ in shown_pairs(display)} == set(range(20))


def test_live_pictures_go_on_while_the_device_is_slow() -> None:
    display = Witness()
    metrics = run(
        ScriptedSource(frame, live=True), ScriptedBackend(lambda _: 2, invoke_s=0.25), display, seconds=2
    )
    figures = metrics.snapshot()
    assert figures.pictures_per_s > 30
    assert 2 < figures.masks_per_s < 5
    assert figures.latency_ms is not None
    assert 250 < figures.latency_ms.median < 500


def test_live_masks_of_an_empty_picture_replace_those_before() -> None:
    display = Witness()
    run(ScriptedSource(frame, live=True), ScriptedBackend(lambda number: 3 if number < 3 else 0), display, 1)
    last = display.views[-1].layer
    assert last is not None
    assert len(last.segmentation) == 0


def test_a_source_that_goes_away_is_opened_again_and_the_screen_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stages, "BACK_OFF_S", (0.2, 0.4))

    def read(number: int) -> Frame:
        if number == 20:
            raise SourceLost("unplugged")
        return frame(number)

    source, display = ScriptedSource(read, live=True), Witness()
    source_open = source.open
    failures = iter([SourceLost("still away"), SourceMissing("not even a device")])

    def open_again() -> None:
        source_open()
        if source.opened > 1 and (failure := next(failures, None)) is not None:
            raise failure

    monkeypatch.setattr(source, "open", open_again)
    run(source, ScriptedBackend(lambda _: 1), display, seconds=3)
    assert source.opened == 4
    notices = {words for view in display.views for words in view.hud.notices}
    assert "script: unplugged, trying again in 0.2 s" in notices
    assert "script: not even a device, trying again in 0.4 s" in notices
    assert display.views[-1].frame is not None
    assert display.views[-1].frame.index > 30
    assert display.views[-1].hud.notices == ()


def test_a_source_that_never_worked_is_fatal() -> None:
    source = ScriptedSource(frame, live=True, open_fails=(SourceMissing,))
    with pytest.raises(SourceMissing):
        run(source, ScriptedBackend(lambda _: 1), Witness())


def test_an_error_in_the_backend_comes_out_and_no_thread_is_left() -> None:
    def fail(number: int) -> int:
        raise ZeroDivisionError(number)

    backend = ScriptedBackend(fail)
    with pytest.raises(ZeroDivisionError):
        run(ScriptedSource(frame, live=True), backend, Witness())
    names = {thread.name for thread in threading.enumerate()}
    assert not names & {"capture", "preprocess", "invoke", "interpret", "draw"}
    assert backend.closed


def test_the_last_picture_is_held_for_a_person_until_quit() -> None:
    began = time.monotonic()

    def act(views: int) -> list[UserInput]:
        return [Command.QUIT] if time.monotonic() - began > 1.5 else []

    display = Witness(act)
    run(ScriptedSource(ending_after(5, EndOfSource()), live=True), ScriptedBackend(lambda _: 2), display)
    assert 1.4 < time.monotonic() - began < 4
    assert any("last picture" in notice for notice in display.views[-1].hud.notices)
    assert display.views[-1].layer is not None


def test_what_is_saved_at_the_end_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[Command] = []

    def act(views: int) -> list[UserInput]:
        if views < 10 or display.views[-1].layer is None or len(asked) == 2:
            return []
        asked.append([Command.RECORD, Command.QUIT][len(asked)])
        return [asked[-1]]

    display = Witness(act)
    caplog.set_level("INFO")
    config = Config(output=str(tmp_path))
    source = ScriptedSource(frame, live=True)
    wire(config, source, ScriptedBackend(lambda _: 2), display, Metrics()).run(10)
    (recording,) = tmp_path.iterdir()
    assert f"saved {recording}" in caplog.text


def test_a_recording_of_a_held_picture_has_that_picture(tmp_path: Path) -> None:
    asked: list[Command] = []

    def act(views: int) -> list[UserInput]:
        ended = views > 0 and any("last picture" in notice for notice in display.views[-1].hud.notices)
        if not ended or display.views[-1].layer is None or len(asked) == 3:
            return []
        asked.append([Command.RECORD, Command.RECORD, Command.QUIT][len(asked)])
        return [asked[-1]]

    display = Witness(act)
    source = ScriptedSource(ending_after(3, EndOfSource()), live=True)
    config = Config(output=str(tmp_path))
    wire(config, source, ScriptedBackend(lambda _: 2), display, Metrics()).run(10)
    (path,) = tmp_path.glob("recording-*.mkv")
    with av.open(str(path)) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def test_a_click_puts_the_help_page_away_and_nothing_else() -> None:
    asked = iter([[], [Command.HELP], [], [Click((80.0, 48.0))], [], [Command.QUIT]])

    def act(views: int) -> list[UserInput]:
        return list(next(asked)) if views and display.views[-1].layer is not None else []

    display = Witness(act)
    run(ScriptedSource(frame, live=True), ScriptedBackend(lambda _: 2), display)
    helps = [view.hud.help for view in display.views]
    assert True in helps
    assert not helps[-1]
    assert not any(view.hud.toast for view in display.views)


def test_a_full_output_folder_is_told_and_the_run_goes_on(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    asked = iter([[], [Command.RECORD], [Command.SNAPSHOT]])
    display = Witness(lambda views: next(asked, []) if views > 5 else [])
    config = Config(output=str(blocked / "out"))
    source = ScriptedSource(frame, live=True)
    wire(config, source, ScriptedBackend(lambda _: 2), display, Metrics()).run(1.5)
    toasts = {view.hud.toast for view in display.views}
    assert any(toast.startswith("cannot record") for toast in toasts)
    assert any(toast.startswith("no snapshot") for toast in toasts)


def test_a_held_picture_is_drawn_again_when_the_window_is_resized() -> None:
    display = Witness(lambda _: [])
    began = time.monotonic()
    display.layer_wh = lambda picture_wh: (  # type: ignore[method-assign]
        picture_wh if time.monotonic() - began < 1 else (320, 192)
    )
    source = ScriptedSource(ending_after(5, EndOfSource()), live=True)
    run(source, ScriptedBackend(lambda _: 2), display, seconds=2)
    last = display.views[-1].layer
    assert last is not None
    assert last.rgba.shape[:2] == (192, 320)


def test_the_device_has_its_next_input_before_its_last_result_is_handed_on() -> None:
    order: list[str] = []

    class Recorder(ScriptedBackend):
        def start(self, tensor: Tensor) -> None:
            order.append("start")

    class Outputs(Slot[RawOutputs]):
        def put(self, item: RawOutputs) -> bool:
            order.append("hand on")
            return super().put(item)

    inputs: Slot[ModelInput] = Slot(newest_wins=False)
    outputs = Outputs(newest_wins=True)
    backend = Recorder(lambda _: 1, invoke_s=0.05)
    preprocess = Preprocessor(backend.spec)
    feeder = threading.Thread(
        target=lambda: ([inputs.put(preprocess(frame(i))) for i in range(3)], inputs.close())
    )
    feeder.start()
    time.sleep(0.1)
    with pytest.raises(Closed):
        stages.invoke(backend, inputs, outputs, threading.Event(), Metrics(), Notices())
    feeder.join()
    assert order.count("hand on") == order.count("start") == 3
    assert order[:3] == ["start", "start", "hand on"]
    assert backend.closed


@pytest.mark.parametrize("with_notice", [False, True])
def test_a_notice_without_a_picture_is_presented_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_notice: bool
) -> None:
    def read(number: int) -> Frame:
        if with_notice:
            raise SourceLost("unplugged")
        time.sleep(0.1)
        raise SourceTruncated("too early")  # an end without a picture, and no notice of it

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(0.5)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        with contextlib.suppress(SourceTruncated):
            run(ScriptedSource(read, live=True), ScriptedBackend(lambda _: 0), Witness(), seconds=0.6)
        assert systemd.recv(100) == (b"READY=1" if with_notice else b"STOPPING=1")

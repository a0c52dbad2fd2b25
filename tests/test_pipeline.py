"""The slot, the first error, the clean end and the bounded shutdown, with real threads."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest

from appliance import pipeline as pipeline_module
from appliance.errors import StageStuck
from appliance.pipeline import Closed, Pipeline, Slot, Stopped


def _never() -> None:
    threading.Event().wait(30)


def test_newest_wins_and_says_what_it_dropped() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    assert slot.put(1) is False
    assert slot.put(2) is True
    assert slot.take() == 2
    assert slot.poll() is None


def test_a_blocking_put_waits_until_the_item_is_taken() -> None:
    slot: Slot[int] = Slot(newest_wins=False)
    slot.put(1)
    done = threading.Event()

    def second() -> None:
        slot.put(2)
        done.set()

    thread = threading.Thread(target=second, daemon=True)
    thread.start()
    assert not done.wait(0.1)
    assert slot.take() == 1
    assert done.wait(2)
    assert slot.take() == 2
    thread.join(2)


def test_close_lets_the_taker_drain_first() -> None:
    slot: Slot[int] = Slot(newest_wins=False)
    slot.put(1)
    slot.close()
    assert slot.take() == 1
    with pytest.raises(Closed):
        slot.take()


def test_a_poke_wakes_the_taker_without_an_item() -> None:
    slot: Slot[int] = Slot(newest_wins=True)
    threading.Timer(0.05, slot.poke).start()
    assert slot.take_or_poke() is None
    slot.put(3)
    assert slot.take_or_poke() == 3


@pytest.mark.parametrize("waiting", ["take", "put"])
def test_stop_sends_a_waiting_thread_home(waiting: str) -> None:
    slot: Slot[int] = Slot(newest_wins=False)
    if waiting == "put":
        slot.put(1)
    threading.Timer(0.05, slot.stop).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        slot.take() if waiting == "take" else slot.put(2)
    assert time.monotonic() - started < 0.5


def test_a_clean_end_drains_through_every_stage() -> None:
    pipeline = Pipeline()
    numbers: Slot[int] = pipeline.slot(newest_wins=False)
    squares: Slot[int] = pipeline.slot(newest_wins=False)
    got: list[int] = []

    def count() -> None:
        for number in range(50):
            numbers.put(number)

    def square() -> None:
        while True:
            squares.put(numbers.take() ** 2)

    def collect() -> None:
        while True:
            got.append(squares.take())

    pipeline.stage("count", count, (numbers,))
    pipeline.stage("square", square, (squares,))
    pipeline.run(collect)
    assert got == [number**2 for number in range(50)]
    assert not {"count", "square"} & {thread.name for thread in threading.enumerate()}


def test_the_first_error_stops_all_and_comes_out_with_its_cause() -> None:
    pipeline = Pipeline()
    items: Slot[int] = pipeline.slot(newest_wins=False)

    def fail() -> None:
        try:
            raise OSError("the cause")
        except OSError as cause:
            raise ValueError("the first error") from cause

    def wait() -> None:
        items.take()

    pipeline.stage("fail", fail, (items,))
    pipeline.stage("wait", wait, ())
    with pytest.raises(ValueError, match="the first error") as raised:
        pipeline.run(lambda: items.take() and None)
    assert isinstance(raised.value.__cause__, OSError)


def test_an_error_in_the_main_thread_stops_the_stages() -> None:
    pipeline = Pipeline()
    items: Slot[int] = pipeline.slot(newest_wins=True)
    pipeline.stage("wait", lambda: items.take() and None, ())

    def main() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        pipeline.run(main)


def test_a_thread_that_does_not_stop_is_named_in_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "JOIN_S", 0.2)
    pipeline = Pipeline()
    pipeline.stage("deaf", _never, ())
    started = time.monotonic()
    with pytest.raises(StageStuck, match="deaf"):
        pipeline.run(lambda: None)
    assert time.monotonic() - started < 1


def test_stages_and_the_main_thread_end_at_the_same_time() -> None:
    """Together they must fit into what systemd leaves a service for its end."""
    pipeline = Pipeline()
    pipeline.stage("deaf", _never, ())

    def main() -> None:
        pipeline.ask_to_stop()
        try:
            pipeline.check()
        finally:
            time.sleep(pipeline_module.JOIN_S)  # a recording is finished

    started = time.monotonic()
    with pytest.raises(StageStuck, match="deaf"):
        pipeline.run(main)
    assert time.monotonic() - started < pipeline_module.JOIN_S + 0.6


def test_a_thread_in_a_long_call_may_be_left_behind(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pipeline_module, "JOIN_S", 0.2)
    pipeline = Pipeline()
    pipeline.stage("slow", lambda: time.sleep(2), (), may_outlast=True)
    started = time.monotonic()
    pipeline.run(lambda: None)
    assert time.monotonic() - started < 1
    assert "slow is busy" in caplog.text


@pytest.mark.parametrize("how", ["asked", "deadline"])
def test_check_ends_the_main_loop(how: str) -> None:
    pipeline = Pipeline()
    if how == "asked":
        threading.Timer(0.05, pipeline.ask_to_stop).start()
    else:
        pipeline.stop_after(0.05)

    told_before_the_main_loop_ended = []

    def main() -> None:
        try:
            while True:
                pipeline.check()
                time.sleep(0.01)
        finally:
            told_before_the_main_loop_ended.append(pipeline.stopping.is_set())

    pipeline.run(main)
    assert told_before_the_main_loop_ended == [True]


def _stuck_after(pipeline: Pipeline, seconds: float) -> tuple[str, ...]:
    seen: list[str] = []

    def main() -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            seen.extend(pipeline.progress.stuck())
            time.sleep(0.02)

    with contextlib.suppress(StageStuck):
        pipeline.run(main)
    return tuple(sorted(set(seen)))


def test_a_stage_that_works_too_long_on_one_item_is_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "JOIN_S", 0.2)
    pipeline = Pipeline()
    pipeline.stage("wedged", _never, (), longest_s=0.3)
    pipeline.stage("patient", lambda: time.sleep(1), (), longest_s=30)
    assert _stuck_after(pipeline, 0.8) == ("wedged",)


def test_waits_and_hand_overs_are_no_standstill() -> None:
    pipeline = Pipeline()
    nothing: Slot[int] = pipeline.slot(newest_wins=True)
    full: Slot[int] = pipeline.slot(newest_wins=False)
    busy: Slot[int] = pipeline.slot(newest_wins=True)

    def put_where_nobody_takes() -> None:
        while True:
            full.put(1)

    def work() -> None:
        while True:
            time.sleep(0.02)
            busy.put(1)

    pipeline.stage("take", lambda: nothing.take() and None, (), longest_s=0.5)
    pipeline.stage("put", put_where_nobody_takes, (), longest_s=0.5)
    pipeline.stage("pause", lambda: pipeline.stopping.wait() and None, (), longest_s=0.5)
    pipeline.stage("work", work, (), longest_s=0.5)
    assert _stuck_after(pipeline, 1.2) == ()


def test_a_stage_that_ended_is_not_stuck() -> None:
    pipeline = Pipeline()
    pipeline.stage("short", lambda: None, (), longest_s=0.1)
    assert _stuck_after(pipeline, 0.4) == ()

"""Rates count intervals, latencies have a window, drops are gaps in the index."""

import time

import pytest

from appliance.metrics import Metrics, Rate, percentile, statistics_line

_S = 1_000_000_000


def test_a_rate_counts_the_intervals_between_events() -> None:
    rate = Rate(window_s=2.0)
    for tenth in range(11):
        rate.mark(tenth * _S // 10)
    assert rate.per_s(_S) == pytest.approx(10.0)


def test_a_rate_falls_when_events_stay_away() -> None:
    rate = Rate(window_s=2.0)
    for tenth in range(11):
        rate.mark(tenth * _S // 10)
    assert rate.per_s(int(1.2 * _S)) == pytest.approx(10.0)
    assert rate.per_s(int(1.9 * _S)) < 6
    assert rate.per_s(10 * _S) == 0


def test_a_slow_rate_is_not_none() -> None:
    rate = Rate(window_s=2.0)
    for number in range(4):
        rate.mark(3 * number * _S)
    assert rate.per_s(10 * _S) == pytest.approx(1 / 3)
    assert rate.per_s(30 * _S) == 0


def test_what_a_slow_stage_took_stays_a_while() -> None:
    metrics = Metrics(window_s=0.05)
    metrics.took("invoke", 70.0)
    time.sleep(0.1)
    assert metrics.snapshot().stage_ms["invoke"].median == 70.0
    time.sleep(0.15)
    assert not metrics.snapshot().stage_ms


def test_one_event_is_no_rate() -> None:
    rate = Rate(window_s=2.0)
    rate.mark(5)
    assert rate.per_s(5) == 0


def test_percentile_is_a_value_that_occurred() -> None:
    assert percentile([float(n) for n in range(1, 101)], 95) == 95
    assert percentile([3.0], 95) == 3
    assert percentile([], 95) == 0


def test_pictures_that_were_never_shown_are_drops_unless_left_out_on_purpose() -> None:
    metrics = Metrics()
    for index in (0, 1, 4):
        metrics.picture_shown(index)
    metrics.picture_passed(9)
    metrics.picture_shown(10)
    figures = metrics.snapshot()
    assert figures.dropped == 2
    assert figures.shown == 4


def test_latency_is_from_capture_to_showing() -> None:
    metrics = Metrics()
    metrics.masks_shown(time.monotonic_ns() - 120_000_000)
    metrics.took("invoke", 7.5)
    figures = metrics.snapshot()
    assert figures.latency_ms is not None
    assert figures.latency_ms.median == pytest.approx(120, abs=20)
    assert figures.stage_ms["invoke"].median == 7.5
    assert "latency" in statistics_line(figures)
    assert "invoke 7.5" in statistics_line(figures)

"""The question of a kiosk: its buttons are where they are drawn, in any window."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import question
from appliance.question import Answer

SIZES = [(320, 240), (640, 360), (800, 480), (1280, 720), (1920, 1080), (3840, 2160), (480, 800)]


@given(st.tuples(st.integers(320, 4000), st.integers(240, 2200)))
def test_each_button_answers_in_the_window(size_wh: tuple[int, int]) -> None:
    centres = {answer: question.button_centre(answer, size_wh) for answer in Answer}
    for answer, (x, y) in centres.items():
        assert question.answer_at((x, y), size_wh) is answer
        assert 0 < x < size_wh[0]
        assert 0 < y < size_wh[1]
    xs = [x for x, _ in centres.values()]
    assert xs == sorted(xs)
    between = ((xs[0] + xs[1]) / 2, centres[Answer.BACK][1])
    assert question.answer_at(between, size_wh) is None
    assert question.answer_at((0.5, 0.5), size_wh) is None


@pytest.mark.parametrize("size_wh", SIZES)
def test_it_lies_in_the_window_and_the_buttons_in_it(size_wh: tuple[int, int]) -> None:
    sprite = question.sprite(size_wh)
    height, width = sprite.rgba.shape[:2]
    assert 0 <= sprite.xy[0] <= size_wh[0] - width
    assert 0 <= sprite.xy[1] <= size_wh[1] - height
    for answer in Answer:
        x, y = question.button_centre(answer, size_wh)
        reach = height // 6
        around = sprite.rgba[int(y) - sprite.xy[1] - reach :, int(x) - sprite.xy[0] - reach :, :3]
        around = around[: 2 * reach, : 2 * reach]
        assert around.shape == (2 * reach, 2 * reach, 3)
        assert np.ptp(around, axis=(0, 1)).max() > 60  # letters on it
    assert question.sprite(size_wh).rgba is sprite.rgba


def test_the_keys_differ() -> None:
    assert set(question.KEYS) == set(Answer)
    assert len(set(question.KEYS.values())) == len(Answer)

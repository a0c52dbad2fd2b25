"""What is written over the picture: inside the window, readable, on top of anything."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance import hud
from appliance.display import Command, Hud

FULL = Hud(
    readout=("8.9 masks/s  ·  30.0 pictures/s", "latency 128 ms", "CPU, 4 threads (LiteRT), 61 °C"),
    badge="DEMO MODEL",
    notices=("camera unplugged, trying again in 4 s",),
    toast="saved out/2025-01-01_12-00-00.png",
    help=True,
    active=frozenset({Command.RECORD}),
)
SIZES = [(640, 360), (1280, 720), (1920, 1080), (3840, 2160), (1024, 768), (360, 640), (320, 240)]


@pytest.mark.parametrize("size_wh", SIZES)
def test_everything_lies_in_the_window(size_wh: tuple[int, int]) -> None:
    for sprite in hud.sprites(FULL, size_wh):
        height, width = sprite.rgba.shape[:2]
        assert sprite.xy[0] >= 0
        assert sprite.xy[1] >= 0
        assert sprite.xy[0] + width <= size_wh[0]
        if size_wh[1] >= 360:
            assert sprite.xy[1] + height <= size_wh[1]


@pytest.mark.parametrize("size_wh", SIZES[:4])
def test_the_readout_is_readable_on_any_background(size_wh: tuple[int, int]) -> None:
    (panel,) = hud.sprites(Hud(readout=FULL.readout), size_wh, bar=False)
    alpha = panel.rgba[..., 3:] / 255.0
    over = [panel.rgba[..., :3] * alpha + background * (1 - alpha) for background in (0, 255)]
    for flat in over:
        text = (flat.min(-1) > 180).mean()
        ground = (flat.max(-1) < 90).mean()
        assert text > 0.02
        assert ground > 0.6
    rows = (over[0].min(-1) > 180).any(1)
    assert rows.sum() >= 3 * 7  # three lines, each at least 7 pixels high


def test_the_bar_can_be_left_out() -> None:
    assert hud.sprites(Hud(), (1280, 720), bar=False) == ()
    assert len(hud.sprites(Hud(), (1280, 720))) == 1


def test_notices_do_not_lie_on_the_readout() -> None:
    for size_wh in SIZES:
        parts = hud.sprites(Hud(readout=FULL.readout, notices=("camera unplugged",) * 2), size_wh, bar=False)
        for i, part in enumerate(parts):
            for other in parts[:i]:
                assert _apart(part, other), size_wh


def _apart(one: hud.Sprite, other: hud.Sprite) -> bool:
    def edges(sprite: hud.Sprite) -> tuple[int, int, int, int]:
        (x, y), (height, width) = sprite.xy, sprite.rgba.shape[:2]
        return x, y, x + width, y + height

    left, top, right, bottom = edges(one)
    other_left, other_top, other_right, other_bottom = edges(other)
    return right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top


def test_active_and_pressed_buttons_look_different() -> None:
    plain, active, pressed = (
        hud.sprites(Hud(active=on), (1280, 720), down)[0].rgba
        for on, down in (
            (frozenset[Command](), None),
            (frozenset({Command.FREEZE}), None),
            (frozenset[Command](), Command.FREEZE),
        )
    )
    first_button = np.s_[:, : plain.shape[1] // len(Command)]
    rest = np.s_[:, plain.shape[1] // len(Command) :]
    for other in (active, pressed):
        assert not np.array_equal(plain[first_button], other[first_button])
        assert np.array_equal(plain[rest], other[rest])


def test_unchanged_parts_are_the_same_arrays() -> None:
    size_wh = (1280, 720)
    before = hud.sprites(FULL, size_wh)
    after = hud.sprites(replace(FULL, readout=("another readout",)), size_wh)
    assert sum(any(one.rgba is other.rgba for other in before) for one in after) == len(after) - 1
    assert not after[0].rgba.flags.writeable


@pytest.mark.parametrize("size_wh", SIZES)
def test_every_command_has_a_button_where_it_is_drawn(size_wh: tuple[int, int]) -> None:
    assert set(hud.KEYS) == set(Command)
    for command in Command:
        assert hud.button_at(hud.button_centre(command, size_wh), size_wh) is command
    assert hud.button_at((size_wh[0] / 2, 5), size_wh) is None
    assert hud.button_at((0.5, size_wh[1] - 0.5), size_wh) is None


def test_buttons_are_large_enough_to_touch() -> None:
    x, y = hud.button_centre(Command.HELP, (1920, 1080))
    for dx in (-22, 0, 22):
        for dy in (-22, 0, 22):
            assert hud.button_at((x + dx, y + dy), (1920, 1080)) is Command.HELP


@given(
    st.tuples(st.integers(320, 4000), st.integers(240, 2200)),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1, exclude_max=True),
)
def test_the_bar_has_no_holes(size_wh: tuple[int, int], across: float, down: float) -> None:
    """A click between two buttons must not select what lies under the bar."""
    (bar,) = hud.sprites(Hud(), size_wh)
    height, width = bar.rgba.shape[:2]
    xy = (bar.xy[0] + across * (width - 1) + 0.5, bar.xy[1] + down * (height - 1) + 0.5)
    assert hud.button_at(xy, size_wh) is not None


@pytest.mark.parametrize(
    "text", ["Übung – 4 × ½ µm.jpg", "日本語.mp4", "a\tb\x00", "x" * 500, "", " ", "8 °C ± 1 · …"]
)
def test_any_text_can_be_shown(text: str) -> None:
    for size_wh in SIZES:
        parts = hud.sprites(Hud((text, text), text, (text,), text, help=True), size_wh, bar=False)
        assert all(part.xy[0] + part.rgba.shape[1] <= size_wh[0] for part in parts)

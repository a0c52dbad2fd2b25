"""A real window on a real X server, with real clicks and keys, looked at with a screenshot."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pygame
import pytest
from desktop import SCREEN_WH, desktop, eventually, screenshot, xdotool
from numpy.typing import NDArray
from PIL import Image

from appliance import hud, question
from appliance.data import Frame, Layer, Segmentation
from appliance.display import Click, Command, Hud, SwitchOff, UserInput, View
from appliance.display.screen import Screen
from appliance.display.viewport import Viewport
from appliance.errors import NoScreen
from appliance.geometry import Letterbox

PICTURE_WH = (640, 360)
Opener = Callable[..., Screen]


@pytest.fixture
def opened(xvfb: str) -> Iterator[Opener]:
    """Opens screens, and closes them while the X server is still there."""
    screens: list[Screen] = []

    def opener(**options: object) -> Screen:
        screens.append(Screen(**options))  # type: ignore[arg-type]
        screens[-1].open()
        return screens[-1]

    yield opener
    for screen in screens:
        screen.close()


def picture() -> Frame:
    """A blue picture with a white top left, to see where it is and which way up."""
    width, height = PICTURE_WH
    rgb = np.empty((height, width, 3), np.uint8)
    rgb[:] = (0, 120, 200)
    rgb[: height // 4, : width // 2] = 255
    return Frame(0, 0, rgb)


def layer(frame: Frame, rgba: NDArray[np.uint8]) -> Layer:
    """A layer with given pixels."""
    segmentation = Segmentation(
        frame,
        Letterbox.fit(frame.size_wh, (64, 64)),
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.float32),
        np.zeros((0, 16, 16), np.uint8),
    )
    return Layer(segmentation, rgba)


def window(display: str) -> str:
    """The window's id, once it is there."""
    found: list[str] = []

    def there() -> bool:
        found[:] = (xdotool(display, "search", "--onlyvisible", "--pid", os.getpid()) or "").split()
        return bool(found)

    eventually(there, "no window")
    return found[-1]


def size(display: str) -> tuple[int, int]:
    """The window's width and height."""
    geometry = values(xdotool(display, "getwindowgeometry", "--shell", window(display)))
    return geometry["WIDTH"], geometry["HEIGHT"]


def origin(display: str) -> tuple[int, int]:
    """The window's top left on the screen, by pointing there: what xdotool reports forgets the frame."""
    xdotool(display, "mousemove", "--window", window(display), 0, 0)
    at = values(xdotool(display, "getmouselocation", "--shell"))
    return at["X"], at["Y"]


def values(shell: str | None) -> dict[str, int]:
    """What xdotool prints as assignments."""
    assert shell is not None
    return {name: int(value) for name, value in (line.split("=") for line in shell.split())}


def await_size(screen: Screen, display: str, size_wh: tuple[int, int]) -> tuple[int, int]:
    """Wait until the window has a size, and the screen knows it; returns where it is."""

    def settled() -> bool:
        screen.poll()
        # A wide picture tells the width that the screen knows, a high one the height.
        pictures = ((3000, 100), (100, 3000))
        known = all(screen.layer_wh(wh) == Viewport(wh, size_wh).layer_wh for wh in pictures)
        return known and size(display) == size_wh

    eventually(settled, f"the window did not become {size_wh}")
    return origin(display)


def user_does(screen: Screen, display: str, *arguments: str | int) -> list[UserInput]:
    """What the screen reports after xdotool did something; again if the server lost it."""
    for _ in range(5):
        assert xdotool(display, *arguments) is not None
        deadline_s = time.monotonic() + 1
        while time.monotonic() < deadline_s:
            if inputs := screen.poll():
                time.sleep(0.1)
                return inputs + screen.poll()
            time.sleep(0.01)
    return []


def click(screen: Screen, display: str, x: int, y: int) -> list[UserInput]:
    """Move the real mouse to a pixel of the screen and click."""
    return user_does(screen, display, "mousemove", x, y, "click", 1)


def colour(image: Image.Image, x: int, y: int) -> tuple[int, ...]:
    """One pixel's red, green and blue."""
    return tuple(np.asarray(image)[y, x].tolist())


def near(got: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 3) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(got, expected, strict=True))


@pytest.mark.parametrize("size_wh", [(1280, 720), (900, 700), (1500, 500), (643, 481)])
def test_clicks_map_exactly_to_picture_pixels(xvfb: str, opened: Opener, size_wh: tuple[int, int]) -> None:
    screen = opened(size_wh=size_wh)
    frame = picture()
    screen.show(View(frame, None, Hud()))
    left, top = await_size(screen, xvfb, size_wh)
    rect_x, rect_y, rect_w, rect_h = Viewport(PICTURE_WH, size_wh).rect_xywh
    for column, row in [(0, 0), (rect_w - 1, 0), (0, rect_h - 1), (rect_w // 3, rect_h // 2)]:
        inputs = click(screen, xvfb, left + rect_x + column, top + rect_y + row)
        assert len(inputs) == 1, inputs
        assert isinstance(inputs[0], Click)
        expected = ((column + 0.5) * PICTURE_WH[0] / rect_w, (row + 0.5) * PICTURE_WH[1] / rect_h)
        assert inputs[0].xy == pytest.approx(expected, abs=1e-6)


def test_the_picture_lies_where_clicks_think_it_does(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(900, 700))
    screen.show(View(picture(), None, Hud()))
    left, top = await_size(screen, xvfb, (900, 700))
    rect_x, rect_y, rect_w, rect_h = Viewport(PICTURE_WH, (900, 700)).rect_xywh
    assert rect_y > 50

    def shown() -> bool:
        pixels = screenshot(xvfb).crop((left, top, left + 900, top + 700))
        return (
            colour(pixels, 450, rect_y - 1) == (0, 0, 0)
            and colour(pixels, rect_x + 2, rect_y) == (255, 255, 255)
            and near(colour(pixels, rect_x + rect_w - 1, rect_y), (0, 120, 200))
            and near(colour(pixels, rect_x + 2, rect_y + rect_h - 1), (0, 120, 200))
            and colour(pixels, 450, rect_y + rect_h) == (0, 0, 0)
        )

    eventually(shown, "the picture is not where it should be")


def test_clicks_beside_the_picture_are_ignored(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(900, 700))
    screen.show(View(picture(), None, Hud()))
    left, top = await_size(screen, xvfb, (900, 700))
    rect_x, rect_y, _, _ = Viewport(PICTURE_WH, (900, 700)).rect_xywh
    xdotool(xvfb, "mousemove", left + 450, top + rect_y - 1, "click", 1)
    inputs = click(screen, xvfb, left + rect_x + 10, top + rect_y + 10)
    assert len([given for given in inputs if isinstance(given, Click)]) == 1
    xdotool(xvfb, "mousemove", left + 450, top + rect_y + 10, "click", 3)  # nor is a right click anything
    inputs = click(screen, xvfb, left + rect_x + 10, top + rect_y + 10)
    assert len(inputs) == 1


def test_masks_and_the_readout_lie_over_the_picture(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(1280, 720))
    frame = picture()
    rgba = np.zeros((180, 320, 4), np.uint8)
    rgba[:, 160:] = (255, 0, 0, 128)
    shown = Hud(readout=("8.9 masks/s",), badge="DEMO MODEL", toast="saved")
    screen.show(View(frame, layer(frame, rgba), shown))
    left, top = await_size(screen, xvfb, (1280, 720))

    def all_there() -> bool:
        pixels = screenshot(xvfb).crop((left, top, left + 1280, top + 720))
        panel = np.asarray(pixels.crop((20, 20, 120, 36)))
        return (
            near(colour(pixels, 500, 400), (0, 120, 200))
            and near(colour(pixels, 900, 400), (128, 60, 100))
            and panel.max() > 240  # letters
            and np.median(panel) < 90  # on a dark ground, though the picture is white there
        )

    eventually(all_there, "something is missing on the screen")

    # A part that goes away leaves nothing behind, and a new layer replaces the old one.
    screen.show(View(frame, layer(frame, np.zeros_like(rgba)), Hud()))

    def all_gone() -> bool:
        pixels = screenshot(xvfb).crop((left, top, left + 1280, top + 720))
        return near(colour(pixels, 900, 400), (0, 120, 200)) and colour(pixels, 60, 28) == (
            255,
            255,
            255,
        )

    eventually(all_gone, "something stayed on the screen")


def test_without_a_picture_there_are_notices_on_a_plain_background(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(1280, 720))
    screen.show(View(None, None, Hud(notices=("camera unplugged, trying again in 4 s",))))
    left, top = await_size(screen, xvfb, (1280, 720))

    def shown() -> bool:
        pixels = screenshot(xvfb)
        red = np.asarray(pixels.crop((left + 540, top + 15, left + 740, top + 40))).reshape(-1, 3)
        return bool(np.median(red[:, 0]) > 120) and near(colour(pixels, left + 640, top + 300), (24, 27, 32))

    eventually(shown, "no notice")
    xdotool(xvfb, "mousemove", left + 640, top + 300, "click", 1)
    assert user_does(screen, xvfb, "key", "h") == [Command.HELP]  # and the click was nothing


def test_every_key_is_its_command(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(1280, 720))
    await_size(screen, xvfb, (1280, 720))
    xdotool(xvfb, "windowactivate", "--sync", window(xvfb))
    for command, key in hud.KEYS.items():
        assert user_does(screen, xvfb, "key", key) == [command]


@pytest.mark.parametrize("size_wh", [(1280, 720), (640, 480)])
def test_every_button_works_by_mouse(xvfb: str, opened: Opener, size_wh: tuple[int, int]) -> None:
    screen = opened(size_wh=size_wh)
    screen.show(View(picture(), None, Hud()))
    left, top = await_size(screen, xvfb, size_wh)
    for command in Command:
        x, y = hud.button_centre(command, size_wh)
        assert click(screen, xvfb, left + int(x), top + int(y)) == [command]


def test_a_touch_is_one_click(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(1280, 720))
    screen.show(View(picture(), None, Hud()))
    await_size(screen, xvfb, (1280, 720))
    # As SDL reports a tap: the finger, and the mouse click that it makes of it.
    pygame.event.post(pygame.Event(pygame.FINGERDOWN, touch_id=1, finger_id=0, x=0.5, y=0.5, dx=0.0, dy=0.0))
    pygame.event.post(pygame.Event(pygame.MOUSEBUTTONDOWN, pos=(640, 360), button=1, touch=True))
    assert screen.poll() == [Click((320.25, 180.25))]


def test_resizing_and_full_screen(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(1000, 600))
    screen.show(View(picture(), None, Hud()))
    await_size(screen, xvfb, (1000, 600))
    assert screen.layer_wh(PICTURE_WH) == (1000, 562)

    xdotool(xvfb, "windowsize", window(xvfb), 800, 600)
    left, top = await_size(screen, xvfb, (800, 600))
    assert screen.layer_wh(PICTURE_WH) == (800, 450)
    assert click(screen, xvfb, left + 400, top + 300) == [Click((320.4, 180.4))]

    assert screen.toggle_fullscreen()
    assert await_size(screen, xvfb, SCREEN_WH) == (0, 0)
    assert screen.layer_wh((3840, 2160)) == (1920, 1080)
    inputs = click(screen, xvfb, 959, 539)
    assert len(inputs) == 1
    assert isinstance(inputs[0], Click)
    assert inputs[0].xy == pytest.approx((959.5 / 3, 539.5 / 3))
    eventually(lambda: colour(screenshot(xvfb), 10, 5) == (255, 255, 255), "not full screen")

    def escaped() -> bool:
        xdotool(xvfb, "key", "Escape")
        screen.poll()
        return size(xvfb) == (800, 600)

    eventually(escaped, "Escape does not leave full screen")


def test_starting_in_full_screen(xvfb: str, opened: Opener) -> None:
    screen = opened(fullscreen=True)
    assert await_size(screen, xvfb, SCREEN_WH) == (0, 0)
    assert not screen.toggle_fullscreen()
    await_size(screen, xvfb, (1280, 720))


@pytest.mark.parametrize("screen_wh", [(1280, 720), (800, 480), (3840, 2160)])
def test_full_screen_is_exact_on_any_screen(
    screen_wh: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with desktop(screen_wh) as display:
        monkeypatch.setenv("DISPLAY", display)
        screen = Screen(kiosk=True)
        screen.open()
        try:
            screen.show(View(picture(), None, Hud()))
            assert await_size(screen, display, screen_wh) == (0, 0)
            x, y, width, height = Viewport(PICTURE_WH, screen_wh).rect_xywh
            for column, row in [(0, 0), (width - 1, height // 3), (width // 3, height // 2)]:
                inputs = click(screen, display, x + column, y + row)
                assert len(inputs) == 1
                assert isinstance(inputs[0], Click)
                expected = (column + 0.5) * PICTURE_WH[0] / width, (row + 0.5) * PICTURE_WH[1] / height
                assert inputs[0].xy == pytest.approx(expected, abs=1e-6)

            def filled() -> bool:
                seen = screenshot(display)
                bars = [(width // 2, y - 1), (4, y + height)] if y else []
                return (
                    seen.size == screen_wh
                    and all(colour(seen, *xy) == (0, 0, 0) for xy in bars)
                    and colour(seen, x, y) == (255, 255, 255)
                    and near(colour(seen, x + width - 1, y), (0, 120, 200))
                    and near(colour(seen, x + 2, y + height - 1), (0, 120, 200))
                )

            eventually(filled, "the picture does not fill the screen")
        finally:
            screen.close()


def test_a_kiosk_asks_before_it_quits(xvfb: str, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    screen = opened(kiosk=True)
    screen.show(View(picture(), None, Hud()))
    await_size(screen, xvfb, SCREEN_WH)
    xdotool(xvfb, "windowfocus", window(xvfb))

    def asks() -> bool:
        screen.poll()
        x, y = question.button_centre(question.Answer.BACK, SCREEN_WH)
        return near(colour(screenshot(xvfb), int(x) - 80, int(y) - 50), (64, 156, 255), 20)

    def pressed(key: str, asked: bool) -> bool:
        for _ in range(5):
            xdotool(xvfb, "key", key)
            for _ in range(20):
                if asks() == asked:
                    return True
                time.sleep(0.05)
        return False

    assert pressed("q", asked=True)
    assert user_does(screen, xvfb, "key", "r") == [Command.QUIT]
    eventually(lambda: not asks(), "the question stays")
    assert pressed("q", asked=True)
    x, y = question.button_centre(question.Answer.SWITCH_OFF, SCREEN_WH)
    assert click(screen, xvfb, int(x), int(y)) == [SwitchOff()]
    eventually(lambda: not asks(), "the question stays")
    x, y = hud.button_centre(Command.QUIT, SCREEN_WH)
    xdotool(xvfb, "mousemove", int(x), int(y), "click", 1)
    eventually(asks, "the button does not ask")
    xdotool(xvfb, "mousemove", 300, 300, "click", 1, "key", "s")  # nothing but an answer counts
    assert screen.poll() == []
    assert asks()
    monkeypatch.setattr("appliance.display.screen._QUESTION_S", 0.5)
    eventually(lambda: not asks(), "a question that nobody answers stays")
    inputs = click(screen, xvfb, 300, 500)
    assert [type(given) for given in inputs] == [Click]
    xdotool(xvfb, "key", "Escape")
    time.sleep(0.3)
    assert screen.poll() == []
    assert screen.toggle_fullscreen()
    assert size(xvfb) == SCREEN_WH


def test_closing_the_window_quits(xvfb: str, opened: Opener) -> None:
    screen = opened()
    await_size(screen, xvfb, (1280, 720))
    inputs: list[UserInput] = []

    def asked() -> bool:
        xdotool(xvfb, "key", "alt+F4")
        inputs.extend(screen.poll())
        return Command.QUIT in inputs

    eventually(asked, "closing the window is not noticed")


def test_the_cursor_hides_and_comes_back(xvfb: str, opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.display.screen._CURSOR_S", 0.5)
    screen = opened(size_wh=(1280, 720))
    left, top = await_size(screen, xvfb, (1280, 720))

    def cursor(visible: bool) -> bool:
        screen.poll()
        return pygame.mouse.get_visible() == visible

    eventually(lambda: cursor(False), "the cursor stays")
    xdotool(xvfb, "mousemove", left + 30, top + 30, "mousemove", left + 40, top + 40)
    eventually(lambda: cursor(True), "the cursor does not come back")


def test_a_screen_can_be_opened_again(xvfb: str, opened: Opener) -> None:
    screen = opened(size_wh=(640, 360))
    screen.show(View(picture(), None, Hud()))
    screen.close()
    screen.close()
    screen.open()
    screen.show(View(picture(), None, Hud(readout=("again",))))
    await_size(screen, xvfb, (640, 360))


def open_elsewhere(**environment: str) -> subprocess.CompletedProcess[str]:
    """Open a screen in another process, with nothing but `environment` to say where."""
    code = (
        "from appliance.display.screen import Screen\n"
        "from appliance.errors import NoScreen\n"
        "screen = Screen()\n"
        "try: screen.open()\n"
        "except NoScreen as error: print(error)\n"
        "else: print('opened')\n"
        "screen.close()\n"
    )
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "XDG_RUNTIME_DIR", "SDL_VIDEODRIVER")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )


@pytest.mark.parametrize("environment", [{}, {"DISPLAY": ":4093"}, {"SDL_VIDEODRIVER": "nonsense"}])
def test_no_screen_is_said_in_one_line(environment: dict[str, str]) -> None:
    done = open_elsewhere(**environment)
    assert done.stdout.startswith("no screen: ")
    assert "--display files" in done.stdout
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("driver", ["dummy", "offscreen"])
def test_a_window_that_nobody_can_see_must_be_asked_for(driver: str) -> None:
    done = open_elsewhere(SDL_VIDEODRIVER=driver)
    assert done.stdout == "opened\n"


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    monkeypatch.delitem(sys.modules, "appliance.display.sdl", raising=False)
    with pytest.raises(NoScreen, match=r"segmentation-appliance\[screen\]"):
        Screen().open()

"""A window, or the whole screen, through SDL2: HDMI without a desktop, Wayland, X11."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from appliance import hud as hud_drawing
from appliance import placard, question
from appliance.display import Click, Command, Hud, SwitchOff, UserInput, View
from appliance.display.viewport import Viewport, pointer_px
from appliance.errors import DisplayError, NoScreen
from appliance.question import Answer

if TYPE_CHECKING:  # the library is an extra
    import pygame

    from appliance.display.painter import Painter

_log = logging.getLogger(__name__)

_DEFAULT_WH = (1280, 720)
_MINIMUM_WH = (320, 240)
_CURSOR_S = 3.0
"""The cursor is hidden when it has not been moved for so long."""
_QUESTION_S = 30.0
"""A question that nobody answers goes away."""
_HINTS = {
    "SDL_APP_NAME": "Segmentation appliance",
    "SDL_NO_SIGNAL_HANDLERS": "1",  # signals are the program's
    "SDL_VIDEO_ALLOW_SCREENSAVER": "0",
    "SDL_VIDEO_X11_NET_WM_BYPASS_COMPOSITOR": "0",
    "SDL_VIDEO_WAYLAND_ALLOW_LIBDECOR": "0",  # without its plugins, libdecor waits for ever
    "SDL_TOUCH_MOUSE_EVENTS": "1",  # a touch is a click as well, so that clicks are all there is to handle
    "SDL_MOUSE_TOUCH_EVENTS": "0",
    "SDL_MOUSE_FOCUS_CLICKTHROUGH": "1",
}


class Screen:
    """Shows views in a window. Everything but `layer_wh` belongs to the main thread."""

    interactive = True

    def __init__(
        self, fullscreen: bool = False, size_wh: tuple[int, int] | None = None, kiosk: bool = False
    ) -> None:
        """`size_wh` is the window's size in points; by default 1280 x 720, or the screen's if smaller.

        In a kiosk there is nothing but this program: it stays in full screen, and asks before it quits.
        """
        self._fullscreen = fullscreen or kiosk
        self._kiosk = kiosk
        self._wanted_wh = size_wh
        self._window_wh = size_wh or _DEFAULT_WH
        """In pixels, as last drawn."""
        self._window: pygame.Window | None = None
        self._painter: Painter | None = None
        self._view = View(None, None, Hud())
        self._pressed: Command | None = None
        self._asked_s: float | None = None
        """When the user was asked whether to quit; None while there is no question on the screen."""
        self._moved_s = 0.0

    def open(self) -> None:
        """Open the window. Raises `NoScreen`."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame

            from appliance.display import sdl
            from appliance.display.painter import Painter
        except ImportError as error:
            raise NoScreen(
                f"no screen: {error}; install the extra: pip install 'segmentation-appliance[screen]'"
            ) from error
        for name, value in _HINTS.items():
            sdl.set_hint(name, value)
        sdl.set_hint("SDL_VIDEODRIVER", _drivers())
        try:
            pygame.display.init()
            desktop_w, desktop_h = pygame.display.get_desktop_sizes()[0]
            size_wh = self._wanted_wh or (min(_DEFAULT_WH[0], desktop_w), min(_DEFAULT_WH[1], desktop_h))
            self._window = pygame.Window(
                "Segmentation appliance",
                size_wh,
                resizable=True,
                allow_high_dpi=True,
                fullscreen_desktop=self._fullscreen,
            )
            self._window.minimum_size = _MINIMUM_WH
            emblem = hud_drawing.emblem(64)
            self._window.set_icon(pygame.image.frombuffer(emblem.tobytes(), emblem.shape[1::-1], "RGBA"))
            self._painter = Painter(sdl.Renderer(self._window))
        except (pygame.error, DisplayError) as error:
            self.close()
            raise NoScreen(
                f"no screen: {error}; connect one, or run inside a desktop, or use --display files"
            ) from error
        self._moved_s = time.monotonic()
        _log.info("screen: %s, %d x %d pixels", pygame.display.get_driver(), *self._painter.size_wh)
        self._draw()

    def layer_wh(self, picture_wh: tuple[int, int]) -> tuple[int, int]:
        """The size of the picture's rectangle on the window, at most 1920 wide. For any thread."""
        return Viewport(picture_wh, self._window_wh).layer_wh

    def show(self, view: View) -> None:
        """Show a view. Raises `DisplayError` when the window is lost."""
        self._view = view
        self._draw()

    def poll(self) -> list[UserInput]:
        """Keys, clicks, taps and buttons since the last call. Draws the view again if the window needs it.

        Raises `DisplayError` when the window is lost.
        """
        import pygame

        if self._window is None:
            raise DisplayError("the screen is not open")
        inputs: list[UserInput] = []
        stale = False
        if self._asked_s is not None and time.monotonic() - self._asked_s > _QUESTION_S:
            self._asked_s, stale = None, True
        events = pygame.event.get()
        if self._kiosk and any(event.type == pygame.QUIT for event in events):
            # A window that is closed says WINDOWCLOSE, and the kiosk has no way to close it.
            raise DisplayError("the screen is lost: the compositor has ended")
        for event in events:
            if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
                inputs.append(Command.QUIT)
            elif event.type == pygame.KEYDOWN:
                inputs += self._key(pygame.key.name(event.key))
                stale = stale or self._kiosk
            elif event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_LEFT:
                inputs += self._press(event.pos)
                stale = stale or self._pressed is not None or self._kiosk
            elif event.type == pygame.MOUSEBUTTONUP and event.button == pygame.BUTTON_LEFT:
                stale = stale or self._pressed is not None
                self._pressed = None
            elif event.type in (pygame.WINDOWSIZECHANGED, pygame.WINDOWEXPOSED, pygame.WINDOWRESTORED):
                stale = True
            if event.type == pygame.MOUSEMOTION and not event.touch:
                self._moved_s = time.monotonic()
        self._show_cursor(time.monotonic() - self._moved_s < _CURSOR_S)
        if stale:
            self._draw()
        return inputs

    def toggle_fullscreen(self) -> bool:
        """Switch between window and full screen; returns whether it is full screen now: always in a kiosk."""
        if self._window is None:
            raise DisplayError("the screen is not open")
        if self._kiosk:
            return True
        self._fullscreen = not self._fullscreen
        if self._fullscreen:
            self._window.set_fullscreen(desktop=True)
        else:
            self._window.set_windowed()
        self._draw()
        return self._fullscreen

    def busy(self) -> bool:
        """What was shown is on the screen."""
        return False

    def close(self) -> None:
        """Close the window; safe to call more than once."""
        if self._painter is not None:
            self._painter.close()
            self._painter = None
        if self._window is not None:
            self._window.destroy()
            self._window = None
            import pygame

            pygame.display.quit()

    def _key(self, name: str) -> list[UserInput]:
        """What a key means, by its name in SDL."""
        if self._asked_s is not None:
            return self._answer(_ANSWERS.get(name))
        if name == "escape" and self._fullscreen:
            self.toggle_fullscreen()
        command = _COMMANDS.get(name)
        return [] if command is None else self._ask_before(command)

    def _press(self, point_xy: tuple[int, int]) -> list[UserInput]:
        """What a left click or a tap at a point means."""
        assert self._window is not None
        xy = pointer_px(point_xy, self._window.size, self._window_wh)
        if self._asked_s is not None:
            return self._answer(question.answer_at(xy, self._window_wh))
        if self._view.hud.placard:  # there are no buttons; a kiosk may have nothing but a touch screen
            return self._ask_before(Command.QUIT) if self._kiosk else []
        self._pressed = hud_drawing.button_at(xy, self._window_wh)
        if self._pressed is not None:
            return self._ask_before(self._pressed)
        if self._view.frame is None:
            return []
        picture_xy = Viewport(self._view.frame.size_wh, self._window_wh).to_picture(xy)
        return [] if picture_xy is None else [Click(picture_xy)]

    def _ask_before(self, command: Command) -> list[UserInput]:
        """The command, unless it has to be asked about first."""
        if not (self._kiosk and command is Command.QUIT):
            return [command]
        self._asked_s = time.monotonic()
        return []

    def _answer(self, answer: Answer | None) -> list[UserInput]:
        """What the answer means; None is no answer, and the question stays."""
        if answer is None:
            return []
        self._asked_s = None
        match answer:
            case Answer.BACK:
                return []
            case Answer.RESTART:
                return [Command.QUIT]
            case Answer.SWITCH_OFF:
                return [SwitchOff()]

    def _show_cursor(self, visible: bool) -> None:
        import pygame

        if pygame.mouse.get_visible() != visible:
            pygame.mouse.set_visible(visible)

    def _draw(self) -> None:
        """Draw the view as it is now."""
        painter = self._painter
        if painter is None:
            raise DisplayError("the screen is not open")
        self._window_wh = painter.size_wh
        hud = self._view.hud
        if self._fullscreen:
            hud = replace(hud, active=hud.active | {Command.FULLSCREEN})
        if hud.placard:
            sprites: tuple[hud_drawing.Sprite, ...] = (placard.sprite(hud.placard, self._window_wh),)
        else:
            sprites = hud_drawing.sprites(hud, self._window_wh, self._pressed)
        if self._asked_s is not None:
            sprites = (*sprites, question.sprite(self._window_wh))
        painter.paint(self._view, sprites)


_COMMANDS = {key: command for command, key in hud_drawing.KEYS.items()}
_ANSWERS = {key: answer for answer, key in question.KEYS.items()}


def _drivers() -> str:
    """The ways to a screen worth trying, so that SDL never falls back on a window that nobody can see."""
    drivers = ["kmsdrm"]
    if "WAYLAND_DISPLAY" in os.environ or "XDG_RUNTIME_DIR" in os.environ:
        drivers.insert(0, "wayland")
    if "DISPLAY" in os.environ:
        drivers.insert(0, "x11")
    return ",".join(drivers)

"""A window, or the whole screen, through SDL2: HDMI without a desktop, Wayland, X11."""

from __future__ import annotations

import logging
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import cv2
import numpy as np

from appliance import hud as hud_drawing
from appliance.data import Frame, Layer, RgbaImage
from appliance.display import Click, Command, Hud, UserInput, View
from appliance.display.viewport import Viewport, pointer_px
from appliance.errors import DisplayError, NoScreen

if TYPE_CHECKING:  # the library is an extra
    import pygame

    from appliance.display.sdl import Renderer, Texture

_log = logging.getLogger(__name__)

_DEFAULT_WH = (1280, 720)
_MINIMUM_WH = (320, 240)
_CURSOR_S = 3.0
"""The cursor is hidden when it has not been moved for so long."""
_MAX_TEXTURE_PX = 4096
"""What the GPU of a Raspberry Pi takes."""
_BLACK = (0, 0, 0)
_WAITING = (24, 27, 32)
"""The background while there is no picture."""
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

    def __init__(self, fullscreen: bool = False, size_wh: tuple[int, int] | None = None) -> None:
        """`size_wh` is the window's size in points; by default 1280 x 720, or the screen's if smaller."""
        self._fullscreen = fullscreen
        self._wanted_wh = size_wh
        self._window_wh = size_wh or _DEFAULT_WH
        """In pixels, as last drawn."""
        self._window: pygame.Window | None = None
        self._renderer: Renderer | None = None
        self._view = View(None, None, Hud())
        self._pressed: Command | None = None
        self._moved_s = 0.0
        self._forget_textures()

    def _forget_textures(self) -> None:
        self._picture: tuple[Frame, Texture] | None = None
        self._layer: tuple[Layer, Texture] | None = None
        self._sprites: dict[int, tuple[RgbaImage, Texture]] = {}
        """By the identity of the array, which is kept so that nobody else can get the same."""
        self._upload = np.empty((0, 0, 4), np.uint8)

    def open(self) -> None:
        """Open the window. Raises `NoScreen`."""
        os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
        try:
            import pygame

            from appliance.display import sdl
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
            self._renderer = sdl.Renderer(self._window)
        except (pygame.error, DisplayError) as error:
            self.close()
            raise NoScreen(
                f"no screen: {error}; connect one, or run inside a desktop, or use --display files"
            ) from error
        self._moved_s = time.monotonic()
        _log.info("screen: %s, %d x %d pixels", pygame.display.get_driver(), *self._renderer.size_wh)
        self._draw()

    def layer_wh(self, picture_wh: tuple[int, int]) -> tuple[int, int]:
        """The size of the picture's rectangle on the window, at most 1920 wide. For any thread."""
        return Viewport(picture_wh, self._window_wh).layer_wh

    def show(self, view: View) -> None:
        """Show a view. Raises `DisplayError` when the window is lost."""
        self._view = view
        self._draw()

    def poll(self) -> list[UserInput]:
        """Keys, clicks, taps and buttons since the last call. Draws the view again if the window needs it."""
        import pygame

        if self._window is None:
            raise DisplayError("the screen is not open")
        inputs: list[UserInput] = []
        stale = False
        for event in pygame.event.get():
            if event.type in (pygame.QUIT, pygame.WINDOWCLOSE):
                inputs.append(Command.QUIT)
            elif event.type == pygame.KEYDOWN:
                if event.key == pygame.K_ESCAPE:
                    if self._fullscreen:
                        self.toggle_fullscreen()
                elif (command := _COMMANDS.get(pygame.key.name(event.key))) is not None:
                    inputs.append(command)
            elif event.type == pygame.MOUSEBUTTONDOWN and event.button == pygame.BUTTON_LEFT:
                inputs += self._press(event.pos)
                stale = stale or self._pressed is not None
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
        """Switch between window and full screen; returns whether it is full screen now."""
        if self._window is None:
            raise DisplayError("the screen is not open")
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
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None
        self._forget_textures()
        if self._window is not None:
            self._window.destroy()
            self._window = None
            import pygame

            pygame.display.quit()

    def _press(self, point_xy: tuple[int, int]) -> list[UserInput]:
        """What a left click or a tap at a point means."""
        assert self._window is not None
        xy = pointer_px(point_xy, self._window.size, self._window_wh)
        self._pressed = hud_drawing.button_at(xy, self._window_wh)
        if self._pressed is not None:
            return [self._pressed]
        if self._view.frame is None:
            return []
        picture_xy = Viewport(self._view.frame.size_wh, self._window_wh).to_picture(xy)
        return [] if picture_xy is None else [Click(picture_xy)]

    def _show_cursor(self, visible: bool) -> None:
        import pygame

        if pygame.mouse.get_visible() != visible:
            pygame.mouse.set_visible(visible)

    def _draw(self) -> None:
        """Draw the view as it is now."""
        renderer = self._renderer
        if renderer is None:
            raise DisplayError("the screen is not open")
        self._window_wh = renderer.size_wh
        frame, layer = self._view.frame, self._view.layer
        renderer.clear(_WAITING if frame is None else _BLACK)
        if frame is not None:
            rect_xywh = Viewport(frame.size_wh, self._window_wh).rect_xywh
            renderer.copy(self._picture_texture(renderer, frame, rect_xywh[2:]), rect_xywh)
            if layer is not None:
                renderer.copy(self._layer_texture(renderer, layer), rect_xywh)
        self._draw_hud(renderer)
        renderer.present()

    def _picture_texture(self, renderer: Renderer, frame: Frame, rect_wh: tuple[int, int]) -> Texture:
        if self._picture is not None and self._picture[0] is frame:
            return self._picture[1]
        rgb = frame.rgb
        width, height = frame.size_wh
        if width >= 2 * rect_wh[0] or max(width, height) > _MAX_TEXTURE_PX:
            # The GPU takes the four nearest pixels, which is too few for a photograph made this much smaller.
            rgb = np.asarray(cv2.resize(rgb, rect_wh, interpolation=cv2.INTER_AREA), np.uint8)
        if self._upload.shape[:2] != rgb.shape[:2]:
            self._upload = np.empty((*rgb.shape[:2], 4), np.uint8)
        cv2.cvtColor(rgb, cv2.COLOR_RGB2RGBA, dst=self._upload)
        old = None if self._picture is None else self._picture[1]
        texture = self._filled(renderer, old, self._upload, blend=False)
        self._picture = (frame, texture)
        return texture

    def _layer_texture(self, renderer: Renderer, layer: Layer) -> Texture:
        if self._layer is not None and self._layer[0] is layer:
            return self._layer[1]
        old = None if self._layer is None else self._layer[1]
        texture = self._filled(renderer, old, layer.rgba, blend=True)
        self._layer = (layer, texture)
        return texture

    def _draw_hud(self, renderer: Renderer) -> None:
        hud = self._view.hud
        if self._fullscreen:
            hud = replace(hud, active=hud.active | {Command.FULLSCREEN})
        old, self._sprites = self._sprites, {}
        for sprite in hud_drawing.sprites(hud, self._window_wh, self._pressed):
            key = id(sprite.rgba)
            if key in old:
                self._sprites[key] = old.pop(key)
            elif key not in self._sprites:
                self._sprites[key] = (sprite.rgba, self._filled(renderer, None, sprite.rgba, blend=True))
            height, width = sprite.rgba.shape[:2]
            renderer.copy(self._sprites[key][1], (*sprite.xy, width, height))
        for _, texture in old.values():
            renderer.drop(texture)

    def _filled(self, renderer: Renderer, old: Texture | None, rgba: RgbaImage, blend: bool) -> Texture:
        """A texture with this image: the old one, if it has the size."""
        size_wh = (rgba.shape[1], rgba.shape[0])
        texture = old
        if texture is None or texture.size_wh != size_wh:
            if texture is not None:
                renderer.drop(texture)
            texture = renderer.texture(size_wh, blend)
        renderer.update(texture, rgba)
        return texture


_COMMANDS = {key: command for command, key in hud_drawing.KEYS.items()}


def _drivers() -> str:
    """The ways to a screen worth trying, so that SDL never falls back on a window that nobody can see."""
    drivers = ["kmsdrm"]
    if "WAYLAND_DISPLAY" in os.environ or "XDG_RUNTIME_DIR" in os.environ:
        drivers.insert(0, "wayland")
    if "DISPLAY" in os.environ:
        drivers.insert(0, "x11")
    return ",".join(drivers)

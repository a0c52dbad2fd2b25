"""Draws a view, with the textures of the last one where nothing has changed."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from appliance.data import Frame, Layer, RgbaImage
from appliance.display import View
from appliance.display.sdl import Renderer, Texture
from appliance.display.viewport import Viewport
from appliance.hud import Sprite

_MAX_TEXTURE_PX = 4096
"""What the GPU of a Raspberry Pi takes."""
_BLACK = (0, 0, 0)
_WAITING = (24, 27, 32)
"""The background while there is no picture."""


class Painter:
    """For the thread that made the renderer, like it. Raises `DisplayError` when the window is lost."""

    def __init__(self, renderer: Renderer) -> None:
        self._renderer = renderer
        self._picture: tuple[Frame, Texture] | None = None
        self._layer: tuple[Layer, Texture] | None = None
        self._sprites: dict[int, tuple[RgbaImage, Texture]] = {}
        """By the identity of the array, which is kept so that nobody else can get the same."""
        self._upload = np.empty((0, 0, 4), np.uint8)

    @property
    def size_wh(self) -> tuple[int, int]:
        """The window's size in pixels."""
        return self._renderer.size_wh

    def paint(self, view: View, sprites: Sequence[Sprite]) -> None:
        """Show the picture, its layer and, over both, what is written, from back to front."""
        frame, layer = view.frame, view.layer
        self._renderer.clear(_WAITING if frame is None else _BLACK)
        if frame is not None:
            rect_xywh = Viewport(frame.size_wh, self.size_wh).rect_xywh
            self._renderer.copy(self._picture_texture(frame, rect_xywh[2:]), rect_xywh)
            if layer is not None:
                self._renderer.copy(self._layer_texture(layer), rect_xywh)
        self._paint_sprites(sprites)
        self._renderer.present()

    def close(self) -> None:
        """Free the renderer and all textures; safe to call more than once."""
        self._renderer.close()

    def _picture_texture(self, frame: Frame, rect_wh: tuple[int, int]) -> Texture:
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
        texture = self._filled(old, self._upload, blend=False)
        self._picture = (frame, texture)
        return texture

    def _layer_texture(self, layer: Layer) -> Texture:
        if self._layer is not None and self._layer[0] is layer:
            return self._layer[1]
        old = None if self._layer is None else self._layer[1]
        texture = self._filled(old, layer.rgba, blend=True)
        self._layer = (layer, texture)
        return texture

    def _paint_sprites(self, sprites: Sequence[Sprite]) -> None:
        old, self._sprites = self._sprites, {}
        for sprite in sprites:
            key = id(sprite.rgba)
            if key in old:
                self._sprites[key] = old.pop(key)
            elif key not in self._sprites:
                self._sprites[key] = (sprite.rgba, self._filled(None, sprite.rgba, blend=True))
            height, width = sprite.rgba.shape[:2]
            self._renderer.copy(self._sprites[key][1], (*sprite.xy, width, height))
        for _, texture in old.values():
            self._renderer.drop(texture)

    def _filled(self, old: Texture | None, rgba: RgbaImage, blend: bool) -> Texture:
        """A texture with this image: the old one, if it has the size."""
        size_wh = (rgba.shape[1], rgba.shape[0])
        texture = old
        if texture is None or texture.size_wh != size_wh:
            if texture is not None:
                self._renderer.drop(texture)
            texture = self._renderer.texture(size_wh, blend)
        self._renderer.update(texture, rgba)
        return texture

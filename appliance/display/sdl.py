"""Drawing on a pygame window with the GPU, by SDL's own functions.

pygame has a renderer too, but it holds Python's global lock while it waits for the GPU, the compositor or
the next refresh of the screen, some 10 ms a picture, in which no other stage could go on. ctypes lets go of
the lock.
"""

from __future__ import annotations

import ctypes
import logging
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_uint8, c_uint32, c_void_p
from pathlib import Path
from typing import Any

import pygame

from appliance.data import RgbaImage
from appliance.errors import DisplayError

_log = logging.getLogger(__name__)

_RGBA32 = 376840196  # SDL_PIXELFORMAT_ABGR8888, which is R, G, B, A in memory on little-endian machines
_STREAMING = 1
_BLEND_NONE, _BLEND = 0, 1
_SCALE_LINEAR = 1
_SOFTWARE, _VSYNC = 1, 4


class _FRect(ctypes.Structure):
    _fields_ = (("x", c_float), ("y", c_float), ("w", c_float), ("h", c_float))


_SIGNATURES: dict[str, tuple[type[Any] | None, list[type[Any]]]] = {
    "SDL_GetError": (c_char_p, []),
    "SDL_SetHint": (c_int, [c_char_p, c_char_p]),
    "SDL_GetWindowFromID": (c_void_p, [c_uint32]),
    "SDL_CreateRenderer": (c_void_p, [c_void_p, c_int, c_uint32]),
    "SDL_DestroyRenderer": (None, [c_void_p]),
    "SDL_GetRendererOutputSize": (c_int, [c_void_p, POINTER(c_int), POINTER(c_int)]),
    "SDL_SetRenderDrawColor": (c_int, [c_void_p, c_uint8, c_uint8, c_uint8, c_uint8]),
    "SDL_RenderClear": (c_int, [c_void_p]),
    "SDL_RenderCopyF": (c_int, [c_void_p, c_void_p, c_void_p, POINTER(_FRect)]),
    "SDL_RenderPresent": (None, [c_void_p]),
    "SDL_CreateTexture": (c_void_p, [c_void_p, c_uint32, c_int, c_int, c_int]),
    "SDL_UpdateTexture": (c_int, [c_void_p, c_void_p, c_void_p, c_int]),
    "SDL_SetTextureBlendMode": (c_int, [c_void_p, c_int]),
    "SDL_SetTextureScaleMode": (c_int, [c_void_p, c_int]),
    "SDL_DestroyTexture": (None, [c_void_p]),
}


def _load() -> ctypes.CDLL:
    """The very SDL library that pygame uses: symbols of a module are looked up in its dependencies too."""
    library = ctypes.CDLL(pygame.base.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def set_hint(name: str, value: str) -> None:
    """Set an SDL hint; an environment variable of that name goes before it."""
    _load().SDL_SetHint(name.encode(), value.encode())


class Renderer:
    """Draws on a pygame window. All calls, and those of its textures, from the thread that made it."""

    def __init__(self, window: pygame.Window) -> None:
        """Without a GPU, SDL's own software renderer: it takes less than half the time of an emulated GPU.

        Raises `DisplayError`.
        """
        self._sdl = _load()
        has_gpu = any(Path("/dev/dri").glob("renderD*"))
        flags = _VSYNC if has_gpu else _SOFTWARE
        self._handle = self._sdl.SDL_CreateRenderer(self._sdl.SDL_GetWindowFromID(window.id), -1, flags)
        if not self._handle:
            raise self._error()
        _log.debug("drawing on %s with %s", pygame.display.get_driver(), "the GPU" if has_gpu else "the CPU")

    @property
    def size_wh(self) -> tuple[int, int]:
        """The window's size in pixels."""
        width, height = c_int(), c_int()
        self._check(self._sdl.SDL_GetRendererOutputSize(self._handle, byref(width), byref(height)))
        return max(1, width.value), max(1, height.value)

    def clear(self, rgb: tuple[int, int, int]) -> None:
        """Fill the window."""
        self._check(self._sdl.SDL_SetRenderDrawColor(self._handle, *rgb, 255))
        self._check(self._sdl.SDL_RenderClear(self._handle))

    def copy(self, texture: Texture, xywh: tuple[int, int, int, int]) -> None:
        """Draw a texture, stretched to a rectangle of the window, in pixels."""
        self._check(self._sdl.SDL_RenderCopyF(self._handle, texture.handle, None, byref(_FRect(*xywh))))

    def present(self) -> None:
        """Show what was drawn; where the screen can, at its next refresh."""
        self._sdl.SDL_RenderPresent(self._handle)

    def texture(self, size_wh: tuple[int, int], blend: bool) -> Texture:
        """An image in the GPU's memory, laid over what is below (`blend`) or replacing it."""
        handle = self._sdl.SDL_CreateTexture(self._handle, _RGBA32, _STREAMING, *size_wh)
        if not handle:
            raise self._error()
        self._check(self._sdl.SDL_SetTextureBlendMode(handle, _BLEND if blend else _BLEND_NONE))
        self._check(self._sdl.SDL_SetTextureScaleMode(handle, _SCALE_LINEAR))
        return Texture(handle, size_wh)

    def update(self, texture: Texture, rgba: RgbaImage) -> None:
        """Replace a texture's pixels by C-contiguous ones of the same size."""
        assert rgba.shape == (texture.size_wh[1], texture.size_wh[0], 4)
        assert rgba.flags.c_contiguous
        row_bytes = 4 * texture.size_wh[0]
        self._check(self._sdl.SDL_UpdateTexture(texture.handle, None, rgba.ctypes.data, row_bytes))

    def drop(self, texture: Texture) -> None:
        """Free a texture; it must not be used any more."""
        self._sdl.SDL_DestroyTexture(texture.handle)

    def close(self) -> None:
        """Free the renderer and its textures; safe to call more than once."""
        if self._handle:
            self._sdl.SDL_DestroyRenderer(self._handle)
            self._handle = None

    def _check(self, result: int) -> None:
        if result < 0:
            raise self._error()

    def _error(self) -> DisplayError:
        return DisplayError(f"the screen cannot be drawn on: {self._sdl.SDL_GetError().decode()}")


class Texture:
    """An image in the GPU's memory; made, filled and freed by its renderer."""

    def __init__(self, handle: int, size_wh: tuple[int, int]) -> None:
        self.handle = handle
        self.size_wh = size_wh

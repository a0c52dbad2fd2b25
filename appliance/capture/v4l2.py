"""A V4L2 camera, such as a USB webcam, through OpenCV.

OpenCV waits up to ten seconds for a driver that gives nothing, and a driver may hang for ever. So everything
that touches the device runs on a helper thread, which owns it from opening to release, and the newest picture
is handed over from there; nobody waits for that thread longer than told to.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import cv2
import numpy as np

from appliance.data import Frame, RgbImage
from appliance.errors import ApplianceError, SourceLost, SourceMissing, SourceUnreadable
from appliance.pool import ShapePool

if TYPE_CHECKING:
    from cv2.typing import MatLike

_log = logging.getLogger(__name__)

OPEN_S = 1.0
"""`open` waits this long; a slower camera goes on opening during the first reads."""
STALL_S = 5.0
"""A camera that has given nothing for so long is taken as lost."""
_CLOSE_S = 0.5
_BUFFERS = 2
"""One picture is filled while the other is decoded. With a single buffer the driver has nowhere to put the
next picture meanwhile, and many cameras then deliver at half their rate. Since the helper thread takes every
picture at once, more buffers would not make the picture older, nor would fewer make it newer."""
_CLASS = Path("/sys/class/video4linux")


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        """Whether there is a camera."""

    def set(self, propId: int, value: float) -> bool:  # noqa: N803 - OpenCV's name
        """Set a property; returns whether it is known."""

    def get(self, propId: int) -> float:  # noqa: N803 - OpenCV's name
        """A property."""

    def grab(self) -> bool:
        """Wait for the next picture."""

    def retrieve(self, image: MatLike | None = None) -> tuple[bool, MatLike]:
        """Decode it, (H, W, 3) uint8, blue first, or (H, W) grey; into `image` if that fits."""

    def release(self) -> None:
        """Give the device back."""


OpenCapture = Callable[[str, int], Capture]


class V4l2Source:
    """A camera by its device file. Live.

    It is asked for a size and a rate; what it gives instead is taken as it is.
    """

    def __init__(
        self,
        device: Path | str,
        size_wh: tuple[int, int] = (1280, 720),
        rate_hz: float = 30,
        open_capture: OpenCapture | None = None,
    ) -> None:
        self.name = str(device)
        self.live = True
        self._device = Path(device)
        self._size_wh = size_wh
        self._rate_hz = rate_hz
        self._open_capture = open_capture or _open_v4l2
        self._reader: _Reader | None = None
        self._index = 0
        self._pool = ShapePool(np.uint8)

    def open(self) -> None:
        """Open the camera, waiting at most `OPEN_S`.

        The first time, raises `SourceMissing` or `SourceUnreadable`; once it has worked, `SourceLost`.
        """
        self.close()
        if not self._device.exists():
            raise self._failure(SourceMissing(f"there is no camera {self._device}; {_cameras()}"))
        reason = _why_no_camera(self._device)
        if reason:
            raise self._failure(SourceUnreadable(f"{self._device} {reason}; {_cameras()}"))
        self._reader = _Reader(
            lambda: self._open_capture(str(self._device), cv2.CAP_V4L2),
            self._size_wh,
            self._rate_hz,
            self._pool,
        )
        self._reader.opened.wait(OPEN_S)
        if self._reader.failed:
            raise self._reader_failure(self._reader)

    def read(self, timeout_s: float) -> Frame | None:
        """The newest picture that has not been read yet, or None if none comes within the time.

        Raises `SourceLost` when the camera was unplugged or stalls; for one that never gave a picture,
        `SourceUnreadable`.
        """
        reader = self._reader
        if reader is None:
            raise ValueError("the camera is not open")
        taken = reader.take(timeout_s)
        if taken is not None:
            rgb, captured_ns = taken
            index, self._index = self._index, self._index + 1
            return Frame(index, captured_ns, rgb)
        if reader.failed or reader.silent_s() > STALL_S:
            raise self._reader_failure(reader)
        return None

    def close(self) -> None:
        """Give the camera back; waits `_CLOSE_S` for a stuck driver, then leaves it alone."""
        if self._reader is not None:
            self._reader.stop(_CLOSE_S)
            self._reader = None

    def _reader_failure(self, reader: _Reader) -> ApplianceError:
        if not self._device.exists():
            return SourceLost(f"camera {self._device} unplugged")
        if not reader.failed:
            words = f"has given no picture for {reader.silent_s():.0f} s; unplug it and plug it in again"
        elif reader.is_camera:
            words = "stopped giving pictures; another program may be using it"
        else:
            words = f"cannot be opened as a camera, or another program is using it; {_cameras()}"
        return self._failure(SourceUnreadable(f"{self._device} {words}"))

    def _failure(self, error: ApplianceError) -> ApplianceError:
        """The error as it is, but a loss once the camera has worked."""
        return SourceLost(str(error)) if self._index else error


class _Reader:
    """The helper thread; a new one for each opening."""

    def __init__(
        self,
        open_capture: Callable[[], Capture],
        size_wh: tuple[int, int],
        rate_hz: float,
        pool: ShapePool,
    ) -> None:
        self.opened = threading.Event()
        """Set when the camera is open, or could not be opened."""
        self.is_camera = False
        """Whether it could be opened."""
        self.failed = False
        """Whether the thread has ended of itself: no camera, or no more pictures."""
        self._open_capture = open_capture
        self._size_wh, self._rate_hz = size_wh, rate_hz
        self._pool = pool
        self._changed = threading.Condition()
        self._newest: tuple[RgbImage, int] | None = None
        self._heard_ns = time.monotonic_ns()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="v4l2 reader", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> tuple[RgbImage, int] | None:
        """The newest picture and when it was taken, in ns; None if none comes in time or ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.failed, timeout_s)
            taken, self._newest = self._newest, None
            return taken

    def silent_s(self) -> float:
        """How long ago the camera gave its last picture, or was asked to open."""
        return (time.monotonic_ns() - self._heard_ns) / 1e9

    def stop(self, timeout_s: float) -> None:
        """End the thread, which gives the camera back; if it is stuck in the driver, do not wait for it."""
        self._stopping = True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning("the camera's driver does not answer; left alone")

    def _run(self) -> None:
        try:
            capture = self._open_capture()
            try:
                if capture.isOpened():
                    self._configure(capture)
                    self.is_camera = True
                    self.opened.set()
                    self._deliver(capture)
            finally:
                capture.release()
        except cv2.error as error:
            _log.warning("camera: %s", error)
        finally:
            with self._changed:
                self.failed = True
                self._changed.notify_all()
            self.opened.set()

    def _configure(self, capture: Capture) -> None:
        """Ask for what is wanted. The format comes first, since sizes and rates depend on it."""
        # Most USB cameras send uncompressed 720p at only 10 pictures/s.
        capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, self._size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, self._size_wh[1])
        capture.set(cv2.CAP_PROP_FPS, self._rate_hz)
        capture.set(cv2.CAP_PROP_BUFFERSIZE, _BUFFERS)

    def _deliver(self, capture: Capture) -> None:
        """Hand pictures over until told to stop or there are no more."""
        decoded: MatLike | None = None  # the same memory each time
        size: tuple[int, ...] = ()
        while not self._stopping:
            if not capture.grab():
                return
            captured_ns = _captured_ns(capture)
            ok, decoded = capture.retrieve(decoded)
            self._heard_ns = time.monotonic_ns()
            if not ok:
                decoded = None
                continue  # one damaged picture, as happens on a bad cable
            if decoded.shape != size:
                size = decoded.shape
                _log.info("camera gives %d x %d pixels", size[1], size[0])
            rgb: RgbImage = self._pool.lease((*size[:2], 3))
            grey = decoded.ndim == 2 or size[2] == 1
            cv2.cvtColor(decoded, cv2.COLOR_GRAY2RGB if grey else cv2.COLOR_BGR2RGB, dst=rgb)
            with self._changed:
                self._newest = rgb, captured_ns
                self._changed.notify_all()


def _open_v4l2(device: str, backend: int) -> Capture:
    return cv2.VideoCapture(device, backend)


def _captured_ns(capture: Capture) -> int:
    """When the picture just grabbed was taken: by the driver if its clock is ours, as is usual, or now."""
    now_ns = time.monotonic_ns()
    driver_ns = round(capture.get(cv2.CAP_PROP_POS_MSEC) * 1e6)
    return driver_ns if 0 <= now_ns - driver_ns < 1_000_000_000 else now_ns


def _why_no_camera(device: Path) -> str:
    """What is wrong with a device file, as far as can be seen without touching the device; or nothing."""
    try:
        if not stat.S_ISCHR(device.stat().st_mode):
            return "is not a device"
    except OSError as error:
        return f"cannot be looked at ({os.strerror(error.errno or errno.EIO)})"
    if not os.access(device, os.R_OK | os.W_OK):
        return 'may not be used by this user; add the user to the group "video"'
    return ""


def _cameras() -> str:
    """The cameras that there are, in words."""
    found = [
        f"/dev/{entry.name} ({(entry / 'name').read_text(errors='replace').strip()})"
        for entry in sorted(_CLASS.glob("video*"))
    ]
    return f"there are: {', '.join(found)}" if found else "there is none at all: is it plugged in?"

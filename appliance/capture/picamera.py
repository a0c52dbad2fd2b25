"""A camera at a Raspberry Pi's camera connector, through picamera2.

As with V4L2, everything that touches the camera runs on a helper thread, which owns it from opening to
closing; nobody waits for that thread longer than told to. A request is copied and given back at once, since
the camera has few of them to fill.

One thing cannot be held off: libcamera's Python holds the interpreter while it stops a camera, so a driver
that hangs in that stops this whole process. The service's watchdog is for that.
"""

from __future__ import annotations

import atexit
import gc
import logging
import threading
import time
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from appliance.capture.picamera_library import Camera, Job, Picamera2Module, Request, attached, load
from appliance.capture.picamera_settings import Streams, configure
from appliance.capture.pixels import StreamFormat, to_rgb
from appliance.config import CameraConfig
from appliance.data import Frame, RgbImage
from appliance.errors import ApplianceError, SourceLost, SourceMissing, SourceUnreadable
from appliance.pool import ShapePool

_log = logging.getLogger(__name__)

OPEN_S = 1.0
"""`open` waits this long; a slower camera goes on opening during the first reads."""
STALL_S = 3.0
"""A camera that has given nothing for so long, although it was started, is taken as lost."""
OPENING_S = 10.0
"""The same for one that is being opened, for which libcamera looks at all cameras and loads their tuning."""
_CLOSE_S = 1.2
"""picamera2 takes up to 0.5 s to end its threads."""
_LOOK_S = 0.1
"""How soon the helper thread notices that it is to stop."""


class PicameraSource:
    """A camera by its number. Live."""

    def __init__(self, number: int, settings: CameraConfig) -> None:
        self.name = "camera" if number == 0 else f"camera:{number}"
        self.live = True
        self.model_wh: tuple[int, int] | None = None
        """The size of the model's input, to be set before `open`: for `Frame.small`, by cameras that can."""
        self._number = number
        self._settings = settings
        self._reader: _Reader | None = None
        self._index = 0

    def open(self) -> None:
        """Open the camera, waiting at most `OPEN_S`.

        The first time, raises `SourceMissing`, `SourceUnreadable`, or another `SourceError` for a setting
        that the camera does not have; once it has worked, `SourceLost`. With a slow camera, `read` does.
        """
        self.close()
        self._reader = _Reader(self.name, self._number, self._settings, self.model_wh)
        self._reader.started.wait(OPEN_S)
        if self._reader.error is not None:
            raise self._failure(self._reader.error)

    def read(self, timeout_s: float) -> Frame | None:
        """The newest picture that has not been read yet, or None if none comes within the time.

        Raises `SourceLost` when the camera went away or stalled; if it never gave a picture, as `open`.
        """
        reader = self._reader
        if reader is None:
            raise ValueError("the camera is not open")
        taken = reader.take(timeout_s)
        if taken is not None:
            index, self._index = self._index, self._index + 1
            return Frame(index, taken.captured_ns, taken.rgb, small=taken.small)
        if reader.error is not None:
            raise self._failure(reader.error)
        silent_s = reader.silent_s()
        if silent_s > (STALL_S if reader.started.is_set() else OPENING_S):
            words = f"{self.name} has given no picture for {silent_s:.0f} s; is its cable in place?"
            raise self._failure(SourceUnreadable(words))
        return None

    def close(self) -> None:
        """Give the camera back; waits `_CLOSE_S`, then leaves a camera that does not answer alone."""
        if self._reader is not None:
            self._reader.stop(_CLOSE_S)
            self._reader = None

    def _failure(self, error: ApplianceError) -> ApplianceError:
        """The error as it is, but a loss once the camera has worked."""
        return SourceLost(str(error)) if self._index else error


@dataclass(frozen=True, slots=True, eq=False)
class _Taken:
    rgb: RgbImage
    small: RgbImage | None
    captured_ns: int


class _Reader:
    """The helper thread; a new one for each opening."""

    def __init__(
        self, name: str, number: int, settings: CameraConfig, model_wh: tuple[int, int] | None
    ) -> None:
        self.started = threading.Event()
        """Set when pictures are to come, or never will."""
        self.error: ApplianceError | None = None
        """Why the thread has ended of itself."""
        self._name, self._number = name, number
        self._settings = settings
        self._model_wh = model_wh
        self._main_pool, self._small_pool = ShapePool(np.uint8), ShapePool(np.uint8)
        self._changed = threading.Condition()
        self._newest: _Taken | None = None
        self._heard_ns = time.monotonic_ns()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="camera reader", daemon=True)
        self._thread.start()

    def take(self, timeout_s: float) -> _Taken | None:
        """The newest picture; None if none comes in time or ever."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None or self.error is not None, timeout_s)
            taken, self._newest = self._newest, None
            return taken

    def silent_s(self) -> float:
        """How long ago the camera gave its last picture, or was started, or asked to open."""
        return (time.monotonic_ns() - self._heard_ns) / 1e9

    def stop(self, timeout_s: float) -> None:
        """End the thread, which gives the camera back; if that does not answer, do not wait for it."""
        self._stopping.set()
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            _log.warning("%s does not answer; left alone", self._name)

    def _run(self) -> None:
        error: ApplianceError = SourceUnreadable(f"{self._name} stopped giving pictures")
        try:
            self._own_a_camera()
        except ApplianceError as reason:
            error = reason.with_traceback(None)  # which would hold the camera
        except (RuntimeError, OSError, IndexError) as reason:  # picamera2's and libcamera's
            words = str(reason.__cause__ or reason).splitlines() or [type(reason).__name__]
            hint = "another program may be using it, or this user is not in the group video"
            error = SourceUnreadable(f"{self._name} cannot be used ({words[0]}); {hint}")
            _log.debug("%s", self._name, exc_info=reason)
        finally:
            # libcamera looks for cameras anew only when its manager is gone; picamera2's objects hold that,
            # and each other. Without this the virtual camera gives no pictures from the third opening on.
            gc.collect()
            with self._changed:
                self.error = error
                self._changed.notify_all()
            self.started.set()

    def _own_a_camera(self) -> None:
        picamera2, libcamera = load()
        camera = _open(picamera2, self._number, self._name)
        try:
            streams = configure(camera, picamera2, libcamera, self._settings, self._model_wh)
            _log.info("%s gives %s", self._name, streams)
            camera.start()
            self._heard_ns = time.monotonic_ns()
            self.started.set()
            job = camera.capture_request(wait=False)
            while not self._stopping.is_set():
                try:
                    request = job.get_result(timeout=_LOOK_S)
                except TimeoutError:
                    continue  # the same job again, or its request would be lost
                job = camera.capture_request(wait=False)  # now, so as to miss none while this one is copied
                self._deliver(picamera2, request, streams)
            _give_up(camera, job)
        finally:
            camera.close()

    def _deliver(self, picamera2: Picamera2Module, request: Request, streams: Streams) -> None:
        """Copy a request, give it back, hand the copy over."""

        def copy(stream: str, form: StreamFormat, pool: ShapePool) -> RgbImage:
            rgb: RgbImage = pool.lease((form.size_wh[1], form.size_wh[0], 3))
            with picamera2.MappedArray(request, stream, reshape=False, write=False) as mapped:
                to_rgb(mapped.array, form, rgb)
            return rgb

        try:
            rgb = copy("main", streams.main, self._main_pool)
            small = copy("lores", streams.small, self._small_pool) if streams.small else None
            stamp_ns = request.get_metadata().get("SensorTimestamp")
        finally:
            request.release()
        now_ns, boot_ns = time.monotonic_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        taken = _Taken(rgb, small, captured_ns(stamp_ns, now_ns, boot_ns))
        with self._changed:
            self._newest = taken
            self._heard_ns = now_ns
            self._changed.notify_all()


def _open(picamera2: Picamera2Module, number: int, name: str) -> Camera:
    found = attached(picamera2)
    if number >= len(found):
        there = ", ".join(map(str, found)) or "none at all: is the cable in place?"
        raise SourceMissing(f"there is no {name}; there is {there}")
    camera = picamera2.Picamera2(number)
    atexit.unregister(camera.close)  # it would wait for ever for a camera that does not answer
    return camera


def _give_up(camera: Camera, job: Job) -> None:
    """Take a job back, so that the camera's end does not wait behind it."""
    camera.cancel_all_and_flush()
    with suppress(CancelledError, TimeoutError):
        job.get_result(timeout=_LOOK_S).release()  # it came meanwhile


def captured_ns(stamp_ns: object, now_ns: int, boot_ns: int) -> int:
    """When a picture was taken, on the monotonic clock: by its "SensorTimestamp" if that can be, else now.

    libcamera's documentation says CLOCK_BOOTTIME, while its pipelines pass on what V4L2 gives, which is
    CLOCK_MONOTONIC. They differ by the time that the machine was asleep. Right is what gives an age under a
    second, and none of the future.

    Args:
        stamp_ns: the camera's time stamp; anything but an int is none
        now_ns: the monotonic clock
        boot_ns: the boot time clock, at the same moment
    """
    if isinstance(stamp_ns, int):
        for clock_ns in (now_ns, boot_ns):
            age_ns = clock_ns - stamp_ns
            if 0 <= age_ns < 1_000_000_000:
                return now_ns - age_ns
    return now_ns

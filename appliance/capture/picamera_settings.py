"""What is asked of a camera, and what it cannot do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from appliance.capture.picamera_library import Camera, LibcameraModule, Picamera2Module
from appliance.capture.pixels import FORMATS, StreamFormat
from appliance.config import CameraConfig
from appliance.errors import SourceError, SourceUnreadable
from appliance.geometry import Letterbox

BUFFERS = 4
"""One is filled, one waits, one is copied from; with a spare the sensor runs on when a copy is late."""
_MAIN_PIXELS = "BGR888"  # red first in memory: libcamera names bytes from the last to the first
_AF_MANUAL, _AF_CONTINUOUS = 0, 2
_TOLERANCE = 0.01
"""Sensors give 29.98 pictures a second where 30 were meant."""


@dataclass(frozen=True, slots=True)
class Streams:
    """What a configured camera gives."""

    main: StreamFormat
    small: StreamFormat | None
    """The whole of the same picture, at the size of the model's letterbox."""

    def __str__(self) -> str:
        sizes = [f"{stream.size_wh[0]} x {stream.size_wh[1]}" for stream in (self.main, self.small) if stream]
        return f"pictures of {' and for the model '.join(sizes)} pixels"


def configure(
    camera: Camera,
    picamera2: Picamera2Module,
    libcamera: LibcameraModule,
    wanted: CameraConfig,
    model_wh: tuple[int, int] | None,
) -> Streams:
    """Ask a camera for what is wanted. Raises `SourceError` for what it cannot do."""
    for key, value, most in zip(
        ("width", "height"), (wanted.width, wanted.height), camera.sensor_resolution, strict=True
    ):
        if value > most:
            raise _impossible(key, value, f"at most {most}")
    flips = wanted.flip in ("horizontal", "both"), wanted.flip in ("vertical", "both")
    size_wh = wanted.width // 2 * 2, wanted.height // 2 * 2
    camera.configure(
        camera.create_video_configuration(
            main={"size": size_wh, "format": _MAIN_PIXELS},
            lores=_lores(camera, picamera2, size_wh, model_wh),
            transform=libcamera.Transform(hflip=flips[0], vflip=flips[1]),
            # What `pixels` takes YUV for.
            colour_space=libcamera.ColorSpace.Smpte170m(),
            buffer_count=BUFFERS,
            queue=False,
        )
    )
    given = camera.camera_configuration()
    transform = given["transform"]
    if (bool(getattr(transform, "hflip", False)), bool(getattr(transform, "vflip", False))) != flips:
        raise _impossible("flip", wanted.flip, "none")
    main = _stream(given, "main")
    if main is None or main.pixels not in FORMATS:
        raise SourceUnreadable(
            f"the camera gives pictures as {main.pixels if main else 'nothing'}, which is not understood; "
            "if it is a USB camera, use it as /dev/video0"
        )
    camera.set_controls(controls(wanted, camera.camera_controls))
    small = _stream(given, "lores")
    if model_wh is None or small is None or small.pixels not in FORMATS:
        return Streams(main, None)
    fits = small.size_wh == Letterbox.fit(main.size_wh, model_wh).content_xywh[2:]
    return Streams(main, small if fits else None)


def controls(wanted: CameraConfig, offered: Mapping[str, tuple[object, ...]]) -> dict[str, object]:
    """What to set, given least and greatest values. Pure. Raises `SourceError` for what is impossible."""
    to_set: dict[str, object] = {}
    period_us = 1e6 / wanted.rate_hz
    periods_us = _range(offered, "FrameDurationLimits")
    if periods_us is not None:
        least, most = periods_us
        if not least * (1 - _TOLERANCE) <= period_us <= most * (1 + _TOLERANCE):
            raise _impossible("rate_hz", wanted.rate_hz, f"{_span(1e6 / most, 1e6 / least)} at this size")
        duration_us = round(min(max(period_us, least), most))
        to_set["FrameDurationLimits"] = (duration_us, duration_us)
    if wanted.focus == "fixed":
        if "LensPosition" not in offered:
            raise _impossible("focus", "fixed", "auto")
        dioptres = _within("focus_dioptres", wanted.focus_dioptres, _range(offered, "LensPosition"))
        to_set |= {"AfMode": _AF_MANUAL, "LensPosition": dioptres}
    elif "AfMode" in offered:
        to_set["AfMode"] = _AF_CONTINUOUS
    if wanted.exposure_ms:
        exposures_us = _range(offered, "ExposureTime")
        if exposures_us is not None:
            exposures_us = exposures_us[0], min(exposures_us[1], period_us)
        limits_ms = None if exposures_us is None else (exposures_us[0] / 1e3, exposures_us[1] / 1e3)
        to_set["ExposureTime"] = round(1e3 * _within("exposure_ms", wanted.exposure_ms, limits_ms))
    if wanted.gain:
        to_set["AnalogueGain"] = _within("gain", wanted.gain, _range(offered, "AnalogueGain"))
    return to_set


def _lores(
    camera: Camera, picamera2: Picamera2Module, size_wh: tuple[int, int], model_wh: tuple[int, int] | None
) -> dict[str, object] | None:
    """The stream for the model, if the camera is a Raspberry Pi's: other pipelines have one stream only."""
    if model_wh is None or "ColorFilterArrangement" not in camera.camera_properties:
        return None
    width, height = Letterbox.fit(size_wh, model_wh).content_xywh[2:]
    if width % 2 or height % 2 or width > size_wh[0] or height > size_wh[1]:
        return None
    pisp = getattr(picamera2.Picamera2.platform, "name", "") == "PISP"  # a Pi 5; earlier ones have YUV only
    # Without an aspect of its own it is cut out of the sensor as the main stream is.
    return {"size": (width, height), "format": _MAIN_PIXELS if pisp else "YUV420", "preserve_ar": False}


def _stream(given: Mapping[str, object], name: str) -> StreamFormat | None:
    stream = given.get(name)
    if stream is None:
        return None
    stream = cast(Mapping[str, object], stream)
    width, height = cast(tuple[int, int], stream["size"])
    return StreamFormat(str(stream["format"]), (width, height), cast(int, stream["stride"]))


def _range(offered: Mapping[str, tuple[object, ...]], name: str) -> tuple[float, float] | None:
    """Least and greatest value, or None if the camera has no such control. No greatest value is infinite."""
    if name not in offered:
        return None
    least, most = offered[name][:2]
    assert isinstance(least, int | float)
    return least, most if isinstance(most, int | float) and most else float("inf")


def _within(key: str, value: float, limits: tuple[float, float] | None) -> float:
    if limits is None:
        raise _impossible(key, value, "0")
    if not limits[0] <= value <= limits[1]:
        raise _impossible(key, value, _span(*limits))
    return value


def _span(least: float, most: float) -> str:
    words = f"{least:.4g}", f"{most:.4g}"
    return " to ".join(words) if words[0] != words[1] else words[0]


def _impossible(key: str, value: object, allowed: str) -> SourceError:
    return SourceError(f"camera.{key}: {value} is not possible with this camera; possible is {allowed}")

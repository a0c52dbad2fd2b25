"""Uses the project's own source on the virtual camera, and says as JSON what it saw."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from appliance.capture import picamera
from appliance.capture.picamera import PicameraSource
from appliance.capture.picamera_library import cameras
from appliance.config import CameraConfig
from appliance.data import Frame
from appliance.errors import ApplianceError, SourceLost

SIGNALS = Path(os.environ["CAMERA_SIGNALS"])
picamera.STALL_S = 0.7


def picture(source: PicameraSource) -> Frame:
    while (frame := source.read(0.5)) is None:
        pass
    return frame


def lost(call: Callable[[], object]) -> str:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            call()
        except SourceLost as error:
            return str(error)
    return "not lost"


def refused(number: int = 0, **settings: object) -> list[str]:
    source = PicameraSource(number, CameraConfig(**settings))
    try:
        source.open()
        picture(source)
    except ApplianceError as error:
        return [type(error).__name__, str(error)]
    finally:
        source.close()
    return ["not refused"]


said: dict[str, object] = {"cameras": [list(map(str, cameras())), cameras()[0].location]}
source = PicameraSource(0, CameraConfig())
source.model_wh = (512, 288)
start = time.monotonic()
source.open()
first = picture(source)
said["open_s"] = time.monotonic() - start
frames = [picture(source) for _ in range(100)]
said["rate_hz"] = 99e9 / (frames[-1].captured_ns - frames[0].captured_ns)
ages_ms = []
for _ in range(50):
    frame = picture(source)
    ages_ms.append((time.monotonic_ns() - frame.captured_ns) / 1e6)
said["age_ms"] = sorted(ages_ms)[25]
said["size_wh"], said["contiguous"] = frame.size_wh, frame.rgb.flags.c_contiguous
said["small"] = frame.small is not None
said["colours"] = sorted({tuple(colour) for colour in frame.rgb[360, ::8].tolist()})
said["moved"] = bool((frames[0].rgb != frames[-1].rgb).any())
said["indices"] = [first.index, frame.index]

(SIGNALS / "stalled").touch()
said["stalled"] = lost(lambda: source.read(0.1))
start = time.monotonic()
source.close()
said["close_s"] = time.monotonic() - start
(SIGNALS / "stalled").unlink()
source.open()
said["after the stall"] = picture(source).index

(SIGNALS / "unplugged").touch()
said["unplugged"] = lost(lambda: source.read(0.1))
said["still unplugged"] = lost(source.open)
(SIGNALS / "unplugged").unlink()
source.open()
said["plugged in"] = picture(source).index

other = PicameraSource(0, CameraConfig())
try:
    other.open()
    said["used twice"] = "opened"
except ApplianceError as error:
    said["used twice"] = str(error)
other.close()
start = time.monotonic()
source.close()
said["close again_s"] = time.monotonic() - start

said["refused"] = [
    refused(rate_hz=60),
    refused(width=4608),
    refused(gain=2.0),
    refused(exposure_ms=5.0),
    refused(focus="fixed"),
    refused(number=3),
]
sys.stdout.write(json.dumps(said))

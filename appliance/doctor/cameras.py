"""Where the pictures come from."""

from __future__ import annotations

import os
from pathlib import Path

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine, ProbeFailed

_CABLE = "is the cable in place, at both ends, the right way round? rpicam-hello --list-cameras"
_PROBE_S = 30.0
_VIDEO = "sudo adduser $USER video, and log in again"


def picamera(machine: Machine) -> Check:
    """The cameras at a Raspberry Pi's camera connectors."""
    name = "Pi camera"
    number = machine.wanted.camera_number
    try:
        found = machine.probe("cameras", timeout_s=_PROBE_S)
    except ProbeFailed as failed:
        words = f"picamera2 cannot list cameras: {failed}"
        return (warn if number is None else fail)(
            name, words, "sudo apt install --reinstall python3-picamera2"
        )
    if "error" in found:
        if number is not None:
            return fail(name, str(found["error"]), "sudo apt install python3-picamera2, or sudo ./install.sh")
        if machine.board:
            return warn(name, str(found["error"]), "needed for the source `camera` only")
        return ok(name, "picamera2 is not here; needed for the source `camera` on a Raspberry Pi only")
    listed = found["cameras"]
    assert isinstance(listed, list)
    words = f"picamera2 {found['version']}: "
    words += ", ".join(f"{camera['name']} {camera['where']}".strip() for camera in listed) or "no camera"
    if number is not None and number >= len(listed):
        return fail(name, f"{words}; the configuration wants camera:{number}", _CABLE)
    if not listed and machine.board and machine.wanted.source == "scene":
        return warn(name, words, _CABLE)
    return ok(name, words)


def usb_cameras(machine: Machine) -> Check:
    """V4L2 devices of USB cameras; a Raspberry Pi has many more, which are parts of its own."""
    name = "USB camera"
    found = []
    for entry in machine.entries("sys/class/video4linux", "video*"):
        driver = entry / "device/driver"
        # The second device of a camera gives what is no picture; its index is 1.
        if driver.resolve().name == "uvcvideo" and machine.text(f"{entry}/index") in ("", "0"):
            found.append(f"/dev/{entry.name} ({machine.text(f'{entry}/name')})")
    return ok(name, ", ".join(found) or "none")


def source(machine: Machine) -> Check:
    """What the configuration takes pictures from."""
    name, wanted = "source", machine.wanted.source
    if wanted == "scene":
        return ok(name, "scene, generated; `source: camera` or a device in the configuration for a real one")
    if machine.wanted.camera_number is not None:
        return ok(name, wanted)
    path = Path(wanted)
    if wanted.startswith("/dev/"):
        path = machine.root / wanted.lstrip("/")
    if not path.exists():
        advice = "plug it in" if wanted.startswith("/dev/") else "correct `source` in the configuration"
        return fail(name, f"there is no {wanted}", advice)
    if not os.access(path, os.R_OK):
        return fail(name, f"{wanted} may not be read by this user", _VIDEO)
    return ok(name, wanted)


CHECKS = (source, picamera, usb_cameras)

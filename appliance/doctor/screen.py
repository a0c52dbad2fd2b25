"""The screen, and what to point at it with."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine

_DROP_IN = "etc/systemd/system/appliance.service.d/kiosk.conf"
_PACKAGES = {
    "libwayland-egl.so.1": "libwayland-egl1",
    "libwayland-cursor.so.0": "libwayland-cursor0",
    "libxkbcommon.so.0": "libxkbcommon0",
    "libEGL.so.1": "libegl1",
}
"""What SDL loads for a Wayland window, and where it comes from."""
_DIRECT = 1
"""The bit INPUT_PROP_DIRECT: what is touched is what is seen."""


def session(machine: Machine) -> Check:
    """The desktop that this command was given in."""
    name = "desktop"
    environment = machine.environment
    found = [
        f"{words} {environment[variable]}"
        for variable, words in (("WAYLAND_DISPLAY", "Wayland"), ("DISPLAY", "X11"))
        if environment.get(variable)
    ]
    return ok(name, ", ".join(found) or "none here: full screen without a desktop, as the service does it")


def connectors(machine: Machine) -> Check:
    """What the graphics driver says is plugged in."""
    name = "screen"
    entries = machine.entries("sys/class/drm", "card[0-9]*-*")
    cards = [card for card in entries if "Writeback" not in card.name]  # that one is never plugged in
    if machine.wanted.display != "screen":
        return ok(name, f"not wanted: `display.kind` is {machine.wanted.display}")
    if not cards:
        if machine.environment.get("DISPLAY") or machine.environment.get("WAYLAND_DISPLAY"):
            return ok(name, "the desktop's")
        advice = "on a Raspberry Pi: dtoverlay=vc4-kms-v3d in config.txt; elsewhere: `display.kind: files`"
        return warn(name, "there is no graphics driver with connectors", advice)
    connected, empty = [], []
    for card in cards:
        connector = card.name.partition("-")[2]
        if machine.text(f"{card}/status") == "connected":
            mode = machine.text(f"{card}/modes").partition("\n")[0]
            connected.append(f"{connector} {mode}".strip())
        else:
            empty.append(connector)
    if not connected:
        words = f"nothing is plugged in at {', '.join(empty)}"
        return warn(
            name, words, "plug it in and switch it on; the service shows the picture when it is there"
        )
    return ok(name, ", ".join(connected))


def graphics_rights(machine: Machine) -> Check | None:
    """Whether this user may draw without a desktop."""
    cards = machine.entries("dev/dri", "card*")
    if not cards or machine.wanted.display != "screen":
        return None
    if any(os.access(card, os.R_OK | os.W_OK) for card in cards):
        return ok("graphics", ", ".join(card.name for card in cards))
    words = "this user may not use the graphics driver"
    return warn("graphics", words, "sudo usermod -aG video,render $USER, and log in again; the service may")


def kiosk(machine: Machine) -> Check | None:
    """What the service needs to bring its own compositor, where it is to do so."""
    name = "kiosk"
    if not (machine.root / _DROP_IN).exists():
        return None
    if not (machine.root / "usr/bin/labwc").exists():
        words = "labwc is missing: the program draws by itself, and finds screens only when it starts"
        return warn(name, words, "sudo apt-get install labwc seatd, if apt knows labwc")
    missing = [] if machine.entries("usr", "*bin/seatd") else ["seatd"]
    missing += [
        package
        for library, package in _PACKAGES.items()
        if not machine.entries("usr/lib", library) + machine.entries("usr/lib", f"*/{library}")
    ]
    if missing:  # SDL crashes then
        words = f"the screen cannot be used for want of {', '.join(missing)}"
        return fail(name, words, f"sudo apt-get install {' '.join(missing)}")
    return ok(name, "labwc, seatd, and what SDL draws with")


@dataclass(frozen=True, slots=True)
class _Input:
    name: str
    handlers: list[str]
    properties: int

    @property
    def kind(self) -> str:
        """What it is good for; empty if for nothing here."""
        if self.properties >> _DIRECT & 1:
            return "touch screen"
        if any(handler.startswith("mouse") for handler in self.handlers):
            return "mouse"
        # Remote controls and power buttons are keyboards too, but have no lights and no Alt key.
        return "keyboard" if {"sysrq", "leds"} & set(self.handlers) else ""


def inputs(machine: Machine) -> Check:
    """Mouse, touch screen, keyboard."""
    name = "mouse and keys"
    found = [device for device in _inputs(machine.text("proc/bus/input/devices")) if device.kind]
    words = ", ".join(f"{device.kind} ({device.name})" for device in found) or "none"
    if machine.wanted.display == "screen" and not {device.kind for device in found} & {
        "mouse",
        "touch screen",
    }:
        return warn(name, words, "plug in a mouse or a touch screen, if objects are to be picked out")
    return ok(name, words)


def _inputs(listing: str) -> list[_Input]:
    found = []
    for block in listing.split("\n\n"):
        name = re.search(r'^N: Name="(.*)"$', block, re.MULTILINE)
        handlers = re.search(r"^H: Handlers=(.*)$", block, re.MULTILINE)
        properties = re.search(r"^B: PROP=([0-9a-f]+)$", block, re.MULTILINE)
        if name and handlers:
            value = int(properties[1], 16) if properties else 0
            found.append(_Input(name[1], handlers[1].split(), value))
    return found


CHECKS = (session, connectors, graphics_rights, kiosk, inputs)

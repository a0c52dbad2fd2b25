"""Whether a Raspberry Pi gets enough current, and gives enough to its USB ports."""

from __future__ import annotations

import re

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine
from appliance.invoke.discovery import edge_tpus

_POWER = "proc/device-tree/chosen/power"
_NOW = {
    0: "the voltage is too low",
    1: "the processor's frequency is capped",
    2: "the processor is throttled",
    3: "the processor is near its greatest temperature",
}
"""Bits of `vcgencmd get_throttled`, by its documentation; 16 higher: since the start."""
_UNDER_VOLTAGE = 1
_SUPPLY = "use the 27 W supply for the Raspberry Pi 5 (5 V, 5 A) with its own cable"
_COOLER = "give it a cooler with a fan"


def throttling(machine: Machine) -> Check:
    """What the firmware says about voltage and heat."""
    name = "throttling"
    said = machine.ask("vcgencmd", "get_throttled")
    match = re.fullmatch(r"throttled=0x([0-9a-fA-F]+)", said or "")
    if match is None:
        if not machine.board:
            return ok(name, "no Raspberry Pi")
        words = "vcgencmd is missing, or may not be used" if said is None else f"vcgencmd says {said!r}"
        return warn(name, words, "sudo apt install raspi-utils; sudo adduser $USER video, and log in again")
    bits = int(match[1], 16)
    if not bits:
        return ok(name, "none since the start")
    now, past = throttled(bits), throttled(bits >> 16)
    parts = [f"now: {', '.join(now)}"] if now else []
    earlier = [cause for cause in past if cause not in now]
    parts += [f"since the start: {', '.join(earlier)}"] if earlier else []
    low = (bits | bits >> 16) & _UNDER_VOLTAGE
    make = fail if bits & _UNDER_VOLTAGE else warn
    return make(name, "; ".join(parts) or f"unknown bits 0x{bits:x}", _SUPPLY if low else _COOLER)


def throttled(bits: int) -> list[str]:
    """The four lowest bits in words."""
    return [words for bit, words in _NOW.items() if bits >> bit & 1]


def supply(machine: Machine) -> Check | None:
    """What the power supply offers, and so the USB ports."""
    name = "power supply"
    offered_ma = machine.number(f"{_POWER}/max_current")
    usb_high = machine.number(f"{_POWER}/usb_max_current_enable")
    if offered_ma is None:
        return None  # not a Raspberry Pi 5
    words = f"{offered_ma} mA, {1600 if usb_high else 600} mA of it for all USB ports together"
    if machine.number(f"{_POWER}/usb_over_current_detected"):
        return warn(name, f"{words}; USB drew too much at the start", "use a USB hub with power of its own")
    if usb_high:
        return ok(name, words)
    draw_ma = max((device.max_power_ma or 0 for device in edge_tpus(machine.root)), default=0)
    if draw_ma > 600:
        words += f", of which the Edge TPU alone may draw {draw_ma} mA"
    advice = f"{_SUPPLY}; for a 5 A supply that does not say so: usb_max_current_enable=1 in config.txt"
    return warn(name, words, advice)


CHECKS = (throttling, supply)

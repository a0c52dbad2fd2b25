"""The operating system, Python, temperature and disk."""

from __future__ import annotations

import platform
import shutil
import sys

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine
from appliance.machine import temperature_c

_RELEASES = ("bookworm", "trixie")
_HOT_C = 80.0
"""From here on a Raspberry Pi slows itself down; by its documentation."""
_LITTLE_GB, _TOO_LITTLE_GB = 2.0, 0.2


def operating_system(machine: Machine) -> Check:
    """The release, and the board that it runs on."""
    name = "system"
    values = dict(line.split("=", 1) for line in machine.text("etc/os-release").splitlines() if "=" in line)
    release = values.get("PRETTY_NAME", "").strip('"') or "unknown"
    board = machine.board
    words = f"{release}, {board or f'no Raspberry Pi ({platform.machine()})'}"
    if values.get("VERSION_CODENAME", "").strip('"') not in _RELEASES:
        return warn(name, words, "made for Raspberry Pi OS Bookworm or Trixie: others were not tried")
    if board and not board.startswith(("Raspberry Pi 5", "Raspberry Pi Compute Module 5")):
        return warn(name, words, "made for a Raspberry Pi 5: others are slower, and were not tried")
    return ok(name, words)


def word_size(machine: Machine, bits: int = 64 if sys.maxsize > 2**32 else 32) -> Check:
    """64 bits: there is no TFLite runtime for less."""
    del machine
    if bits == 64:
        return ok("64 bits", "yes")
    return fail("64 bits", f"this is a {bits}-bit system", "install the 64-bit Raspberry Pi OS")


def python(machine: Machine) -> Check:
    """The interpreter that runs the appliance."""
    del machine
    where = "" if sys.prefix == sys.base_prefix else f", in the environment {sys.prefix}"
    return ok("Python", platform.python_version() + where)


def temperature(machine: Machine) -> Check:
    """Of the processor."""
    name = "temperature"
    celsius = temperature_c(machine.root / "sys/class/thermal/thermal_zone0/temp")
    if celsius is None:
        return ok(name, "there is no sensor")
    words = f"{celsius:.0f} °C"
    if celsius < _HOT_C:
        return ok(name, words)
    return warn(name, words, "it slows itself down: give it a cooler with a fan, and air")


def disk(machine: Machine) -> Check:
    """Where snapshots and recordings go."""
    name = "disk"
    folder = machine.wanted.output or machine.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        free_gb = shutil.disk_usage(folder).free / 1e9
    except OSError as error:
        return fail(name, f"{folder} cannot be looked at: {error.strerror}", "is the disk in order?")
    words = f"{free_gb:.1f} GB free at {folder}"
    advice = "make room: delete old recordings, or give `output` another disk"
    if free_gb < _TOO_LITTLE_GB:
        return fail(name, words, advice)
    return warn(name, words, advice) if free_gb < _LITTLE_GB else ok(name, words)


CHECKS = (operating_system, word_size, python, temperature, disk)

"""Readings of the machine that the program runs on."""

from __future__ import annotations

from pathlib import Path

_THERMAL_ZONE = Path("/sys/class/thermal/thermal_zone0/temp")


def temperature_c(zone: Path = _THERMAL_ZONE) -> float | None:
    """The processor's temperature in degrees Celsius, or None where there is no sensor."""
    try:
        return int(zone.read_text()) / 1000
    except (OSError, ValueError):
        return None

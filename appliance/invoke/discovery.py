"""Which Edge TPUs are there, by what the kernel says in /sys and /dev. Opens nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import NoEdgeTpu

_USB_IDS = {("1a6e", "089a"), ("18d1", "9302")}
"""Vendor and product: as it comes from the factory, and once libedgetpu has loaded its firmware."""
_PCIE_ID = ("0x1ac1", "0x089a")
_USB_3_MBITS = 5000


@dataclass(frozen=True, slots=True)
class EdgeTpu:
    """One device."""

    name: str
    """As libedgetpu takes it: "usb:0", "pci:0"."""
    kind: Literal["usb", "pci"]
    link: str
    """How fast it is connected, in words: "5000 Mbit/s", "5.0 GT/s PCIe x1"."""
    slow: bool
    """On USB 2, where every run takes several times as long."""
    max_power_ma: int | None
    """What it may draw from the USB port, by its own description."""
    node: Path
    """The device file that has to be opened."""

    @property
    def may_open(self) -> bool:
        """Whether this user has the right to."""
        return os.access(self.node, os.R_OK | os.W_OK)


def edge_tpus(root: Path = Path("/")) -> tuple[EdgeTpu, ...]:
    """All devices: USB first, each kind in the order of its place on the bus."""
    return (*_usb(root), *_pcie(root))


def pcie_without_driver(root: Path = Path("/")) -> bool:
    """Whether there is a PCIe device that no driver has taken."""
    devices = sorted(_entries(root / "sys/bus/pci/devices"))
    on_the_bus = any((_text(path / "vendor"), _text(path / "device")) == _PCIE_ID for path in devices)
    return on_the_bus and not _pcie(root)


def choose(devices: tuple[EdgeTpu, ...], wanted: str) -> EdgeTpu:
    """The device that a configuration names; of several, the first that is not slow.

    Raises `NoEdgeTpu` if there is none.
    """
    fitting = [device for device in devices if wanted in ("auto", device.kind, device.name)]
    if not fitting:
        there = ", ".join(device.name for device in devices)
        if there:
            raise NoEdgeTpu(f"there is no Edge TPU {wanted}: there is {there}")
        raise NoEdgeTpu("no Edge TPU is plugged in")
    return min(fitting, key=lambda device: device.slow)


def _usb(root: Path) -> list[EdgeTpu]:
    found: list[EdgeTpu] = []
    for path in sorted(_entries(root / "sys/bus/usb/devices"), key=_bus_order):
        if (_text(path / "idVendor"), _text(path / "idProduct")) not in _USB_IDS:
            continue
        speed_mbits, bus, number = (_number(_text(path / name)) for name in ("speed", "busnum", "devnum"))
        found.append(
            EdgeTpu(
                name=f"usb:{len(found)}",
                kind="usb",
                link=f"{speed_mbits or '?'} Mbit/s",
                slow=speed_mbits is not None and speed_mbits < _USB_3_MBITS,
                max_power_ma=_number(_text(path / "bMaxPower").removesuffix("mA")),
                node=root / f"dev/bus/usb/{bus or 0:03d}/{number or 0:03d}",
            )
        )
    return found


def _pcie(root: Path) -> list[EdgeTpu]:
    nodes = sorted(path for path in _entries(root / "dev") if re.fullmatch(r"apex_[0-9]+", path.name))
    found: list[EdgeTpu] = []
    for node in nodes:
        device = root / "sys/class/apex" / node.name / "device"
        speed, width = _text(device / "current_link_speed"), _text(device / "current_link_width")
        link = f"{speed} x{width}" if speed and width else "PCIe"
        found.append(EdgeTpu(f"pci:{len(found)}", "pci", link, False, None, node))
    return found


def _bus_order(path: Path) -> list[int]:
    """So that 2-1.10 comes after 2-1.9."""
    return [int(part) for part in re.findall(r"[0-9]+", path.name)]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    """A file of /sys; empty if it cannot be read, since a device may go at any time."""
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() else None

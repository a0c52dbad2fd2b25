"""Which Edge TPUs are there, by what the kernel says in /sys and /dev. Opens nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.errors import NoEdgeTpu

_UNUSED, _USED = ("1a6e", "089a"), ("18d1", "9302")
"""USB vendor and product: until libedgetpu has loaded the firmware, and from then on."""
_PCIE_ID = ("0x1ac1", "0x089a")
_USB_3_MBITS = 5000


@dataclass(frozen=True, slots=True)
class EdgeTpu:
    """One device."""

    name: str
    """By its place on the bus, and so for the same device at each start: "usb:0", "pci:0"."""
    kind: Literal["usb", "pci"]
    link: str
    """How fast it is connected, in words: "5000 Mbit/s", "5.0 GT/s PCIe x1"."""
    slow: bool
    """On USB 2, where every run takes several times as long."""
    max_power_ma: int | None
    """What it may draw from the USB port, by its own description."""
    node: Path
    """The device file that has to be opened."""
    option: str = ""
    """What libedgetpu calls it at this moment, for its option "device"; if empty, it takes any."""

    @property
    def may_open(self) -> bool:
        """Whether this user has the right to."""
        return os.access(self.node, os.R_OK | os.W_OK)


def edge_tpus(root: Path = Path("/")) -> tuple[EdgeTpu, ...]:
    """All devices: PCIe first, as libedgetpu prefers it; each kind in the order of its place on the bus."""
    return (*_pcie(root), *_usb(root))


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
    devices = {path: _usb_id(path) for path in _entries(root / "sys/bus/usb/devices")}
    devices = {path: usb_id for path, usb_id in devices.items() if usb_id in (_UNUSED, _USED)}
    # libedgetpu asks libusb for those without firmware, then for those with it. Either time libusb gives
    # them by their paths in /sys, last one first (1.0.26, observed); so a device changes its number when it,
    # or another one, is first used.
    numbered = sorted(devices, key=os.path.realpath, reverse=True)
    numbered.sort(key=lambda path: devices[path] == _USED)
    found: list[EdgeTpu] = []
    for path in sorted(devices, key=_bus_order):
        speed_mbits, bus, number = (_number(_text(path / name)) for name in ("speed", "busnum", "devnum"))
        found.append(
            EdgeTpu(
                name=f"usb:{len(found)}",
                kind="usb",
                link=f"{speed_mbits or '?'} Mbit/s",
                slow=speed_mbits is not None and speed_mbits < _USB_3_MBITS,
                max_power_ma=_number(_text(path / "bMaxPower").removesuffix("mA")),
                node=root / f"dev/bus/usb/{bus or 0:03d}/{number or 0:03d}",
                option=f"usb:{numbered.index(path)}",
            )
        )
    return found


def _pcie(root: Path) -> list[EdgeTpu]:
    # libedgetpu numbers those with a device file in the order that the kernel happens to list them in.
    nodes = {path.name for path in _entries(root / "dev")}
    numbered = [path for path in _entries(root / "sys/class/apex") if path.name in nodes]
    found: list[EdgeTpu] = []
    for path in sorted(numbered, key=_bus_order):
        speed, width = (_text(path / "device" / f"current_link_{name}") for name in ("speed", "width"))
        found.append(
            EdgeTpu(
                name=f"pci:{len(found)}",
                kind="pci",
                link=f"{speed} x{width}" if speed and width else "PCIe",
                slow=False,
                max_power_ma=None,
                node=root / "dev" / path.name,
                option=f"pci:{numbered.index(path)}",
            )
        )
    return found


def _usb_id(path: Path) -> tuple[str, str]:
    return _text(path / "idVendor"), _text(path / "idProduct")


def _bus_order(path: Path) -> list[int]:
    """So that 2-1.10 comes after 2-1.9."""
    return [int(part) for part in re.findall(r"[0-9]+", path.name)]


def _entries(folder: Path) -> list[Path]:
    """In the order that the kernel gives."""
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

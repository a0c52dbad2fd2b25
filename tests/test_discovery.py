"""Edge TPUs as the kernel shows them, in made-up trees of /sys and /dev."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import NoEdgeTpu
from appliance.invoke.discovery import EdgeTpu, choose, edge_tpus, pcie_without_driver

NEW = ("1a6e", "089a")
OPENED = ("18d1", "9302")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def plug_usb(root: Path, place: str, ids: tuple[str, str], speed: str = "5000", number: int = 2) -> None:
    folder = root / "sys/bus/usb/devices" / place
    values = {"idVendor": ids[0], "idProduct": ids[1], "speed": speed, "busnum": "2", "bMaxPower": "896mA"}
    for name, value in {**values, "devnum": str(number)}.items():
        write(folder / name, value)
    write(root / f"dev/bus/usb/002/{number:03d}", "")


def plug_pcie(root: Path, number: int, driver: bool = True) -> None:
    folder = root / f"sys/bus/pci/devices/0000:0{number}:00.0"
    for name, value in {"vendor": "0x1ac1", "device": "0x089a"}.items():
        write(folder / name, value)
    if driver:
        device = root / f"sys/class/apex/apex_{number}/device"
        write(device / "current_link_speed", "5.0 GT/s PCIe")
        write(device / "current_link_width", "1")
        write(root / f"dev/apex_{number}", "")


def test_nothing_is_there(tmp_path: Path) -> None:
    assert edge_tpus(tmp_path) == ()
    assert not pcie_without_driver(tmp_path)
    with pytest.raises(NoEdgeTpu, match="no Edge TPU is plugged in"):
        choose((), "auto")


@pytest.mark.parametrize("ids", [NEW, OPENED])
def test_a_usb_device_has_two_names(tmp_path: Path, ids: tuple[str, str]) -> None:
    plug_usb(tmp_path, "2-1", ids)
    plug_usb(tmp_path, "usb2", ("1d6b", "0003"))
    (device,) = edge_tpus(tmp_path)
    node = tmp_path / "dev/bus/usb/002/002"
    assert device == EdgeTpu("usb:0", "usb", "5000 Mbit/s", False, 896, node)
    assert device.may_open


def test_a_usb_2_port_is_slow(tmp_path: Path) -> None:
    plug_usb(tmp_path, "1-1", NEW, speed="480")
    plug_usb(tmp_path, "2-1", OPENED, speed="5000", number=3)
    devices = edge_tpus(tmp_path)
    assert [(device.name, device.slow) for device in devices] == [("usb:0", True), ("usb:1", False)]
    assert choose(devices, "auto").name == "usb:1"
    assert choose(devices, "usb:0").name == "usb:0"


def test_devices_are_in_the_order_of_their_place(tmp_path: Path) -> None:
    for number, place in enumerate(("2-1.10", "2-1.9", "1-2"), start=2):
        plug_usb(tmp_path, place, OPENED, number=number)
    assert [device.node.name for device in edge_tpus(tmp_path)] == ["004", "003", "002"]


def test_pcie(tmp_path: Path) -> None:
    plug_pcie(tmp_path, 0)
    plug_usb(tmp_path, "2-1", NEW)
    usb, pcie = edge_tpus(tmp_path)
    assert (pcie.name, pcie.link, pcie.slow) == ("pci:0", "5.0 GT/s PCIe x1", False)
    assert not pcie_without_driver(tmp_path)
    assert choose((usb, pcie), "pci") is pcie
    assert choose((usb, pcie), "auto") is usb
    with pytest.raises(NoEdgeTpu, match="there is no Edge TPU pci:1: there is usb:0, pci:0"):
        choose((usb, pcie), "pci:1")


def test_a_pcie_device_without_a_driver_is_noticed(tmp_path: Path) -> None:
    plug_pcie(tmp_path, 1, driver=False)
    assert edge_tpus(tmp_path) == ()
    assert pcie_without_driver(tmp_path)


def test_a_device_that_is_just_leaving_does_no_harm(tmp_path: Path) -> None:
    plug_usb(tmp_path, "2-1", NEW)
    for name in ("speed", "busnum", "devnum", "bMaxPower"):
        (tmp_path / "sys/bus/usb/devices/2-1" / name).unlink()
    (device,) = edge_tpus(tmp_path)
    assert (device.link, device.slow, device.max_power_ma, device.may_open) == (
        "? Mbit/s",
        False,
        None,
        False,
    )


@settings(deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["speed", "busnum", "devnum", "bMaxPower", "idVendor"]), st.binary(max_size=9)
    )
)
def test_no_content_of_sys_is_an_error(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    root = tmp_path_factory.mktemp("root")
    plug_usb(root, "2-1", NEW)
    for name, content in files.items():
        (root / "sys/bus/usb/devices/2-1" / name).write_bytes(content)
    assert len(edge_tpus(root)) <= 1
    shutil.rmtree(root)

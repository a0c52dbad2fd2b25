"""Edge TPUs as the kernel shows them, in made-up trees of /sys and /dev."""

from __future__ import annotations

import os
import shutil
import tempfile
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
    assert device == EdgeTpu("usb:0", "usb", "5000 Mbit/s", False, 896, node, "usb:0")
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


def test_libedgetpus_numbers_are_those_of_libusb(tmp_path: Path) -> None:
    # The tree and the order that libusb 1.0.26 gave for it, without hubs: 4-2, 4-1, 2-1, 1-2, 1-1.
    places = {"2-1": OPENED, "1-1": OPENED, "1-2": NEW, "4-1": NEW, "4-2": OPENED}
    for number, (place, ids) in enumerate(places.items(), start=2):
        plug_usb(tmp_path, place, ids, number=number)
        controller = tmp_path / f"sys/devices/xhci-hcd.{place[0] == '4':d}/usb{place[0]}"
        controller.mkdir(parents=True, exist_ok=True)
        link = tmp_path / "sys/bus/usb/devices" / place
        link.rename(controller / place)
        link.symlink_to(controller / place)
    assert [(device.name, device.option) for device in edge_tpus(tmp_path)] == [
        ("usb:0", "usb:4"),  # 1-1
        ("usb:1", "usb:1"),  # 1-2
        ("usb:2", "usb:3"),  # 2-1
        ("usb:3", "usb:0"),  # 4-1
        ("usb:4", "usb:2"),  # 4-2
    ]


def test_a_device_keeps_its_name_when_it_is_used(tmp_path: Path) -> None:
    plug_usb(tmp_path, "1-1", NEW)
    plug_usb(tmp_path, "1-2", NEW, number=3)
    assert [(device.name, device.option) for device in edge_tpus(tmp_path)] == [
        ("usb:0", "usb:1"),
        ("usb:1", "usb:0"),
    ]
    plug_usb(tmp_path, "1-2", OPENED, number=4)
    assert [(device.name, device.option) for device in edge_tpus(tmp_path)] == [
        ("usb:0", "usb:0"),
        ("usb:1", "usb:1"),
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs the right to be another user")
def test_a_device_file_of_somebody_else() -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        plug_usb(Path(folder), "2-1", NEW)
        (device,) = edge_tpus(Path(folder))
        device.node.chmod(0o644)
        os.setresuid(65534, 0, 0)  # rights are those of the real user
        try:
            assert not device.may_open
            device.node.chmod(0o666)
            assert device.may_open
        finally:
            os.setresuid(0, 0, 0)


def test_pcie(tmp_path: Path) -> None:
    plug_pcie(tmp_path, 0)
    plug_usb(tmp_path, "2-1", NEW)
    pcie, usb = edge_tpus(tmp_path)
    assert (pcie.name, pcie.link, pcie.slow) == ("pci:0", "5.0 GT/s PCIe x1", False)
    assert not pcie_without_driver(tmp_path)
    assert choose((pcie, usb), "pci") is pcie
    assert choose((pcie, usb), "usb") is usb
    assert choose((pcie, usb), "auto") is pcie
    with pytest.raises(NoEdgeTpu, match="there is no Edge TPU pci:1: there is pci:0, usb:0"):
        choose((pcie, usb), "pci:1")


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


FILES = st.one_of(st.binary(max_size=9), st.sampled_from(["gone", "a folder", "a dangling link"]))
NAMES = ("idVendor", "idProduct", "speed", "busnum", "devnum", "bMaxPower")


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(st.sampled_from(NAMES), FILES), st.dictionaries(st.sampled_from(NAMES[:2]), FILES), FILES
)
def test_no_content_of_sys_is_an_error(
    tmp_path_factory: pytest.TempPathFactory,
    usb: dict[str, bytes | str],
    pcie: dict[str, bytes | str],
    speed: bytes | str,
) -> None:
    root = tmp_path_factory.mktemp("root")
    plug_usb(root, "2-1", NEW)
    plug_usb(root, "2-2", OPENED, number=3)
    plug_pcie(root, 0)
    for name, content in usb.items():
        spoil(root / "sys/bus/usb/devices/2-1" / name, content)
    for name, content in pcie.items():
        renamed = {"idVendor": "vendor", "idProduct": "device"}[name]
        spoil(root / "sys/bus/pci/devices/0000:00:00.0" / renamed, content)
    spoil(root / "sys/class/apex/apex_0/device/current_link_speed", speed)
    devices = edge_tpus(root)
    assert not pcie_without_driver(root)
    assert [device.name for device in devices] in (["pci:0", "usb:0"], ["pci:0", "usb:0", "usb:1"])
    assert {device.option for device in devices} == {device.name for device in devices}
    shutil.rmtree(root)


def spoil(path: Path, content: bytes | str) -> None:
    path.unlink()
    match content:
        case bytes():
            path.write_bytes(content)
        case "a folder":
            path.mkdir()
        case "a dangling link":
            path.symlink_to("nowhere")

"""Which package of the Edge TPU's library `install.sh` takes, and what happens when that goes wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from edge_tpu import build_stand_in
from installing import InstallableRoot, installable, stand_in_package
from quick_install import on_terminal, quick_install
from roots import MAKE_S, open_root

pytestmark = pytest.mark.timeout(MAKE_S + 120)
OLD, GOOD, BROKEN = "16.0tf2.17.1-1.test", "16.0tf2.19.1-1.test", "16.0tf2.19.1-2.broken"
STD, MAX = f"/here/libedgetpu1-std_{GOOD}.deb", f"/here/libedgetpu1-max_{GOOD}.deb"
SLOW, SLOW_STD = "16.0tf2.19.1-1.slow", "/here/libedgetpu1-std_16.0tf2.19.1-1.slow.deb"
OLD_STD, BROKEN_STD = f"/here/libedgetpu1-std_{OLD}.deb", f"/here/libedgetpu1-std_{BROKEN}.deb"


@pytest.fixture
def machine(tmp_path: Path) -> InstallableRoot:
    folder = tmp_path / "packages"
    folder.mkdir()
    library = build_stand_in(tmp_path)
    for name in ("libedgetpu1-std", "libedgetpu1-max"):
        stand_in_package(folder, library, name, GOOD)
    stand_in_package(folder, library, "libedgetpu1-std", OLD)
    stand_in_package(folder, library, "libedgetpu1-std", BROKEN, preinst="false")
    slow = "echo NOW >&2; sleep 1; echo and more >&2"
    stand_in_package(folder, library, "libedgetpu1-std", SLOW, preinst=slow)
    return InstallableRoot(open_root(installable("bookworm"), tmp_path / "root"), folder)


def test_which_one(machine: InstallableRoot) -> None:
    assert "add --max, if you accept" in machine.fails(*quick_install("--libedgetpu", MAX))
    assert "wanted is libedgetpu1-std" in machine.fails(*quick_install("--std", "--libedgetpu", MAX))
    machine.ok(*quick_install("--libedgetpu", STD))
    assert machine.library() == f"libedgetpu1-std {GOOD}"
    machine.ok(*quick_install("--max", "--libedgetpu", MAX))
    assert machine.library() == f"libedgetpu1-max {GOOD}"
    # What was chosen once stays.
    assert "it is there" in machine.ok(*quick_install())
    machine.ok(*quick_install("--libedgetpu", MAX, "--dry-run"))
    assert machine.library() == f"libedgetpu1-max {GOOD}"
    folder, kind = "/tmp/offline/libedgetpu", "bookworm $(dpkg --print-architecture)"
    machine.ok("sh", "-c", f"mkdir -p {folder} && cp {STD} {folder} && echo {kind} >/tmp/offline/bundle")
    offline = ("--offline", "/tmp/offline")
    assert "add --std to go back" in machine.fails(*quick_install(*offline))
    machine.ok(*quick_install("--std", "--dry-run", *offline))
    assert machine.library() == f"libedgetpu1-max {GOOD}"
    machine.ok(*quick_install("--libedgetpu", STD))
    assert machine.library() == f"libedgetpu1-std {GOOD}"
    machine.ok(*quick_install("--uninstall"))
    assert machine.library() == ""


def test_one_that_cannot_be_installed(machine: InstallableRoot) -> None:
    machine.ok("dpkg", "-i", OLD_STD)
    sums = "/var/lib/appliance/libedgetpu.sha256"
    # Something else fails: the library is not touched at all.
    machine.fails(*quick_install("--libedgetpu", STD, before="put_in_place() { false; }"))
    assert machine.library() == f"libedgetpu1-std {OLD}"
    # It fails: the one that was there stays, and all the rest is done.
    done = machine.run(*quick_install("--libedgetpu", BROKEN_STD))
    assert done.returncode == 1
    assert "== Installed" in done.stdout
    assert "libedgetpu1-std was not installed" in done.stderr
    assert machine.release()
    assert machine.library() == f"libedgetpu1-std {OLD}"
    assert machine.run("cat", sums).returncode != 0
    # It was there before, so it stays.
    machine.ok(*quick_install("--uninstall"))
    assert machine.library() == f"libedgetpu1-std {OLD}"


def test_a_connection_that_breaks_amid_a_package(machine: InstallableRoot) -> None:
    packages = f"install_packages() {{ prepare_apt; apt_get install -y {SLOW_STD}; }}"
    hung_up = on_terminal(*quick_install(before=packages), log="/tmp/seen", until="NOW")
    machine.fails(*hung_up, code=129)
    assert machine.library() == f"libedgetpu1-std {SLOW}", "not half installed"
    assert machine.ok("dpkg", "--audit") == ""


def test_ctrl_c_amid_a_package(machine: InstallableRoot) -> None:
    packages = f"install_packages() {{ prepare_apt; apt_get install -y {SLOW_STD}; }}"
    pressed = on_terminal(*quick_install(before=packages), log="/tmp/seen", until="NOW", then="ctrl-c")
    machine.fails(*pressed, code=130)
    assert machine.library() == f"libedgetpu1-std {SLOW}", "not half installed"
    assert machine.ok("dpkg", "--audit") == ""
    seen = machine.ok("cat", "/tmp/seen")
    assert seen.index("and more") < seen.index("interrupted while it did this: Install packages")

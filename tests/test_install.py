"""`install.sh`, run for real in clean Debian systems: installed, upgraded, interrupted, removed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from edge_tpu import build_stand_in
from installing import InstallableRoot, bundled, installable, stand_in_package
from roots import open_root

from appliance.bundle import write_bundle
from appliance.config import PROJECT_ROOT

CONFIG = "/etc/appliance/config.yaml"
# Most of it to make the roots, once on a machine.
pytestmark = pytest.mark.timeout(1800)


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    folder = tmp_path / "packages"
    folder.mkdir()
    library = build_stand_in(tmp_path)
    for name, version in (
        ("libedgetpu1-std", "16.0"),  # as Google's of 2021
        ("libedgetpu1-std", "16.0tf2.19.1-1.test"),
        ("libedgetpu1-max", "16.0tf2.19.1-1.test"),
    ):
        stand_in_package(folder, library, name, version)
    for file in ("demo.tflite", "demo.json"):
        shutil.copy(PROJECT_ROOT / "models" / file, tmp_path / file.replace("demo", "other"))
    write_bundle(tmp_path / "other.tflite").rename(folder / "other.tar")
    (folder / "no-bundle.tar").write_text("nothing")
    return folder


STD = "/here/libedgetpu1-std_16.0tf2.19.1-1.test.deb"
MAX = "/here/libedgetpu1-max_16.0tf2.19.1-1.test.deb"
GOOGLES = "/here/libedgetpu1-std_16.0.deb"
INSTALL = "/project/install.sh"
APPLIANCE = "/usr/local/bin/appliance"


def test_bookworm_from_nothing_and_back(tmp_path: Path, packages: Path) -> None:
    machine = InstallableRoot(open_root(installable("bookworm"), tmp_path / "root"), packages)
    machine.ok("dpkg", "-i", GOOGLES)
    before = machine.snapshot()

    _nothing_happens_when_it_is_only_asked(machine, before)
    # At the last step but one.
    bin_is_full = "mount --bind /usr/local/bin /usr/local/bin; mount -o remount,bind,ro /usr/local/bin"
    said = machine.fails("sh", "-c", f"{bin_is_full}; {INSTALL} --libedgetpu {STD}")
    assert "failed while it did this: Put it in place" in said
    assert "nothing was installed" in said
    assert "could not be undone" not in said
    assert machine.library() == "libedgetpu1-std 16.0"
    assert machine.snapshot() == before, "a failure leaves nothing"

    said = machine.ok(INSTALL, "--libedgetpu", STD, "--model", "/here/other.tar")
    assert said.index("What will be done") < said.index("Install packages of the system")
    assert "no python3-picamera2" in said
    assert "This is the demo model" not in said
    _is_installed(machine)

    machine.root.write(CONFIG, "source: scene\nmodel: {confidence: 0.5}\n", 0o640)
    machine.root.write("/var/lib/appliance/recordings/mine.mkv", "mine")
    _failures_leave_what_was_there(machine)

    first = machine.release()
    said = machine.fails(INSTALL, "--max", "--libedgetpu", MAX, "--model", "/here/no-bundle.tar")
    assert "the program was installed, but" in said
    assert machine.release() != first
    assert len(machine.ok("ls", "/opt/appliance-releases").split()) == 2, "the old one is gone"
    assert machine.ok("cat", CONFIG) == "source: scene\nmodel: {confidence: 0.5}\n"
    assert machine.library() == "libedgetpu1-max 16.0tf2.19.1-1.test"

    assert machine.ok("readlink", "/var/lib/appliance/models/current").strip() == "other"

    machine.ok(INSTALL, "--uninstall")
    assert machine.ok("cat", CONFIG, "/var/lib/appliance/recordings/mine.mkv").endswith("mine")
    left = {line.split()[0] for line in machine.snapshot() - before}
    kept = r"/(etc/appliance|var/lib/appliance)(/.*)?|/etc/(passwd|group|g?shadow)"
    assert {path for path in left if not re.fullmatch(kept, path)} == set()
    assert machine.library() == ""

    machine.ok(INSTALL, "--purge")
    assert machine.snapshot() == before
    machine.ok(INSTALL, "--purge")


def _nothing_happens_when_it_is_only_asked(machine: InstallableRoot, before: set[str]) -> None:
    said = machine.ok(INSTALL, "--dry-run", "--libedgetpu", STD)
    assert "put the program into /opt/appliance" in said
    assert STD in said
    assert "crashes with today's runtimes" in machine.fails(INSTALL, "--libedgetpu", GOOGLES)
    assert "add --max, if you accept" in machine.fails(INSTALL, "--libedgetpu", MAX)
    assert "unknown option: --sped" in machine.fails("sh", INSTALL, "--sped", code=2)
    assert "there is no such file" in machine.fails(INSTALL, "--libedgetpu", "/nowhere.deb", code=2)
    assert "--offline FOLDER" in machine.fails(INSTALL, network=False)
    assert "as root" in machine.fails("runuser", "-u", "nobody", "--", INSTALL)
    machine.ok("sh", "-c", f"mkdir /opt/appliance && ! {INSTALL} && rmdir /opt/appliance")
    assert machine.snapshot() == before


def _is_installed(machine: InstallableRoot) -> None:
    assert machine.library() == "libedgetpu1-std 16.0tf2.19.1-1.test", "Google's was replaced"
    assert "libedgetpu1-std_16.0tf2.19.1-1.test.deb" in machine.ok(
        "cat", "/var/lib/appliance/libedgetpu.sha256"
    )
    groups = machine.ok("id", "-Gn", "appliance").split()
    assert {"appliance", "video", "render", "input", "plugdev"} <= set(groups)
    checks = _doctor(machine)
    assert checks["configuration"] == ("ok", CONFIG)
    assert checks["NumPy"][1].startswith("1.26")
    assert checks["libedgetpu"][0] == "ok"
    assert checks["model's description"][0] == "ok"
    assert checks["model on the CPU"][0] == "ok"
    assert "fail" not in {verdict for verdict, _ in checks.values()}
    wants = "/etc/systemd/system/multi-user.target.wants/appliance.service"
    assert machine.ok("readlink", wants).strip() == "/etc/systemd/system/appliance.service"
    machine.ok("udevadm", "--version")
    assert "1a6e" in machine.ok("cat", "/etc/udev/rules.d/99-appliance-edgetpu.rules")
    written = machine.ok("grep", "-E", "^(source|output)|^  (file|fullscreen)", CONFIG)
    for line in (
        "source: scene",
        "output: /var/lib/appliance/recordings",
        "  file: /var/lib/appliance/models/current",
        "  fullscreen: true",
    ):
        assert line in written.splitlines()
    command = ("runuser", "-u", "appliance", "--", APPLIANCE, "run", "--config", CONFIG)
    machine.ok(*command, "--display", "files", "--seconds", "2")
    assert "video.mkv" in machine.ok("sh", "-c", "ls /var/lib/appliance/recordings/run-*")


def _failures_leave_what_was_there(machine: InstallableRoot) -> None:
    before, release = machine.snapshot(), machine.release()
    said = machine.fails(INSTALL, environment={"PIP_FIND_LINKS": "/nowhere"})
    assert "failed while it did this: Make the program" in said
    assert "before is unchanged" in said
    # A disk that is full when half of the program is there.
    full = (
        "cp -a /opt /tmp/opt; mount -t tmpfs -o size=$(($(du -sm /opt | cut -f1) + 100))m tmpfs /opt"
        f"; cp -a /tmp/opt/. /opt; code=0; {INSTALL} || code=$?"
        f"; {APPLIANCE} --version; ls /opt/*; rm -r /tmp/opt; exit $code"
    )
    done = machine.run("sh", "-c", full)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "appliance 0." in done.stdout
    assert len(re.findall(r"^20\d+-", done.stdout, re.MULTILINE)) == 1
    # Nobody is left to clean up, then.
    assert machine.run("timeout", "-s", "KILL", "4", INSTALL).returncode != 0
    assert machine.release() == release
    assert "appliance 0." in machine.ok(APPLIANCE, "--version")
    assert {line for line in machine.snapshot() - before if "/opt/appliance-releases/" not in line} == set()
    # Another file under a name that is known.
    machine.ok("sed", "-i", "s/^..../0000/", "/var/lib/appliance/libedgetpu.sha256")
    assert "has the checksum" in machine.fails(INSTALL, "--libedgetpu", STD)
    machine.ok("rm", "/var/lib/appliance/libedgetpu.sha256")


@pytest.mark.parametrize(
    ("program", "prints", "code", "expected"),
    [
        ("dpkg", "armhf", 1, "install the 64-bit Raspberry Pi OS"),
        ("df", "Avail\n 900M", 1, "900 MB are free, 1500 are needed"),
        ("df", "Avail\n2000M", 0, "recordings will soon fill the card"),
        ("vcgencmd", "throttled=0x50005", 0, "the voltage is too low right now"),
        ("vcgencmd", "throttled=0x50000", 0, ""),
        ("vcgencmd", "throttled=0x0", 0, ""),
    ],
)
def test_a_machine_that_is_not_as_it_should_be(
    program: str, prints: str, code: int, expected: str, tmp_path: Path
) -> None:
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    (stand_ins / program).write_text(f"#!/bin/sh\nprintf '{prints}\\n'\n")
    (stand_ins / program).chmod(0o755)
    root = open_root(installable("bookworm"), tmp_path / "root")
    done = root.run(
        *(INSTALL, "--dry-run"),
        timeout_s=60,
        binds={PROJECT_ROOT: "/project", stand_ins: "/here"},
        environment={"PATH": "/here:/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    assert done.returncode == code, done.stderr
    assert expected in done.stderr
    assert bool(expected) == bool(done.stderr)


def test_a_number_of_the_device_tree(tmp_path: Path) -> None:
    (tmp_path / "max_current").write_bytes((5000).to_bytes(4, "big"))
    script = '. "$1/scripts/install-checks"; number_in "$2/max_current"'
    command = ["bash", "-euc", script, "test", str(PROJECT_ROOT), str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True, timeout=20).stdout == b"5000\n"


def test_trixie_without_a_network(tmp_path: Path, packages: Path) -> None:
    machine = InstallableRoot(open_root(bundled("trixie"), tmp_path / "root"), packages)
    install = (INSTALL, "--offline", "/offline")
    machine.ok(
        "sh",
        "-c",
        f"echo bookworm arm64 >/tmp/other; mount --bind /tmp/other /offline/bundle; ! {' '.join(install)}",
    )
    said = machine.ok(*install, network=False)
    assert "== Installed" in said
    assert "This is the demo model" in said
    assert machine.ok("readlink", "/var/lib/appliance/models/current").strip() == "demo"
    checks = _doctor(machine)
    assert checks["NumPy"][1].startswith("2.")
    assert checks["model on the CPU"][0] == "ok"
    assert machine.library() == "libedgetpu1-std 16.0tf2.19.1-1.test"
    machine.ok("dpkg-query", "-W", "labwc")
    assert "kiosk.conf" in machine.ok("ls", "/etc/systemd/system/appliance.service.d").split()
    _gets_a_desktop(machine, install)
    machine.ok(INSTALL, "--purge", network=False)
    ours = (
        "/opt/appliance*",
        "/etc/*/*appliance*",
        "/etc/*/*/*appliance*",
        "/etc/appliance",
        "/var/lib/appliance",
    )
    assert machine.ok("sh", "-c", f"ls -d {' '.join(ours)} 2>/dev/null || true") == ""
    assert machine.run("grep", "appliance", "/etc/passwd", "/etc/group").stdout == ""


def _gets_a_desktop(machine: InstallableRoot, install: tuple[str, ...]) -> None:
    """The owner, pi, installs one, and then the appliance again."""
    units, first = "/etc/systemd/system", machine.release()
    machine.ok("useradd", "pi")
    lightdm = "/usr/lib/systemd/system/lightdm.service"
    machine.root.write(lightdm, "[Service]\nExecStart=/bin/true\n")
    machine.ok("ln", "-s", lightdm, f"{units}/display-manager.service")
    machine.ok("systemctl", "set-default", "graphical.target")
    done = machine.run(*install, environment={"SUDO_USER": "pi"}, network=False)
    assert done.returncode == 0, done.stderr
    assert machine.release() != first
    assert "let pi read and write recordings" in done.stdout
    assert "appliance" in machine.ok("id", "-Gn", "pi").split()
    assert machine.ok("find", units, "-name", "appliance*") == ""
    verify = ("systemd-analyze", "--user", "verify", "--man=no")
    machine.ok("env", "XDG_RUNTIME_DIR=/run", *verify, "/etc/systemd/user/appliance.service")
    machine.ok("grep", "systemctl --user", "/etc/xdg/autostart/appliance.desktop")


def _doctor(machine: InstallableRoot) -> dict[str, tuple[str, str]]:
    done = machine.run("runuser", "-u", "appliance", "--", APPLIANCE, "doctor", "--json")
    return {check["name"]: (check["verdict"], check["words"]) for check in json.loads(done.stdout)["checks"]}

"""Debian systems that `install.sh` is run in, and packages that stand in for the Edge TPU's library."""

from __future__ import annotations

import subprocess
from pathlib import Path

from roots import Recipe

from appliance.config import PROJECT_ROOT

WHEELS = {"PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1"}
"""For the environment of `install.sh` in an `installable` root: pip then needs no network."""
_LOCKS = {"bookworm": "bookworm", "trixie": "appliance"}
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_BASE = ("python3", "python3-venv", "systemd", "systemd-sysv", "udev", "dbus")
_FAST = ("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
_SCREEN = "labwc seatd libwayland-egl1 libwayland-cursor0 libxkbcommon0 libegl1 libgles2 kbd"
_MORE = {"bookworm": " libgl1-mesa-dri", "trixie": ""}  # which labwc brings there


def installable(suite: str, *packages: str) -> Recipe:
    """A system that has most of what `install.sh` gets by apt (not curl), and wheels: a run takes seconds."""
    return Recipe(
        "-".join(("install", suite, *packages)),
        suite,
        packages=(*_BASE, *packages),
        files=(("/wheels/lock.txt", _text(f"requirements/{_LOCKS[suite]}.txt")), _FAST),
        setup=f"""
            apt-get -q update
            for name in {_SCREEN}{_MORE[suite]}; do
                if apt-cache show $name >/dev/null 2>&1; then echo $name; fi
            done | xargs apt-get -q install -y --no-install-recommends
            python3 -m venv /tmp/venv
            /tmp/venv/bin/pip download -q --no-cache-dir --only-binary :all: -d /wheels -r /wheels/lock.txt
            rm -r /tmp/venv
        """,
    )


def bundled(suite: str) -> Recipe:
    """A bare system with a folder for an installation without a network, which scripts/bundle made."""
    parts = ("scripts/bundle", "scripts/install-packages", "scripts/install-files")
    sums = "requirements/libedgetpu.sha256"
    lock = f"requirements/{_LOCKS[suite]}.txt"
    return Recipe(
        f"bundled-{suite}",
        suite,
        packages=("systemd", "systemd-sysv", "udev", "dbus", "python3-venv"),
        files=(
            _FAST,
            *((f"/bundling/{part}", _text(part)) for part in (*parts, lock, sums)),
            ("/standin/DEBIAN/control", _control("libedgetpu1-std", "16.0tf2.19.1-1.test", "libusb-1.0-0")),
        ),
        setup="""
            dpkg-deb --build /standin /standin.deb
            bash /bundling/scripts/bundle /offline --libedgetpu /standin.deb
            apt-get -q purge -y --auto-remove python3-venv
            rm -r /bundling /standin /standin.deb
        """,
    )


def stand_in_package(
    folder: Path, library: Path, name: str = "libedgetpu1-std", version: str = "16.0tf2.19.1-1.test"
) -> Path:
    """A package as the publisher's, with a library of ours; the licence question of -max included."""
    tree = folder / f"{name}-{version}"
    control, libraries = tree / "DEBIAN", tree / "usr/lib" / _TRIPLETS[_architecture()]
    for made in (control, libraries):
        made.mkdir(parents=True)
    (libraries / "libedgetpu.so.1").write_bytes(library.read_bytes())
    other = {"libedgetpu1-std": "libedgetpu1-max", "libedgetpu1-max": "libedgetpu1-std"}[name]
    (control / "control").write_text(_control(name, version, "debconf") + f"Conflicts: {other}\n")
    if name.endswith("max"):
        (control / "templates").write_text(
            "Template: libedgetpu/accepted-eula\nType: boolean\nDefault: false\nDescription: Do you accept?\n"
        )
        _script(control / "preinst", "db_get libedgetpu/accepted-eula\n[ $RET = true ]\n")
        _script(control / "postrm", 'if [ "$1" = purge ]; then db_purge; fi\n')
    made = folder / f"{name}_{version}.deb"
    command = ["dpkg-deb", "--root-owner-group", "--build", str(tree), str(made)]
    subprocess.run(command, check=True, timeout=50)
    return made


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\nset -e\n. /usr/share/debconf/confmodule\n{text}")
    path.chmod(0o755)


def _control(name: str, version: str, needs: str) -> str:
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: {_architecture()}\n"
        f"Depends: {needs}\nMaintainer: Test <test@example.org>\nDescription: stands in for libedgetpu\n"
    )


def _architecture() -> str:
    """What Debian calls this machine."""
    command = ["dpkg", "--print-architecture"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()


def _text(part: str) -> str:
    return (PROJECT_ROOT / part).read_text()

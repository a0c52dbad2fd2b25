"""Debian systems that `install.sh` is run in, and packages that stand in for the Edge TPU's library."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

from roots import Recipe, Root

from appliance.config import PROJECT_ROOT

INSTALL_S = 300
WHEELS = {"PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1"}
"""For the environment of `install.sh` in an `installable` root: pip then needs no network."""
_LOCKS = {"bookworm": "bookworm", "trixie": "appliance"}
_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu"}
_BASE = ("python3", "python3-venv", "systemd", "systemd-sysv", "udev", "dbus")
_FAST = ("/etc/dpkg/dpkg.cfg.d/fast", "force-unsafe-io\n")
_SCREEN = "labwc seatd libwayland-egl1 libwayland-cursor0 libxkbcommon0 libegl1 libgles2 kbd"
_MORE = {"bookworm": " libgl1-mesa-dri", "trixie": ""}  # which labwc brings there

# Everything but what apt and dpkg keep for themselves, and what useradd leaves as a copy of the users' files.
_SNAPSHOT = r"""
import hashlib, os, re, stat, subprocess, sys
packaged = set(subprocess.run("dpkg-query -L $(dpkg-query -W -f '${Package} ')", shell=True, text=True,
                              capture_output=True).stdout.splitlines())
skip = re.compile("/(proc|sys|dev|run|tmp|root|project|here|wheels|offline"
                  "|var/(lib/(dpkg|apt|systemd)|cache|log)|etc/(passwd|group|shadow|gshadow|subuid|subgid)-|etc/(ld.so.cache|.pwd.lock))$")
for folder, folders, files in os.walk("/"):
    folders[:] = [name for name in folders if not skip.match(os.path.join(folder, name))]
    for name in folders + files:
        path = os.path.join(folder, name)
        if skip.match(path) or path in packaged or path.removeprefix("/usr") in packaged:
            continue
        told = os.lstat(path)
        what = os.readlink(path) if stat.S_ISLNK(told.st_mode) else ""
        if stat.S_ISREG(told.st_mode) and told.st_size < 1e6:
            what = hashlib.sha256(open(path, "rb").read()).hexdigest()
        print(path, oct(told.st_mode), told.st_uid, told.st_gid, what)
"""


class InstallableRoot:
    """A root that `install.sh` is run in, with packages that stand in for the Edge TPU's library."""

    def __init__(self, root: Root, packages: Path) -> None:
        self.root = root
        self._packages = packages

    def run(
        self, *command: str, environment: Mapping[str, str] | None = None, network: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Any command. The project is in /project, the packages are in /here."""
        return self.root.run(
            *command,
            timeout_s=INSTALL_S,
            binds={PROJECT_ROOT: "/project", self._packages: "/here"},
            environment={**WHEELS, **(environment or {})},
            network=network,
        )

    def ok(self, *command: str, network: bool = True) -> str:
        """A command that works; what it says."""
        done = self.run(*command, network=network)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def fails(
        self, *command: str, code: int = 1, environment: Mapping[str, str] | None = None, network: bool = True
    ) -> str:
        """A command that ends with an error; what it says there."""
        done = self.run(*command, environment=environment, network=network)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stderr

    def snapshot(self) -> set[str]:
        """All files, but for those of packages."""
        return set(self.ok("python3", "-c", _SNAPSHOT).splitlines())

    def release(self) -> str:
        """The release that is in use."""
        return self.ok("readlink", "/opt/appliance").strip()

    def library(self) -> str:
        """Package and version of the Edge TPU's library; empty if there is none."""
        words = "${db:Status-Status} ${Package} ${Version}\n"
        found = self.run("dpkg-query", "-W", "-f", words, "libedgetpu1-*").stdout.splitlines()
        return " ".join(line.removeprefix("installed ") for line in found if line.startswith("installed "))


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
    folder: Path,
    library: Path,
    name: str = "libedgetpu1-std",
    version: str = "16.0tf2.19.1-1.test",
    *,
    preinst: str = "",
) -> Path:
    """A package as the publisher's, with a library of ours; the licence question of -max included.

    `preinst`: a script for it; what it prints must go to standard error.
    """
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
    if preinst:
        _script(control / "preinst", f"{preinst}\n")
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

"""Debian systems that `install.sh` is run in: clean, but for packages that it would get by apt, and with the
wheels of its locks at hand, so that a run takes seconds.
"""

from __future__ import annotations

from roots import Recipe

from appliance.config import PROJECT_ROOT

WHEELS = {"PIP_FIND_LINKS": "/wheels", "PIP_NO_INDEX": "1"}
"""For the environment of `install.sh`: pip then needs no network."""
_LOCKS = {"bookworm": "bookworm", "trixie": "appliance"}


def installable(suite: str, *packages: str) -> Recipe:
    """A system for a suite, with more packages if need be."""
    lock = (PROJECT_ROOT / "requirements" / f"{_LOCKS[suite]}.txt").read_text()
    return Recipe(
        f"{'-'.join(('install', suite, *packages))}",
        suite,
        packages=(
            *("python3", "python3-venv", "python3-pip", "ca-certificates", "curl", "systemd", "systemd-sysv"),
            *("udev", "dbus", *packages),
        ),
        files=(("/wheels/lock.txt", lock),),
        setup="""
            python3 -m pip download -q --no-cache-dir --only-binary :all: -d /wheels -r /wheels/lock.txt
            apt-get -q purge -y --auto-remove python3-pip
        """,
    )

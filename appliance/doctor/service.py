"""The service that systemd starts: with the machine, or with the desktop of whoever logs in."""

from __future__ import annotations

import os
import pwd
import time
from pathlib import Path

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine

UNIT = "appliance.service"
_UNIT_FILE = Path("etc/systemd/system") / UNIT
_USER_UNIT = Path("etc/systemd/user") / UNIT
_GROUPS = ("video", "render", "input", "plugdev")
_USERS_GROUPS = ("video", "render", "plugdev", "appliance")
"""Under a desktop, input comes from that; the last is for recordings."""


def under_desktop(root: Path = Path("/")) -> bool:
    """Whether it was installed as a desktop user's service."""
    return (root / _USER_UNIT).exists()


def systemctl(words: str, root: Path = Path("/")) -> str:
    """The command by which its owner does something about it, such as "restart"."""
    return f"{'systemctl --user' if under_desktop(root) else 'sudo systemctl'} {words} appliance"


def log_selection(root: Path = Path("/")) -> tuple[str, str]:
    """What makes journalctl show its log.

    Not `--user` with `--unit`: that finds nothing where the log is kept in memory, as Raspberry Pi OS does.
    """
    return "--user-unit" if under_desktop(root) else "--unit", UNIT


def state(machine: Machine) -> Check:
    """Whether it runs."""
    name = "service"
    desktop = under_desktop(machine.root)
    if not (machine.root / "run/systemd/system").is_dir():
        return ok(name, "systemd does not run here")
    values = _show(machine)
    if values is None and desktop:  # another user, or a login without the user's systemd
        words = f"starts with the desktop; who is logged in there sees it with systemctl --user status {UNIT}"
        return ok(name, words)
    if values is None:
        return warn(name, "systemctl does not answer", f"systemctl status {UNIT}")
    loaded = values.get("LoadState")
    if loaded == "masked":
        return ok(name, f"switched off; to have it again: {systemctl('unmask', machine.root)}")
    if loaded != "loaded" and desktop:
        advice = "log out and in again, or: systemctl --user daemon-reload"
        return warn(name, "the desktop's systemd does not know it yet", advice)
    if loaded != "loaded":
        if not machine.board:
            return ok(name, "not installed")
        return warn(name, "not installed", "sudo ./install.sh")
    return _running(machine, name, values)


def _running(machine: Machine, name: str, values: dict[str, str]) -> Check:
    log = f"journalctl {' '.join(log_selection(machine.root))} -n 50"
    active, restarts = values.get("ActiveState", "unknown"), values.get("NRestarts", "0")
    words = f"{active} ({values.get('SubState', 'unknown')})"
    words += f", restarted {restarts} times" if restarts not in ("", "0") else ""
    status = values.get("StatusText", "")
    words += f": {status}" if status else ""
    if active == "active":
        return ok(name, words)
    if active == "failed":
        words += f"; {values.get('Result', 'unknown')}, exit code {values.get('ExecMainStatus', 'unknown')}"
        return fail(name, words, log)
    if values.get("SubState") == "auto-restart" or status.startswith("trying again"):
        return fail(name, words, log)
    if active == "inactive" and under_desktop(machine.root):  # who quits it wants the desktop
        return ok(name, f"not running; it starts with the desktop, or: {systemctl('start', machine.root)}")
    if active == "inactive" and values.get("UnitFileState") != "enabled":
        return warn(name, words, systemctl("enable --now"))
    never_ran = values.get("ExecMainStartTimestampMonotonic") == "0"
    if active == "inactive" and never_ran and _is_newer_than_this_start(machine):  # as install.sh has it
        return ok(name, f"not started yet; it starts with the machine, or: {systemctl('start')}")
    if active == "inactive":
        return warn(name, words, systemctl("start"))
    return warn(name, words, f"it is about to change; then {log}")


def _is_newer_than_this_start(machine: Machine) -> bool:
    """Whether it was installed after the machine was started."""
    up = machine.text("proc/uptime").split()
    try:
        installed_s = (machine.root / _UNIT_FILE).stat().st_mtime
    except OSError:
        return False
    return bool(up) and installed_s > time.time() - float(up[0])


def rights(machine: Machine, user: str | None = None) -> Check | None:
    """Whether the service's user may use camera, screen, mouse and Edge TPU.

    Under a desktop that is whoever gives this command.
    """
    needed = _GROUPS
    values = _show(machine) if (machine.root / "run/systemd/system").is_dir() else None
    if values is None:
        return None
    if under_desktop(machine.root):
        user, needed = user or pwd.getpwuid(os.geteuid()).pw_name, _USERS_GROUPS
    else:
        user = values.get("User", "")
    if not user or user == "root":
        return None
    members = (line.split(":") for line in machine.text("etc/group").splitlines())
    has = {fields[0] for fields in members if len(fields) == 4 and user in fields[3].split(",")}
    has |= {user, *values.get("SupplementaryGroups", "").split()}
    missing = [group for group in needed if group not in has]
    if not missing:
        return ok("service's user", f"{user}, in the groups {', '.join(needed)}")
    words = f"{user} is not in {', '.join(missing)}"
    # A user's systemd keeps the groups of its start, and may outlive a logout.
    then = "restart the machine" if under_desktop(machine.root) else "restart it"
    return warn("service's user", words, f"sudo usermod -aG {','.join(missing)} {user}, and {then}")


def _show(machine: Machine) -> dict[str, str] | None:
    manager = ("--user",) if under_desktop(machine.root) else ()
    said = machine.ask("systemctl", *manager, "show", UNIT)
    if said is None:
        return None
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


CHECKS = (state, rights)

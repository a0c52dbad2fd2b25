"""The service that systemd starts."""

from __future__ import annotations

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine

UNIT = "appliance.service"
_GROUPS = ("video", "render", "input", "plugdev")
_LOG = f"journalctl -u {UNIT} -n 50"


def state(machine: Machine) -> Check:
    """Whether it runs."""
    name = "service"
    if not (machine.root / "run/systemd/system").is_dir():
        return ok(name, "systemd does not run here")
    values = _show(machine)
    if values is None:
        return warn(name, "systemctl does not answer", f"systemctl status {UNIT}")
    if values.get("LoadState") != "loaded":
        if not machine.board:
            return ok(name, "not installed")
        return warn(name, "not installed", "sudo ./install.sh")
    active, restarts = values.get("ActiveState", "unknown"), values.get("NRestarts", "0")
    words = f"{active} ({values.get('SubState', 'unknown')})"
    words += f", restarted {restarts} times" if restarts not in ("", "0") else ""
    status = values.get("StatusText", "")
    words += f": {status}" if status else ""
    if active == "active":
        return ok(name, words)
    if active == "failed":
        words += f"; {values.get('Result', 'unknown')}, exit code {values.get('ExecMainStatus', 'unknown')}"
        return fail(name, words, _LOG)
    if values.get("SubState") == "auto-restart" or status.startswith("trying again"):
        return fail(name, words, _LOG)
    if active == "inactive" and (machine.root / "etc/systemd/user" / UNIT).exists():
        return ok(name, f"starts with the desktop; see systemctl --user status {UNIT}")
    if active == "inactive":
        return warn(name, words, "sudo systemctl enable --now appliance")
    return warn(name, words, f"it is about to change; then {_LOG}")


def rights(machine: Machine) -> Check | None:
    """Whether the service's user may use camera, screen, mouse and Edge TPU."""
    values = _show(machine) if (machine.root / "run/systemd/system").is_dir() else None
    user = (values or {}).get("User", "")
    if not user or user == "root":
        return None
    members = (line.split(":") for line in machine.text("etc/group").splitlines())
    has = {fields[0] for fields in members if len(fields) == 4 and user in fields[3].split(",")}
    has |= set((values or {}).get("SupplementaryGroups", "").split())
    missing = [group for group in _GROUPS if group not in has]
    if not missing:
        return ok("service's user", f"{user}, in the groups {', '.join(_GROUPS)}")
    words = f"{user} is not in {', '.join(missing)}"
    return warn("service's user", words, f"sudo usermod -aG {','.join(missing)} {user}, and restart it")


def _show(machine: Machine) -> dict[str, str] | None:
    said = machine.ask("systemctl", "show", UNIT)
    if said is None:
        return None
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


CHECKS = (state, rights)

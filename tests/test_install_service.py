"""`install.sh` where systemd runs: the first terminal, a desktop that comes and goes, and the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from booting import BOOT_S, Machine, booted, eventually
from installing import installable
from quick_install import on_terminal, quick_install
from roots import MAKE_S, open_root

from appliance.config import PROJECT_ROOT

pytestmark = pytest.mark.timeout(MAKE_S + BOOT_S + 120)
SYSTEM = "/etc/systemd/system"
ENABLED = f"{SYSTEM}/multi-user.target.wants/appliance.service"
RUN_S = 60
# On a terminal that stands for the first one, as the number of which this takes its own.
_AT_THE_TERMINAL = r"""
eval "real_$(declare -f is_below_terminal)"
is_below_terminal() { real_is_below_terminal $((34816 + $(basename "$(tty)"))); }
sleep() { :; }
"""


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    root = open_root(installable("trixie"), tmp_path / "root")
    parts = (
        '. /project/scripts/install-files; mkdir /source; cd /project; cp -r --parents "${PARTS[@]}" /source'
    )
    done = root.run("bash", "-ec", parts, timeout_s=60, binds={PROJECT_ROOT: "/project"})
    assert done.returncode == 0, done.stderr
    _service(root.write, f"{SYSTEM}/getty@tty1.service", "sleep infinity")
    with booted(root, tmp_path / "console") as booted_root:
        booted_root.do("systemctl", "enable", "--now", "-q", "getty@tty1.service")
        yield booted_root


def test_a_service_of_the_system_and_one_of_a_user(machine: Machine) -> None:
    assert _state(machine, "getty@tty1") == "active"
    said = _install(machine)
    assert said.index("Look over") < said.index("finds the service inactive") < said.index("Start it")
    assert "Ctrl-Alt-F2" in said
    assert (_state(machine, "appliance"), _state(machine, "getty@tty1")) == ("active", "inactive")
    first, release = _main_process(machine), machine.do("readlink", "/opt/appliance").strip()
    # The old program is there for as long as it runs.
    before = f"wrap look_over '[ -x {release}/.venv/bin/appliance ]'"
    assert "finds the service active" in _install(machine, before=before)
    assert machine.run("ls", release).returncode != 0
    assert _main_process(machine) != first

    # A desktop comes.
    machine.write("/usr/lib/systemd/system/lightdm.service", "[Service]\nExecStart=/bin/true\n")
    machine.do("ln", "-s", "/usr/lib/systemd/system/lightdm.service", f"{SYSTEM}/display-manager.service")
    machine.do("systemctl", "-q", "set-default", "graphical.target")
    before = machine.do("find", "/etc", "/opt")
    assert _try_install(machine, "interrupt put_in_place HUP") == 129
    assert machine.do("find", "/etc", "/opt") == before
    assert _state(machine, "appliance") == "active"
    machine.do("rm", "/etc/appliance/config.yaml")
    said = _install(machine)
    assert "then systemctl --user restart appliance" in said
    assert "it starts with the desktop: restart the machine" in said
    assert "finds the service inactive" in said
    assert machine.do("systemctl", "show", "-P", "LoadState", "appliance") == "not-found\n"
    assert "appliance" not in machine.do("systemctl", "list-units", "--all", "--plain", "appliance.service")
    assert _ours(machine) == {
        "/etc/systemd/user/appliance.service",
        "/etc/xdg/autostart/appliance.desktop",
        "/etc/udev/rules.d/99-appliance-edgetpu.rules",
    }

    # And goes.
    machine.do("systemctl", "-q", "set-default", "multi-user.target")
    before = machine.do("find", "/etc", "/opt")
    assert _try_install(machine, "interrupt put_in_place TERM") == 143
    assert machine.do("find", "/etc", "/opt") == before
    assert machine.do("systemctl", "show", "-P", "LoadState", "appliance") == "not-found\n"
    _install(machine)
    assert _state(machine, "appliance") == "active"
    assert _ours(machine) == {
        f"{SYSTEM}/appliance.service",
        f"{SYSTEM}/appliance.service.d",
        ENABLED,
        "/etc/udev/rules.d/99-appliance-edgetpu.rules",
    }

    # Switched off is switched off.
    machine.do("systemctl", "-q", "disable", "--now", "appliance")
    assert "the service was switched off, and stays so" in _install(machine)
    assert _state(machine, "appliance") == "inactive"
    machine.do("systemctl", "-q", "enable", "--now", "appliance")

    ended = machine.run(*_command("--uninstall", before="wrap reload 'kill -TERM $$'"), timeout_s=RUN_S)
    assert ended.returncode == 143
    assert _state(machine, "getty@tty1") == "inactive"
    machine.do(*_command("--uninstall"), timeout_s=RUN_S)
    eventually(lambda: _state(machine, "getty@tty1") == "active", 10)
    assert _state(machine, "appliance") == "inactive"
    assert _ours(machine) == set()


def test_at_the_terminal_that_is_taken_away(machine: Machine) -> None:
    machine.do("systemctl", "stop", "getty@tty1")
    words = on_terminal("bash", "/root/install", log="/root/seen", until="never")
    install = shlex.join(_command(before=_AT_THE_TERMINAL))
    machine.write("/root/install", f'trap : HUP; {install}\necho "ended with $?" >/root/code\n')
    machine.write("/root/login", shlex.join(words))
    _service(machine.write, f"{SYSTEM}/getty@tty1.service", "bash /root/login")
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "start", "getty@tty1")
    eventually(lambda: _state(machine, "appliance") == "active", RUN_S)
    eventually(lambda: machine.run("cat", "/root/code").stdout == "ended with 0\n", 10)
    assert _state(machine, "getty@tty1") != "active"
    seen = machine.do("cat", "/root/seen")
    assert seen.index("finds the service inactive") < seen.index("== Installed") < seen.index("Ctrl-Alt-F2")
    assert "could not be undone" not in seen
    # A second time: the old release runs until the new one is started, and the next installation removes it.
    old = machine.do("readlink", "/opt/appliance").strip()
    machine.do("rm", "/root/code")
    machine.do("systemctl", "stop", "appliance")
    machine.do("systemctl", "start", "getty@tty1")
    eventually(lambda: machine.run("cat", "/root/code").stdout == "ended with 0\n", RUN_S)
    assert machine.do("readlink", "/opt/appliance").strip() != old
    machine.do("ls", f"{old}/.venv/bin/appliance")
    assert f"remove {old}/, which is no longer used" in _install(machine)
    assert len(machine.do("ls", "/opt/appliance-releases").split()) == 1


def _command(*options: str, before: str = "") -> tuple[str, ...]:
    return quick_install(*options, before=before, project="/source")


def _service(write: Callable[[str, str], None], path: str, command: str) -> None:
    """That of a terminal, as systemd's own ends: only its first process is told so."""
    rest = "KillMode=process\nSendSIGHUP=yes\n[Install]\nWantedBy=getty.target\n"
    write(path, f"[Service]\nExecStart={command}\n{rest}")


def _install(machine: Machine, before: str = "") -> str:
    done = machine.run(*_command(before=before), timeout_s=RUN_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def _try_install(machine: Machine, before: str) -> int:
    done = machine.run(*_command(before=before), timeout_s=RUN_S)
    assert "could not be undone" not in done.stderr
    return done.returncode


def _ours(machine: Machine) -> set[str]:
    """What it has in the system."""
    found = machine.do("find", "/etc", "-name", "*appliance*", "-not", "-path", "/etc/appliance*")
    return set(found.split())


def _state(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit).stdout.strip()


def _main_process(machine: Machine) -> str:
    return machine.do("systemctl", "show", "-P", "MainPID", "appliance")

"""A root, see `roots`, that is booted with its own systemd as process 1, and commands run in it.

    with booted(open_root(RECIPE, tmp_path / "root")) as machine:
        assert machine.run("systemctl", "is-active", "appliance").stdout == "active\n"

Works where this system is not run by systemd, and with either kind of control groups. It has a loopback for a
network and no devices but /dev/null and the like; no limits of memory or processor time can be tried in it.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from roots import Root, need, unavailable

BOOT_S = 90
_ENVIRONMENT = ("env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8")
# systemd-nspawn wants the unified control groups and a /run of its own. Its groups lie below the one that it
# is in: that must be its own too, or two machines would share those of their services. Old ones are removed.
_BOOT = """
umount -l /sys/fs/cgroup/* 2>/dev/null || true
umount -l /sys/fs/cgroup 2>/dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
for old in /sys/fs/cgroup/appliancetest.*; do
    # Those of tests that run meanwhile have processes in them.
    grep -qs '^populated 0' "$old/cgroup.events" || continue
    find "$old" -depth -type d -exec rmdir {} + 2>/dev/null || true
done
until group=$(mktemp -d /sys/fs/cgroup/appliancetest.XXXXXX) && echo 0 >"$group/cgroup.procs"; do :; done
mount -t tmpfs tmpfs /run; mkdir -p /run/systemd
# The numbers of processes in it are others than outside: systemd-nspawn looks its child up.
mount -t proc proc /proc
# Not `exec`: the first process of a namespace ignores signals.
systemd-nspawn --quiet --boot -D "$root" --register=no --keep-unit --machine=appliancetest \
    --console=pipe --private-network || exit $?
"""


@dataclass(frozen=True)
class Machine:
    """A booted root."""

    root: Root
    first_pid: int
    """Of its process 1, as this system counts."""

    def run(self, *command: str, timeout_s: float = 30, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root. Raises `TimeoutExpired`; the exit code is not looked at."""
        return subprocess.run(
            ["nsenter", "--target", str(self.first_pid), "--all", *_ENVIRONMENT, *command],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def do(self, *command: str, timeout_s: float = 30, stdin: str = "") -> str:
        """What a command printed. It must succeed."""
        done = self.run(*command, timeout_s=timeout_s, stdin=stdin)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def write(self, path: str, text: str) -> None:
        """Put a file into it, readable for all."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1"'
        self.do("sh", "-euc", script, "write", path, stdin=text)


@contextmanager
def booted(root: Root, log: Path) -> Iterator[Machine]:
    """Boot a root, give it once its systemd has started all there is, and switch it off at the end.

    `log` gets what the console showed.
    """
    need("systemd-nspawn", "systemd-container")
    with log.open("w") as console:
        whole = subprocess.Popen(
            root.in_namespace(_BOOT), stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
    try:
        machine = Machine(root, _first_process(whole, log))
        eventually(lambda: "running" in _state(machine) or "degraded" in _state(machine), BOOT_S)
        yield machine
    finally:
        whole.kill()  # all that is in its namespace ends with it
        whole.wait(10)


def eventually(holds: Callable[[], bool], seconds: float) -> None:
    """Wait until something holds; an assertion fails when that takes longer."""
    deadline_s = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline_s, f"not within {seconds:g} s"
        time.sleep(0.2)


def _state(machine: Machine) -> str:
    return machine.run("systemctl", "is-system-running").stdout


def _first_process(whole: subprocess.Popen[bytes], log: Path) -> int:
    """The systemd in it: two namespaces of processes below this one, and the first in the lower."""
    depth = len(_numbers(whole.pid)) + 2
    deadline_s = time.monotonic() + BOOT_S
    while True:
        for pid in _below(whole.pid):
            numbers = _numbers(pid)
            if len(numbers) == depth and numbers[-1] == "1" and _comm(pid) == "systemd":
                return pid
        if whole.poll() is not None or time.monotonic() > deadline_s:
            unavailable(f"systemd-nspawn cannot boot a root here: {log.read_text()[-500:]}")
        time.sleep(0.1)


def _below(pid: int) -> Iterator[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:  # it has just ended
        return
    for child in map(int, children):
        yield child
        yield from _below(child)


def _numbers(pid: int) -> list[str]:
    """Its numbers in all namespaces that it is in, from this system's down."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return []
    return next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])


def _comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""

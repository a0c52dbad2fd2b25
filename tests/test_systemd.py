"""What systemd is told, by the real program over a real socket; and the unit, by systemd's own checks."""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booting import BOOT_S, booted
from notified import Listener, program
from roots import MAKE_S, Recipe, Root, open_root

from appliance import systemd
from appliance.attempts import RESTART_S
from appliance.config import PROJECT_ROOT

TRIXIE = Recipe("systemd", "trixie", packages=("systemd", "systemd-sysv", "dbus", "python3"))
UNIT = PROJECT_ROOT / "systemd" / "appliance.service"
# The program, but for a stage that is stuck while the file named last is there, which soon counts.
_WEDGED = """
import sys, time
from pathlib import Path
from appliance import pipeline, stages
from appliance.__main__ import main
pipeline.STUCK_S = 1.0
real, wedge = stages.postprocess, Path(sys.argv.pop())
def postprocess(*given):
    while wedge.exists():
        wedge.with_name("reached").touch()
        time.sleep(0.05)
    return real(*given)
stages.postprocess = postprocess
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    listener = Listener(tmp_path / "notify")
    yield listener
    listener.close()


def _environment(listener: Listener, watchdog_s: float = 2.0) -> dict[str, str]:
    return {"NOTIFY_SOCKET": str(listener.path), "WATCHDOG_USEC": str(int(watchdog_s * 1e6))}


_HEADLESS = ("run", "--source", "scene", "--display", "null", "--backend", "cpu")


def test_ready_watchdog_status_stopping(listener: Listener) -> None:
    with program("-m", "appliance", *_HEADLESS, environment=_environment(listener)) as process:
        listener.wait_for("READY=1")
        assert listener.heard[0] == "READY=1"
        for _ in range(3):
            listener.wait_for("WATCHDOG=1", 10)
        assert re.match(r"STATUS=masks .*/s, pictures .*on CPU", listener.wait_for("STATUS=", 25))
        process.send_signal(signal.SIGTERM)
        listener.wait_for("STOPPING=1", 10)
        assert process.wait(10) == 0
        listener.listen(0.2)
    assert listener.heard.count("READY=1") == 1
    assert listener.heard[-1] == "STOPPING=1"


def test_a_wedged_stage_is_named_and_gets_no_watchdog(listener: Listener, tmp_path: Path) -> None:
    wedge = tmp_path / "wedge"
    command = ("-c", _WEDGED, *_HEADLESS, wedge)
    with program(*command, environment=_environment(listener)):
        listener.wait_for("READY=1")
        listener.wait_for("WATCHDOG=1", 10)
        wedge.touch()
        assert "interpret" in listener.wait_for("STATUS=stuck", 15)
        assert "WATCHDOG=1" not in listener.listen(3)  # although the picture goes on
        wedge.unlink()
        listener.wait_for("WATCHDOG=1", 10)


def test_nothing_is_ready_before_there_is_a_picture(listener: Listener, tmp_path: Path) -> None:
    wedge = tmp_path / "wedge"
    wedge.touch()
    still = tmp_path / "still.jpg"
    shutil.copy(next((PROJECT_ROOT / "appliance" / "capture" / "photos").glob("*.jp*g")), still)
    # Not live: a picture is shown with its masks, so here never.
    command = ("-c", _WEDGED, "run", "--source", still, "--display", "null", "--backend", "cpu", wedge)
    with program(*command, environment=_environment(listener)):
        end_s = time.monotonic() + 30
        while not wedge.with_name("reached").exists():
            assert time.monotonic() < end_s
            time.sleep(0.05)
        assert listener.listen(1) == []
        wedge.unlink()
        listener.wait_for("READY=1")
        listener.wait_for("STOPPING=1")


def test_the_reason_of_a_failure_is_the_status(listener: Listener, tmp_path: Path) -> None:
    wrong = tmp_path / "config.yaml"
    wrong.write_text("sauce: scene\n")
    command = ("-m", "appliance", "run", "--config", wrong)
    with program(*command, environment=_environment(listener)) as process:
        words = listener.wait_for("STATUS=")
        assert process.wait(10) == 2
    assert "sauce" in words
    assert "\n" not in words


def test_a_socket_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "2000000"}
    command = ("-m", "appliance", *_HEADLESS, "--seconds", "2")
    with program(*command, environment=environment) as process:
        assert process.wait(40) == 0


def test_abstract_socket() -> None:
    name = f"appliance-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as there:
        there.bind(f"\0{name}")
        there.settimeout(2)
        systemd.notify("READY=1", {"NOTIFY_SOCKET": f"@{name}"})
        assert there.recv(100) == b"READY=1"


def test_levels_for_the_journal_only(tmp_path: Path) -> None:
    log = tmp_path / "log"
    wrong = tmp_path / "config.yaml"
    wrong.write_text("sauce: scene\n")
    command = [sys.executable, "-m", "appliance", "run", "--config", str(wrong)]
    for is_journal in (True, False):
        with log.open("w") as stderr:
            there = os.fstat(stderr.fileno())
            stream = f"{there.st_dev}:{there.st_ino + (not is_journal)}"
            environment = {**os.environ, "JOURNAL_STREAM": stream}
            subprocess.run(command, stderr=stderr, env=environment, timeout=30, check=False)
        assert log.read_text().startswith("<3>appliance: " if is_journal else "appliance: ")


@pytest.mark.parametrize(
    ("level", "prefix"),
    [(logging.DEBUG, "<7>"), (logging.INFO, "<6>"), (logging.WARNING, "<4>"), (logging.CRITICAL, "<3>")],
)
def test_each_line_has_its_priority(level: int, prefix: str) -> None:
    record = logging.LogRecord("here", level, "here.py", 1, "one\ntwo", None, None)
    assert systemd.JournalFormatter().format(record) == f"{prefix}one\n{prefix}two"


def _analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    command = ["systemd-analyze", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    # The program is not where the unit wants it, and that alone would be a complaint.
    unit = tmp_path / UNIT.name
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", UNIT.read_text()))
    done = _analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.timeout(MAKE_S)
def test_trixie_understands_every_line_too(tmp_path: Path) -> None:
    root = open_root(TRIXIE, tmp_path / "root")
    root.write("/opt/appliance/.venv/bin/appliance", "#!/bin/sh\n", 0o755)
    root.write("/opt/appliance/README.md", "")
    unit = f"/etc/systemd/system/{UNIT.name}"
    root.write(unit, UNIT.read_text())
    done = root.run("systemd-analyze", "verify", "--man=no", unit, timeout_s=30)
    assert (done.returncode, done.stderr) == (0, "")
    root.write(f"{unit}.d/wrong.conf", "[Service]\nNoSuchKey=1\n")
    assert "NoSuchKey" in root.run("systemd-analyze", "verify", "--man=no", unit, timeout_s=30).stderr


def test_hardened() -> None:
    done = _analyze("security", "--offline=yes", "--threshold=50", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", [UNIT.name, "desktop.service"])
def test_the_program_knows_how_long_systemd_waits(name: str) -> None:
    text = UNIT.with_name(name).read_text()
    assert re.findall(r"(?m)^RestartSec=(.*)$", text) == [f"{RESTART_S:g}"]


@dataclass(frozen=True)
class _Numbered(Root):
    """Its processes have numbers from one on."""

    first: int = 1

    def in_namespace(self, script: str, *arguments: str, network: bool = True) -> list[str]:
        numbered = f"echo {self.first - 1} >/proc/sys/kernel/ns_last_pid\n{script}"
        return super().in_namespace(numbered, *arguments, network=network)


@pytest.mark.timeout(MAKE_S + BOOT_S)
def test_a_root_is_booted_whatever_processes_there_are_outside(tmp_path: Path) -> None:
    root = open_root(TRIXIE, tmp_path / "root")
    most = int(Path("/proc/sys/kernel/pid_max").read_text())
    free = next(
        first
        for first in range(most - 200, 300, -100)
        if not any(Path(f"/proc/{number}").exists() for number in range(first, first + 100))
    )
    with booted(_Numbered(root.kept, root.folder, free), tmp_path / "console") as machine:
        assert machine.do("cat", "/proc/1/comm") == "systemd\n"

"""The service that `install.sh` installs, under a real systemd: all that is promised of it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from booting import BOOT_S, Machine, booted, eventually
from edge_tpu import build_stand_in
from installing import WHEELS, installable, stand_in_package
from roots import MAKE_S, Root, open_root

from appliance.config import PROJECT_ROOT

INSTALL_S = 300
STOP_S = 3.0
"""How long a stop of the service may take."""
_START_S = 60
_DROP_INS = "/etc/systemd/system/appliance.service.d"
_CONFIG = "/etc/appliance/config.yaml"
_DATA = "/var/lib/appliance"
_PROGRAM = "/opt/appliance/.venv/bin"
_HEADLESS = "source: scene\nbackend:\n  kind: cpu\ndisplay:\n  kind: null\n".replace("null", '"null"')
# What hangs on the release, its systemd and its Python is tried on both; the rest once.
BOTH = pytest.mark.parametrize("service", ["trixie", "bookworm"], indirect=True)
ONE = pytest.mark.parametrize("service", ["trixie"], indirect=True)
pytestmark = pytest.mark.timeout(MAKE_S + INSTALL_S + BOOT_S + 120)

# The program, but for a stage that is stuck while there is a file. That soon counts.
_WEDGED = """
import sys, time
from pathlib import Path
from appliance import pipeline, stages
from appliance.__main__ import main
pipeline.STUCK_S = 1.0
real, wedge = stages.postprocess, Path("/var/lib/appliance/wedge")
def postprocess(*given):
    while wedge.exists():
        time.sleep(0.05)
    return real(*given)
stages.postprocess = postprocess
sys.exit(main())
"""
# The program with a child that no polite signal ends.
_STUCK_CHILD = """
import subprocess, sys
from appliance.__main__ import main
subprocess.Popen(["/bin/sh", "-c", "trap '' TERM HUP INT; while :; do sleep 100; done"])
sys.exit(main())
"""
# The same, and it hears no such signal either.
_DEAF = _STUCK_CHILD.replace(
    "sys.exit", "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\nsys.exit"
)
# What the service can do, in JSON: for each try None, or what went wrong.
_PROBE = """
import ctypes, json, os, socket, sys
def attempt(what):
    try:
        what()
    except OSError as error:
        return os.strerror(error.errno) if error.errno else str(error)
def write(folder):
    with open(folder + "/probe", "w") as file:
        file.write("here")
def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
found = {folder: attempt(lambda: write(folder)) for folder in sys.argv[2:]}
found["internet"] = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM))
found["netlink"] = attempt(lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW))
found["namespace"] = attempt(lambda: call("unshare", 0x10000000))  # of users, which needs no right
found["keys"] = attempt(lambda: call("syscall", 250, 0, -3, 0, 0, 0))  # keyctl, which is no system service's
found["others"] = sorted(name for name in os.listdir("/proc") if name == "1")
found["home"] = attempt(lambda: os.listdir("/home/open"))
json.dump(found, open(sys.argv[1], "w"))
"""
_OPEN_FOLDERS = ("/etc/open", "/opt/open", "/srv/open", "/usr/open", "/home/open", "/var/open", "/boot/open")


@dataclass(frozen=True)
class Service:
    """The installed one."""

    machine: Machine

    def set_up(self, *lines: str, config: str = _HEADLESS) -> None:
        """Give it a configuration, and more lines for its unit. It does not run, and never failed."""
        self.machine.run("systemctl", "stop", "appliance")
        self.machine.write(_CONFIG, config)
        self.machine.write(f"{_DROP_INS}/test.conf", "\n".join(("[Service]", *lines, "")))
        self.machine.do("systemctl", "daemon-reload")
        self.machine.run("systemctl", "reset-failed", "appliance")
        self.machine.do("journalctl", "--rotate", "--vacuum-time=1us")

    def program(self, text: str) -> str:
        """The line for the unit that makes a Python text its program."""
        path = f"/opt/programs/{abs(hash(text))}.py"
        self.machine.write(path, text)
        return f"ExecStart=\nExecStart={_PROGRAM}/python {path} run --config {_CONFIG}"

    def start(self) -> None:
        """Returns when it is ready."""
        self.machine.do("systemctl", "start", "appliance", timeout_s=_START_S)

    def show(self, name: str) -> str:
        """A property of it."""
        return self.machine.do("systemctl", "show", "appliance", "--value", "-p", name).strip()

    def log(self, *options: str) -> str:
        """What it logged since `set_up`."""
        self.machine.do("journalctl", "--sync")
        return self.machine.do("journalctl", "-u", "appliance", "-o", "cat", "--no-pager", *options)

    def stop(self) -> float:
        """Returns how long that took, in s, by systemd's own clock."""
        self.machine.do("systemctl", "stop", "appliance")
        began_us, ended_us = (
            int(self.show(f"{name}TimestampMonotonic")) for name in ("ActiveExit", "InactiveEnter")
        )
        return (ended_us - began_us) / 1e6


@pytest.fixture(scope="module")
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    root = open_root(installable(request.param), folder / "root")
    _install(root, folder)
    with booted(root, folder / "console") as machine:
        yield Service(machine)


def _install(root: Root, folder: Path) -> None:
    package = stand_in_package(folder, build_stand_in(folder))
    done = root.run(
        *("/project/install.sh", "--libedgetpu", f"/here/{package.name}"),
        timeout_s=INSTALL_S,
        binds={PROJECT_ROOT: "/project", folder: "/here"},
        environment=WHEELS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Without a GPU there is no kiosk, which has tests of its own.
    root.run("rm", "-f", f"{_DROP_INS}/kiosk.conf", timeout_s=20)


@BOTH
def test_it_is_ready_with_the_first_picture_and_tells_figures(service: Service) -> None:
    service.set_up()
    service.start()
    assert service.show("ActiveState") == "active"
    assert service.show("User") == "appliance"
    eventually(lambda: re.match(r"masks .*/s, pictures .*on CPU", service.show("StatusText")) is not None, 30)
    assert "masks" in service.machine.do("systemctl", "status", "appliance")
    assert service.show("NRestarts") == "0"
    assert service.stop() < STOP_S
    assert service.show("Result") == "success"


@BOTH
def test_a_stuck_stage_is_killed_by_the_watchdog_and_started_again(service: Service) -> None:
    service.set_up(service.program(_WEDGED), "WatchdogSec=3")
    service.start()
    first = service.show("MainPID")
    service.machine.do("touch", f"{_DATA}/wedge")
    eventually(lambda: "stuck: interpret" in service.show("StatusText"), 20)
    eventually(lambda: service.show("NRestarts") == "1", 20)
    service.machine.do("rm", f"{_DATA}/wedge")
    eventually(lambda: service.show("ActiveState") == "active", _START_S)
    assert service.show("MainPID") != first
    log = service.log()
    assert "Watchdog timeout" in log
    assert re.search(r"File .*stages.py", log)  # where each thread was
    assert service.show("NRestarts") == "1"


@ONE
def test_a_process_that_stands_still_is_killed_and_started_again(service: Service) -> None:
    service.set_up("WatchdogSec=3")
    service.start()
    first = service.show("MainPID")
    service.machine.do("sh", "-c", f"kill -STOP {first}")
    eventually(lambda: service.show("NRestarts") == "1", 20)
    eventually(lambda: service.show("ActiveState") == "active", _START_S)
    assert service.show("MainPID") != first


@BOTH
@pytest.mark.parametrize("program", [_STUCK_CHILD, _DEAF], ids=["child", "program and child"])
def test_what_is_stuck_does_not_hold_up_the_end(service: Service, program: str) -> None:
    service.set_up(service.program(program))
    service.start()
    group = f"/sys/fs/cgroup{service.show('ControlGroup')}/cgroup.procs"
    assert len(service.machine.do("cat", group).split()) >= 2
    assert service.stop() < STOP_S
    assert service.machine.run("cat", group).stdout == ""
    assert service.show("Result") == ("success" if program is _STUCK_CHILD else "timeout")


@BOTH
def test_a_wrong_configuration_is_refused_with_its_reason(service: Service) -> None:
    service.set_up(config="sauce: scene\n")
    assert service.machine.run("systemctl", "start", "appliance", timeout_s=_START_S).returncode != 0
    time.sleep(4)  # longer than RestartSec
    assert service.show("ActiveState") == "failed"
    assert (service.show("ExecMainStatus"), service.show("NRestarts")) == ("2", "0")
    reason = f"{_CONFIG}: sauce: unknown key; did you mean source?"
    assert reason in service.machine.run("systemctl", "status", "-l", "appliance").stdout
    assert reason in service.log("-p", "err")
    service.machine.write(_CONFIG, _HEADLESS)
    service.machine.do("systemctl", "restart", "appliance", timeout_s=_START_S)
    assert service.show("ActiveState") == "active"


@ONE
def test_with_a_screen_a_wrong_configuration_is_shown_until_it_is_restarted(service: Service) -> None:
    service.set_up("Environment=SDL_VIDEODRIVER=dummy", config="display:\n  kind: television\n")
    service.start()  # ready: the notice is shown
    time.sleep(4)
    assert service.show("ActiveState") == "active"
    assert "television" in service.show("StatusText")
    assert "television" in service.log("-p", "err")
    service.machine.write(_CONFIG, _HEADLESS)
    service.machine.do("systemctl", "restart", "appliance", timeout_s=_START_S)
    assert service.show("ActiveState") == "active"
    assert service.show("NRestarts") == "0"


@BOTH
def test_failures_are_tried_again_with_growing_pauses_and_who_restarts_it_need_not_wait(
    service: Service,
) -> None:
    service.set_up(config=_HEADLESS.replace("scene", "/nowhere.mp4"))
    service.machine.run("systemctl", "start", "appliance", timeout_s=_START_S)
    eventually(lambda: "waiting 6 s" in service.log(), 90)
    log = service.log("-p", "warning")
    assert log.index("waiting 2 s") < log.index("waiting 6 s")
    trying = r"trying again in 6 s: .*/nowhere\.mp4"
    eventually(lambda: re.match(trying, service.show("StatusText")) is not None, 5)
    service.machine.write(_CONFIG, _HEADLESS)
    service.machine.do("systemctl", "restart", "appliance", timeout_s=_START_S)
    assert service.show("ActiveState") == "active"
    service.machine.do("systemctl", "kill", "-s", "KILL", "appliance")  # one more failure, a first one
    eventually(lambda: service.show("ActiveState") == "active", _START_S)
    assert log.count("waiting") == service.log("-p", "warning").count("waiting")


@BOTH
def test_a_start_by_hand_between_two_of_systemds_need_not_wait(service: Service) -> None:
    service.set_up("RestartSec=60", config=_HEADLESS.replace("scene", "/nowhere.mp4"))
    for _ in range(2):  # two failures in a row would give a pause
        service.machine.run("systemctl", "restart", "appliance", timeout_s=_START_S)
        eventually(lambda: service.show("SubState") == "auto-restart", 20)
    service.machine.write(_CONFIG, _HEADLESS)
    service.machine.do("systemctl", "restart", "appliance", timeout_s=_START_S)
    assert service.show("ActiveState") == "active"
    assert "waiting" not in service.log()


@ONE
def test_the_journal_knows_levels(service: Service) -> None:
    service.set_up(config=_HEADLESS.replace("scene", "/nowhere.mp4"))
    service.machine.run("systemctl", "start", "appliance", timeout_s=_START_S)
    assert "demo: raw head" in service.log("-p", "info")
    serious = service.log("-p", "warning")
    assert "/nowhere.mp4" in serious
    assert "demo: raw head" not in serious


@BOTH
def test_what_the_service_may_do(service: Service) -> None:
    folders = (*_OPEN_FOLDERS, _DATA, "/tmp", "/run/appliance")
    service.machine.do("mkdir", "-p", "-m", "777", *_OPEN_FOLDERS)
    command = f"/opt/programs/probe.py {_DATA}/probe.json {' '.join(folders)}"
    service.machine.write("/opt/programs/probe.py", _PROBE)
    service.set_up(f"ExecStart=\nExecStart=/usr/bin/python3 {command}", "Type=exec", "Restart=no")
    service.machine.do("systemctl", "start", "appliance")
    eventually(lambda: service.show("SubState") == "dead", 20)
    found = json.loads(service.machine.do("cat", f"{_DATA}/probe.json"))
    read_only = {folder: "Read-only file system" for folder in _OPEN_FOLDERS if folder != "/home/open"}
    assert {folder: found[folder] for folder in read_only} == read_only
    assert found["/home/open"] is not None
    assert found["home"] is not None
    assert (found[_DATA], found["/tmp"], found["/run/appliance"], found["netlink"]) == (
        None,
        None,
        None,
        None,
    )
    assert found["internet"] == "Address family not supported by protocol"
    assert found["namespace"] == found["keys"] == "Operation not permitted"
    assert found["others"] == []  # other people's processes
    assert service.machine.run("ls", "/tmp/probe").returncode != 0

    # The same user without the unit: it is the unit that says no.
    user = ("runuser", "-u", "appliance", "--", "/usr/bin/python3")
    service.machine.do("mkdir", "-p", "-m", "777", "/run/appliance")
    service.machine.do(*user, *command.split())
    found = json.loads(service.machine.do("cat", f"{_DATA}/probe.json"))
    assert [found[name] for name in (*_OPEN_FOLDERS, "internet")] == [None] * (len(_OPEN_FOLDERS) + 1)
    assert found["others"] == ["1"]
    service.machine.do("rm", "-r", "/run/appliance", *_OPEN_FOLDERS)


@ONE
def test_video_and_screen_work_in_what_the_unit_allows(service: Service) -> None:
    config = _HEADLESS.replace('"null"', "files") + f"output: {_DATA}/recordings\n"
    service.set_up(config=config)
    service.start()
    time.sleep(3)
    service.stop()
    video = service.machine.do("sh", "-c", f"ls {_DATA}/recordings/*/video.mkv").split()[0]
    screen = _HEADLESS.replace('"null"', "screen").replace("scene", video)
    service.set_up("Environment=SDL_VIDEODRIVER=dummy", config=screen)
    service.start()
    eventually(lambda: "masks" in service.show("StatusText"), 30)
    assert "screen: dummy" in service.log()
    assert service.log("-p", "err") == ""


@BOTH
def test_systemd_has_nothing_to_say_about_the_unit(service: Service) -> None:
    service.set_up()
    done = service.machine.run("systemd-analyze", "verify", "--man=no", "appliance.service")
    assert (done.returncode, done.stderr) == (0, "")
    done = service.machine.run("systemd-analyze", "security", "--threshold=50", "--no-pager", "appliance")
    assert done.returncode == 0, done.stdout


# The last: for 30 s after it the journal takes nothing more.
@ONE
def test_who_says_too_much_is_not_listened_to(service: Service) -> None:
    """The journal has a limit of its own; this keeps what matters in it, and the card from being worn out."""
    lines = 40_000
    mad = f"/bin/sh -c 'sleep 1; seq {lines}; echo that is all >/var/lib/appliance/said; sleep 100'"
    service.machine.run("rm", "-f", f"{_DATA}/said")
    service.set_up(f"ExecStart=\nExecStart={mad}", "Type=exec")
    service.machine.do("systemctl", "start", "appliance")
    eventually(lambda: service.machine.run("test", "-e", f"{_DATA}/said").returncode == 0, 20)
    service.machine.do("journalctl", "--sync")
    # Where much space is free, journald takes up to six times what the unit says.
    assert len(service.log().splitlines()) < lines / 10

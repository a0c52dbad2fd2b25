"""The kiosk: unit and drop-in under a real systemd, the compositor without a GPU, and somebody who looks."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from booting import Machine, booted, eventually
from numpy.typing import NDArray
from PIL import Image
from roots import MAKE_S, Recipe, open_root

from appliance import question
from appliance.config import PROJECT_ROOT
from appliance.display.viewport import Viewport
from appliance.doctor import service
from appliance.question import Answer

RECIPE = Recipe(
    "kiosk",
    "trixie",
    packages=(
        *("systemd", "systemd-sysv", "dbus", "libpam-systemd", "udev", "python3", "python3-venv"),
        *("labwc", "seatd", "libwayland-egl1", "libwayland-cursor0", "libxkbcommon0", "libegl1", "libgles2"),
        *("grim", "wlr-randr", "wtype", "wlrctl", "procps"),
    ),
    files=(("/opt/requirements.txt", (PROJECT_ROOT / "requirements" / "appliance.txt").read_text()),),
    setup="""
        python3 -m venv /opt/appliance/.venv
        /opt/appliance/.venv/bin/pip install -q --no-cache-dir -r /opt/requirements.txt
        useradd --system --home-dir /var/lib/appliance appliance
        useradd --create-home owner
        for group in video render input plugdev; do usermod -aG $group appliance; done
    """,
)
PICTURE_WH = (1280, 720)
_CONFIG = "source: scene\noutput: /var/lib/appliance\n"
UNITS = "/etc/systemd/system"
# No GPU, no mouse, no keyboard but those that the tests bring.
_HEADLESS = "Environment=WLR_BACKENDS=headless WLR_LIBINPUT_NO_DEVICES=1 WLR_RENDERER=pixman"
_PLUGS = """<keyboard>
    <keybind key="F1"><action name="VirtualOutputAdd" output_name="HDMI"/></keybind>
    <keybind key="F2"><action name="VirtualOutputRemove" output_name="HDMI"/></keybind>"""
pytestmark = pytest.mark.timeout(MAKE_S + 120)
LONG = pytest.mark.long


@dataclass(frozen=True)
class Somebody:
    """In front of a compositor: eyes, a keyboard, a mouse, and the plug of the screen."""

    machine: Machine
    user: str = "appliance"
    runtime: str = "/run/appliance"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a Wayland client."""
        environment = (f"XDG_RUNTIME_DIR={self.runtime}", "WAYLAND_DISPLAY=wayland-0")
        return self.machine.run("runuser", "-u", self.user, "--", "env", *environment, *command)

    def do(self, *command: str) -> str:
        """Run a Wayland client, which must succeed; what it printed."""
        done = self.run(*command)
        if done.returncode:
            journal = self.machine.do("journalctl", "-n", "30", "--no-pager")
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}{journal}")
        return done.stdout

    def see(self, cursor: bool = True) -> NDArray[np.uint8]:
        """The whole screen: (height, width, 3)."""
        self.do("grim", *(["-c"] if cursor else []), f"{self.runtime}/seen.png")
        path = "/var/tmp/seen.png"
        self.machine.do("cp", f"{self.runtime}/seen.png", path)
        return np.asarray(Image.open(self.machine.root.file(path)).convert("RGB"))

    def press(self, key: str) -> None:
        """Press a key, by its name in X.

        The keyboard comes with it: first with a modifier alone, for long enough that the program has seen it.
        SDL 2.32.10 looks up the held keys of a virtual keyboard in the layout that the first modifiers name.
        Before those it passes on -1, and libxkbcommon 1.7 reads beyond its memory: a crash at times.
        """
        self.do("wtype", "-M", "shift", "-s", "500", "-m", "shift", "-k", key)

    def outputs(self) -> list[str]:
        """The screens that are on."""
        parts = re.split(r"(?m)^(?=\S)", self.run("wlr-randr").stdout)
        return [part.split()[0] for part in parts if "Enabled: yes" in part]


def _machine(folder: Path) -> Iterator[Machine]:
    root = open_root(RECIPE, folder / "root")
    program = root.changes / "opt" / "appliance"
    for part in ("appliance", "systemd", "models"):
        ignored = shutil.ignore_patterns("__pycache__", "training")
        shutil.copytree(PROJECT_ROOT / part, program / part, ignore=ignored, dirs_exist_ok=True)
    binary = '#!/bin/sh\nPYTHONPATH=/opt/appliance exec /opt/appliance/.venv/bin/python -m appliance "$@"\n'
    root.write("/opt/appliance/.venv/bin/appliance", binary, 0o755)
    root.write("/opt/appliance/README.md", "")
    root.write("/etc/appliance/config.yaml", _CONFIG)
    rules = (PROJECT_ROOT / "systemd" / "labwc" / "rc.xml").read_text()
    assert rules.count("<keyboard>") == 1
    root.write("/opt/appliance/systemd/labwc/rc.xml", rules.replace("<keyboard>", _PLUGS))
    for name in ("appliance.service", "kiosk.conf"):
        folder_of = f"{UNITS}/appliance.service.d" if name.endswith(".conf") else UNITS
        root.write(f"{folder_of}/{name}", (PROJECT_ROOT / "systemd" / name).read_text())
    root.write(f"{UNITS}/appliance.service.d/zz-headless.conf", f"[Service]\n{_HEADLESS}\n")
    with booted(root, folder / "console.log") as machine:
        yield machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    yield from _machine(tmp_path_factory.mktemp("kiosk"))


@pytest.fixture
def somebody(machine: Machine) -> Iterator[Somebody]:
    yield from _in_front_of(machine)


def _in_front_of(machine: Machine) -> Iterator[Somebody]:
    machine.do("systemctl", "start", "appliance.service", timeout_s=90)  # returns with READY
    try:
        yield Somebody(machine)
    finally:
        machine.run("systemctl", "stop", "appliance.service")
        machine.run("rm", "-f", f"{UNITS}/appliance.service.d/zz-for-the-test.conf")
        machine.run("systemctl", "daemon-reload")
        machine.run("systemctl", "reset-failed", "appliance.service")


def _property(machine: Machine, name: str) -> str:
    return machine.do("systemctl", "show", "--value", "-p", name, "appliance.service").strip()


def _restarted(machine: Machine, pid: str) -> None:
    """Wait until the service is ready again, as another process than before."""
    eventually(lambda: _property(machine, "MainPID") not in (pid, "0"), 40)
    eventually(lambda: _property(machine, "ActiveState") == "active", 60)


def _log(machine: Machine, invocation: str = "") -> str:
    """What the service said in its present invocation, or in another one."""
    which = f"_SYSTEMD_INVOCATION_ID={invocation or _property(machine, 'InvocationID')}"
    return machine.do("journalctl", which, "-o", "cat", "--no-pager")


def _shows_the_scene(seen: NDArray[np.uint8], size_wh: tuple[int, int]) -> bool:
    """The picture where it should be and black beside it, both away from what is written; and the readout."""
    if (seen.shape[1], seen.shape[0]) != size_wh:
        return False
    x, y, width, height = Viewport(PICTURE_WH, size_wh).rect_xywh
    middle, left = slice(x + width * 45 // 100, x + width * 55 // 100), slice(x, x + width // 6)
    upper = slice(y + height * 3 // 10, y + height // 2)
    beside = [seen[:y, middle], seen[y + height :, left], seen[upper, :x], seen[upper, x + width :]]
    edges = [seen[y, middle], seen[y + height - 1, left], seen[upper, x], seen[upper, x + width - 1]]
    readout = seen[20:60, 20:120]
    return bool(
        seen[upper, x : x + width].std() > 20
        and all((edge.max(-1) > 20).mean() > 0.9 for edge in edges)
        and all(black.size == 0 or black.max() == 0 for black in beside)
        and readout.max() > 200
        and np.median(readout) < 90
    )


def _asks(seen: NDArray[np.uint8]) -> bool:
    """Whether the question is there: the button for going on is blue."""
    x, y = question.button_centre(Answer.BACK, (seen.shape[1], seen.shape[0]))
    button = seen[int(y) - 30 : int(y) + 30, int(x) - 60 : int(x) + 60].astype(int)
    return bool((np.abs(button - (60, 145, 237)).max(-1) < 12).mean() > 0.6)


def _do_until(act: Callable[[], None], holds: Callable[[], bool]) -> None:
    """Do something until it is answered: a press is lost when the keyboard or the mouse comes with it."""
    for _ in range(6):
        act()
        deadline_s = time.monotonic() + 2
        while time.monotonic() < deadline_s:
            if holds():
                return
            time.sleep(0.1)
    raise AssertionError("that is not answered")


def _press_until(somebody: Somebody, key: str, holds: Callable[[], bool]) -> None:
    _do_until(lambda: somebody.press(key), holds)


def _point(somebody: Somebody, x: float, y: float) -> None:
    """Move the mouse to a pixel of the screen."""
    somebody.do("wlrctl", "pointer", "move", "-9999", "-9999")
    somebody.do("wlrctl", "pointer", "move", str(int(x)), str(int(y)))


def _click_until(somebody: Somebody, x: float, y: float, holds: Callable[[], bool]) -> None:
    _point(somebody, x, y)
    _do_until(lambda: _ignore(somebody.do("wlrctl", "pointer", "click", "left")), holds)


def _ignore(result: object) -> None:
    del result


def _await_scene(somebody: Somebody, size_wh: tuple[int, int], seconds: float = 30) -> None:
    """Wait for the picture, and see that it moves."""
    eventually(lambda: _shows_the_scene(somebody.see(), size_wh), seconds)
    before = somebody.see()
    eventually(lambda: (np.abs(somebody.see().astype(int) - before) > 20).mean() > 0.005, seconds)


def test_it_shows_the_picture_and_stops(somebody: Somebody) -> None:
    assert somebody.outputs() == ["HEADLESS-1"]
    _await_scene(somebody, (1280, 720))
    invocation = _property(somebody.machine, "InvocationID")
    asked_s = time.monotonic()
    somebody.machine.do("systemctl", "stop", "appliance.service")
    assert time.monotonic() - asked_s < 3
    assert somebody.machine.run("pgrep", "-u", "appliance").stdout == ""
    assert _property(somebody.machine, "Result") == "success"
    log = _log(somebody.machine, invocation)
    assert "Traceback" not in log
    assert "the screen is lost" not in log


@LONG
def test_the_picture_fills_the_screen(somebody: Somebody) -> None:
    for size_wh in ((1024, 768), (800, 480), (1920, 800), (1920, 1080)):
        somebody.do("wlr-randr", "--output", "HEADLESS-1", "--custom-mode", f"{size_wh[0]}x{size_wh[1]}")
        _await_scene(somebody, size_wh)
    assert "Traceback" not in _log(somebody.machine)


def test_screens_come_and_go(machine: Machine) -> None:
    """None at first, then one is plugged in, goes off and on, is unplugged, and another comes."""
    machine.write(
        f"{UNITS}/appliance.service.d/zz-for-the-test.conf", "[Service]\nEnvironment=WLR_HEADLESS_OUTPUTS=0\n"
    )
    machine.do("systemctl", "daemon-reload")
    in_front = _in_front_of(machine)
    somebody = next(in_front)
    try:
        pid = _property(machine, "MainPID")
        assert somebody.outputs() == ["NOOP-fallback"]  # labwc's, which nobody sees
        for size_wh in ((1280, 800), (1024, 768)):
            _press_until(somebody, "F1", lambda: somebody.outputs() == ["HDMI"])
            somebody.do("wlr-randr", "--output", "HDMI", "--custom-mode", f"{size_wh[0]}x{size_wh[1]}")
            _await_scene(somebody, size_wh)
            somebody.do("wlr-randr", "--output", "HDMI", "--off")
            eventually(lambda: "HDMI" not in somebody.outputs(), 5)
            assert machine.do("systemctl", "is-active", "appliance.service") == "active\n"
            somebody.do("wlr-randr", "--output", "HDMI", "--on")
            _await_scene(somebody, size_wh)
            _press_until(somebody, "F2", lambda: "HDMI" not in somebody.outputs())
        assert _property(machine, "MainPID") == pid
    finally:
        in_front.close()


@LONG
def test_quitting_asks_and_starts_again(somebody: Somebody) -> None:
    machine = somebody.machine
    pid = _property(machine, "MainPID")
    _await_scene(somebody, (1280, 720))
    _press_until(somebody, "q", lambda: _asks(somebody.see()))
    somebody.press("q")  # is no answer
    somebody.press("v")
    assert _asks(somebody.see())
    _press_until(somebody, "Escape", lambda: not _asks(somebody.see()))
    assert _property(machine, "MainPID") == pid
    assert "recording" not in _log(machine)
    _press_until(somebody, "q", lambda: _asks(somebody.see()))
    x, y = question.button_centre(Answer.RESTART, (1280, 720))
    _click_until(somebody, x, y, lambda: _property(machine, "MainPID") != pid)
    _restarted(machine, pid)
    assert _property(machine, "NRestarts") == "1"
    _await_scene(somebody, (1280, 720))


@LONG
def test_a_click_picks_out_what_is_under_it(somebody: Somebody) -> None:
    _press_until(somebody, "space", lambda: "frozen" in _log(somebody.machine).splitlines())
    seen = somebody.see()
    answers = "picked out, score|no object there"
    _click_until(somebody, 640, 300, lambda: re.search(answers, _log(somebody.machine)) is not None)
    if "picked out, score" in _log(somebody.machine):  # then the rest is dimmed
        eventually(lambda: (np.abs(somebody.see().astype(int) - seen) > 20).mean() > 0.1, 10)


@LONG
def test_without_a_mouse_there_is_no_cursor(somebody: Somebody) -> None:
    _press_until(somebody, "space", lambda: "frozen" in _log(somebody.machine).splitlines())
    _point(somebody, 640, 300)
    time.sleep(4)
    around = np.s_[250:350, 590:690]
    assert np.array_equal(somebody.see()[around], somebody.see(cursor=False)[around])


@LONG
def test_a_wrong_configuration_is_said_on_the_screen(machine: Machine) -> None:
    machine.write("/etc/appliance/config.yaml", "sauce: scene\n")
    in_front = _in_front_of(machine)
    somebody = next(in_front)
    try:
        eventually(lambda: _placard_is_shown(somebody.see()), 15)
        assert "did you mean source?" in _property(machine, "StatusText")
        _press_until(somebody, "q", lambda: _asks(somebody.see()))
        _press_until(somebody, "Escape", lambda: not _asks(somebody.see()))
        machine.write("/etc/appliance/config.yaml", _CONFIG)
        machine.do("systemctl", "restart", "appliance.service", timeout_s=60)
        _await_scene(somebody, (1280, 720))
    finally:
        machine.write("/etc/appliance/config.yaml", _CONFIG)
        in_front.close()


def _placard_is_shown(seen: NDArray[np.uint8]) -> bool:
    """Light letters on a dark plain ground, and nothing else."""
    bright = (seen.min(-1) > 150).mean()
    return bool(np.median(seen) < 60 and 0.002 < bright < 0.2 and (seen.max(-1) < 90).mean() > 0.85)


def test_it_stops_within_three_seconds_whatever_is_stuck(somebody: Somebody) -> None:
    """A stopped process would not do: systemd wakes it up after the signal."""
    machine = somebody.machine
    group = f"/sys/fs/cgroup{_property(machine, 'ControlGroup')}/cgroup.procs"
    stuck = f"""trap '' TERM HUP INT; echo $$ >{group}
        (while :; do sleep 1000; done) </dev/null >/dev/null 2>&1 & echo $!"""
    pid = machine.do("sh", "-euc", stuck).strip()
    assert pid in machine.do("cat", group).split()
    asked_s = time.monotonic()
    machine.do("systemctl", "stop", "appliance.service")
    assert time.monotonic() - asked_s < 3
    assert machine.run("cat", group).stdout == ""
    assert machine.run("pgrep", "-f", "sleep 1000").stdout == ""
    assert machine.run("pgrep", "-u", "appliance").stdout == ""


@LONG
def test_a_lost_compositor_comes_back(somebody: Somebody) -> None:
    machine = somebody.machine
    pid, invocation = _property(machine, "MainPID"), _property(machine, "InvocationID")
    machine.do("pkill", "-KILL", "-x", "labwc")
    _restarted(machine, pid)
    _await_scene(somebody, (1280, 720))
    assert "the screen is lost: the compositor has ended" in _log(machine, invocation)


@LONG
def test_a_stuck_compositor_is_found_by_the_watchdog(machine: Machine) -> None:
    machine.write(f"{UNITS}/appliance.service.d/zz-for-the-test.conf", "[Service]\nWatchdogSec=5\n")
    machine.do("systemctl", "daemon-reload")
    in_front = _in_front_of(machine)
    somebody = next(in_front)
    try:
        pid = _property(machine, "MainPID")
        _await_scene(somebody, (1280, 720))
        machine.do("pkill", "-STOP", "-x", "labwc")
        _restarted(machine, pid)
        _await_scene(somebody, (1280, 720))
    finally:
        in_front.close()


@LONG
def test_the_terminal_is_the_kiosks(machine: Machine) -> None:
    # There is no terminal in this machine, so it is only one by its name.
    machine.write(f"{UNITS}/getty@tty1.service", "[Service]\nExecStart=sleep 1d\n")
    machine.do("systemctl", "daemon-reload")
    machine.do("systemctl", "start", "getty@tty1.service")
    in_front = _in_front_of(machine)
    next(in_front)
    try:
        assert machine.run("systemctl", "is-active", "getty@tty1.service").stdout == "inactive\n"
    finally:
        in_front.close()


@LONG
def test_who_is_logged_in_at_another_terminal_is_left_alone(machine: Machine) -> None:
    """Until they want the picture. Here files say which terminal is in front, and whose it is."""
    front = "/sys/class/tty/tty0/active"
    machine.do(
        *("sh", "-euc"),
        f"""
        mount -t tmpfs terminals /sys/class/tty; mkdir /sys/class/tty/tty0; echo tty2 >{front}
        touch /dev/tty2; chown owner /dev/tty2
        printf '#!/bin/sh\necho tty$1 >{front}\n' >/usr/bin/chvt; chmod 755 /usr/bin/chvt
        """,
    )
    machine.write(f"{UNITS}/appliance.service.d/zz-for-the-test.conf", "[Service]\nTimeoutStartSec=15\n")
    machine.do("systemctl", "daemon-reload")
    in_front = _in_front_of(machine)
    next(in_front)
    try:
        assert machine.do("cat", front) == "tty1\n"  # whoever starts it wants to see it
        _fail_with_somebody_at(machine, front)
        time.sleep(16)  # longer than a start may take
        assert machine.do("cat", front) == "tty2\n"
        assert (_property(machine, "NRestarts"), _property(machine, "ActiveState")) == ("1", "activating")
        machine.do("systemctl", "restart", "appliance.service", timeout_s=60)
        assert machine.do("cat", front) == "tty1\n"
        assert "waiting" not in _log(machine)

        _fail_with_somebody_at(machine, front)
        machine.write(front, "tty1\n")
        eventually(lambda: _property(machine, "ActiveState") == "active", 20)

        _fail_with_somebody_at(machine, front)
        machine.do("chown", "root", "/dev/tty2")  # logged out
        eventually(lambda: machine.do("cat", front) == "tty1\n", 5)
        eventually(lambda: _property(machine, "ActiveState") == "active", 20)
    finally:
        in_front.close()
        machine.run("sh", "-c", "umount /sys/class/tty; rm -f /dev/tty2 /usr/bin/chvt")


def _fail_with_somebody_at(machine: Machine, front: str) -> None:
    """Let the service fail, with another terminal in front, and see that it waits."""
    machine.write(front, "tty2\n")
    machine.do("systemctl", "kill", "-s", "KILL", "appliance.service")
    eventually(lambda: "somebody is logged in at tty2" in _property(machine, "StatusText"), 10)
    assert machine.do("cat", front) == "tty2\n"


def test_hardened(machine: Machine) -> None:
    done = machine.run("systemd-analyze", "verify", "--man=no", "appliance.service")
    assert (done.returncode, done.stderr) == (0, "")
    machine.do("systemd-analyze", "security", "--threshold=50", "--no-pager", "appliance.service")


@LONG
def test_the_doctor_knows_what_it_needs(machine: Machine) -> None:
    done = machine.run("/opt/appliance/.venv/bin/appliance", "doctor", "--json", timeout_s=60)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["kiosk"]["verdict"] == "ok", checks["kiosk"]
    (library,) = machine.do("sh", "-c", "ls /usr/lib/*/libwayland-egl.so.1").split()
    machine.do("mv", library, f"{library}.away")
    done = machine.run("/opt/appliance/.venv/bin/appliance", "doctor", "--json", timeout_s=60)
    machine.do("mv", f"{library}.away", library)
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["kiosk"]["verdict"] == "fail"
    assert checks["kiosk"]["advice"] == "sudo apt-get install libwayland-egl1"


@LONG
def test_a_user_of_a_desktop_has_it_as_a_service(machine: Machine) -> None:
    """The desktop is a labwc without a kiosk, of a user who is logged in; what it starts then is started."""
    number = machine.do("id", "-u", "owner").strip()
    machine.do("systemctl", "start", f"user@{number}.service", timeout_s=60)
    somebody = Somebody(machine, "owner", f"/run/user/{number}")
    eventually(
        lambda: (
            somebody.run("systemctl", "--user", "is-system-running").stdout in ("running\n", "degraded\n")
        ),
        30,
    )
    source = PROJECT_ROOT / "systemd"
    machine.write("/etc/systemd/user/appliance.service", (source / "desktop.service").read_text())
    machine.write("/etc/appliance/config.yaml", "source: scene\ndisplay: {fullscreen: true}\noutput: /tmp\n")
    somebody.do("systemctl", "--user", "daemon-reload")
    setting = [f"--setenv={words}" for words in _HEADLESS.removeprefix("Environment=").split()]
    somebody.do("systemd-run", "--user", "--unit=desktop", *setting, "labwc")
    eventually(lambda: somebody.outputs() == ["HEADLESS-1"], 10)
    entry = (source / "appliance.desktop").read_text()
    (command,) = re.findall(r"(?m)^Exec=(.*)$", entry)
    somebody.do(*shlex.split(command))
    assert somebody.do("systemctl", "--user", "is-active", "appliance.service") == "active\n"
    _await_scene(somebody, (1280, 720))
    _the_doctor_knows_whose_it_is(somebody)
    _a_start_by_hand_need_not_wait(somebody, f"/run/user/{number}/appliance/attempts.json")
    _press_until(
        somebody,
        "q",
        lambda: somebody.run("systemctl", "--user", "is-active", "appliance.service").stdout == "inactive\n",
    )
    somebody.do("systemctl", "--user", "restart", "appliance.service")
    somebody.do("systemctl", "--user", "stop", "desktop.service")
    eventually(
        lambda: somebody.run("systemctl", "--user", "is-active", "appliance.service").stdout != "active\n", 10
    )
    somebody.do("systemctl", "--user", "stop", "appliance.service")
    machine.do("rm", "/etc/systemd/user/appliance.service")
    machine.write("/etc/appliance/config.yaml", _CONFIG)


def _a_start_by_hand_need_not_wait(somebody: Somebody, failures: str) -> None:
    """Even while systemd is about to start it again after many failures, each with its pause."""
    many = somebody.do("cat", failures).replace('"failures": 1', '"failures": 9')
    assert '"failures": 9' in many
    somebody.machine.write(failures, many)
    somebody.do("systemctl", "--user", "kill", "-s", "KILL", "appliance.service")
    state = ("systemctl", "--user", "show", "--value", "-p", "SubState", "appliance.service")
    eventually(lambda: somebody.do(*state) == "auto-restart\n", 5)
    somebody.do("systemctl", "--user", "restart", "appliance.service")  # returns with READY, within 30 s
    _await_scene(somebody, (1280, 720))


def _the_doctor_knows_whose_it_is(somebody: Somebody) -> None:
    machine = somebody.machine
    doctor = ("/opt/appliance/.venv/bin/appliance", "doctor", "--json")
    checks = {check["name"]: check for check in json.loads(somebody.run(*doctor).stdout)["checks"]}
    assert checks["service"]["words"].startswith("active (running)"), checks["service"]
    assert "owner is not in video" in checks["service's user"]["words"]
    other = machine.run(
        "runuser", "-u", "appliance", "--", *doctor, timeout_s=60
    )  # as at the end of install.sh
    checks = {check["name"]: check for check in json.loads(other.stdout)["checks"]}
    assert checks["service"]["verdict"] == "ok"
    assert "systemctl --user status appliance" in checks["service"]["words"]
    machine.do("usermod", "-aG", "adm", "owner")
    selection = service.log_selection(machine.root.changes)
    assert "screen: wayland" in somebody.do("journalctl", *selection, "--no-pager")


@LONG
def test_switching_off_by_its_user(tmp_path: Path) -> None:
    machines = _machine(tmp_path)
    machine = next(machines)
    try:
        machine.do("systemctl", "start", "appliance.service", timeout_s=90)
        somebody = Somebody(machine)
        _press_until(somebody, "q", lambda: _asks(somebody.see()))
        somebody.press("p")
        eventually(lambda: not Path(f"/proc/{machine.first_pid}").exists(), 30)
    finally:
        machines.close()


def test_every_line_is_understood_by_this_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here")
    source = PROJECT_ROOT / "systemd"
    for name, target in (
        ("appliance.service", "appliance.service"),
        ("kiosk.conf", "appliance.service.d/kiosk.conf"),
        ("desktop.service", "desktop.service"),
    ):
        (tmp_path / target).parent.mkdir(exist_ok=True)
        text = re.sub(r"(?m)^(Exec\w+=[-+]*)/\S+", r"\1/bin/true", (source / name).read_text())
        (tmp_path / target).write_text(text)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)}
    for name, options in (("appliance.service", ()), ("desktop.service", ("--user",))):
        command = ["systemd-analyze", "verify", "--man=no", *options, str(tmp_path / name)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, check=False, env=environment
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.fixture
def kiosk(tmp_path: Path) -> tuple[list[str], dict[str, str], Path]:
    """The start script where little is installed: command, environment, and the folder of programs."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "env", "dirname", "rm", "sleep", "printenv"):
        found = shutil.which(name)
        assert found is not None
        (programs / name).symlink_to(found)
    environment = {"PATH": str(programs), "XDG_RUNTIME_DIR": str(tmp_path)}
    return [str(PROJECT_ROOT / "systemd" / "kiosk"), "printenv", "SDL_VIDEODRIVER"], environment, programs


def test_without_labwc_the_program_draws_by_itself(kiosk: tuple[list[str], dict[str, str], Path]) -> None:
    command, environment, _ = kiosk
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=10, check=True)
    assert done.stdout == "kmsdrm\n"
    assert done.stderr.startswith("<5>labwc is not installed")


def test_a_compositor_that_does_not_start_is_said(
    kiosk: tuple[list[str], dict[str, str], Path], tmp_path: Path
) -> None:
    command, environment, programs = kiosk
    (programs / "sleep").unlink()
    for name, end in (("labwc", "exit 1"), ("sleep", "echo >>slept")):
        (programs / name).write_text(f"#!/bin/sh\n{end}\n")
        (programs / name).chmod(0o755)
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert (tmp_path / "slept").read_text().count("\n") == 100  # 10 s
    assert done.stderr.startswith("<3>labwc has not started")
    assert done.stderr.count("\n") == 1

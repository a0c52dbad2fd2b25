"""The doctor, on made-up machines and on this one; nothing that is missing or broken may stop it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_tpu import Script

from appliance.config import PROJECT_ROOT
from appliance.doctor import (
    cameras,
    configuration,
    edge_tpu,
    libraries,
    models,
    power,
    screen,
    service,
    system,
)
from appliance.doctor.checks import Check, Verdict, as_text, fail, ok, run, warn, worst
from appliance.doctor.machine import Machine, ProbeFailed, Wanted
from appliance.doctor.report import without_comments, without_secrets

DEMO = PROJECT_ROOT / "models" / "demo.tflite"
OK, WARN, FAIL = Verdict.OK, Verdict.WARN, Verdict.FAIL


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def put_command(folder: Path, name: str, prints: str, code: int = 0) -> dict[str, str]:
    """An environment in which a command prints something."""
    write(folder / "bin" / name, f"#!/bin/sh\nprintf '%s\\n' '{prints}'\nexit {code}\n")
    (folder / "bin" / name).chmod(0o755)
    return {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}


def put_pi(root: Path, model: str = "Raspberry Pi 5 Model B Rev 1.0") -> None:
    write(root / "proc/device-tree/model", f"{model}\0")


def put_number(path: Path, number: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(number.to_bytes(4, "big"))


def put_coral(root: Path, speed: str = "5000") -> Path:
    """A Coral at a USB port; its device file."""
    values = {"idVendor": "1a6e", "idProduct": "089a", "speed": speed, "busnum": "2", "devnum": "3"}
    for name, value in {**values, "bMaxPower": "896mA"}.items():
        write(root / "sys/bus/usb/devices/2-1" / name, f"{value}\n")
    node = root / "dev/bus/usb/002/003"
    write(node, "")
    return node


def verdict(check: Check | None) -> Verdict:
    assert check is not None
    assert bool(check.advice) == (check.verdict is not OK)
    return check.verdict


def appliance(*arguments: str | Path, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "appliance", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout, done.stderr


# What checks are made of


def test_a_check_that_raises_is_a_failed_check() -> None:
    def broken_one(machine: Machine) -> Check:
        raise ZeroDivisionError("by zero")

    checks = run([broken_one, lambda machine: None, lambda machine: ok("fine", "yes")], Machine())
    assert [check.verdict for check in checks] == [FAIL, OK]
    assert checks[0].name == "broken one"
    assert "ZeroDivisionError: by zero" in checks[0].words


def test_the_worst_counts() -> None:
    assert worst([]) is OK
    assert worst([ok("a", ""), warn("b", "", "")]) is WARN
    assert worst([fail("a", "", ""), warn("b", "", ""), ok("c", "")]) is FAIL


def test_each_check_is_a_line_and_its_advice_another() -> None:
    text = as_text([ok("one", "good"), warn("longer", "two\nlines", "do it")])
    assert text.splitlines() == ["ok    one     good", "warn  longer  two lines", "              -> do it"]


# Nothing is there


@pytest.mark.parametrize("board", ["", "Raspberry Pi 5 Model B Rev 1.0"])
def test_an_empty_machine_is_no_reason_to_crash(tmp_path: Path, board: str) -> None:
    if board:
        put_pi(tmp_path, board)
    for wanted in (Wanted(), Wanted("camera", 0, tmp_path / "no.tflite", "edgetpu", "usb:3")):
        machine = Machine(wanted, tmp_path, {"PATH": "/nowhere"})
        for group in (system, power, cameras, models, edge_tpu, screen, service):
            for check in run(group.CHECKS, machine):
                assert "went wrong" not in check.words, check
                assert check.words


# System and power


def test_the_system(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path)
    assert verdict(system.operating_system(machine)) is WARN
    write(tmp_path / "etc/os-release", 'PRETTY_NAME="Debian 13"\nVERSION_CODENAME=trixie\n')
    assert verdict(system.operating_system(machine)) is OK
    put_pi(tmp_path)
    assert "Debian 13, Raspberry Pi 5" in system.operating_system(machine).words
    assert verdict(system.operating_system(machine)) is OK
    put_pi(tmp_path, "Raspberry Pi 4 Model B")
    assert verdict(system.operating_system(machine)) is WARN
    assert verdict(system.word_size(machine, 64)) is OK
    assert verdict(system.word_size(machine, 32)) is FAIL


@pytest.mark.parametrize(("millidegrees", "expected"), [("45000", OK), ("85000", WARN), ("broken", OK)])
def test_the_temperature(tmp_path: Path, millidegrees: str, expected: Verdict) -> None:
    write(tmp_path / "sys/class/thermal/thermal_zone0/temp", millidegrees)
    assert verdict(system.temperature(Machine(root=tmp_path))) is expected


def test_a_full_disk(small_disk: Callable[[str], Path]) -> None:
    output = small_disk("1m") / "not/yet/made"
    check = system.disk(Machine(Wanted(output=output)))
    assert verdict(check) is FAIL
    assert "0.0 GB free" in check.words


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        ("throttled=0x0", OK, "none"),
        ("throttled=0x50000", WARN, "since the start: the voltage is too low, the processor is throttled"),
        ("throttled=0x50005", FAIL, "now: the voltage is too low, the processor is throttled"),
        ("throttled=0xe0008", WARN, "now: the processor is near its greatest temperature; since the start:"),
        ("error=1", WARN, "error=1"),
    ],
)
def test_throttling(tmp_path: Path, said: str, expected: Verdict, words: str) -> None:
    put_pi(tmp_path)
    check = power.throttling(Machine(root=tmp_path, environment=put_command(tmp_path, "vcgencmd", said)))
    assert verdict(check) is expected
    assert words in check.words


def test_vcgencmd_is_missing_on_a_pi_only(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, environment={"PATH": "/nowhere"})
    assert verdict(power.throttling(machine)) is OK
    put_pi(tmp_path)
    assert verdict(power.throttling(machine)) is WARN


def test_the_supply_and_what_the_usb_ports_get(tmp_path: Path) -> None:
    machine, folder = Machine(root=tmp_path), tmp_path / "proc/device-tree/chosen/power"
    assert power.supply(machine) is None
    put_number(folder / "max_current", 3000)
    put_number(folder / "usb_max_current_enable", 0)
    put_coral(tmp_path)
    check = power.supply(machine)
    assert verdict(check) is WARN
    assert check is not None
    assert "3000 mA, 600 mA of it" in check.words
    assert "896 mA" in check.words
    put_number(folder / "usb_max_current_enable", 1)
    assert verdict(power.supply(machine)) is OK
    put_number(folder / "usb_over_current_detected", 1)
    assert verdict(power.supply(machine)) is WARN


# Libraries


def put_module(folder: Path, name: str, content: str) -> dict[str, str]:
    """An environment in which a module is another one."""
    write(folder / "modules" / f"{name}.py", content)
    return {"PYTHONPATH": str(folder / "modules")}


def test_the_libraries_of_these_tests_work() -> None:
    checks = run([check for check in libraries.CHECKS if check is not libraries.libedgetpu], Machine())
    assert {check.verdict for check in checks} == {OK}, as_text(checks)


def test_a_library_that_ends_the_process(tmp_path: Path) -> None:
    changed = put_module(tmp_path, "pygame", "import os\nos.abort()\n")
    check = libraries.screen_library(Machine(environment={**os.environ, **changed}))
    assert verdict(check) is FAIL
    assert "signal 6" in check.words
    null = Machine(Wanted(display="null"), environment={**os.environ, **changed})
    assert verdict(libraries.screen_library(null)) is WARN


def test_a_probe_that_does_not_end() -> None:
    with pytest.raises(ProbeFailed, match=r"no answer within 0\.01 s"):
        Machine().probe("sdl", timeout_s=0.01)


@pytest.mark.parametrize(("numpy", "expected"), [("1.24.2", WARN), ("2.2.0", FAIL)])
def test_tflite_runtime_wants_an_old_numpy(tmp_path: Path, numpy: str, expected: Verdict) -> None:
    put_module(tmp_path, "ai_edge_litert", "raise ModuleNotFoundError('none')\n")
    put_module(tmp_path, "tflite_runtime/interpreter", "")
    put_module(tmp_path, "tflite_runtime/__init__", "")
    changed = put_module(tmp_path, "numpy", "")
    write(tmp_path / f"modules/numpy-{numpy}.dist-info/METADATA", f"Name: numpy\nVersion: {numpy}\n")
    check = libraries.tflite_runtime(Machine(environment={**os.environ, **changed}))
    assert verdict(check) is expected
    assert "tflite-runtime" in check.words


def test_no_runtime_at_all(tmp_path: Path) -> None:
    changed = put_module(tmp_path, "ai_edge_litert", "raise ImportError('of another kind')\n")
    check = libraries.tflite_runtime(Machine(environment={**os.environ, **changed}))
    assert verdict(check) is FAIL
    assert "of another kind" in check.words


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs a Debian system")
@pytest.mark.parametrize(("version", "expected"), [("16.0", FAIL), ("16.0TF2.19.1-1", OK)])
def test_the_build_of_2021_is_a_failure(tmp_path: Path, parts: Path, version: str, expected: Verdict) -> None:
    dpkg, file = tmp_path / "dpkg", (parts / "libedgetpu.so.1").resolve()
    (dpkg / "updates").mkdir(parents=True)
    write(
        dpkg / "status",
        "Package: libedgetpu1-std\nStatus: install ok installed\nMaintainer: nobody\nArchitecture: arm64\n"
        f"Multi-Arch: same\nVersion: {version}\nDescription: a library\n\n",
    )
    write(dpkg / "info/format", "1\n")
    write(dpkg / "info/libedgetpu1-std:arm64.list", f"{file}\n")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(parts), "DPKG_ADMINDIR": str(dpkg)}
    check = libraries.libedgetpu(Machine(root=tmp_path, environment=environment))
    assert verdict(check) is expected
    assert f"libedgetpu1-std {version}" in check.words


def test_a_missing_libedgetpu_matters_with_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("appliance.invoke.library.NAME", "libnobody-has-this.so.1")
    assert verdict(libraries.libedgetpu(Machine(root=tmp_path))) is OK
    assert verdict(libraries.libedgetpu(Machine(Wanted(backend="edgetpu"), tmp_path))) is FAIL
    put_coral(tmp_path)
    assert verdict(libraries.libedgetpu(Machine(root=tmp_path))) is FAIL
    assert verdict(libraries.libedgetpu(Machine(Wanted(backend="cpu"), tmp_path))) is OK


# Cameras


def with_picamera2(folder: Path, info: str) -> dict[str, str]:
    put_module(folder, "libcamera", "")
    code = f"class Picamera2:\n    @staticmethod\n    def global_camera_info():\n        return {info}\n"
    write(folder / "modules/picamera2-0.3.31.dist-info/METADATA", "Name: picamera2\nVersion: 0.3.31\n")
    return {**os.environ, **put_module(folder, "picamera2", code)}


def test_the_cameras_of_a_pi(tmp_path: Path) -> None:
    environment = with_picamera2(tmp_path, "[{'Model': 'imx708', 'Location': 2, 'Id': '/base/i2c'}]")
    for number, expected in ((0, OK), (1, FAIL)):
        check = cameras.picamera(Machine(Wanted("camera", number), tmp_path, environment))
        assert verdict(check) is expected
        assert "picamera2 0.3.31: camera:0 (imx708) external" in check.words


def test_a_camera_that_is_not_plugged_in(tmp_path: Path) -> None:
    put_pi(tmp_path)
    environment = with_picamera2(tmp_path, "[]")
    assert verdict(cameras.picamera(Machine(Wanted("camera", 0), tmp_path, environment))) is FAIL
    assert verdict(cameras.picamera(Machine(Wanted(), tmp_path, environment))) is WARN


def test_a_picamera2_that_does_not_work(tmp_path: Path) -> None:
    code = "raise ValueError('numpy.dtype size changed')\n"
    environment = {**os.environ, **put_module(tmp_path, "picamera2", code)}
    check = cameras.picamera(Machine(Wanted("camera", 0), tmp_path, environment))
    assert verdict(check) is FAIL
    assert "numpy.dtype size changed" in check.words


def test_a_usb_camera_is_told_from_the_parts_of_a_pi(tmp_path: Path) -> None:
    for name, driver, label, index in (
        ("video0", "uvcvideo", "HD Webcam", 0),
        ("video1", "uvcvideo", "HD Webcam", 1),
        ("video19", "rpi-hevc-dec", "rpi-hevc-dec", 0),
    ):
        folder = tmp_path / "sys/class/video4linux" / name
        write(folder / "name", f"{label}\n")
        write(folder / "index", f"{index}\n")
        (folder / "device").mkdir()
        (folder / "device/driver").symlink_to(f"/sys/bus/usb/drivers/{driver}")
    check = cameras.usb_cameras(Machine(root=tmp_path))
    assert check.words == "/dev/video0 (HD Webcam)"


def test_the_source(tmp_path: Path) -> None:
    assert verdict(cameras.source(Machine(Wanted("/dev/video0"), tmp_path))) is FAIL
    write(tmp_path / "dev/video0", "")
    assert verdict(cameras.source(Machine(Wanted("/dev/video0"), tmp_path))) is OK
    assert verdict(cameras.source(Machine(Wanted(str(tmp_path / "no.mp4"))))) is FAIL


# Models


def put_model(folder: Path, **description: object) -> Path:
    file = folder / "mine.tflite"
    file.write_bytes(DEMO.read_bytes())
    write(file.with_suffix(".json"), json.dumps({"name": "mine", **description}))
    return file


def test_the_demo_model_runs_and_is_only_that() -> None:
    machine = Machine(Wanted(model=DEMO))
    check = models.model(machine)
    assert verdict(check) is WARN
    assert "demo" in check.words
    assert verdict(models.description(machine)) is OK
    assert models.op_map(machine) is None
    run_of_it = models.on_the_cpu(machine)
    assert verdict(run_of_it) is OK
    assert run_of_it is not None
    assert float(run_of_it.words.split()[0]) > 0


@pytest.mark.parametrize(
    ("sha256", "expected"),
    [(hashlib.sha256(DEMO.read_bytes()).hexdigest(), OK), ("0" * 64, FAIL), (None, WARN), (7, WARN)],
)
def test_the_checksum(tmp_path: Path, sha256: object, expected: Verdict) -> None:
    model = put_model(tmp_path, **({} if sha256 is None else {"sha256": sha256}))
    assert verdict(models.description(Machine(Wanted(model=model)))) is expected


@pytest.mark.parametrize(
    ("op_map", "expected"),
    [
        ({"edge_tpu": 250, "cpu": 7}, OK),
        ({"edge_tpu": 13, "cpu": 244}, WARN),
        ({"edge_tpu": 0, "cpu": 257}, FAIL),
        ({"edge_tpu": 0, "cpu": 0}, WARN),
        ({"edge_tpu": "all"}, WARN),
        ("all", WARN),
        ([], WARN),
    ],
)
def test_the_op_map(tmp_path: Path, op_map: object, expected: Verdict) -> None:
    model = put_model(tmp_path, op_map=op_map)
    assert verdict(models.op_map(Machine(Wanted(model=model)))) is expected


def test_models_that_cannot_be_used(tmp_path: Path) -> None:
    missing = models.model(Machine(Wanted(model=tmp_path / "no.tflite")))
    assert verdict(missing) is FAIL
    assert "there is no model" in missing.words
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(DEMO.read_bytes()[:1000])
    assert verdict(models.model(Machine(Wanted(model=broken)))) is FAIL
    assert verdict(models.model(Machine(Wanted(model=DEMO, backend="edgetpu")))) is FAIL
    model = put_model(tmp_path)
    assert verdict(models.model(Machine(Wanted(model=model)))) is WARN  # not compiled
    assert verdict(models.model(Machine(Wanted(model=model, backend="cpu")))) is OK


# The Edge TPU


def test_no_edge_tpu(tmp_path: Path) -> None:
    assert verdict(edge_tpu.device(Machine(root=tmp_path))) is WARN
    assert verdict(edge_tpu.device(Machine(Wanted(backend="edgetpu"), tmp_path))) is FAIL
    assert verdict(edge_tpu.device(Machine(Wanted(backend="cpu"), tmp_path))) is OK
    for check in (edge_tpu.rights, edge_tpu.link, edge_tpu.real_run, edge_tpu.pages):
        assert check(Machine(root=tmp_path)) is None


def test_a_coral_on_usb_2(tmp_path: Path) -> None:
    put_coral(tmp_path, speed="480")
    machine = Machine(root=tmp_path)
    assert verdict(edge_tpu.device(machine)) is OK
    check = edge_tpu.link(machine)
    assert verdict(check) is WARN
    assert check is not None
    assert "480 Mbit/s, may draw 896 mA" in check.words
    put_coral(tmp_path)
    assert verdict(edge_tpu.link(machine)) is OK


def test_the_right_to_open_it(tmp_path: Path) -> None:
    node = put_coral(tmp_path)
    machine = Machine(root=tmp_path)
    assert verdict(edge_tpu.rights(machine)) is OK
    node.unlink()  # root may open anything that is there
    assert verdict(edge_tpu.rights(machine)) is FAIL


def test_pcie_needs_a_driver_and_small_pages(tmp_path: Path) -> None:
    for name, value in {"vendor": "0x1ac1", "device": "0x089a"}.items():
        write(tmp_path / "sys/bus/pci/devices/0000:01:00.0" / name, f"{value}\n")
    machine = Machine(root=tmp_path)
    assert verdict(edge_tpu.device(machine)) is FAIL
    assert verdict(edge_tpu.pages(machine, 16384)) is FAIL
    assert edge_tpu.pages(machine, 4096) is None


@pytest.fixture
def coral(parts: Path, tmp_path: Path) -> Callable[[Script], Machine]:
    """A machine with a stand-in for a Coral that behaves as told."""

    def machine(script: Script) -> Machine:
        put_coral(tmp_path)
        script.write(tmp_path / "script")
        changed = {"LD_LIBRARY_PATH": str(parts), "STANDIN_EDGETPU": str(tmp_path / "script")}
        model = parts / "models" / "demo.tflite"
        return Machine(Wanted(model=model), tmp_path, {**os.environ, **changed})

    return machine


def test_a_real_run_in_the_worker(coral: Callable[[Script], Machine], parts: Path) -> None:
    check = edge_tpu.real_run(coral(Script(outputs=parts / "outputs", invoke_ms=20)))
    assert verdict(check) is OK
    assert check is not None
    assert 20 <= float(check.words.split()[0]) < 2000


@pytest.mark.parametrize(
    ("script", "words", "advice"),
    [
        (Script(crash_at_load=1), "died of", "do not fit each other"),
        (Script(no_device=1), "does not answer", "end other programs"),
        (Script(abort_at=3), "died of SIGABRT", "5 A supply"),
        (Script(needs_runtime=99), "", "newest libedgetpu1-std"),
    ],
    ids=["crash", "no device", "abort", "old runtime"],
)
def test_a_run_that_goes_wrong(
    coral: Callable[[Script], Machine], parts: Path, script: Script, words: str, advice: str
) -> None:
    check = edge_tpu.real_run(coral(script.but(outputs=parts / "outputs")))
    assert verdict(check) is FAIL
    assert check is not None
    assert words in check.words
    assert advice in check.advice


def test_a_device_that_is_in_use_is_left_alone(coral: Callable[[Script], Machine], tmp_path: Path) -> None:
    machine = coral(Script(crash_at_load=1))
    write(tmp_path / "proc/4711/comm", "appliance-tpu\n")
    check = edge_tpu.real_run(machine)
    assert check is not None
    assert check.verdict is OK
    assert "process 4711" in check.words


def test_what_pycoral_lists(tmp_path: Path) -> None:
    write(tmp_path / "modules/pycoral/__init__.py", "")
    write(tmp_path / "modules/pycoral/utils/__init__.py", "")
    listing = "def list_edge_tpus():\n    return [{'type': 'usb', 'path': '/sys/x'}]\n"
    environment = {**os.environ, **put_module(tmp_path, "pycoral/utils/edgetpu", listing)}
    assert edge_tpu.pycoral(Machine(environment=environment)).words == "lists usb"
    put_module(tmp_path, "pycoral/utils/edgetpu", "import os\nos.abort()\n")
    check = edge_tpu.pycoral(Machine(environment=environment))
    assert verdict(check) is OK
    assert "signal 6" in check.words


# Screen, inputs, service


def test_the_connectors(tmp_path: Path) -> None:
    machine = Machine(root=tmp_path, environment={})
    assert verdict(screen.connectors(machine)) is WARN
    for name, status in (("HDMI-A-1", "disconnected"), ("Writeback-1", "unknown")):
        write(tmp_path / f"sys/class/drm/card1-{name}/status", f"{status}\n")
    check = screen.connectors(machine)
    assert verdict(check) is WARN
    assert check.words == "nothing is plugged in at HDMI-A-1"
    write(tmp_path / "sys/class/drm/card1-HDMI-A-1/status", "connected\n")
    write(tmp_path / "sys/class/drm/card1-HDMI-A-1/modes", "1920x1080\n1280x720\n")
    check = screen.connectors(machine)
    assert verdict(check) is OK
    assert check.words == "HDMI-A-1 1920x1080"
    assert verdict(screen.connectors(Machine(Wanted(display="null"), tmp_path / "empty"))) is OK


MOUSE = 'I: Bus=0003\nN: Name="A Mouse"\nH: Handlers=mouse0 event2 \nB: PROP=0\n'
TOUCH = 'I: Bus=0018\nN: Name="ft5x06"\nH: Handlers=event3 \nB: PROP=2\n'
KEYS = 'I: Bus=0003\nN: Name="Keys"\nH: Handlers=sysrq kbd leds event0 \nB: PROP=0\n'
BUTTON = 'I: Bus=0019\nN: Name="pwr_button"\nH: Handlers=kbd event1 \nB: PROP=0\n'


@pytest.mark.parametrize(
    ("devices", "expected", "words"),
    [
        ([], WARN, "none"),
        ([BUTTON, KEYS], WARN, "keyboard (Keys)"),
        ([BUTTON, MOUSE], OK, "mouse (A Mouse)"),
        ([TOUCH, KEYS], OK, "touch screen (ft5x06), keyboard (Keys)"),
    ],
)
def test_what_to_point_with(tmp_path: Path, devices: list[str], expected: Verdict, words: str) -> None:
    write(tmp_path / "proc/bus/input/devices", "\n".join(devices))
    check = screen.inputs(Machine(root=tmp_path))
    assert verdict(check) is expected
    assert check.words == words


@pytest.mark.parametrize(
    ("said", "expected", "words"),
    [
        ("LoadState=not-found\nActiveState=inactive", WARN, "not installed"),
        ("LoadState=loaded\nActiveState=active\nSubState=running\nStatusText=30 fps", OK, "30 fps"),
        ("LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=2", FAIL, "exit code 2"),
        ("LoadState=loaded\nActiveState=activating\nSubState=auto-restart\nNRestarts=4", FAIL, "restarted 4"),
        (
            "LoadState=loaded\nActiveState=activating\nStatusText=trying again in 6 s",
            FAIL,
            "6 s",
        ),
        ("LoadState=loaded\nActiveState=inactive\nSubState=dead", WARN, "inactive (dead)"),
        (
            "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nExecMainStartTimestampMonotonic=7",
            WARN,
            "inactive (unknown)",
        ),
        ("", WARN, "not installed"),
    ],
)
def test_the_service(tmp_path: Path, said: str, expected: Verdict, words: str) -> None:
    put_pi(tmp_path)
    environment = put_command(tmp_path, "systemctl", said)
    assert verdict(service.state(Machine(root=tmp_path, environment=environment))) is OK  # no systemd
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    check = service.state(Machine(root=tmp_path, environment=environment))
    assert verdict(check) is expected
    assert words in check.words


@pytest.mark.parametrize(("up_s", "expected"), [(3600, OK), (0.001, WARN)])
def test_a_service_that_has_just_been_installed(tmp_path: Path, up_s: float, expected: Verdict) -> None:
    """Else it should have been started with the machine."""
    put_pi(tmp_path)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    said = "LoadState=loaded\nActiveState=inactive\nUnitFileState=enabled\nExecMainStartTimestampMonotonic=0"
    environment = put_command(tmp_path, "systemctl", said)
    write(tmp_path / "etc/systemd/system/appliance.service", "")
    write(tmp_path / "proc/uptime", f"{up_s} 1.0\n")
    time.sleep(0.01)
    assert verdict(service.state(Machine(root=tmp_path, environment=environment))) is expected


def _desktop(root: Path) -> None:
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    write(root / "etc/systemd/user/appliance.service", "")


@pytest.mark.parametrize(
    ("said", "expected", "words", "advice"),
    [
        ("LoadState=loaded\nActiveState=active\nSubState=running\nStatusText=30 fps", OK, "30 fps", ""),
        ("LoadState=loaded\nActiveState=failed\nResult=exit-code", FAIL, "failed", "journalctl --user-unit "),
        (
            "LoadState=loaded\nActiveState=activating\nSubState=auto-restart",
            FAIL,
            "auto-restart",
            "journalctl --user-unit ",
        ),
        ("LoadState=loaded\nActiveState=inactive", OK, "systemctl --user start appliance", ""),
        ("LoadState=masked\nActiveState=inactive", OK, "systemctl --user unmask appliance", ""),
        ("LoadState=not-found", WARN, "does not know it yet", "systemctl --user daemon-reload"),
    ],
)
def test_the_service_under_a_desktop(
    tmp_path: Path, said: str, expected: Verdict, words: str, advice: str
) -> None:
    put_pi(tmp_path)
    _desktop(tmp_path)
    environment = put_command(tmp_path, "systemctl", said)
    write(tmp_path / "bin/systemctl", f"#!/bin/sh\n[ $1 = --user ] && printf '%s\\n' '{said}'\n")
    check = service.state(Machine(root=tmp_path, environment=environment))
    assert verdict(check) is expected
    assert words in check.words
    assert advice in check.advice


def test_who_is_not_logged_in_at_the_desktop_is_told_whose_the_service_is(tmp_path: Path) -> None:
    _desktop(tmp_path)
    machine = Machine(root=tmp_path, environment=put_command(tmp_path, "systemctl", "", code=1))
    check = service.state(machine)
    assert verdict(check) is OK
    assert "systemctl --user status appliance.service" in check.words
    assert service.rights(machine) is None


def test_a_hint_names_the_command_of_the_service_that_there_is(tmp_path: Path) -> None:
    assert service.systemctl("restart", tmp_path) == "sudo systemctl restart appliance"
    assert service.log_selection(tmp_path) == ("--unit", "appliance.service")
    _desktop(tmp_path)
    assert service.systemctl("restart", tmp_path) == "systemctl --user restart appliance"
    assert service.log_selection(tmp_path) == ("--user-unit", "appliance.service")


def test_the_groups_of_the_services_user(tmp_path: Path) -> None:
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    write(tmp_path / "etc/group", "video:x:44:pi,appliance\ninput:x:105:appliance\nplugdev:x:46:pi\n")
    environment = put_command(tmp_path, "systemctl", "User=appliance\nSupplementaryGroups=render")
    check = service.rights(Machine(root=tmp_path, environment=environment))
    assert verdict(check) is WARN
    assert check is not None
    assert check.words == "appliance is not in plugdev"
    write(tmp_path / "etc/group", "video:x:44:appliance\ninput:x:1:appliance\nplugdev:x:46:appliance\n")
    assert verdict(service.rights(Machine(root=tmp_path, environment=environment))) is OK


def test_the_groups_of_a_desktops_user(tmp_path: Path) -> None:
    _desktop(tmp_path)
    write(tmp_path / "etc/group", "video:x:44:pi\nrender:x:105:pi\nplugdev:x:46:pi\nappliance:x:990:\n")
    machine = Machine(root=tmp_path, environment=put_command(tmp_path, "systemctl", "LoadState=loaded"))
    check = service.rights(machine, "pi")
    assert verdict(check) is WARN
    assert check is not None
    assert check.words == "pi is not in appliance"
    assert check.advice == "sudo usermod -aG appliance pi, and restart the machine"
    assert service.rights(machine, "root") is None


# Configuration and report


def test_a_wrong_configuration_is_a_failure_and_the_rest_goes_on(tmp_path: Path) -> None:
    write(tmp_path / "config.yaml", "sorce: scene\n")
    wanted, check = configuration.read(tmp_path / "config.yaml")
    assert verdict(check) is FAIL
    assert "did you mean source?" in check.words
    assert wanted == Wanted()


def test_check_config(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    write(file, "source: scene\n")
    assert appliance("check-config", file) == (0, f"{file}: ok\n", "")
    write(file, "source: /dev/video0\ncamera: {flip: both}\n")
    code, out, error = appliance("check-config", file)
    assert (code, out) == (2, "")
    assert "camera.flip" in error
    assert error.count("\n") == 1
    assert appliance("check-config", tmp_path / "missing.yaml")[0] == 2


def test_the_configuration_may_name_a_folder_with_a_model(tmp_path: Path) -> None:
    file, folder = tmp_path / "config.yaml", tmp_path / "current"
    (tmp_path / "demo").mkdir()
    folder.symlink_to("demo")
    write(file, "model: {file: current}\n")
    machine = Machine(configuration.read(file)[0])
    check = models.model(machine)
    assert verdict(check) is FAIL
    assert "there is no model in the folder" in check.words
    assert appliance("check-config", file)[0] == 11
    for path in (DEMO, DEMO.with_suffix(".json")):
        shutil.copy(path, folder)
    machine = Machine(configuration.read(file)[0])
    assert verdict(models.model(machine)) is WARN
    assert str(tmp_path / "demo" / "demo.tflite") in models.model(machine).words
    assert verdict(models.description(machine)) is OK
    assert verdict(models.on_the_cpu(machine)) is OK
    assert appliance("check-config", file)[0] == 0
    shutil.copy(DEMO, folder / "second.tflite")
    check = models.model(Machine(configuration.read(file)[0]))
    assert verdict(check) is FAIL
    assert "several models (demo.tflite, second.tflite)" in check.words
    code, _, error = appliance("check-config", file)
    assert code == 17
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("source: rtsp://user:s3cret@host/a", "source: rtsp://***@host/a"),
        ("rtsp://user:p@ss/w@host/a and more", "rtsp://***@host/a and more"),
        ("/etc/appliance/rtsp:/user:s3cret@host", "/etc/appliance/rtsp:/***@host"),
        ("http://host/a?token=abc&size=3", "http://host/a?token=***&size=3"),
        ("  password: 'a b c'\nother: 1", "  password: ***\nother: 1"),
        ("wifi_psk = x", "wifi_psk = ***"),
        ("mail me@example.org; http://host/a", "mail me@example.org; http://host/a"),
    ],
)
def test_secrets_are_masked(text: str, expected: str) -> None:
    assert without_secrets(text) == expected


def test_comments_are_left_out() -> None:
    assert without_comments("# password: x\n\na: 1  # why\nb: c#d\n") == "a: 1\nb: c#d"


def test_the_doctor_on_this_machine() -> None:
    code, out, _ = appliance("doctor", "--json", "--config", PROJECT_ROOT / "config.yaml")
    found = json.loads(out)
    assert code == int(found["verdict"] == "fail")
    assert all(set(check) == {"name", "verdict", "words", "advice"} for check in found["checks"])
    names = [check["name"] for check in found["checks"]]
    assert len(names) == len(set(names))
    assert {"configuration", "system", "TFLite runtime", "model", "Edge TPU", "screen", "service"} <= set(
        names
    )
    assert not [check for check in found["checks"] if "went wrong" in check["words"]]


def test_the_doctor_is_for_machines_on_which_the_libraries_are_broken(tmp_path: Path) -> None:
    for name in ("numpy", "cv2", "pydantic", "yaml", "pygame", "ai_edge_litert"):
        changed = put_module(tmp_path, name, "raise ImportError('is broken here')\n")
    code, out, error = appliance("doctor", "--json", **changed)
    assert code == 1, error
    checks = {check["name"]: check for check in json.loads(out)["checks"]}
    for name in ("configuration", "NumPy", "OpenCV", "pydantic", "PyYAML", "TFLite runtime"):
        assert checks[name]["verdict"] == "fail", name
        assert "is broken here" in checks[name]["words"]
    assert checks["PyAV"]["verdict"] in ("ok", "fail")
    assert not [check for check in checks.values() if "went wrong" in check["words"]]


@pytest.mark.timeout(150)
def test_a_report_has_everything_but_the_secrets(tmp_path: Path) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "report.txt"
    write(config, f"source: rtsp://user:s3cret@host/a\nmodel: {{file: {DEMO}}}\n")
    code, printed, error = appliance("report", "--config", config, "--out", out)
    assert (code, printed) == (0, f"{out}\n"), error
    text = out.read_text()
    for part in (
        "== doctor",
        "overhead_ms:",
        "efficiency:",
        "numpy ",
        "host/a",
        "== log of appliance.service",
    ):
        assert part in text, part
    assert "s3cret" not in text


def test_a_report_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from appliance.doctor import report
    from appliance.errors import OutputNotWritable

    monkeypatch.setattr(report, "report", lambda config, machine: "text")
    with pytest.raises(OutputNotWritable, match="use --out FILE"):
        report.write_report(tmp_path / "missing" / "report.txt", tmp_path / "config.yaml")

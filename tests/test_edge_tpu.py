"""The Edge TPU goes away in every way, under the whole pipeline: the picture never stops.

The real runtime loads a stand-in for libedgetpu in the real worker process, which really dies.
"""

from __future__ import annotations

import gc
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from edge_tpu import DEVICE_GONE, Script

from appliance.app import App, wire
from appliance.capture.scene_source import SceneSource
from appliance.config import PROJECT_ROOT, Config
from appliance.data import Inference, Layer
from appliance.display import View
from appliance.display.null import NullDisplay
from appliance.errors import (
    ApplianceError,
    EdgeTpuCrash,
    EdgeTpuError,
    NeedsEdgeTpu,
    NoEdgeTpu,
    NoEdgeTpuLibrary,
    NotAModel,
    NotCompiled,
    RuntimeTooOld,
)
from appliance.invoke.choice import choose_backend
from appliance.invoke.discovery import EdgeTpu
from appliance.invoke.edgetpu import EdgeTpuBackend
from appliance.invoke.jobs import EdgeTpuJob
from appliance.invoke.library import find_library
from appliance.invoke.supervisor import Pauses, State
from appliance.metrics import Metrics
from appliance.notices import Notices

_log = logging.getLogger(__name__)

PLAIN = PROJECT_ROOT / "models" / "demo.tflite"
RATE_HZ = 30
LONGEST_GAP_S = 0.2
MASKS_BACK_S = 3.0
LOAD_S = 5.0
"""Of a stand-in, process and all, on a busy machine; under a second on an idle one."""
SHARED_MEMORY = Path("/dev/shm")
DEVICE = EdgeTpu("usb:0", "usb", "5000 Mbit/s", False, 896, Path("/dev/null"), "usb:1")


@dataclass(frozen=True)
class Bench:
    """Everything around a stand-in."""

    folder: Path
    script_file: Path
    compiled: Path
    script: Script

    @property
    def loads(self) -> list[str]:
        """The device that was asked for, at each load."""
        path = self.folder / "loads"
        return path.read_text().splitlines() if path.exists() else []

    def devices(self) -> tuple[EdgeTpu, ...]:
        """What the bus shows: the device is there while its file is."""
        return (DEVICE,) if self.script.present is None or self.script.present.exists() else ()


@pytest.fixture
def bench(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    script_file = tmp_path / "script"
    monkeypatch.setenv("STANDIN_EDGETPU", str(script_file))
    monkeypatch.setenv("LD_LIBRARY_PATH", str(parts))
    present = tmp_path / "present"
    present.touch()
    script = Script(
        outputs=parts / "outputs", loads=tmp_path / "loads", present=present, invoke_ms=20, log=DEVICE_GONE
    )
    script.write(script_file)
    return Bench(tmp_path, script_file, parts / "models" / "demo_edgetpu.tflite", script)


class Eye(NullDisplay):
    """Notes when pictures and masks are shown, and what the screen says meanwhile."""

    def __init__(self) -> None:
        self.pictures_s: list[float] = []
        self.masks_s: list[float] = []
        self.notices: list[str] = []
        self.readouts: list[str] = []
        self._frame: object = None
        self._layer: Layer | None = None

    def show(self, view: View) -> None:
        now_s = time.monotonic()
        if view.frame is not self._frame:
            self.pictures_s.append(now_s)
        if view.layer is not None and (
            self._layer is None or view.layer.segmentation is not self._layer.segmentation
        ):
            self.masks_s.append(now_s)
        self._frame, self._layer = view.frame, view.layer
        self.notices.extend(words for words in view.hud.notices if words not in self.notices[-1:])
        self.readouts.extend(line for line in view.hud.readout if " on " in line)

    def masks_after(self, moment_s: float) -> float:
        """How long it took until the next masks."""
        return min(at_s for at_s in self.masks_s if at_s > moment_s) - moment_s

    def longest_gap_s(self, times_s: list[float]) -> float:
        return float(np.diff(times_s).max())


STALLS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print(longest_s), sys.exit()))
longest_s, last_s = 0.0, time.monotonic()
while True:
    time.sleep(0.005)
    now_s = time.monotonic()
    longest_s, last_s = max(longest_s, now_s - last_s), now_s
"""
"""A process that does nothing, and says in the end how long the machine did not let it run."""


@dataclass
class Run:
    """The pipeline at work, in a thread; the backend can be watched meanwhile."""

    backend: EdgeTpuBackend
    eye: Eye = field(default_factory=Eye)
    metrics: Metrics = field(default_factory=Metrics)
    error: BaseException | None = None
    stall_s: float = 0.0

    def __enter__(self) -> Run:
        source = SceneSource(1, (640, 360), RATE_HZ)
        self.app: App = wire(Config(), source, self.backend, self.eye, self.metrics)
        self.stalls = subprocess.Popen(
            [sys.executable, "-S", "-c", STALLS], stdout=subprocess.PIPE, text=True
        )
        self.thread = threading.Thread(target=self._run)
        self.thread.start()
        return self

    def _run(self) -> None:
        try:
            self.app.run(40)
        except ApplianceError as error:
            self.error = error

    def __exit__(self, *_: object) -> None:
        self.app.ask_to_stop()
        self.thread.join(10)
        self.stalls.terminate()
        self.stall_s = float(self.stalls.communicate(timeout=5)[0])
        assert not self.thread.is_alive()

    def until(self, what: Callable[[], bool], seconds: float = 10) -> float:
        """Wait for something; returns the moment."""
        deadline_s = time.monotonic() + seconds
        while not what():
            assert self.error is None, self.error
            assert time.monotonic() < deadline_s, (self.backend.state, self.eye.notices)
            time.sleep(0.005)
        return time.monotonic()

    def until_state(self, *states: State) -> float:
        return self.until(lambda: self.backend.state in states)


def make(bench: Bench, kind: str = "auto", live: bool = True) -> EdgeTpuBackend:
    assert kind in ("auto", "edgetpu")
    backend = choose_backend(bench.compiled, kind, "auto", live, bench.devices)  # type: ignore[arg-type]
    assert isinstance(backend, EdgeTpuBackend)
    return backend


def invoke(backend: EdgeTpuBackend) -> Inference | None:
    backend.start(backend.lease())
    return backend.finish()


SERVING = (State.READY, State.BUSY)


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """No process, no zombie, no thread, no shared memory, no open file more than before."""
    shared, fds = set(SHARED_MEMORY.iterdir()), open_fds()
    yield
    gc.collect()  # memory that was shared is given back with the last array in it
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    names = [Path(f"/proc/{child}/comm").read_text().strip() for child in children]
    assert "appliance-tpu" not in names
    assert set(SHARED_MEMORY.iterdir()) <= shared
    assert [thread.name for thread in threading.enumerate() if thread.name == "edge tpu"] == []
    assert open_fds() <= fds


def open_fds() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def check_picture(run: Run) -> None:
    assert len(run.eye.pictures_s) > RATE_HZ
    # On a busy machine the picture has to wait as any other process has to, in each of its three threads.
    assert run.eye.longest_gap_s(run.eye.pictures_s[1:]) < LONGEST_GAP_S + 3 * run.stall_s


def losses(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "Edge TPU: lost" in record.getMessage()]


def test_normal(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with Run(make(bench)) as run:
        start_s = run.until_state(*SERVING)
        run.until(lambda: time.monotonic() > start_s + 2)
        name = Path(f"/proc/{run.backend.worker_pid}/comm").read_text().strip()
        figures = run.metrics.snapshot()
    check_picture(run)
    assert run.eye.longest_gap_s([at_s for at_s in run.eye.masks_s if at_s > start_s]) < 1
    assert name == "appliance-tpu"
    assert figures.runs_on == "Edge TPU usb:0"
    assert 20 <= figures.stage_ms["invoke"].median < 40
    assert any(line.endswith("demo on Edge TPU usb:0") for line in run.eye.readouts)
    assert run.eye.notices == []
    assert bench.loads == ["usb:1"]  # what libedgetpu calls it
    assert any("Edge TPU usb:0: ready after" in record.getMessage() for record in caplog.records)


def test_a_slow_load_does_not_hold_up_the_picture_and_the_cpu_gives_masks(bench: Bench) -> None:
    bench.script.but(load_ms=3000).write(bench.script_file)
    with Run(make(bench)) as run:
        start_s = time.monotonic()
        ready_s = run.until_state(*SERVING)
        run.until(lambda: time.monotonic() > ready_s + 0.7)
    assert 3 < ready_s - start_s < 7
    check_picture(run)
    assert len([at_s for at_s in run.eye.masks_s if at_s < ready_s]) > 5
    assert any("CPU" in line and line.endswith("Edge TPU usb:0 starting") for line in run.eye.readouts)
    assert run.eye.readouts[-1].endswith("on Edge TPU usb:0")


@pytest.mark.parametrize("how", ["abort", "hang", "fail", "kill"])
def test_a_loss_is_made_up_for_by_the_cpu_and_then_by_the_device(
    bench: Bench, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    caplog.set_level(logging.INFO)
    at = 20
    changes = {"abort": {"abort_at": at}, "hang": {"hang_at": at}, "fail": {"fail_at": at}, "kill": {}}[how]
    bench.script.but(**changes).write(bench.script_file)
    with Run(make(bench)) as run:
        run.until_state(*SERVING)
        bench.script.write(bench.script_file)  # the next load finds a device that works
        pid = run.backend.worker_pid
        assert pid is not None
        if how == "kill":
            os.kill(pid, signal.SIGKILL)
        lost_s = run.until(lambda: run.backend.worker_pid != pid)
        waiting_s = run.until_state(State.WAITING)
        again_s = run.until_state(*SERVING)
        run.until(lambda: time.monotonic() > again_s + 0.5)
    check_picture(run)
    before_s = max(at_s for at_s in run.eye.masks_s if at_s < lost_s)
    # A hang is only known as one after a while, but the masks do not wait for that.
    assert run.eye.longest_gap_s([at_s for at_s in run.eye.masks_s if at_s >= before_s - 2]) < MASKS_BACK_S
    assert again_s - waiting_s < 1 + LOAD_S
    assert run.eye.masks_after(again_s) < 2
    words = {
        "abort": f"died of SIGABRT: {DEVICE_GONE}",
        "hang": "it was stuck",
        "fail": "Failed to execute request",
        "kill": "died of SIGKILL",
    }[how]
    (line,) = losses(caplog)
    assert words in line
    assert line.startswith("Edge TPU: lost; trying again in 1 s, the CPU stands in (")
    assert any(words in notice for notice in run.eye.notices)
    assert len(bench.loads) == 2


def test_a_device_that_is_pulled_out_is_back_when_it_is_plugged_in(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    assert bench.script.present is not None
    with Run(make(bench)) as run:
        run.until_state(*SERVING)
        bench.script.present.unlink()
        lost_s = run.until_state(State.LOST, State.WAITING)
        run.until(lambda: any("no Edge TPU is plugged in" in words for words in run.eye.notices))
        bench.script.present.touch()
        plugged_s = time.monotonic()
        again_s = run.until_state(*SERVING)
        run.until(lambda: time.monotonic() > again_s + 0.7)
        assert Notices().current() == ()
    check_picture(run)
    assert run.eye.masks_after(lost_s) < MASKS_BACK_S
    assert again_s - plugged_s < 1 + LOAD_S
    assert len(losses(caplog)) == 1
    assert run.eye.readouts[-1].endswith("on Edge TPU usb:0")


def test_a_device_that_was_not_there_at_the_start_is_picked_up(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert bench.script.present is not None
    bench.script.present.unlink()
    with Run(make(bench)) as run:
        run.until(lambda: len(run.eye.masks_s) > 5)
        assert run.backend.state is State.WAITING
        bench.script.present.touch()
        run.until_state(*SERVING)
    check_picture(run)
    assert run.eye.notices == []  # to have none is no trouble
    said = [line for line in caplog.messages if "no Edge TPU is plugged in" in line]
    assert said == ["Edge TPU: no Edge TPU is plugged in; the CPU stands in"]


def test_a_hot_device_that_gets_slower_and_slower_is_not_taken_for_a_lost_one(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    bench.script.but(slower_ms=10).write(bench.script_file)
    with Run(make(bench)) as run:
        start_s = run.until_state(*SERVING)
        pid = run.backend.worker_pid
        run.until(lambda: time.monotonic() > start_s + 7)
        assert run.backend.worker_pid == pid
        assert run.metrics.snapshot().stage_ms["invoke"].median > 200
    check_picture(run)
    assert losses(caplog) == []


@pytest.mark.parametrize("script", [{"crash_at_load": 1}, {"needs_runtime": 1}, {"no_device": 1}])
def test_a_device_that_cannot_be_used_is_the_cpus_business(
    bench: Bench, caplog: pytest.LogCaptureFixture, script: dict[str, int]
) -> None:
    bench.script.but(**script).write(bench.script_file)
    with Run(make(bench)) as run:
        run.until_state(State.WAITING)
        start_s = time.monotonic()
        run.until(lambda: time.monotonic() > start_s + 1.5)
    check_picture(run)
    assert len([at_s for at_s in run.eye.masks_s if at_s > start_s]) > 5
    words = {
        "crash_at_load": "does not get along",
        "needs_runtime": "compiled for a newer",
        "no_device": "does not answer",
    }[next(iter(script))]
    assert any(words in line for line in caplog.messages)
    assert any(words in notice for notice in run.eye.notices)


@pytest.mark.parametrize(
    ("script", "error"),
    [
        ({"crash_at_load": 1}, EdgeTpuCrash),
        ({"needs_runtime": 1}, RuntimeTooOld),
        ({"no_device": 1}, NoEdgeTpu),
        ({"abort_at": 1}, EdgeTpuCrash),
    ],
)
def test_a_device_that_was_asked_for_by_name_must_work_at_first(
    bench: Bench, script: dict[str, int], error: type[EdgeTpuError]
) -> None:
    bench.script.but(**script).write(bench.script_file)
    with Run(make(bench, "edgetpu")) as run:
        run.thread.join(20)
    assert type(run.error) is error
    assert "\n" not in str(run.error)


def test_what_is_missing_at_the_start_is_told_apart(
    bench: Bench, parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = parts / "models" / "demo.tflite"
    lonely = bench.folder / "lonely.tflite"
    lonely.write_bytes(plain.read_bytes())
    with pytest.raises(NotCompiled, match="run edgetpu_compiler"):
        choose_backend(lonely, "edgetpu", "auto", True, bench.devices)
    fake = bench.folder / "lonely_edgetpu.tflite"
    fake.write_bytes(plain.read_bytes())
    for path in (fake, lonely):
        with pytest.raises(NotCompiled, match=r"lonely_edgetpu\.tflite has no part"):
            choose_backend(path, "edgetpu", "auto", True, bench.devices)
    with pytest.raises(NoEdgeTpu, match="there is no Edge TPU usb:1: there is usb:0"):
        choose_backend(plain, "edgetpu", "usb:1", True, bench.devices)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(bench.folder))
    with pytest.raises(NoEdgeTpuLibrary, match="install libedgetpu1-std"):
        choose_backend(plain, "edgetpu", "auto", True, bench.devices)
    only = bench.folder / "only_edgetpu.tflite"
    only.write_bytes(bench.compiled.read_bytes())
    with pytest.raises(NoEdgeTpuLibrary, match="install libedgetpu1-std"):
        choose_backend(only, "auto", "auto", True, bench.devices)
    with pytest.raises(NeedsEdgeTpu):
        choose_backend(only, "auto", "auto", True, lambda: ())
    with pytest.raises(NeedsEdgeTpu):
        choose_backend(only, "cpu", "auto", True, bench.devices)


def test_without_a_model_for_the_cpu_the_picture_goes_on_and_says_so(bench: Bench) -> None:
    only = bench.folder / "only_edgetpu.tflite"
    only.write_bytes(bench.compiled.read_bytes())
    assert bench.script.present is not None
    with Run(make(Bench(bench.folder, bench.script_file, only, bench.script))) as run:
        run.until_state(*SERVING)
        bench.script.present.unlink()
        lost_s = run.until_state(State.WAITING)
        run.until(lambda: time.monotonic() > lost_s + 1.5)
        masks = len(run.eye.masks_s)
        run.until(lambda: time.monotonic() > lost_s + 2.5)
        assert len(run.eye.masks_s) == masks
        bench.script.present.touch()
        run.until_state(*SERVING)
        run.until(lambda: len(run.eye.masks_s) > masks)
    check_picture(run)
    assert any("there are no masks until then" in words for words in run.eye.notices)


def test_paired_pictures_wait_for_a_device_that_starts(bench: Bench) -> None:
    bench.script.but(load_ms=1500).write(bench.script_file)
    backend = make(bench, live=False)
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        made = invoke(backend)
        assert made is not None
        assert made.spec is backend.spec
        recorded = (bench.script.outputs or Path()).read_bytes()
        assert b"".join(tensor.tobytes() for tensor in made.tensors) == recorded
    finally:
        backend.close()


def test_paired_pictures_do_not_wait_for_ever_for_what_will_not_work(bench: Bench) -> None:
    only = bench.folder / "only_edgetpu.tflite"
    only.write_bytes(bench.compiled.read_bytes())
    bench.script.but(needs_runtime=1).write(bench.script_file)
    backend = make(Bench(bench.folder, bench.script_file, only, bench.script), live=False)
    backend.open(Notices(), lambda words: None, threading.Event())
    try:
        with pytest.raises(RuntimeTooOld):
            invoke(backend)
    finally:
        backend.close()


PARENT = """
import sys, threading, time
from pathlib import Path
from appliance.invoke.choice import choose_backend
from appliance.invoke.discovery import EdgeTpu
from appliance.notices import Notices
device = EdgeTpu("usb:0", "usb", "", False, None, Path("/dev/null"))
backend = choose_backend(Path(sys.argv[1]), "auto", "auto", False, lambda: (device,))
backend.open(Notices(), lambda words: None, threading.Event())
backend.start(backend.lease())
backend.finish()
print(backend.worker_pid, flush=True)
while True:
    backend.start(backend.lease())
    backend.finish()
"""


@pytest.mark.parametrize("hangs", [False, True])
def test_the_worker_dies_with_its_parent_whatever_it_is_at(bench: Bench, hangs: bool) -> None:
    bench.script.but(hang_at=3 if hangs else None).write(bench.script_file)
    command = [sys.executable, "-c", PARENT, str(bench.compiled)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(0.3)
        parent.kill()
    deadline_s = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists() and "appliance-tpu" in Path(f"/proc/{pid}/comm").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


LOSSES = int(os.environ.get("SOAK_LOSSES", "25"))
WARM_UP_LOSSES = 5
MOST_GROWTH_KIB = 4096


def resident_kib() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


@pytest.mark.timeout(60 + 3 * LOSSES)
def test_losses_leave_nothing_behind(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """SOAK_LOSSES=1000 makes it a long one, and --log-cli-level=INFO shows the figures."""
    caplog.set_level(logging.ERROR, "appliance")  # what is captured would be growth
    pair = make(bench)
    backend = EdgeTpuBackend(
        pair.spec, finder(bench), None, must_work=False, patient=True, pauses=Pauses(0.0, 0.0)
    )
    pair.close()
    backend.open(Notices(), lambda words: None, threading.Event())
    before: tuple[int, int, int] | None = None
    try:
        for number in range(WARM_UP_LOSSES + LOSSES):
            assert invoke(backend) is not None
            pid = backend.worker_pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            while backend.worker_pid == pid:
                time.sleep(0.005)
            if number == WARM_UP_LOSSES - 1:
                assert invoke(backend) is not None
                before = resident_kib(), open_fds(), threading.active_count()
        assert invoke(backend) is not None
        after = resident_kib(), open_fds(), threading.active_count()
    finally:
        backend.close()
    assert before is not None
    _log.info("%d losses: KiB, descriptors, threads before %s, after %s", LOSSES, before, after)
    assert after[0] - before[0] < MOST_GROWTH_KIB
    assert after[1:] == before[1:]


def finder(bench: Bench) -> Callable[[], EdgeTpuJob]:
    return lambda: EdgeTpuJob(str(bench.compiled), str(find_library()), "usb:0", "usb:0")


def test_the_cpu_does_not_care_about_the_compiled_model(bench: Bench) -> None:
    plain = bench.folder / "net.tflite"
    plain.write_bytes(PLAIN.read_bytes())
    (bench.folder / "net_edgetpu.tflite").write_bytes(b"damaged")
    assert choose_backend(plain, "cpu", "auto", True, bench.devices).name.startswith("CPU")
    with pytest.raises(NotAModel):
        choose_backend(plain, "auto", "auto", True, bench.devices)

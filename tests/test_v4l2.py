from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from appliance.capture import v4l2
from appliance.capture.v4l2 import V4l2Source
from appliance.data import Frame
from appliance.errors import SourceLost, SourceMissing, SourceUnreadable

PERIOD_S = 0.02


class FakeCamera:
    """Stands for the driver: what each `cv2.VideoCapture` opened on it does."""

    def __init__(self) -> None:
        self.size_wh = (64, 48)
        self.grey = False
        self.works = True
        self.damaged = 0
        self.stuck = threading.Event()
        """While set, the driver answers nothing."""
        self.clock_ns: int | None = None
        self.asked: dict[int, float] = {}
        self.open_captures = 0
        self.count = 0

    def open(self, device: str, backend: int) -> FakeCapture:
        assert backend == cv2.CAP_V4L2
        self.wait_if_stuck()
        self.open_captures += 1
        return FakeCapture(self)

    def wait_if_stuck(self) -> None:
        deadline = time.monotonic() + 20
        while self.stuck.is_set() and time.monotonic() < deadline:
            time.sleep(0.01)


class FakeCapture:
    """The part of `cv2.VideoCapture` that is used."""

    def __init__(self, camera: FakeCamera) -> None:
        self._camera = camera
        self._open = camera.works

    def isOpened(self) -> bool:  # noqa: N802
        return self._open

    def set(self, prop: int, value: float) -> bool:
        self._camera.asked[prop] = value
        return True

    def get(self, prop: int) -> float:
        assert prop == cv2.CAP_PROP_POS_MSEC
        return 0.0 if self._camera.clock_ns is None else self._camera.clock_ns / 1e6

    def grab(self) -> bool:
        time.sleep(PERIOD_S)
        self._camera.wait_if_stuck()
        self._camera.count += 1
        return self._camera.works

    def retrieve(self, image: np.ndarray | None = None) -> tuple[bool, np.ndarray | None]:
        if self._camera.damaged:
            self._camera.damaged -= 1
            return False, None
        width, height = self._camera.size_wh
        if self._camera.grey:
            return True, np.full((height, width), 77, np.uint8)
        picture = np.zeros((height, width, 3), np.uint8)
        picture[:] = (10, 20, 30)  # blue, green, red
        if image is not None and image.shape == picture.shape:
            image[:] = picture
            return True, image
        return True, picture

    def release(self) -> None:
        self._camera.open_captures -= 1


@pytest.fixture
def camera() -> FakeCamera:
    return FakeCamera()


@pytest.fixture
def node(tmp_path) -> Path:
    """A character device under a name of its own, which can be unplugged."""
    path = tmp_path / "video0"
    path.symlink_to("/dev/null")
    return path


@pytest.fixture
def source(camera, node):
    source = V4l2Source(node, (1280, 720), 30, camera.open)
    yield source
    camera.stuck.clear()
    source.close()


def next_picture(source: V4l2Source, within_s: float = 2.0) -> Frame:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        frame = source.read(0.1)
        if frame is not None:
            return frame
    raise AssertionError("no picture")


def readers() -> int:
    return sum(thread.name == "v4l2 reader" for thread in threading.enumerate())


def test_pictures_are_rgb_and_fresh(source, camera):
    source.open()
    frames = [next_picture(source) for _ in range(5)]
    assert [frame.index for frame in frames] == list(range(5))
    assert frames[0].size_wh == (64, 48)
    assert frames[0].rgb.flags.c_contiguous
    assert frames[0].rgb[0, 0].tolist() == [30, 20, 10]
    assert source.live
    time.sleep(10 * PERIOD_S)
    stale_ns = time.monotonic_ns() - next_picture(source).captured_ns
    assert stale_ns < 5 * PERIOD_S * 1e9  # what came while nobody read is gone
    assert camera.asked[cv2.CAP_PROP_FRAME_WIDTH] == 1280
    assert camera.asked[cv2.CAP_PROP_FRAME_HEIGHT] == 720
    assert camera.asked[cv2.CAP_PROP_FPS] == 30
    assert next(iter(camera.asked)) == cv2.CAP_PROP_FOURCC
    source.close()
    assert camera.open_captures == 0
    assert readers() == 0
    source.close()


def test_a_picture_that_is_kept_is_not_overwritten(source, camera):
    source.open()
    kept = next_picture(source)
    camera.grey = True
    for _ in range(10):
        newest = next_picture(source)
    assert newest.rgb[0, 0].tolist() == [77, 77, 77]
    assert kept.rgb[0, 0].tolist() == [30, 20, 10]


def test_the_size_may_change(source, camera):
    source.open()
    assert next_picture(source).size_wh == (64, 48)
    camera.size_wh = (33, 21)
    time.sleep(3 * PERIOD_S)
    next_picture(source)
    assert next_picture(source).size_wh == (33, 21)


def test_the_driver_s_clock_is_used_if_it_is_ours(source, camera):
    source.open()
    next_picture(source)
    camera.clock_ns = time.monotonic_ns() // 1_000_000 * 1_000_000
    time.sleep(3 * PERIOD_S)
    next_picture(source)
    assert next_picture(source).captured_ns == camera.clock_ns
    camera.clock_ns = time.time_ns()
    time.sleep(3 * PERIOD_S)
    next_picture(source)
    assert abs(next_picture(source).captured_ns - time.monotonic_ns()) < 1e9


def test_a_damaged_picture_is_passed_over(source, camera):
    camera.damaged = 3
    source.open()
    assert next_picture(source).index == 0


def test_unplugged_and_plugged_in_again(source, camera, node):
    source.open()
    before = [next_picture(source) for _ in range(3)]
    camera.works = False
    node.unlink()
    with pytest.raises(SourceLost, match="unplugged"):
        next_picture(source)
    with pytest.raises(SourceLost, match="there is no camera"):
        source.open()
    node.symlink_to("/dev/null")
    with pytest.raises(SourceLost, match="cannot be opened"):
        source.open()  # the node is there before the driver is ready
    camera.works = True
    source.open()
    assert next_picture(source).index == before[-1].index + 1
    assert readers() == 1
    assert camera.open_captures == 1


def test_reads_fail_while_the_node_stays(source, camera):
    source.open()
    next_picture(source)
    camera.works = False
    with pytest.raises(SourceLost, match="stopped giving pictures"):
        next_picture(source)


def test_a_stuck_driver_holds_nothing_up(source, camera, monkeypatch):
    monkeypatch.setattr(v4l2, "STALL_S", 0.5)
    source.open()
    next_picture(source)
    camera.stuck.set()
    time.sleep(3 * PERIOD_S)
    source.read(0.1)
    start = time.monotonic()
    assert source.read(0.1) is None
    assert time.monotonic() - start < 0.4
    with pytest.raises(SourceLost, match="has given no picture for"):
        next_picture(source)
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 1
    camera.stuck.clear()
    source.open()
    next_picture(source)
    deadline = time.monotonic() + 2
    while camera.open_captures > 1 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert camera.open_captures == 1  # the old thread gave its own back when it woke
    assert readers() == 1


def test_a_driver_that_hangs_while_opening(source, camera, monkeypatch):
    monkeypatch.setattr(v4l2, "OPEN_S", 0.2)
    monkeypatch.setattr(v4l2, "STALL_S", 0.6)
    camera.stuck.set()
    start = time.monotonic()
    source.open()
    assert source.read(0.1) is None
    assert time.monotonic() - start < 0.6
    with pytest.raises(SourceUnreadable, match="has given no picture"):
        next_picture(source)
    start = time.monotonic()
    source.close()
    assert time.monotonic() - start < 1


def test_a_slow_camera_goes_on_opening(source, camera, monkeypatch):
    monkeypatch.setattr(v4l2, "OPEN_S", 0.1)
    camera.stuck.set()
    source.open()
    camera.stuck.clear()
    assert next_picture(source).index == 0


def test_missing_names_what_there_is(tmp_path, monkeypatch):
    monkeypatch.setattr(v4l2, "_CLASS", tmp_path)
    source = V4l2Source(tmp_path / "video7")
    with pytest.raises(SourceMissing, match="there is none at all") as caught:
        source.open()
    assert "\n" not in str(caught.value)
    (tmp_path / "video0").mkdir()
    (tmp_path / "video0" / "name").write_text("HD Webcam: HD Webcam\n")
    with pytest.raises(SourceMissing, match=r"/dev/video0 \(HD Webcam: HD Webcam\)"):
        source.open()
    source.close()


def test_what_is_not_a_camera(tmp_path):
    """Through the real `cv2.VideoCapture`."""
    file = tmp_path / "video0"
    file.write_bytes(b"x")
    with pytest.raises(SourceUnreadable, match="is not a device"):
        V4l2Source(file).open()
    with pytest.raises(SourceUnreadable, match="/dev/null cannot be opened as a camera"):
        V4l2Source("/dev/null").open()
    assert readers() == 0


CHILD = """
import json, sys, time
from pathlib import Path
from appliance.capture import v4l2
from appliance.errors import SourceLost

v4l2.STALL_S = 0.7
device = Path(sys.argv[1])
unplugged, stalled = device.with_name("video0.unplugged"), device.with_name("video0.stalled")
source = v4l2.V4l2Source(device)

def picture():
    while (frame := source.read(0.5)) is None:
        pass
    return frame

def lost(call):
    try:
        while True:
            call()
    except SourceLost as error:
        return str(error)

said = {}
source.open()
frames = [picture() for _ in range(20)]
said["ages_ms"] = [(time.monotonic_ns() - picture().captured_ns) / 1e6 for _ in range(10)]
said["rate_hz"] = 19e9 / (frames[-1].captured_ns - frames[0].captured_ns)
said["size_wh"] = frames[0].size_wh
said["left"], said["right"] = frames[-1].rgb[300, 100].tolist(), frames[-1].rgb[300, 1000].tolist()
unplugged.touch()
said["unplugged"] = lost(lambda: source.read(0.5))
said["still unplugged"] = lost(source.open)
unplugged.unlink()
source.open()
said["again"] = picture().index
stalled.touch()
said["stalled"] = lost(lambda: source.read(0.1))
start = time.monotonic()
source.close()
said["close_s"] = time.monotonic() - start
stalled.unlink()
source.open()
said["after the stall"] = picture().index
source.close()
print(json.dumps(said))
"""


def test_opencv_against_a_driver(node, tmp_path):
    """The real `cv2.VideoCapture` with a driver's answers: format, size, clock, unplugged, stalled."""
    library, jpeg = tmp_path / "fake.so", tmp_path / "picture.jpg"
    code = Path(__file__).with_name("fake_v4l2.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, code], check=True)
    picture = np.zeros((720, 1280, 3), np.uint8)
    picture[:, :640], picture[:, 640:] = (0, 0, 255), (255, 0, 0)
    cv2.imwrite(str(jpeg), picture)
    environment = {"LD_PRELOAD": str(library), "FAKE_V4L2_DEVICE": str(node), "FAKE_V4L2_JPEG": str(jpeg)}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, node],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["size_wh"] == [1280, 720]
    assert 20 < said["rate_hz"] < 31
    assert min(said["ages_ms"]) < 33
    np.testing.assert_allclose(said["left"], (255, 0, 0), atol=3)
    np.testing.assert_allclose(said["right"], (0, 0, 255), atol=3)
    assert "stopped giving pictures" in said["unplugged"]
    assert "cannot be opened" in said["still unplugged"]
    assert said["again"] == 30
    assert "has given no picture" in said["stalled"]
    assert said["close_s"] < 1
    assert said["after the stall"] > 30

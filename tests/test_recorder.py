from __future__ import annotations

import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from appliance import overlay
from appliance.capture.video import Video
from appliance.data import Frame, RgbImage, Segmentation
from appliance.display import Hud, View
from appliance.display import recorder as recorder_module
from appliance.display.flatten import flatten_view
from appliance.display.recorder import Recorder
from appliance.errors import OutputNotWritable
from appliance.geometry import Letterbox
from appliance.pool import ShapePool


def noise(seed: int) -> RgbImage:
    """A picture that cannot be made small."""
    return np.random.default_rng(seed).integers(0, 255, (240, 320, 3), np.uint8)


def coded(index: int, size_wh: tuple[int, int] = (160, 120)) -> RgbImage:
    """A picture whose bars are the bits of the index."""
    width, height = size_wh
    rgb = np.full((height, width, 3), (200, 120, 40), np.uint8)
    bar = width // 8
    for bit in range(8):
        rgb[:24, bit * bar : (bit + 1) * bar] = 255 if index >> bit & 1 else 0
    return rgb


def index_of(rgb: RgbImage) -> int:
    bar = rgb.shape[1] // 8
    return sum(1 << bit for bit in range(8) if rgb[4:20, bit * bar + 4 : (bit + 1) * bar - 4].mean() > 128)


def view(index: int, time_ms: float, rgb: RgbImage | None = None) -> View:
    return View(Frame(index, int(time_ms * 1e6), coded(index) if rgb is None else rgb), None, Hud())


def read(path: Path) -> list[tuple[int, RgbImage]]:
    """Time in ms and pixels of each picture."""
    pool = ShapePool(np.uint8)
    video = Video(path)
    found = [(round(picture.time_s * 1000), picture.rgb(pool)) for picture in video.pictures()]
    video.close()
    return found


def test_pictures_come_back_with_their_own_times(tmp_path: Path) -> None:
    times_ms = [1000, 1033, 1300, 1301, 2500, 2400, 2600]  # one goes back: a source that began again
    recorder = Recorder(tmp_path / "r.mkv", (160, 120), lossless=True)
    for index, time_ms in enumerate(times_ms):
        recorder.put(view(index, time_ms))
    recorder.close()
    pictures = read(recorder.path)
    assert [index_of(rgb) for _, rgb in pictures] == list(range(7))
    assert [time_ms for time_ms, _ in pictures] == [0, 33, 300, 301, 1500, 1501, 1600]
    colour = pictures[0][1][60:].reshape(-1, 3).mean(0)
    np.testing.assert_allclose(colour, (200, 120, 40), atol=4)
    assert (recorder.pictures, recorder.duration_s, recorder.dropped, recorder.problem) == (7, 1.6, 0, "")
    with av.open(str(recorder.path)) as container:
        assert container.duration == pytest.approx(1.6e6, abs=0.1e6)  # with a trailer, so players can seek
        assert container.streams.video[0].codec_context.name == "h264"


def test_several_views_of_one_picture_are_recorded_once(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.mkv", (160, 120), lossless=True)
    for index in (0, 0, 1, 1, 1, 2):
        recorder.put(view(index, 100 * index))
    recorder.put(View(None, None, Hud()))
    recorder.close()
    assert len(read(recorder.path)) == 3


@pytest.mark.parametrize("size_wh", [(161, 121), (33, 19), (1, 1)])
def test_odd_sizes(tmp_path: Path, size_wh: tuple[int, int]) -> None:
    recorder = Recorder(tmp_path / "r.mkv", size_wh, lossless=True)
    recorder.put(view(0, 0, coded(0, size_wh)))
    recorder.put(view(1, 40, coded(1, (50, 70))))  # the source changed its size
    recorder.close()
    assert recorder.problem == ""
    pictures = read(recorder.path)
    assert len(pictures) == 2
    assert pictures[0][1].shape == (max(2, size_wh[1] // 2 * 2), max(2, size_wh[0] // 2 * 2), 3)


def test_the_view_is_flattened(tmp_path: Path) -> None:
    rgb = np.full((120, 160, 3), 128, np.uint8)
    segmentation = Segmentation(
        Frame(0, 0, rgb),
        Letterbox.fit((160, 120), (128, 128)),
        np.array([[20, 40, 80, 100]], np.float32),
        np.array([0.9], np.float32),
        np.full((1, 32, 32), 255, np.uint8),
        np.array([5]),
    )
    layer = overlay.draw(segmentation, None, (160, 120))
    shown = View(segmentation.frame, layer, Hud(readout=("12.3 masks/s",)))
    flat = flatten_view(shown, (160, 120))
    assert (flat[60:90, 40:70] != 128).any(axis=2).all()
    assert (flat[60:90, 100:150] == 128).all()
    assert (flat[:30] != 128).any()  # the readout
    recorder = Recorder(tmp_path / "r.mkv", (160, 120))
    recorder.put(shown)
    recorder.close()
    assert np.abs(read(recorder.path)[0][1].astype(int) - flat).mean() < 6


def test_a_narrow_picture_is_centred_on_black() -> None:
    flat = flatten_view(view(0, 0, np.full((100, 50, 3), 200, np.uint8)), (160, 120))
    assert (flat[:, 50:110] == 200).all()
    assert (flat[:, :50] == 0).all()
    assert (flat[:, 110:] == 0).all()


def test_live_recording_never_waits_and_counts_what_it_drops(tmp_path: Path) -> None:
    gate = threading.Event()

    def slow(shown: View, size_wh: tuple[int, int]) -> RgbImage:
        gate.wait(10)
        return flatten_view(shown, size_wh)

    recorder = Recorder(tmp_path / "r.mkv", (160, 120), render=slow)
    start = time.monotonic()
    for index in range(50):
        recorder.put(view(index, 30 * index))
    assert time.monotonic() - start < 0.5
    assert 44 <= recorder.dropped <= 46
    gate.set()
    recorder.close()
    assert len(read(recorder.path)) == 50 - recorder.dropped


def test_lossless_recording_waits(tmp_path: Path) -> None:
    def slow(shown: View, size_wh: tuple[int, int]) -> RgbImage:
        time.sleep(0.02)
        return flatten_view(shown, size_wh)

    recorder = Recorder(tmp_path / "r.mkv", (160, 120), lossless=True, render=slow)
    for index in range(20):
        recorder.put(view(index, 30 * index))
    recorder.close()
    assert [index_of(rgb) for _, rgb in read(recorder.path)] == list(range(20))


def test_close_is_bounded_and_may_be_repeated(tmp_path: Path) -> None:
    gate = threading.Event()

    def stuck(shown: View, size_wh: tuple[int, int]) -> RgbImage:
        gate.wait(10)
        return flatten_view(shown, size_wh)

    recorder = Recorder(tmp_path / "r.mkv", (160, 120), render=stuck)
    recorder.put(view(0, 0))
    start = time.monotonic()
    recorder.close(0.3)
    assert time.monotonic() - start < 0.8
    assert "does not answer" in recorder.problem
    gate.set()
    recorder.close()
    recorder.put(view(1, 40))  # ignored
    deadline = time.monotonic() + 3
    while threading_names() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not threading_names()


def threading_names() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("recorder")}


def test_our_own_mistakes_are_not_hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[threading.ExceptHookArgs] = []
    monkeypatch.setattr(threading, "excepthook", seen.append)
    recorder = Recorder(tmp_path / "r.mkv", (160, 120), render=lambda shown, size_wh: 1 / 0)
    recorder.put(view(0, 0))
    deadline = time.monotonic() + 3
    while not seen and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.05)
    with pytest.raises(RuntimeError, match="recorder has failed"):
        recorder.put(view(1, 30))
    recorder.close()
    assert seen[0].exc_type is ZeroDivisionError


def test_without_h264_it_records_mpeg4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder_module, "_CODECS", {"no_such_codec": {}, **recorder_module._CODECS})
    monkeypatch.delitem(recorder_module._CODECS, "libx264")
    recorder = Recorder(tmp_path / "r.mkv", (160, 120), lossless=True)
    for index in range(5):
        recorder.put(view(index, 33 * index))
    recorder.close()
    assert recorder.problem == ""
    assert [index_of(rgb) for _, rgb in read(recorder.path)] == list(range(5))
    with av.open(str(recorder.path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"


def test_disk_full(small_disk: Callable[[str], Path]) -> None:
    recorder = Recorder(small_disk("2m") / "r.mkv", (320, 240), lossless=True)
    for index in range(120):
        recorder.put(view(index, 33 * index, noise(index)))
    assert "No space left on device" in recorder.problem
    assert recorder.problem.startswith("recording ended after")
    start = time.monotonic()
    recorder.close()
    assert time.monotonic() - start < 1
    pictures = read(recorder.path)
    assert 10 < len(pictures) <= recorder.pictures < 120
    assert recorder.duration_s - pictures[-1][0] / 1000 < 0.7
    assert not threading_names()


def test_a_write_error_ends_the_recording(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    recorder = Recorder(tmp_path / "r.mkv", (320, 240), lossless=True)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        for index in range(40):
            recorder.put(view(index, 33 * index, noise(index)))
        recorder.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "File too large" in recorder.problem
    assert len(read(recorder.path)) >= 5


def test_not_writable_and_never_overwriting(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file" / "r.mkv", tmp_path / "none" / "r.mkv", tmp_path / "file"):
        with pytest.raises(OutputNotWritable, match="choose another") as caught:
            Recorder(path, (160, 120))
        assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


CHILD = """
import sys, time, numpy as np
from pathlib import Path
from appliance.data import Frame
from appliance.display import Hud, View
from appliance.display.recorder import Recorder

x, y = np.meshgrid(np.arange(640), np.arange(360))
recorder = Recorder(Path(sys.argv[1]), (640, 360))
start_ns = time.monotonic_ns()
index = 0
while True:
    rgb = np.stack([(x + 5 * index) % 256, (y + 3 * index) % 256, (x + y) % 256], -1).astype(np.uint8)
    now_ns = time.monotonic_ns()
    recorder.put(View(Frame(index, now_ns, rgb), None, Hud()))
    print((now_ns - start_ns) / 1e9, flush=True)
    index += 1
    time.sleep(0.04)
"""


def test_a_killed_process_loses_less_than_a_second(tmp_path: Path) -> None:
    path = tmp_path / "r.mkv"
    with subprocess.Popen([sys.executable, "-c", CHILD, path], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        last_s = 0.0
        for line in child.stdout:
            last_s = float(line)
            if last_s > 2.5:
                child.send_signal(signal.SIGKILL)
                break
    assert child.returncode == -signal.SIGKILL
    pictures = read(path)
    assert last_s - pictures[-1][0] / 1000 < 1.0
    assert len(pictures) > 20

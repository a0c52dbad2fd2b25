"""What is asked of a camera, and a source on cameras that no computer without them has: those of a Pi."""

from __future__ import annotations

import contextlib
import itertools
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError, Future
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.capture import picamera
from appliance.capture.picamera import PicameraSource, captured_ns
from appliance.capture.picamera_library import AttachedCamera, cameras
from appliance.capture.picamera_settings import controls
from appliance.config import CameraConfig
from appliance.data import Frame
from appliance.errors import SourceError, SourceMissing, SourceUnreadable

IMX708 = {
    "FrameDurationLimits": (17849, 220417486, None),
    "ExposureTime": (26, 220416802, None),
    "AnalogueGain": (1.1228070259094238, 16.0, None),
    "AfMode": (0, 2, 0),
    "LensPosition": (0.0, 15.0, 1.0),
}
"""As libcamera gives them for a Camera Module 3."""


class TestControls:
    def test_defaults_leave_exposure_alone_and_keep_the_focus(self) -> None:
        assert controls(CameraConfig(), IMX708) == {"FrameDurationLimits": (33333, 33333), "AfMode": 2}

    def test_a_camera_that_offers_nothing_is_fine_with_the_defaults(self) -> None:
        assert controls(CameraConfig(), {}) == {}

    def test_fixed_values(self) -> None:
        wanted = CameraConfig(
            rate_hz=25, focus="fixed", focus_dioptres=2.5, exposure_ms=12.5, gain=4.0, width=640, height=480
        )
        assert controls(wanted, IMX708) == {
            "FrameDurationLimits": (40000, 40000),
            "AfMode": 0,
            "LensPosition": 2.5,
            "ExposureTime": 12500,
            "AnalogueGain": 4.0,
        }

    def test_a_rate_that_the_sensor_nearly_has(self) -> None:
        offered = {"FrameDurationLimits": (33345, 1000000, 33345)}
        assert controls(CameraConfig(), offered) == {"FrameDurationLimits": (33345, 33345)}

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"rate_hz": 60}, "camera.rate_hz: 60 .*possible is 0.004537 to 56.03 at this size"),
            ({"gain": 1.0}, "camera.gain: 1.0 .*possible is 1.123 to 16"),
            ({"exposure_ms": 40.0}, "camera.exposure_ms: 40.0 .*possible is 0.026 to 33.33"),
            ({"focus": "fixed", "focus_dioptres": 16.0}, "camera.focus_dioptres: 16.0 .*possible is 0 to 15"),
        ],
    )
    def test_the_impossible_is_named_with_what_is_possible(self, settings: dict, words: str) -> None:
        with pytest.raises(SourceError, match=words):
            controls(CameraConfig(**settings), IMX708)


NOW_NS = 10**13


@given(age_ns=st.integers(0, 10**9 - 1), asleep_ns=st.one_of(st.just(0), st.integers(10**9, 10**15)))
def test_either_clock_of_the_camera_is_understood(age_ns: int, asleep_ns: int) -> None:
    assert captured_ns(NOW_NS - age_ns, NOW_NS, NOW_NS + asleep_ns) == NOW_NS - age_ns
    assert captured_ns(NOW_NS + asleep_ns - age_ns, NOW_NS, NOW_NS + asleep_ns) == NOW_NS - age_ns


@pytest.mark.parametrize("stamp_ns", [None, "1", 0, NOW_NS + 1, NOW_NS - 10**9])
def test_a_stamp_that_cannot_be_is_not_used(stamp_ns: object) -> None:
    assert captured_ns(stamp_ns, NOW_NS, NOW_NS) == NOW_NS


class FakePicamera2:
    """A Camera Module on a Raspberry Pi, as far as `picamera_library` says it is used."""

    platform = SimpleNamespace(name="PISP")
    info: ClassVar[list[dict[str, object]]] = []
    streams: ClassVar[dict[str, object]] = {}
    opened = 0

    def __init__(self, camera_num: int) -> None:
        type(self).opened += 1
        self.camera_controls = IMX708
        self.camera_properties = {"Model": "imx708", "ColorFilterArrangement": 0}
        self.sensor_resolution = (4608, 2592)
        self.held = 0
        self._job: Future | None = None
        self._ended = threading.Event()

    @staticmethod
    def global_camera_info() -> list[dict[str, object]]:
        return FakePicamera2.info

    def create_video_configuration(self, main, lores, transform, colour_space, buffer_count, queue):
        assert (buffer_count, queue) == (4, False)
        return {"main": main, "lores": lores, "transform": transform}

    def configure(self, camera_config) -> None:
        """Pads rows to a multiple of 64 bytes."""
        self._configuration = dict(camera_config)
        for name in ("main", "lores"):
            if camera_config[name] is not None:
                row = camera_config[name]["size"][0] * (3 if camera_config[name]["format"] == "BGR888" else 1)
                self._configuration[name] = {**camera_config[name], "stride": -(-row // 64) * 64}
        type(self).streams = self._configuration

    def camera_configuration(self):
        return self._configuration

    def set_controls(self, controls) -> None:
        type(self).controls = controls

    def start(self) -> None:
        threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        for count in itertools.count():
            if self._ended.wait(0.01):
                return
            job, self._job = self._job, None
            if job is not None and self.held < 4:
                self.held += 1
                job.set_result(FakeRequest(self, count))

    def capture_request(self, wait: bool):
        assert not wait
        job = self._job = Future()
        return SimpleNamespace(get_result=job.result)

    def cancel_all_and_flush(self) -> None:
        job, self._job = self._job, None
        if job is not None:
            job.set_exception(CancelledError())

    def close(self) -> None:
        if not self._ended.is_set():
            type(self).opened -= 1
        self._ended.set()


class FakeRequest:
    def __init__(self, camera: FakePicamera2, count: int) -> None:
        self._camera = camera
        self._count = count

    def get_metadata(self):
        return {"SensorTimestamp": time.monotonic_ns() - 20_000_000}

    def release(self) -> None:
        self._camera.held -= 1

    def buffer(self, stream: str) -> np.ndarray:
        """Red 200, green 100, blue the count; noise in the padding."""
        form = self._camera.camera_configuration()[stream]
        width, height = form["size"]
        if form["format"] == "YUV420":
            return np.full(form["stride"] * height * 3 // 2, 128, np.uint8)
        rows = np.random.default_rng(1).integers(0, 256, (height, form["stride"]), np.uint8)
        rows[:, : 3 * width].reshape(height, width, 3)[:] = (200, 100, self._count % 256)
        return rows.ravel()


@contextlib.contextmanager
def mapped_array(request: FakeRequest, stream: str, reshape: bool, write: bool) -> Iterator[SimpleNamespace]:
    assert not reshape
    assert not write
    yield SimpleNamespace(array=request.buffer(stream))


@pytest.fixture
def pi(monkeypatch: pytest.MonkeyPatch) -> type[FakePicamera2]:
    """A Pi 5 with a Camera Module 3."""
    transform = SimpleNamespace
    colours = SimpleNamespace(Smpte170m=lambda: "Smpte170m")
    picamera2 = SimpleNamespace(Picamera2=FakePicamera2, MappedArray=mapped_array)
    monkeypatch.setitem(sys.modules, "picamera2", picamera2)
    monkeypatch.setitem(sys.modules, "libcamera", SimpleNamespace(Transform=transform, ColorSpace=colours))
    monkeypatch.setattr(
        FakePicamera2, "info", [{"Model": "imx708", "Location": 2, "Rotation": 180, "Id": "/i2c"}]
    )
    monkeypatch.setattr(FakePicamera2, "platform", SimpleNamespace(name="PISP"))
    monkeypatch.setattr(FakePicamera2, "opened", 0)
    return FakePicamera2


def pictures(source: PicameraSource, count: int) -> list[Frame]:
    deadline = time.monotonic() + 10
    taken = []
    while len(taken) < count and time.monotonic() < deadline:
        frame = source.read(0.5)
        taken += [] if frame is None else [frame]
    assert len(taken) == count
    return taken


def test_a_pi_5_makes_the_models_picture_too(pi) -> None:
    source = PicameraSource(0, CameraConfig(width=1281, flip="both"))
    source.model_wh = (512, 512)
    source.open()
    frames = pictures(source, 20)
    source.close()
    assert pi.opened == 0
    assert pi.streams["main"]["size"] == (1280, 720)
    assert pi.streams["lores"] == {
        "size": (512, 288),
        "format": "BGR888",
        "preserve_ar": False,
        "stride": 1536,
    }
    assert pi.streams["transform"] == SimpleNamespace(hflip=True, vflip=True)
    for frame in frames:
        assert frame.size_wh == (1280, 720)
        assert frame.small is not None
        assert frame.small.shape == (288, 512, 3)
        assert frame.rgb[0, 0, :2].tolist() == [200, 100]
        assert (frame.small == frame.rgb[0, 0]).all()  # of the same request
        assert (frame.rgb == frame.rgb[0, 0]).all()  # and never of two
    assert [frame.index for frame in frames] == list(range(20))
    age_ms = (time.monotonic_ns() - frames[-1].captured_ns) / 1e6
    assert 20 <= age_ms < 5000


def test_an_earlier_pi_makes_it_in_yuv(pi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pi, "platform", SimpleNamespace(name="VC4"))
    source = PicameraSource(0, CameraConfig())
    source.model_wh = (320, 320)
    source.open()
    (frame,) = pictures(source, 1)
    source.close()
    assert pi.streams["lores"]["format"] == "YUV420"
    assert frame.small is not None
    assert frame.small.shape == (180, 320, 3)
    assert np.ptp(frame.small) == 0


@pytest.mark.parametrize("model_wh", [None, (511, 511), (2048, 2048)])
def test_where_it_cannot_be_made_it_is_left_out(pi, model_wh) -> None:
    source = PicameraSource(0, CameraConfig())
    source.model_wh = model_wh
    source.open()
    (frame,) = pictures(source, 1)
    source.close()
    assert pi.streams["lores"] is None
    assert frame.small is None


def test_nothing_is_left_open_by_what_is_refused(pi) -> None:
    source = PicameraSource(0, CameraConfig(rate_hz=100))
    with pytest.raises(SourceError, match="rate_hz"):
        source.open()
    source.close()
    assert pi.opened == 0


def test_a_camera_that_never_gives_a_picture(pi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picamera, "STALL_S", 0.3)
    monkeypatch.setattr(pi, "start", lambda self: None)
    source = PicameraSource(0, CameraConfig())
    source.open()
    with pytest.raises(SourceUnreadable, match="camera has given no picture for"):
        pictures(source, 1)
    source.close()
    assert pi.opened == 0


def test_cameras_are_listed(pi) -> None:
    assert cameras() == (AttachedCamera(0, "imx708", "/i2c", "external", 180),)
    with pytest.raises(SourceMissing, match=r"there is no camera:1; there is camera:0 \(imx708\)"):
        PicameraSource(1, CameraConfig()).open()


def test_without_picamera2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "picamera2", None)
    with pytest.raises(SourceMissing, match=r"apt install python3-picamera2; .*--system-site-packages"):
        PicameraSource(0, CameraConfig()).open()


def test_a_picamera2_for_another_numpy(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "picamera2.py").write_text("raise ValueError('numpy.dtype size changed')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SourceUnreadable, match=r"does not fit what is installed beside it: numpy\.dtype"):
        PicameraSource(0, CameraConfig()).open()

from __future__ import annotations

import time

import cv2
import numpy as np
import pytest

from appliance.capture.scene import Photographs, Scene
from appliance.capture.scene_source import SceneSource

SEED = 3


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene(SEED, (640, 360))


def test_same_seed_and_index_give_the_same_picture(scene: Scene) -> None:
    again = Scene(SEED, (640, 360))
    again.render(500)  # what was drawn before does not matter
    for index in (0, 7, 1234):
        for first, second in zip(scene.render(index), again.render(index), strict=True):
            np.testing.assert_array_equal(first, second)


def test_other_seeds_and_indices_give_other_pictures(scene: Scene) -> None:
    rgb, _ = scene.render(10)
    assert (rgb != scene.render(11)[0]).mean() > 0.1
    assert (rgb != Scene(SEED + 1, (640, 360)).render(10)[0]).mean() > 0.9


def test_draw_writes_into_the_callers_arrays(scene: Scene) -> None:
    rgb, labels = np.zeros((360, 640, 3), np.uint8), np.full((360, 640), 99, np.uint8)
    scene.draw(42, rgb, labels)
    expected_rgb, expected_labels = scene.render(42)
    np.testing.assert_array_equal(rgb, expected_rgb)
    np.testing.assert_array_equal(labels, expected_labels)


def test_labels_are_the_objects_seen(scene: Scene) -> None:
    _, labels = scene.render(0)
    seen = np.unique(labels)
    assert seen[0] == 0
    assert seen.max() <= scene.things
    assert len(seen) >= 8


def test_each_label_covers_exactly_its_own_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Things painted in flat colours, without shadows, on black: the picture then is the label map."""
    flat = [(0, 0, 0)] + [
        (60 + 45 * (k % 4), 60 + 45 * (k // 4 % 4), 60 + 45 * (k // 16)) for k in range(1, 40)
    ]
    painted = iter(flat[1:])

    def paint(surface: np.ndarray, *_: object) -> np.ndarray:
        return np.broadcast_to(np.float32(next(painted)), surface.shape)

    monkeypatch.setattr("appliance.capture.scene._lit", paint)
    monkeypatch.setattr("appliance.capture.scene._shadow", lambda *_: np.zeros((4, 4), np.uint8))
    black = np.zeros((90, 160, 3), np.uint8)
    monkeypatch.setattr("appliance.capture.scene.background", lambda *_: black.repeat(5, 0).repeat(5, 1))
    scene = Scene(SEED, (640, 360))
    for index in (0, 200, 700):
        rgb, labels = scene.render(index)
        expected = np.array(flat, np.int16)[labels]
        wrong = (np.abs(rgb.astype(np.int16) - expected) > 2).any(axis=2)
        # Only along the edges, where two colours mix, may the picture differ from the colour of its label.
        edges = cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8)) > 0
        assert not (wrong & ~edges).any()
        assert wrong.mean() < 0.04


def test_sizes_agree() -> None:
    """The same scene, smaller, has the same objects in the same places."""
    _, large = Scene(SEED, (1280, 720)).render(333)
    _, small = Scene(SEED, (640, 360)).render(333)
    reduced = large[1::2, 1::2]
    for label in np.unique(large)[1:]:
        ours, theirs = reduced == label, small == label
        if ours.sum() > 400:
            assert (ours & theirs).sum() / (ours | theirs).sum() > 0.9


def test_objects_move_hide_each_other_and_come_and_go(scene: Scene) -> None:
    areas = np.array(
        [
            np.bincount(scene.render(index)[1].reshape(-1), minlength=scene.things + 1)
            for index in range(0, 1800, 60)
        ]
    )[:, 1:]
    share = areas / (640 * 360)
    assert (areas.min(axis=0) == 0).any(), "something leaves the picture"
    assert (share.max(axis=0) > 0.05).any(), "something is large"
    assert ((share.max(axis=0) > 0.005) & (share.max(axis=0) < 0.02)).any(), "something is small"
    assert ((share > 0.01).sum(axis=1) >= 4).all(), "there is always something to see"


def test_takes_any_photographs_and_size() -> None:
    picture = np.full((40, 30, 3), 200, np.uint8)
    for photographs in (Photographs((picture,), (picture,)), Photographs((), ())):
        rgb, labels = Scene(0, (333, 222), photographs=photographs).render(5)
        assert rgb.shape == (222, 333, 3)
        assert labels.shape == (222, 333)


def test_a_picture_is_drawn_fast() -> None:
    scene = Scene(SEED, (1280, 720))
    rgb = np.empty((720, 1280, 3), np.uint8)
    took_s = []
    for index in range(15):
        began = time.thread_time()
        scene.draw(index, rgb)
        took_s.append(time.thread_time() - began)
    assert min(took_s) < 0.015


@pytest.mark.parametrize("rate_hz", [30, 60])
def test_the_source_keeps_its_rate(rate_hz: int) -> None:
    source = SceneSource(SEED, (320, 180), rate_hz)
    source.open()
    frames = [source.read(1.0) for _ in range(rate_hz)]
    source.close()
    assert all(frame is not None for frame in frames)
    first, last = frames[0], frames[-1]
    assert first is not None
    assert last is not None
    span_s = (last.captured_ns - first.captured_ns) / 1e9
    assert (last.index - first.index) / span_s == pytest.approx(rate_hz, rel=1e-3)
    assert last.index - first.index <= 2 * rate_hz, "hardly any are left out"


def test_the_sources_pictures_are_the_scenes() -> None:
    source = SceneSource(SEED, (320, 180), 60)
    source.open()
    for _ in range(5):
        frame = source.read(1.0)
        assert frame is not None
        np.testing.assert_array_equal(frame.rgb, source.scene.render(frame.index)[0])
    source.close()


def test_a_slow_reader_gets_the_newest_picture() -> None:
    source = SceneSource(SEED, (160, 90), 60)
    source.open()
    first = source.read(1.0)
    time.sleep(0.25)
    second = source.read(1.0)
    assert first is not None
    assert second is not None
    assert second.index >= first.index + 15
    assert time.monotonic_ns() - second.captured_ns < 200_000_000


def test_reading_is_bounded_and_goes_on_after_a_pause() -> None:
    source = SceneSource(SEED, (160, 90), 1)
    source.open()
    first = source.read(0.0)
    assert first is not None
    assert source.read(0.05) is None
    source.close()
    source.close()
    source.open()
    again = source.read(0.0)
    assert again is not None
    assert again.index == first.index + 1


def test_reading_reuses_memory() -> None:
    source = SceneSource(SEED, (160, 90), 60)
    source.open()
    addresses = set()
    for _ in range(6):
        frame = source.read(1.0)
        assert frame is not None
        addresses.add(frame.rgb.ctypes.data)
        del frame
    assert len(addresses) == 1

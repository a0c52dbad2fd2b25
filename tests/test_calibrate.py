"""Collecting varied photographs: what counts as a near-duplicate, and the command with real sources."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from appliance.capture.photographs import in_folder, read
from appliance.capture.scene import Scene
from appliance.convert.calibration import find_pictures
from appliance.convert.collection import PAUSE_NS, Collection
from appliance.convert.variety import LEAST_DIFFERENCE, Variety, difference, signature
from appliance.data import Frame, RgbImage
from appliance.errors import OutputNotWritable

colours = arrays(np.uint8, (8, 8, 3))


def picture(seed: int, size_wh: tuple[int, int] = (160, 120)) -> RgbImage:
    """Soft patches of colour, other ones for each seed."""
    rough = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(rough, size_wh, interpolation=cv2.INTER_CUBIC), np.uint8)


@given(colours, colours, colours)
def test_difference_is_a_distance(a: RgbImage, b: RgbImage, c: RgbImage) -> None:
    one, two, three = map(signature, (a, b, c))
    assert difference(one, one) == 0
    assert 0 <= difference(one, two) <= 1
    assert difference(one, two) == difference(two, one)
    assert difference(one, three) <= difference(one, two) + difference(two, three) + 1e-6
    assert (difference(one, two) == 0) == np.array_equal(a, b)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(1, 4))
def test_same_view_at_another_size_is_alike(seed: int, wider: int, higher: int) -> None:
    one = picture(seed)
    other = np.repeat(np.repeat(one, wider, axis=1), higher, axis=0)
    assert difference(signature(one), signature(other)) < 0.01


def test_black_and_white_are_as_different_as_can_be() -> None:
    black, white = (np.full((30, 50, 3), level, np.uint8) for level in (0, 255))
    assert difference(signature(black), signature(white)) == pytest.approx(1)


@given(st.integers(0, 1000))
def test_noise_and_a_flicker_are_alike_and_other_things_are_not(seed: int) -> None:
    variety = Variety()
    one = picture(seed)
    assert variety.is_new(one)
    variety.add(one)
    noise = np.random.default_rng(seed).normal(size=one.shape) * 10
    assert not variety.is_new(np.clip(one + noise, 0, 255).astype(np.uint8))
    assert not variety.is_new(np.clip(one * 1.05, 0, 255).astype(np.uint8))
    assert variety.is_new(picture(seed + 1))
    assert variety.is_new(np.ascontiguousarray(one[:, ::-1]))


def test_what_moved_on_by_a_tenth_of_the_picture_is_new() -> None:
    scene, _ = Scene(seed=5, size_wh=(640, 360), rate_hz=30).render(0)
    variety = Variety()
    variety.add(scene)
    assert variety.is_new(np.ascontiguousarray(np.roll(scene, 64, axis=1)))
    assert not variety.is_new(np.ascontiguousarray(np.roll(scene, 3, axis=1)))


class TestCollection:
    def test_keeps_what_is_new_until_there_are_enough(self, tmp_path: Path) -> None:
        collection = Collection(tmp_path / "new" / "folder", 3)
        kept = [collection.offer(Frame(n, n * PAUSE_NS, picture(n // 2))) for n in range(10)]
        assert kept == [True, False, True, False, True, False, False, False, False, False]
        assert collection.complete
        paths = in_folder(tmp_path / "new" / "folder")
        assert [path.name for path in paths] == [f"photograph-000{n}.jpg" for n in (1, 2, 3)]
        for number, path in enumerate(paths):
            assert np.abs(read(path).astype(int) - picture(number)).mean() < 3

    def test_two_of_one_moment_are_too_many(self, tmp_path: Path) -> None:
        collection = Collection(tmp_path, 3)
        assert collection.offer(Frame(0, 0, picture(0)))
        assert not collection.offer(Frame(1, PAUSE_NS // 2, picture(1)))
        assert collection.offer(Frame(2, PAUSE_NS, picture(2)))

    def test_what_is_there_counts_and_stays(self, tmp_path: Path) -> None:
        mine = cv2.imencode(".png", picture(7)[..., ::-1])[1].tobytes()
        (tmp_path / "mine.png").write_bytes(mine)
        Collection(tmp_path, 2).offer(Frame(0, 0, picture(0)))
        (tmp_path / "photograph-0002.jpg").write_bytes(b"not a photograph")
        collection = Collection(tmp_path, 4)
        assert collection.count == 2
        assert not collection.offer(Frame(0, 0, picture(0)))
        assert not collection.offer(Frame(1, PAUSE_NS, picture(7)))
        assert collection.offer(Frame(2, 2 * PAUSE_NS, picture(1)))
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "mine.png",
            "photograph-0001.jpg",
            "photograph-0002.jpg",
            "photograph-0003.jpg",
        ]
        assert (tmp_path / "mine.png").read_bytes() == mine
        assert (tmp_path / "photograph-0002.jpg").read_bytes() == b"not a photograph"

    def test_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(OutputNotWritable, match=r"cannot be written to .*name another with --out"):
            Collection(tmp_path / "file" / "folder", 3)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    """`appliance calibrate`, for real."""
    return subprocess.Popen(
        [sys.executable, "-m", "appliance", "calibrate", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ),
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Exit code, output, errors."""
    out, err = process.communicate(timeout=50)
    return process.returncode, out, err


def wait_for(folder: Path, count: int) -> None:
    """Until there are as many photographs."""
    deadline_s = time.monotonic() + 40
    while not folder.is_dir() or len(in_folder(folder)) < count:
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def test_folder_with_near_duplicates(tmp_path: Path) -> None:
    photographs, out = tmp_path / "photographs", tmp_path / "out"
    photographs.mkdir()
    for number in range(4):
        bgr = picture(number)[..., ::-1]
        cv2.imwrite(str(photographs / f"{number}.png"), bgr)
        cv2.imwrite(str(photographs / f"{number}-again.jpg"), cv2.resize(bgr, (320, 240)))
    (photographs / "broken.jpg").write_bytes(b"no photograph")

    code, printed, err = finish(start("--source", photographs, "--out", out, "--count", "3"))
    assert code == 0, err
    assert len(find_pictures(out)) == 3
    assert printed == (
        f"3 photographs in {out}; next: appliance convert --checkpoint FILE.pt --calibration {out}\n"
    )
    assert re.findall(r"photograph (\d)/3", err) == ["1", "2", "3"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    code, printed, err = finish(start("--source", photographs, "--out", out, "--count", "9"))
    assert code == 0, err
    assert "3 photographs are there already" in err
    assert len(find_pictures(out)) == 4
    assert "4 photographs in" in printed
    assert "more of them with the same command" in printed
    assert {path.name: path.read_bytes() for path in out.iterdir() if path.name in before} == before


def test_scene_until_ctrl_c_and_on_from_there(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("--source", "scene", "--out", out)
    wait_for(out, 2)
    process.send_signal(signal.SIGINT)
    code, printed, err = finish(process)
    assert code == 0, err
    assert "Traceback" not in err
    kept = in_folder(out)
    assert printed.startswith(f"{len(kept)} photographs in {out}; next: more of them with the same command")
    signatures = [signature(read(path)) for path in kept]
    for number, one in enumerate(signatures):
        for other in signatures[:number]:
            assert difference(one, other) > 0.9 * LEAST_DIFFERENCE  # JPEG changes it a little

    code, printed, err = finish(start("--source", "scene", "--out", out, "--count", str(len(kept) + 1)))
    assert code == 0, err
    assert len(in_folder(out)) == len(kept) + 1
    assert in_folder(out)[: len(kept)] == kept


def test_time_limit_and_a_complete_folder(tmp_path: Path) -> None:
    code, printed, err = finish(start("--source", "scene", "--out", tmp_path, "--seconds", "1.5"))
    assert code == 0, err
    there = len(in_folder(tmp_path))
    assert 1 <= there <= 3
    code, printed, err = finish(
        start("--source", tmp_path / "absent", "--out", tmp_path, "--count", str(there))
    )
    assert code == 0, err  # nothing to do, so no source is opened
    assert printed.startswith(f"{there} photographs in")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--source", "absent.mp4", "--out", "out"), 21, "absent.mp4 does not exist"),
        (("--source", "scene", "--out", "file/out"), 32, "cannot be written to"),
        (("--source", "scene", "--out", "out", "--count", "0"), 2, "no number of photographs"),
        (("--source", "scene"), 2, "--out"),
    ],
)
def test_what_a_user_can_get_wrong(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    code: int,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    found, printed, err = finish(start(*arguments))
    assert (found, printed) == (code, "")
    assert says in err
    assert "Traceback" not in err

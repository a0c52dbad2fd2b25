from __future__ import annotations

import contextlib
import logging
import os
import struct
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from appliance.capture import EndOfSource, photographs
from appliance.capture.files import FilesSource
from appliance.capture.video import Picture, Video
from appliance.data import Frame, RgbImage
from appliance.errors import ApplianceError, SourceMissing, SourceTruncated, SourceUnreadable

RATE_HZ = 10
WIDTH, HEIGHT = 160, 120


def coded(index: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A moving ramp with the index as bright and dark bars on top, so that a decoded picture names itself."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    rgb = np.stack([(x + index * 5) % 256, (y + index * 3) % 256, (x + y) % 256], -1).astype(np.uint8)
    bar = width // 8
    for bit in range(8):
        rgb[:24, bit * bar : (bit + 1) * bar] = 255 if index >> bit & 1 else 0
    return rgb


def index_of(rgb: np.ndarray) -> int:
    bar = rgb.shape[1] // 8
    bits = [rgb[4:20, bit * bar + 4 : (bit + 1) * bar - 4].mean() > 128 for bit in range(8)]
    return sum(1 << bit for bit, on in enumerate(bits) if on)


def write_video(path: Path, pictures: int = 40, times_ms: list[int] | None = None) -> Path:
    options = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=RATE_HZ)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        if times_ms is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for index in range(pictures):
            frame = av.VideoFrame.from_ndarray(coded(index), "rgb24")
            if times_ms is not None:
                frame.pts, frame.time_base = times_ms[index], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def cut(path: Path, part: float) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    return path


def read_all(source: FilesSource) -> tuple[list[Frame], Exception]:
    """All pictures, and what ended them."""
    source.open()
    frames: list[Frame] = []
    deadline = time.monotonic() + 20
    try:
        while time.monotonic() < deadline:
            frame = source.read(0.2)
            if frame is not None:
                frames.append(frame)
    except (EndOfSource, ApplianceError) as end:
        return frames, end
    finally:
        source.close()
    raise AssertionError("no end")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_video_gives_every_picture_in_order_at_its_time(tmp_path, suffix):
    source = FilesSource(write_video(tmp_path / f"v{suffix}"))
    frames, end = read_all(source)
    assert isinstance(end, EndOfSource)
    assert [index_of(frame.rgb) for frame in frames] == list(range(40))
    assert [frame.index for frame in frames] == list(range(40))
    spacing = np.diff([frame.captured_ns for frame in frames]) / 1e9
    np.testing.assert_allclose(spacing, 1 / RATE_HZ, atol=0.002)
    first = frames[0]
    assert first.rgb.dtype == np.uint8
    assert first.rgb.flags.c_contiguous
    assert first.size_wh == (WIDTH, HEIGHT)
    assert first.name == ""
    np.testing.assert_allclose(first.rgb[40:].mean((0, 1)), coded(0)[40:].mean((0, 1)), atol=4)
    assert not source.live


def test_variable_rates_are_kept(tmp_path):
    times_ms = [0, 40, 400, 410, 900]
    frames, _ = read_all(FilesSource(write_video(tmp_path / "v.mkv", 5, times_ms)))
    assert [round(frame.captured_ns / 1e6) for frame in frames] == times_ms  # the same in every run


def test_memory_is_recycled_and_never_shared(tmp_path):
    source = FilesSource(write_video(tmp_path / "v.mp4", 12))
    source.open()
    kept = source.read(1)
    addresses = set()
    for _ in range(10):
        addresses.add(source.read(1).rgb.ctypes.data)
    assert len(addresses) <= 2
    assert kept.rgb.ctypes.data not in addresses
    assert index_of(kept.rgb) == 0
    source.close()
    source.close()


def cut_in_packet(path: Path, number: int) -> list[int]:
    """Cut a video in the middle of a packet; returns the pictures that the whole ones before it hold."""
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        whole = [frame for packet in packets[:number] for frame in packet.decode()]
        whole += container.streams.video[0].decode(None)
        end = packets[number].pos + packets[number].size // 2
    path.write_bytes(path.read_bytes()[:end])
    return [index_of(frame.to_ndarray(format="rgb24")) for frame in whole]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("packet", [1, 13, 22, 36])
def test_a_cut_video_gives_all_good_pictures_and_says_how_far_it_came(tmp_path, suffix, packet):
    path = write_video(tmp_path / f"v{suffix}")
    expected = cut_in_packet(path, packet)
    frames, end = read_all(FilesSource(path))
    assert isinstance(end, SourceTruncated)
    assert [index_of(frame.rgb) for frame in frames] == expected
    reached_s = (expected[-1] + 1) / RATE_HZ
    assert f"v{suffix} ended at {reached_s:.1f} s of 4.0 s" in str(end)
    assert "\n" not in str(end)


def test_damage_in_the_middle_costs_only_what_it_hits(tmp_path, caplog):
    path = write_video(tmp_path / "v.mp4")
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 2
    data[start : start + 400] = bytes(400)
    path.write_bytes(data)
    frames, end = read_all(FilesSource(path))
    assert isinstance(end, EndOfSource)
    assert len(frames) >= 20
    assert frames[-1].captured_ns - frames[0].captured_ns >= 3.5e9


def test_a_video_without_its_index_is_unreadable(tmp_path):
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(10):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(coded(index), "rgb24")))
        container.mux(stream.encode(None))
    cut(path, 0.5)
    with pytest.raises(SourceUnreadable, match=r"v\.mp4"):
        FilesSource(path).open()


# Display matrices: rows (a, b, u), (c, d, v), (x, y, w), in 16.16 and, for the last column, 2.30 fixed point.
CLOCKWISE = {
    90: (0, 0x10000, 0, -0x10000, 0, 0, HEIGHT << 16, 0, 0x40000000),
    180: (-0x10000, 0, 0, 0, -0x10000, 0, WIDTH << 16, HEIGHT << 16, 0x40000000),
    270: (0, -0x10000, 0, 0x10000, 0, 0, 0, WIDTH << 16, 0x40000000),
}


@pytest.mark.parametrize("degrees", CLOCKWISE)
def test_rotation_of_a_video_is_honoured(tmp_path, degrees):
    path = write_video(tmp_path / "v.mp4", 3)
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", *CLOCKWISE[degrees])
    path.write_bytes(data)
    frames, end = read_all(FilesSource(path))
    assert isinstance(end, EndOfSource)
    expected = np.rot90(coded(1), -degrees // 90)
    assert frames[1].rgb.shape == expected.shape
    assert frames[1].rgb.flags.c_contiguous
    assert np.abs(frames[1].rgb.astype(int) - expected).mean() < 12


def test_live_video_keeps_its_pace(tmp_path):
    source = FilesSource(write_video(tmp_path / "v.mp4", 8), live=True)
    start = time.monotonic()
    frames, end = read_all(source)
    took_s = time.monotonic() - start
    assert isinstance(end, EndOfSource)
    assert source.live
    assert [index_of(frame.rgb) for frame in frames] == list(range(8))
    assert 0.65 < took_s < 1.5
    assert all(frame.captured_ns <= time.monotonic_ns() for frame in frames)


def test_live_read_waits_no_longer_than_told(tmp_path):
    source = FilesSource(write_video(tmp_path / "v.mkv", 3, [0, 1500, 1600]), live=True)
    source.open()
    assert source.read(1) is not None
    start = time.monotonic()
    assert source.read(0.1) is None
    assert 0.08 < time.monotonic() - start < 0.6
    source.close()


def test_live_video_whose_decoder_is_too_slow_never_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = Video.pictures

    def slow(video: Video) -> Iterator[Picture]:
        for picture in pictures(video):
            time.sleep(0.03)  # there are 0.02 s from one to the next
            yield picture

    monkeypatch.setattr(Video, "pictures", slow)
    source = FilesSource(write_video(tmp_path / "v.mkv", 100, list(range(0, 2000, 20))), live=True)
    source.open()
    given_s: list[float] = []
    with contextlib.closing(source), contextlib.suppress(EndOfSource):
        while True:
            if source.read(0.2) is not None:
                given_s.append(time.monotonic())
    assert len(given_s) > 15
    assert np.diff(given_s).max() < 0.45


def test_live_video_drops_what_comes_too_late(tmp_path):
    source = FilesSource(write_video(tmp_path / "v.mp4", 30), live=True)
    source.open()
    assert index_of(source.read(1).rgb) == 0
    time.sleep(0.75)  # a slow consumer
    late = source.read(1)
    assert 5 <= index_of(late.rgb) <= 9
    assert late.index == index_of(late.rgb)
    source.close()


def test_live_video_goes_on_from_where_it_stalled(tmp_path):
    source = FilesSource(write_video(tmp_path / "v.mp4", 30), live=True)
    source.open()
    assert index_of(source.read(1).rgb) == 0
    time.sleep(1.3)
    assert index_of(source.read(1).rgb) == 1
    source.close()


def test_a_single_photograph(tmp_path):
    path = tmp_path / "one.png"
    Image.fromarray(coded(5)).save(path)
    frames, end = read_all(FilesSource(path))
    assert isinstance(end, EndOfSource)
    assert [frame.name for frame in frames] == ["one.png"]
    np.testing.assert_array_equal(frames[0].rgb, coded(5))


def test_a_folder_is_sorted_mixes_sizes_and_skips_what_is_damaged(tmp_path, caplog):
    Image.fromarray(coded(2, 64, 48)).save(tmp_path / "b.png")
    Image.fromarray(coded(1)).save(tmp_path / "a.PNG")
    Image.fromarray(coded(3)).save(tmp_path / "c.jpg", quality=95)
    cut(tmp_path / "c.jpg", 0.5)
    (tmp_path / "d.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("left alone")
    (tmp_path / "e.png").mkdir()
    Image.fromarray(coded(9)).save(tmp_path / "f.webp", lossless=True)
    source = FilesSource(tmp_path)
    with caplog.at_level(logging.WARNING):
        frames, end = read_all(source)
    assert isinstance(end, EndOfSource)
    assert [frame.name for frame in frames] == ["a.PNG", "b.png", "f.webp"]
    assert [frame.size_wh for frame in frames] == [(WIDTH, HEIGHT), (64, 48), (WIDTH, HEIGHT)]
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert [(frame.captured_ns - frames[0].captured_ns) / 1e9 for frame in frames] == [0, 1, 2]
    for frame, number in zip(frames, (1, 2, 9), strict=True):
        np.testing.assert_array_equal(frame.rgb, coded(number, *frame.size_wh))
    assert source.skipped == 2
    assert "c.jpg" in caplog.text
    assert "d.jpg" in caplog.text


def test_exif_orientation_is_honoured(tmp_path):
    upright = coded(0, 96, 64)
    for orientation, stored in ((6, np.rot90(upright, 1)), (3, np.rot90(upright, 2)), (1, upright)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = tmp_path / f"{orientation}.jpg"
        Image.fromarray(np.ascontiguousarray(stored)).save(path, quality=95, exif=exif)
    frames, _ = read_all(FilesSource(tmp_path))
    assert len(frames) == 3
    for frame in frames:
        assert frame.size_wh == (96, 64)
        assert np.abs(frame.rgb.astype(int) - upright).mean() < 10


@pytest.mark.parametrize("kind", ["grey", "16 bit grey", "palette", "alpha"])
def test_unusual_photographs_become_rgb(tmp_path, kind):
    ramp = np.tile(np.arange(64, dtype=np.uint8) * 4, (32, 1))
    path = tmp_path / "p.png"
    if kind == "16 bit grey":
        cv2.imwrite(str(path), ramp.astype(np.uint16) * 256)
    elif kind == "grey":
        Image.fromarray(ramp).save(path)
    elif kind == "palette":
        Image.fromarray(ramp).convert("P").save(path)
    else:
        Image.fromarray(np.dstack([ramp, ramp, ramp, np.full_like(ramp, 9)])).save(path)
    frames, _ = read_all(FilesSource(path))
    np.testing.assert_array_equal(frames[0].rgb, np.dstack([ramp] * 3))


def test_live_photographs_change_every_second(tmp_path):
    for name in ("a.png", "b.png"):
        Image.fromarray(coded(0)).save(tmp_path / name)
    start = time.monotonic()
    frames, _ = read_all(FilesSource(tmp_path, live=True))
    assert len(frames) == 2
    assert 0.95 < time.monotonic() - start < 2


def test_live_photographs_that_take_long_to_read_are_all_shown(tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        Image.fromarray(coded(1)).save(tmp_path / name)

    def slowly(path: Path) -> RgbImage:
        time.sleep(0.3)
        return read(path)

    read = photographs.read
    monkeypatch.setattr(photographs, "read", slowly)
    frames, end = read_all(FilesSource(tmp_path, live=True))
    assert isinstance(end, EndOfSource)
    assert [frame.name for frame in frames] == ["a.png", "b.png"]
    assert 0.9e9 < frames[1].captured_ns - frames[0].captured_ns < 1.5e9


def test_a_pipe_is_refused_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(SourceUnreadable, match="neither a file nor a folder"):
        FilesSource(tmp_path / "pipe.mp4").open()


def test_missing(tmp_path):
    with pytest.raises(SourceMissing, match="does not exist") as caught:
        FilesSource(tmp_path / "no.mp4").open()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["text.txt", "text.mp4", "noise.bin", "empty.mp4", "sound.wav"])
def test_files_that_hold_no_pictures(tmp_path, name):
    path = tmp_path / name
    if name.startswith("text"):
        path.write_text("hello\n" * 200)
    elif name.startswith("noise"):
        path.write_bytes(bytes(range(256)) * 300)
    elif name.startswith("sound"):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("pcm_s16le", rate=8000)
            stream.layout = "mono"
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
            sound.sample_rate = 8000
            container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
    else:
        path.touch()
    with pytest.raises(SourceUnreadable, match=name) as caught:
        FilesSource(path).open()
    assert "\n" not in str(caught.value)


def test_a_folder_without_photographs(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(SourceUnreadable, match="holds no photographs"):
        FilesSource(tmp_path).open()


def test_only_damaged_photographs(tmp_path):
    for name in ("a.jpg", "b.png"):
        (tmp_path / name).write_bytes(b"junk")
    source = FilesSource(tmp_path)
    frames, end = read_all(source)
    assert frames == []
    assert isinstance(end, SourceUnreadable)
    assert "none of the 2 photographs" in str(end)
    assert source.skipped == 2
    (tmp_path / "b.png").unlink()
    assert isinstance(read_all(FilesSource(tmp_path / "a.jpg"))[1], SourceUnreadable)


def test_playlists_fetch_nothing(tmp_path):
    path = tmp_path / "list.m3u8"
    path.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n")
    frames, end = read_all_or_refused(path)
    assert frames == []
    assert isinstance(end, SourceUnreadable)


def read_all_or_refused(path: Path) -> tuple[list[Frame], Exception]:
    try:
        return read_all(FilesSource(path))
    except SourceUnreadable as error:
        return [], error

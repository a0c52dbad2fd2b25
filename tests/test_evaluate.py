"""Evaluating models: the paper's prompts and counts, and a run of the whole."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from converting import new_cache
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from appliance.__main__ import main
from appliance.capture.scene import Scene
from appliance.convert import environments
from appliance.convert.steps import EXPORT_VARIABLES
from appliance.errors import ApplianceError, EdgeTpuError, EvaluateError, NeedsEdgeTpu, NotCompiled
from appliance.evaluate import passes
from appliance.evaluate.chart import by_size
from appliance.evaluate.evaluation import open_models, sizes_of, told_apart
from appliance.evaluate.labels import read_polygons
from appliance.evaluate.masks_rle import Rle, box_of, decode, deepest_point, encode, from_run_lengths, ious
from appliance.evaluate.matching import box_only, compare, fits, iou, means, precision, wanted
from appliance.evaluate.passes import file_that_runs
from appliance.evaluate.pictures import find_pictures
from appliance.evaluate.reference import (
    PAPER_WH,
    SCRIPT,
    Reference,
    ReferenceRun,
    Scored,
    load_reference,
    machine_name,
    make_reference,
    save_reference,
)
from appliance.evaluate.thresholds import equal_count_confidence
from appliance.geometry import Letterbox
from appliance.invoke.runtime import read_spec
from appliance.postprocess import _snap_to_border

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
CACHE = os.environ.get("XDG_CACHE_HOME")
DEMO = ROOT / "models" / "demo.tflite"
masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 20), st.integers(1, 20)))


def block(x0: int, y0: int, x1: int, y1: int) -> Rle:
    """A filled rectangle on a picture of 40 x 30."""
    mask = np.zeros((30, 40), np.bool_)
    mask[y0:y1, x0:x1] = True
    return encode(mask)


@given(masks)
def test_run_lengths_of_either_kind_are_the_mask(mask: np.ndarray) -> None:
    assert np.array_equal(decode(encode(mask)), mask)
    runs = [(value, len(list(pixels))) for value, pixels in itertools.groupby(mask.T.reshape(-1).tolist())]
    counts = [length for _, length in runs]
    theirs = from_run_lengths((mask.shape[0], mask.shape[1]), [0, *counts] if runs[0][0] else counts)
    assert theirs == encode(mask)
    assert theirs.area_px == mask.sum()


@given(masks, st.data())
def test_ious_are_those_of_the_pixels(mask: np.ndarray, data: st.DataObject) -> None:
    other = data.draw(arrays.arrays(np.bool_, mask.shape))
    assert ious([encode(mask)], [encode(other)])[0, 0] == pytest.approx(iou(mask, other))


@given(masks.filter(lambda mask: bool(mask.any())))
def test_the_prompts_of_a_mask_are_a_tight_box_and_a_point_inside_as_deep_as_any(mask: np.ndarray) -> None:
    left, top, right, bottom = (int(side) for side in box_of(mask))
    assert mask[top:bottom, left:right].sum() == mask.sum()
    assert mask[top].any()
    assert mask[bottom - 1].any()
    assert mask[:, left].any()
    assert mask[:, right - 1].any()
    x, y = deepest_point(mask)
    assert mask[int(y), int(x)]
    outside = np.argwhere(~np.pad(mask, 1)) - 0.5  # centres
    inside = np.argwhere(mask) + 0.5
    depths = np.sqrt(((inside[:, None] - outside[None]) ** 2).sum(2).min(1))
    own = np.sqrt(((np.array([y, x]) - outside) ** 2).sum(1).min())
    assert own >= depths.max() - 1e-3


def test_prompts_choose_as_the_original_does() -> None:
    """A whole with a part in it, and something elsewhere that the box of the part is nearest to."""
    whole, part = block(2, 2, 22, 22), block(4, 4, 10, 10)
    want = wanted(block(4, 4, 12, 12), 1.0)
    assert want is not None
    (fit,) = fits([whole, part], [want])
    assert fit.best_match == pytest.approx(36 / 64)
    assert fit.point == pytest.approx(64 / 400)  # both contain the point, so they are one
    assert fit.box == pytest.approx(36 / 64)
    assert fit.point_box == pytest.approx(36 / 64)
    beside = block(8, 4, 12, 12)
    (fit,) = fits([block(30, 20, 38, 28), beside], [want])
    assert fit.box == pytest.approx(32 / 64)
    (fit,) = fits([], [want])
    assert (fit.best_match, fit.point, fit.box, fit.point_box) == (0, 0, 0, 0)


def test_a_point_counts_before_the_box() -> None:
    want = wanted(block(4, 4, 14, 14), 1.0)
    assert want is not None
    x, y = (int(side) for side in want.point_xy)
    with_point = block(x, y, 30, 28)
    mask = decode(block(4, 4, 14, 14)).copy()
    mask[y, x] = False
    without_point = encode(mask)
    (fit,) = fits([without_point, with_point], [want])
    assert fit.box == pytest.approx(0.99)
    assert fit.point_box < 0.5
    (fit,) = fits([without_point], [want])
    assert fit.point == 0
    assert fit.point_box == pytest.approx(0.99)


def test_means_are_by_the_size_of_what_was_wanted() -> None:
    wants = [
        w
        for w in (
            wanted(block(0, 0, 20, 20), 0.9),
            wanted(block(0, 0, 6, 6), 0.3),
            wanted(block(0, 0, 2, 2), 0.5),
        )
        if w
    ]
    figures = means([0.9, 0.6, 0.3], wants, sure=True)
    assert figures == {
        "all": 0.6,
        "over_5": 0.9,
        "under_5": 0.45,
        "under_1": 0.3,
        "score_over_35": 0.6,
        "n": {"all": 3, "over_5": 1, "under_5": 2, "under_1": 1, "score_over_35": 2},
    }
    assert means([], [])["all"] is None


def test_a_model_that_is_the_reference_is_perfect_and_one_that_sees_more_is_less_precise() -> None:
    objects = [block(0, 0, 10, 10), block(20, 5, 35, 25)]
    truth = {"a": [want for want in (wanted(rle, 0.5) for rle in objects) if want], "b": []}
    same = compare({"a": objects, "b": []}, truth)
    for kind in ("best_match", "point", "box", "point_box"):
        assert same[kind]["all"] == 1
    assert precision({"a": objects, "b": []}, truth) == 1
    assert precision({"a": objects, "b": [block(0, 0, 5, 5)]}, truth) == pytest.approx(2 / 3, abs=1e-4)
    assert precision({"a": [], "b": []}, truth) is None
    assert box_only(truth)["all"] == 1
    assert wanted(encode(np.zeros((30, 40), np.bool_)), 1.0) is None


@given(st.lists(st.integers(0, 20).map(lambda step: step / 20), max_size=60), st.integers(0, 80))
def test_the_threshold_that_returns_as_many_is_the_nearest_there_is(scores: list[float], count: int) -> None:
    threshold = equal_count_confidence(scores, count)
    reached = sum(score >= threshold for score in scores)
    nearest = min(abs(sum(score >= other for score in scores) - count) for other in [*scores, 2.0])
    assert abs(reached - count) == nearest


def test_polygons_are_filled_and_what_is_wrong_with_them_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("3 0.25 0 0.5 0 0.5 0.5 0.25 0.5\n")
    found = read_polygons(tmp_path, {"a.jpg": (40, 80), "b.jpg": (40, 80)})
    assert found["b.jpg"] == []
    assert box_of(decode(found["a.jpg"][0])) == (20, 0, 41, 21)
    (tmp_path / "a.txt").write_text("3 0.25 0 nonsense\n")
    with pytest.raises(EvaluateError, match="line 1"):
        read_polygons(tmp_path, {"a.jpg": (40, 80)})
    with pytest.raises(EvaluateError, match=r"NAME\.txt"):
        read_polygons(tmp_path, {"c.jpg": (40, 80)})


def test_the_demo_models_score_reads_photographs_so_too_and_before_the_training(tmp_path: Path) -> None:
    """One without polygons has no objects; what is no photograph is left out, a damaged one is told."""

    def check() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, ROOT / "models" / "training" / "score.py", "--check"]
        return subprocess.run(
            [*command, "--photographs", tmp_path], capture_output=True, text=True, check=False, timeout=60
        )

    (tmp_path / "images").mkdir()
    (tmp_path / "polygons").mkdir()
    for name in "ab":
        cv2.imwrite(str(tmp_path / "images" / f"{name}.png"), np.zeros((40, 80, 3), np.uint8))
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"no picture")
    (tmp_path / "polygons" / "a.txt").write_text("3 0.25 0 0.5 0 0.5 0.5 0.25 0.5\n")
    assert check().stdout == "2 photographs, 1 objects\n"
    (tmp_path / "images" / "c.png").write_bytes(b"no picture")
    done = check()
    assert done.returncode == 1
    assert re.fullmatch(r"score: .*c\.png cannot be read: .*take it out of the folder\n", done.stderr)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"3 0.5 0.5 0.25 0.25", "line 2: should be a polygon, .* no box"),
        (b"3 20 0 40 0 40 20 20 20", r"line 2: should have .*0\.\.1"),
        (b"3 nan 0 0.5 0 0.5 0.5", r"line 2: should have .*0\.\.1"),
        (b"\xff\xfe", r"a\.txt cannot be read"),
    ],
)
def test_labels_of_another_kind_are_told(tmp_path: Path, line: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(b"3 0.25 -0.01 0.5 0 0.5 0.5 0.25 0.5\n" + line + b"\n")
    with pytest.raises(EvaluateError, match=said):
        read_polygons(tmp_path, {"a.jpg": (40, 80)})


def test_names_that_repeat_are_told_apart() -> None:
    """By the file's name if that will do, or by as many folders as it takes; others are left alone."""
    paths = [
        *(Path("/m/one/net.tflite"), Path("/m/two/net.tflite"), Path("/o/one/net.tflite")),
        *(Path("/m/old.tflite"), Path("/m/new.tflite"), Path("/m/other.tflite")),
    ]
    names = told_apart(dict(zip(paths, ["Net", "Net", "Net", "File", "File", "Other"], strict=True)))
    assert list(names.values()) == [
        *("Net (m/one/net.tflite)", "Net (m/two/net.tflite)", "Net (o/one/net.tflite)"),
        *("File (old.tflite)", "File (new.tflite)", "Other"),
    ]
    assert told_apart({}) == {}


def test_the_same_file_named_twice_is_one_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(DEMO.parent)
    assert [model.name for model in open_models([DEMO, Path(DEMO.name)], "cpu")] == ["demo"]


def test_the_chart_has_a_line_for_each_name() -> None:
    svg = by_size([0.001, 0.01, 0.1, 0.5], {"one <": [0.1, 0.2, 0.3, 0.4], "two": [0.5] * 4})
    assert svg.count("<polyline") == 2
    assert "one &lt;" in svg
    assert "no objects" in by_size([], {"one": []})


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Pictures of the scene, with a reference file whose masks are the truth at either size."""
    folder = tmp_path_factory.mktemp("scene")
    (folder / "images").mkdir()
    truth = {}
    for index in (0, 40, 80):
        rgb, labels = Scene(seed=1, size_wh=(320, 240)).render(index)
        cv2.imwrite(str(folder / "images" / f"{index:03}.png"), rgb[:, :, ::-1])
        truth[f"{index:03}.png"] = [
            Scored(encode(labels == number), 0.9)
            for number in range(1, int(labels.max()) + 1)
            if (labels == number).mean() > 0.01
        ]
    pictures = find_pictures(folder / "images", None)
    run = ReferenceRun(truth, [100.0] * len(pictures))
    reference = Reference(
        "truth", "0" * 64, machine_name(), 1, dict.fromkeys(sizes_of(open_models([DEMO], "cpu")), run)
    )
    save_reference(reference, folder / "masks.json", pictures)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield folder


def evaluate(scene: Path, *options: str) -> dict:
    out = scene / "figures.json"
    arguments = ["--reference-masks", str(scene / "masks.json"), "--models", str(DEMO)]
    arguments += ["--images", str(scene / "images"), "--json", str(out), *options]
    assert main(["evaluate", *arguments]) == 0
    figures = json.loads(out.read_text())
    assert isinstance(figures, dict)
    return figures


@pytest.mark.timeout(180)
def test_the_demo_model_on_its_scene(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = evaluate(scene, "--second-look", "--report", str(scene / "report"))
    (model,) = figures["models"]
    assert model["name"]
    assert model["vs_polygons"] is None
    assert model["latency"]["median_ms"] > 0
    assert model["ratio_to_reference"] == pytest.approx(100 / model["latency"]["median_ms"], rel=0.01)
    plain, looked = (model["vs_1024"][kind] for kind in ("point_box", "point_box_second_look"))
    assert plain["n"]["all"] == looked["n"]["all"] > 10
    assert plain["all"] > 0.5
    assert looked["all"] > plain["all"]
    assert 0 < model["vs_1024"]["point_box_second_look_one"]["extra_invokes"] <= 1
    assert model["vs_1024"]["point_box_second_look_one"]["extra_invokes"] <= looked["extra_invokes"] <= 2
    for section in ("vs_own_size", "vs_1024"):
        assert {"best_match", "point", "box", "point_box"} <= model[section].keys()
        for of_kind in model[section].values():
            assert {"all", "over_5", "under_5", "under_1", "n"} <= of_kind.keys()
        assert 0.5 < model["precision"][section] <= 1
    assert model["size_mb"] == pytest.approx(DEMO.stat().st_size / 1e6, abs=0.01)
    assert model["format"] == "TFLite int8, raw head"
    assert model["latency"]["p95_ms"] >= model["latency"]["median_ms"]
    assert model["peak_memory_mb"] > 20
    assert abs(model["at_equal_count"]["masks"] - plain["n"]["all"]) <= 3
    page = (scene / "report" / "index.html").read_text()
    assert page.count("data:image/jpeg") > 20
    assert "http" not in page.replace("http://www.w3.org", "")
    assert (scene / "report" / "reference-masks.json").read_bytes() == (scene / "masks.json").read_bytes()
    said = capsys.readouterr()
    assert "point_box_second_look" in said.out
    assert "demo.tflite: 3/3" in said.err


@pytest.mark.timeout(180)
def test_what_was_done_is_not_done_again_and_the_result_is_the_same(
    scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = evaluate(scene, "--limit", "2")
    kept = sorted(environments.cache_folder().glob("evaluate/demo-*/*.json"))
    written = {path: path.stat().st_mtime_ns for path in kept}
    kept[0].unlink()  # as if the run had been interrupted
    again = evaluate(scene, "--limit", "2")
    assert {path: path.stat().st_mtime_ns for path in kept[1:]} == {path: written[path] for path in kept[1:]}
    assert kept[0].exists()
    for figures in (first, again):
        for timed in ("latency", "ratio_to_reference", "peak_memory_mb"):
            del figures["models"][0][timed]
    assert first == again


@pytest.mark.parametrize("changed", ["tflite runtime", "geometry", "photographs", "tflite"])
def test_what_was_kept_is_not_that_of_another_runtime_or_other_code(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = passes._key(DEMO, "cpu")
    assert passes._key(DEMO, "cpu") == before
    if changed == "tflite runtime":
        monkeypatch.setattr(importlib.metadata, "version", lambda package: "0.0.1")
    else:
        (module,) = (one for one in passes._CODE if one.__name__.rpartition(".")[2] == changed)
        monkeypatch.setattr(module, "__file__", str(tmp_path / "other.py"))
        (tmp_path / "other.py").touch()
    assert passes._key(DEMO, "cpu") != before


@pytest.mark.timeout(180)
def test_two_models_of_one_name_have_an_entry_and_a_line_each(scene: Path, tmp_path: Path) -> None:
    """One of them with other bins, so that its boxes are others, which what was kept of the first is not."""
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        for path in (DEMO, DEMO.with_suffix(".json")):
            shutil.copy(path, tmp_path / folder)
    description = tmp_path / "two" / "demo.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | {"bins": [0.5] * 16}))
    models = [str(tmp_path / folder / "demo.tflite") for folder in ("one", "two")]
    report = tmp_path / "report"
    figures = evaluate(scene, "--limit", "1", "--report", str(report), "--models", *models)
    name = read_spec(DEMO, DEMO.read_bytes()).name
    names = [f"{name} ({folder}/demo.tflite)" for folder in ("one", "two")]
    one, two = figures["models"]
    assert [one["name"], two["name"]] == names
    assert one["sha256"] == two["sha256"]
    assert one["vs_1024"]["best_match"]["all"] > two["vs_1024"]["best_match"]["all"] + 0.1
    page = (report / "index.html").read_text()
    lines = [re.search(f'<text [^>]*fill="(.*?)">{re.escape(its_name)}<', page) for its_name in names]
    assert len({found[1] for found in lines if found}) == 2


def test_what_the_edge_tpu_says_is_kept_by_what_it_runs(parts: Path, tmp_path: Path) -> None:
    """The model that was named may be the other of the pair, which stays when that is compiled again."""
    for path in (parts / "models").iterdir():
        shutil.copy(path, tmp_path)
    plain, compiled = tmp_path / "demo.tflite", tmp_path / "demo_edgetpu.tflite"
    assert file_that_runs(plain, "edgetpu").path == file_that_runs(compiled, "edgetpu").path == compiled
    assert file_that_runs(plain, "cpu").path == file_that_runs(compiled, "cpu").path == plain


def test_a_reference_that_does_not_fit_is_refused(scene: Path, tmp_path: Path) -> None:
    pictures = find_pictures(scene / "images", None)
    with pytest.raises(EvaluateError, match="32x32"):
        load_reference(scene / "masks.json", [PAPER_WH, (32, 32)], pictures)
    (tmp_path / "other.png").write_bytes((scene / "images" / "000.png").read_bytes())
    with pytest.raises(EvaluateError, match=r"other\.png"):
        load_reference(scene / "masks.json", [PAPER_WH], find_pictures(tmp_path, None))
    (tmp_path / "no.json").write_text("[1]")
    with pytest.raises(EvaluateError, match="reference masks"):
        load_reference(tmp_path / "no.json", [PAPER_WH], pictures)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--reference", "no.pt", "--models", str(DEMO), "--images", "nowhere"], "no folder nowhere"),
        (["--reference", "no.pt", "--models", "no.tflite", "--images", "images"], "no.tflite"),
        (["--reference", "no.pt", "--models", str(DEMO), "--images", "images"], "no.pt"),
        (
            ["--reference", "no.pt", "--models", str(DEMO), "--images", "images", "--polygons", "images"],
            "NAME.txt",
        ),
        (
            ["--reference", "no.pt", "--models", str(DEMO), "--images", "images", "--json", "masks.json/x/y"],
            "masks.json/x",
        ),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    scene: Path,
    arguments: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(scene)
    code = main(["evaluate", *arguments])
    assert code not in (0, ApplianceError.exit_code)
    err = capsys.readouterr().err.strip()
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the compiled model is in ../shared, absent here")
@pytest.mark.parametrize(
    ("backend", "error", "words"),
    [("cpu", NeedsEdgeTpu, "cannot run on the CPU"), ("edgetpu", EdgeTpuError, "Edge TPU")],
)
def test_a_model_that_nothing_here_can_run_is_refused_before_anything_long(
    scene: Path, backend: str, error: type[ApplianceError], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    compiled = SHARED / "models" / "yolov8n-seg_256_edgetpu.tflite"
    arguments = ["--reference-masks", str(scene / "masks.json"), "--images", str(scene / "images")]
    code = main(["evaluate", *arguments, "--models", str(DEMO), str(compiled), "--backend", backend])
    refused = {error.exit_code, NotCompiled.exit_code, *(one.exit_code for one in error.__subclasses__())}
    assert code in refused
    err = capsys.readouterr().err.strip()
    assert words in err
    assert len(err.splitlines()) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason="the trained checkpoint is in ../shared, absent here")
@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_the_second_look_beats_the_float_model_at_1024_on_photographs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first photographs only; docs/second-look.md has the figures of all of them."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)  # as the scene has it
    if CACHE is not None:
        monkeypatch.setenv("XDG_CACHE_HOME", CACHE)
    new_cache(tmp_path / "cache", monkeypatch)
    model = SHARED / "models" / "yolov8n-seg_float-io_int8_640.tflite"
    out = tmp_path / "figures.json"
    arguments = ["--reference", SHARED / "models" / "yolov8n-seg-ref.pt", "--models", model, "--second-look"]
    arguments += ["--images", SHARED / "eval" / "images", "--polygons", SHARED / "eval" / "polygons"]
    assert main(["evaluate", *map(str, arguments), "--limit", "6", "--json", str(out)]) == 0
    figures = json.loads(out.read_text())
    (model_figures,) = figures["models"]
    float_1024 = figures["reference"]["sizes"][0]
    assert float_1024["vs_1024"]["best_match"]["all"] == 1
    for size in ("all", "under_5"):
        looked = model_figures["vs_polygons"]["point_box_second_look"][size]
        assert looked > 1.3 * float_1024["vs_polygons"]["point_box"][size]
        assert looked > figures["prompt_box_alone"]["vs_polygons"][size]


MAKE_CHECKPOINTS = """
import sys, torch
from ultralytics.nn.tasks import DetectionModel, SegmentationModel
kinds = (SegmentationModel, "yolov8n-seg.yaml"), (DetectionModel, "yolov8n.yaml")
for path, (kind, architecture) in zip(sys.argv[1:], kinds):
    model = kind(architecture, nc=1, verbose=False)
    torch.save({"model": model.half(), "train_args": {}}, path)
"""


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_a_reference_is_made_again_for_pictures_of_other_names_and_of_no_detector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = environments.ensure(environments.EXPORT)
    new_cache(tmp_path / "cache", monkeypatch)
    checkpoints = tmp_path / "net.pt", tmp_path / "detector.pt"
    command = [python, "-I", "-c", MAKE_CHECKPOINTS, *checkpoints]
    subprocess.run(command, check=True, timeout=200, env=os.environ | EXPORT_VARIABLES)
    photograph = next((ROOT / "appliance" / "capture" / "photos").glob("*.jpg"))
    for name in ("before", "after"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.jpg").symlink_to(photograph)  # under a name of its own
        pictures, seen = find_pictures(folder, None), list[tuple[str, int, int]]()
        made = make_reference(checkpoints[0], [(64, 64)], pictures, lambda *told: seen.append(told))  # noqa: B023
        assert list(made.runs[64, 64].masks) == [f"{name}.jpg"]
        assert seen[-1] == ("net.pt at 64x64", 1, 1)
    with pytest.raises(EvaluateError, match=r"detector\.pt gives no masks; give a -seg checkpoint \(its log"):
        make_reference(checkpoints[1], [(64, 64)], pictures, lambda what, done, of: None)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "full").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1024))


def test_a_full_disk_where_the_reference_is_made_is_a_line_that_says_what_to_do(
    small_disk: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = small_disk("100k")
    monkeypatch.setenv("XDG_CACHE_HOME", str(disk))
    fill(disk)
    pictures = find_pictures(ROOT / "appliance" / "capture" / "photos", 1)
    with pytest.raises(EvaluateError, match=r"^the reference: in .*No space left.*; make room") as caught:
        make_reference(DEMO, [(64, 64)], pictures, lambda what, done, of: None)
    assert len(str(caught.value).splitlines()) == 1


AT_BORDER = """
import json, sys, torch
sys.path.insert(0, sys.argv[1])
from ultralytics_masks import at_border
boxes, shape_hw, input_hw = json.loads(sys.argv[2])
print("boxes", json.dumps(at_border(torch.tensor(boxes), shape_hw, input_hw).tolist()))
"""


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_the_reference_treats_boxes_at_the_border_as_the_appliance_does() -> None:
    """Otherwise a model's masks would differ from the reference's by more than the network."""
    python = environments.ensure(environments.EXPORT)
    letterbox = Letterbox.fit((640, 480), (512, 512))
    corners = np.random.default_rng(0).uniform(-15, 655, (200, 2, 2))
    corners[:50] = np.where(corners[:50] < 320, corners[:50] % 40, 640 - corners[:50] % 40)  # near the border
    boxes = np.concatenate([corners.min(1), corners.max(1)], 1).clip(0, (640, 480, 640, 480))
    arguments = json.dumps([boxes.tolist(), (480, 640), (512, 512)])
    done = subprocess.run(
        [python, "-I", "-c", AT_BORDER, SCRIPT.parent, arguments], capture_output=True, text=True, check=True
    )
    theirs = np.array(json.loads(done.stdout.splitlines()[-1].removeprefix("boxes ")))
    in_input = letterbox.to_input(boxes.reshape(-1, 2, 2)).reshape(-1, 4).astype(np.float32)
    ours = letterbox.boxes_to_picture(_snap_to_border(in_input, letterbox))
    assert np.allclose(ours, theirs, atol=0.01)
    snapped = ~np.isclose(theirs, boxes, atol=0.01).all(1)
    assert 20 < snapped.sum() < 200


@settings(max_examples=20)
@given(st.integers(1, 6))
def test_a_limit_takes_the_first_photographs_by_name(limit: int) -> None:
    folder = ROOT / "appliance" / "capture" / "photos"
    assert [p.name for p in find_pictures(folder, limit)] == [p.name for p in find_pictures(folder, None)][
        :limit
    ]

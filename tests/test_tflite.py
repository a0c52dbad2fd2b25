"""Real models in the real runtime: they run, or are refused with one line that says why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import cv2
import numpy as np
import pytest

from appliance.data import Frame, Layout, RawOutputs
from appliance.errors import ModelError, ModelMissing, NeedsEdgeTpu, NotAModel, WrongLayout
from appliance.invoke.tflite import TfliteBackend
from appliance.masks import full_mask
from appliance.postprocess import postprocess
from appliance.preprocess import Preprocessor

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "demo.tflite"
SHARED = ROOT.parent / "shared"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs ../shared, with trained networks and photographs"
)
pytestmark = pytest.mark.skipif(not MODEL.is_file(), reason=f"needs {MODEL}")


def one_line(error: ModelError, path: Path) -> str:
    text = str(error)
    assert "\n" not in text
    assert path.name in text
    return text


def test_a_model_runs_and_its_outputs_are_the_callers() -> None:
    backend = TfliteBackend(MODEL, threads=1)
    spec = backend.spec
    assert spec.layout is Layout.RAW_HEAD
    assert backend.name.startswith("CPU, 1 thread (")
    rng = np.random.default_rng(0)
    inputs = [rng.integers(-128, 128, spec.input.shape, np.int8).astype(spec.input.dtype) for _ in range(2)]
    first = backend.invoke(inputs[0]).tensors
    copies = [output.copy() for output in first]
    second = backend.invoke(inputs[1]).tensors
    for output, copy, later, expected in zip(first, copies, second, spec.outputs, strict=True):
        assert output.shape == expected.shape
        assert output.dtype == expected.dtype
        assert (output == copy).all()
        assert not np.shares_memory(output, later)
    assert any((a != b).any() for a, b in zip(first, second, strict=True))
    backend.close()
    backend.close()


def test_threads_are_those_of_the_machine() -> None:
    cores = len(os.sched_getaffinity(0))
    expected = cores - 1 if cores >= 4 else cores
    assert TfliteBackend(MODEL).name.startswith(f"CPU, {expected} thread")


def test_the_other_runtime_is_taken_when_the_better_one_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from ai_edge_litert import interpreter

    other = types.ModuleType("tflite_runtime.interpreter")
    other.__dict__["Interpreter"] = interpreter.Interpreter
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    monkeypatch.setitem(sys.modules, "tflite_runtime", types.ModuleType("tflite_runtime"))
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", other)
    assert TfliteBackend(MODEL, threads=1).name == "CPU, 1 thread (tflite-runtime)"
    monkeypatch.setitem(sys.modules, "tflite_runtime.interpreter", None)
    with pytest.raises(ModelError, match="install ai-edge-litert"):
        TfliteBackend(MODEL)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(MODEL.read_bytes())
    return path


def test_without_a_sidecar_the_file_names_the_model(copy: Path) -> None:
    spec = TfliteBackend(copy).spec
    assert (spec.name, spec.demo) == ("net", False)


def test_the_sidecar_names_the_model_and_may_mark_it_as_demo(copy: Path) -> None:
    copy.with_suffix(".json").write_text(json.dumps({"name": "a fine net", "demo": True, "more": 1}))
    spec = TfliteBackend(copy).spec
    assert (spec.name, spec.demo) == ("a fine net", True)


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 3}', '{"demo": "yes"}', b"\xff\xfe\x00"])
def test_a_sidecar_that_cannot_be_read(copy: Path, content: str | bytes) -> None:
    content = content.encode() if isinstance(content, str) else content
    copy.with_suffix(".json").write_bytes(content)
    with pytest.raises(ModelError, match=r"net\.json") as caught:
        TfliteBackend(copy)
    assert "\n" not in str(caught.value)


def test_no_such_file(tmp_path: Path) -> None:
    path = tmp_path / "none.tflite"
    with pytest.raises(ModelMissing) as caught:
        TfliteBackend(path)
    one_line(caught.value, path)
    with pytest.raises(ModelMissing) as caught:
        TfliteBackend(tmp_path)
    one_line(caught.value, tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"PK\x03\x04" + bytes(1000), b"\x18\x00\x00\x00TFL3", b"hello\n"]
)
def test_not_a_model(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other.tflite"
    path.write_bytes(content)
    with pytest.raises(NotAModel) as caught:
        TfliteBackend(path)
    one_line(caught.value, path)


TRY_DAMAGED = """
import sys
from pathlib import Path
from appliance.errors import NotAModel
from appliance.invoke.tflite import TfliteBackend

content, path = Path(sys.argv[1]).read_bytes(), Path(sys.argv[2])
for part in sys.argv[3:]:
    length = int(float(part) * len(content)) if "." in part else int(part)
    # cut short; and cut short, but filled up with zeros, as after a power cut
    for damaged in (content[:length], content[:length] + bytes(len(content) - length)):
        path.write_bytes(damaged)
        print("trying", length, len(damaged), flush=True)
        try:
            TfliteBackend(path, threads=1)
        except NotAModel as error:
            assert "\\n" not in str(error)
            print("refused", flush=True)
"""


def damaged_in_a_child(model: Path, path: Path, parts: list[str]) -> list[str]:
    """What came of each trial; another process, as a crash would take this one along."""
    command = [sys.executable, "-c", textwrap.dedent(TRY_DAMAGED), str(model), str(path), *parts]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=50, cwd=ROOT)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout[-200:]} {done.stderr[-500:]}"
    return done.stdout.split("trying")[1:]


def test_a_damaged_model_is_refused_and_does_no_harm(tmp_path: Path) -> None:
    parts = ["1", "4", "8", "20", "100", "1000", "5000", "0.1", "0.3", "0.5", "0.7", "0.9", "0.99", "0.999"]
    outcomes = damaged_in_a_child(MODEL, tmp_path / "damaged.tflite", parts)
    assert len(outcomes) == 2 * len(parts)
    for outcome in outcomes:
        assert "refused" in outcome, outcome


@needs_shared
def test_weights_outside_the_flatbuffer_are_missed_when_cut_off(tmp_path: Path) -> None:
    model = SHARED / "models" / "yolov8n-seg_float-io_int8_640.tflite"
    outcomes = damaged_in_a_child(
        model, tmp_path / "damaged.tflite", ["8", "1000", "0.2", "0.6", "0.9", "0.99"]
    )
    for cut_short in outcomes[0::2]:
        assert "refused" in cut_short, cut_short


@needs_shared
def test_compiled_for_the_edge_tpu() -> None:
    path = SHARED / "models" / "yolov8n-seg_256_edgetpu.tflite"
    with pytest.raises(NeedsEdgeTpu, match="cannot run on the CPU") as caught:
        TfliteBackend(path)
    one_line(caught.value, path)


@needs_shared
def test_one_scale_for_everything_is_refused() -> None:
    path = SHARED / "models" / "yolo11n-seg_one-scale_full_integer_640.tflite"
    with pytest.raises(WrongLayout, match=r"no use in 8 bits.* raw head") as caught:
        TfliteBackend(path)
    one_line(caught.value, path)


@needs_shared
@pytest.mark.parametrize(
    ("name", "nhwc"),
    [("yolov8n-seg_float-io_int8_640", False), ("yolo11n-seg_stock_full_integer_640", True)],
)
def test_trained_models_find_the_large_objects_of_photographs(name: str, nhwc: bool) -> None:
    backend = TfliteBackend(SHARED / "models" / f"{name}.tflite")
    assert backend.spec.layout is Layout.FUSED
    assert backend.spec.nhwc == nhwc
    assert backend.spec.name == name
    preprocess = Preprocessor(backend.spec)
    best = []
    for image in sorted((SHARED / "eval" / "images").iterdir())[:20]:
        frame = Frame(0, 0, np.ascontiguousarray(cv2.imread(str(image))[..., ::-1]))
        ready = preprocess(frame)
        outputs = RawOutputs(frame, ready.letterbox, backend.spec, backend.invoke(ready.tensor).tensors)
        found = postprocess(outputs, 0.25, 0.7)
        masks = [full_mask(found, i) for i in range(len(found))]
        for true in _polygons(SHARED / "eval" / "polygons" / f"{image.stem}.txt", frame.size_wh):
            if true.mean() > 0.1:
                best.append(max(((true & mask).sum() / (true | mask).sum() for mask in masks), default=0.0))
    assert len(best) >= 10
    assert np.median(best) > 0.75


def _polygons(path: Path, size_wh: tuple[int, int]) -> list[np.ndarray]:
    masks = []
    for line in path.read_text().splitlines():
        points = np.array(line.split()[1:], float).reshape(-1, 2) * size_wh
        canvas = np.zeros(size_wh[::-1], np.uint8)
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
        masks.append(canvas.astype(bool))
    return masks

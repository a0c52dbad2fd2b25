"""Converting checkpoints: real environments, exporter and converter, the model run by the real interpreter.

The first run on a machine installs the two environments: minutes; later ones find them in the cache.
"""

import hashlib
import json
import logging
import os
import shutil
import struct
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edge_tpu import compile_model

from appliance.bundle import unpack
from appliance.convert import Converted, convert, environments
from appliance.convert.calibration import find_pictures, load_pictures, spread
from appliance.convert.edgetpu import ladder
from appliance.convert.environments import EXPORT, TFLITE, Environment, ensure
from appliance.convert.journal import News
from appliance.convert.steps import EXPORT_SCRIPT, EXPORT_VARIABLES, METHOD, work_folder
from appliance.errors import CompilerFailed, ConvertError, TooLittleMapped
from appliance.invoke.runtime import read_spec

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINT = SHARED / "models" / "yolov8n-seg-ref.pt"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="the trained checkpoint is in ../shared, absent here"
)
installs = pytest.mark.timeout(900)
needs_converter = pytest.mark.usefixtures("converter")


MAKE_CHECKPOINT = """
import sys, torch
from ultralytics.nn.tasks import SegmentationModel, yaml_model_load
architecture = yaml_model_load(sys.argv[1])
architecture.update(nc=1, scale="n", scales={"n": [0.33, 0.125, 1024]})
torch.manual_seed(0)
model = SegmentationModel(architecture, verbose=False).train()
model.names = {0: "object"}
for _ in range(3):
    model(torch.rand(2, 3, 64, 64))
torch.save({"model": model.half(), "train_args": {}, "license": "none"}, sys.argv[2])
"""

RUN_ONNX = """
import sys, numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
images = np.load(sys.argv[2]).astype(np.float32).transpose(0, 3, 1, 2) / 255
names = [output.name for output in session.get_outputs()]
results = [session.run(None, {"images": image[None]}) for image in images]
np.savez(sys.argv[3], **{n: np.concatenate([r[i] for r in results]) for i, n in enumerate(names)})
"""


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """A folder of six made-up pictures of odd sizes."""
    return make_photographs(tmp_path / "photographs")


@pytest.fixture
def no_model(tmp_path: Path) -> Path:
    """A file that passes for a checkpoint until torch reads it."""
    path = tmp_path / "no-model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"not a pickle")
    return path


Work = Callable[[Path, tuple[int, int]], Path]


@pytest.fixture
def work() -> Iterator[Work]:
    """`work_folder`, whose folders are gone after the test."""
    folders: list[Path] = []

    def of(checkpoint: Path, size_wh: tuple[int, int]) -> Path:
        folders.append(work_folder(checkpoint, size_wh))
        return folders[-1]

    yield of
    for folder in folders:
        remove(folder)


def remove_work(checkpoint: Path, size_wh: tuple[int, int]) -> None:
    remove(work_folder(checkpoint, size_wh))


def remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def run(code: str, environment: Environment, *arguments: str | Path) -> None:
    """Run code in one of the environments."""
    subprocess.run([ensure(environment), "-I", "-c", code, *arguments], check=True, timeout=120)


def int8_outputs(model: Path, pictures: np.ndarray) -> dict[tuple[int, ...], tuple[np.ndarray, float]]:
    """Per output shape (h, w, c): real values (N, h, w, c), and the size of a step."""
    interpreter = Interpreter(str(model))
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    assert entry["dtype"] == np.int8
    scale, zero_point = entry["quantization"]
    found: dict[tuple[int, ...], list[np.ndarray]] = {}
    steps = {}
    for picture in pictures:
        stored = np.clip(np.rint(picture / 255 / scale) + zero_point, -128, 127).astype(np.int8)
        interpreter.set_tensor(entry["index"], stored[np.newaxis])
        interpreter.invoke()
        for output in interpreter.get_output_details():
            assert output["dtype"] == np.int8
            step, zero = output["quantization"]
            shape = tuple(int(size) for size in output["shape"][1:])
            found.setdefault(shape, []).append(
                (interpreter.get_tensor(output["index"]) - np.float32(zero)) * step
            )
            steps[shape] = step
    return {shape: (np.concatenate(values), steps[shape]) for shape, values in found.items()}


def float_outputs(graph: Path, pictures: np.ndarray, folder: Path) -> dict[str, np.ndarray]:
    """Per output name: (N, h, w, c), from the ONNX."""
    np.save(folder / "pictures.npy", pictures)
    run(RUN_ONNX, TFLITE, graph, folder / "pictures.npy", folder / "outputs.npz")
    with np.load(folder / "outputs.npz") as outputs:
        return {name: outputs[name].transpose(0, 2, 3, 1) for name in outputs.files}


def as_read(name: str, values: np.ndarray) -> np.ndarray:
    """What the appliance reads out of an output: distances, scores of at least 0.0025, the rest as it is."""
    if name.startswith("class"):
        return 1 / (1 + np.exp(-np.maximum(values, -6.0)))
    if name.startswith("box"):
        weights = np.exp(values.reshape(*values.shape[:3], 4, 16))
        return weights @ np.arange(16) / weights.sum(-1)
    return values


@needs_shared
@installs
@needs_converter
def test_int8_model_says_what_the_float_model_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, work: Work
) -> None:
    caplog.set_level(logging.INFO, "appliance.convert")
    calibration = tmp_path / "calibration"
    calibration.mkdir()
    for photograph in sorted((SHARED / "eval" / "calibration").glob("*.jpg"))[:24]:
        (calibration / photograph.name).symlink_to(photograph)
    model = convert(CHECKPOINT, (256, 256), calibration, tmp_path / "models").model

    assert model == tmp_path / "models" / "yolov8n-seg-ref-256.tflite"
    assert sorted(path.name for path in model.parent.iterdir()) == [
        "yolov8n-seg-ref-256.compile.sh",
        "yolov8n-seg-ref-256.json",
        "yolov8n-seg-ref-256.tar",
        "yolov8n-seg-ref-256.tflite",
    ]
    steps = ("calibrate", "export", "quantise", "check", "graph check")
    for step in steps:
        assert f"{step}: done in" in caplog.text

    pictures = load_pictures(sorted((SHARED / "eval" / "images").glob("*.jpg"))[:4], (256, 256))
    real = float_outputs(work(CHECKPOINT, (256, 256)) / "raw_head.onnx", pictures, tmp_path)
    quantised = int8_outputs(model, pictures)
    assert len(real) == len(quantised) == 10
    for name, expected in real.items():
        got, _ = quantised[expected.shape[1:]]
        expected, got = as_read(name, expected), as_read(name, got)
        correlation = np.corrcoef(expected.ravel(), got.ravel())[0, 1]
        assert correlation > 0.97, f"{name}: correlation {correlation:.3f}"

    sidecar = json.loads(model.with_suffix(".json").read_text())
    assert sidecar["name"] == "yolov8n-seg-ref-256"
    assert sidecar["layout"] == "raw head"
    assert sidecar["input_wh"] == [256, 256]
    assert len(sidecar["classes"]) == 80
    assert sidecar["calibration"] == {"folder": "calibration", "pictures": 24, "method": METHOD}
    assert sidecar["bins"][1] == pytest.approx(0.9448, abs=1e-4)
    assert sidecar["sha256"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert sidecar["checkpoint"]["sha256"] == hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest()
    assert sidecar["tools"]["tensorflow"] == "2.19.0"
    accuracy = sidecar["accuracy"]
    assert accuracy["pictures"] == 4
    for forms, most in (("onnx_vs_torch", 1e-4), ("float_vs_onnx", 1e-4), ("int8_vs_float", 0.12)):
        assert accuracy[forms]["anchors"] > 30
        for kind in ("score", "box", "coefficient", "mask"):
            assert 0 <= accuracy[forms][kind] < most, (forms, kind)
    assert accuracy["int8_vs_float"]["mask"] > 0
    assert {tuple(output["shape"][1:]): output["scale"] for output in sidecar["outputs"]} == pytest.approx(
        {shape: step for shape, (_, step) in quantised.items()}
    )

    caplog.clear()
    described = model.with_suffix(".json").read_bytes()
    assert convert(CHECKPOINT, (256, 256), calibration, tmp_path / "models").model == model
    assert model.with_suffix(".json").read_bytes() == described
    for step in steps:
        assert f"{step}: unchanged, kept" in caplog.text


def make_photographs(folder: Path) -> Path:
    """Six made-up pictures of odd sizes."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(6):
        rough = rng.integers(0, 256, (4 + index, 5, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(rough, (133 + 7 * index, 91)))
    return folder


@dataclass
class Small:
    """A small network with one class, converted at a rectangular size."""

    checkpoint: Path
    photographs: Path
    made: Converted

    def again(self, out: Path) -> Converted:
        return convert(self.checkpoint, (128, 96), self.photographs, out, name="small")


def make_small(folder: Path, architecture: str) -> Small:
    photographs = make_photographs(folder / "photographs")
    checkpoint = folder / "pico.pt"
    run(MAKE_CHECKPOINT, EXPORT, architecture, checkpoint)
    return Small(checkpoint, photographs, convert(checkpoint, (128, 96), photographs, folder, name="small"))


@pytest.fixture(scope="module")
def small(converter: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    """Of YOLOv8's kind, for all tests together."""
    made = make_small(tmp_path_factory.mktemp("small"), "yolov8n-seg.yaml")
    yield made
    remove_work(made.checkpoint, (128, 96))


def is_faithful(small: Small, folder: Path) -> None:
    """Compare a small int8 model with its ONNX."""
    model = small.made.model
    assert json.loads(model.with_suffix(".json").read_text())["classes"] == ["object"]
    pictures = load_pictures(sorted(small.photographs.iterdir()), (128, 96))
    graph = work_folder(small.checkpoint, (128, 96)) / "raw_head.onnx"
    real, quantised = float_outputs(graph, pictures, folder), int8_outputs(model, pictures)
    grids = [(96 // stride, 128 // stride) for stride in (8, 16, 32)]
    shapes = {(*grid, channels) for grid in grids for channels in (64, 1, 32)} | {(24, 32, 32)}
    assert quantised.keys() == shapes
    for name, expected in real.items():
        got, step = quantised[expected.shape[1:]]
        # Its outputs are almost constant, so a correlation would say nothing.
        assert np.abs(as_read(name, expected) - as_read(name, got)).mean() < max(step, 0.001), name


@installs
def test_small_one_class_network_at_a_rectangular_size(small: Small, tmp_path: Path) -> None:
    is_faithful(small, tmp_path)
    accuracy = json.loads(small.made.model.with_suffix(".json").read_text())["accuracy"]
    assert accuracy["int8_vs_float"]["sure_of_nothing"] is True


@installs
def test_the_float_model_is_left_beside_its_bins_to_be_compared_with(small: Small) -> None:
    model = work_folder(small.checkpoint, (128, 96)) / "float.tflite"
    spec = read_spec(model, model.read_bytes())
    assert spec.name == "small, float"
    assert list(spec.bins) == json.loads(small.made.model.with_suffix(".json").read_text())["bins"]


@needs_converter
@installs
def test_network_of_yolo11s_kind(tmp_path: Path, work: Work) -> None:
    made = make_small(tmp_path, "yolo11n-seg.yaml")
    work(made.checkpoint, (128, 96))
    is_faithful(made, tmp_path)


@installs
def test_the_same_again_gives_the_same_bytes(small: Small, tmp_path: Path) -> None:
    model = small.made.model.read_bytes()
    for record in work_folder(small.checkpoint, (128, 96)).glob("*.record.json"):
        record.unlink()
    again = small.again(tmp_path / "out")
    assert again.model.read_bytes() == model
    assert again.bundle.read_bytes() == small.made.bundle.read_bytes()


@installs
def test_only_what_an_interruption_left_undone_is_done(
    small: Small, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "appliance.convert")
    (work_folder(small.checkpoint, (128, 96)) / "check.record.json").unlink()
    small.again(tmp_path / "out")
    for step in ("calibrate", "export", "quantise", "graph check"):
        assert f"{step}: unchanged, kept" in caplog.text
    assert "check: done in" in caplog.text


@installs
def test_other_photographs_leave_nothing_as_it_was_but_the_environments(small: Small, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    shutil.copytree(small.photographs, folder)
    (folder / "5.png").unlink()
    seen: list[News] = []

    def stop_at_export(news: News) -> None:
        seen.append(news)
        if news.step == "export":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(small.checkpoint, (128, 96), folder, tmp_path, name="small", show=stop_at_export)
    assert [news.step for news in seen if news.ended and not news.kept] == ["prepare", "calibrate"]
    small.again(tmp_path / "out")


class TestCompiler:
    """A stand-in plays edgetpu_compiler."""

    @pytest.fixture
    def stand_in(self, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The file that says what it does; it succeeds."""
        folder = tmp_path / "bin"
        folder.mkdir()
        program = folder / "edgetpu_compiler"
        source = Path(__file__).with_name("standin_edgetpu_compiler.py").read_text()
        program.write_text(f"#!{sys.executable} -I\n{source}")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        script = tmp_path / "script.json"
        monkeypatch.setenv("STAND_IN_COMPILER", str(script))
        compile_model(small.made.model, tmp_path / "result.tflite")
        table = [("CONV_2D", 255, "Mapped to Edge TPU"), ("PAD", 2, "Operation not supported")]
        script.write_text(
            json.dumps({"play": "succeed", "table": table, "result": str(tmp_path / "result.tflite")})
        )
        return script

    @installs
    def test_compiled_model_is_described_and_bundled(
        self, small: Small, stand_in: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        made = small.again(out)
        assert made.compiled == out / "small_edgetpu.tflite"
        assert made.elsewhere is None
        assert made.compiled.read_bytes() == (tmp_path / "result.tflite").read_bytes()
        described = json.loads(made.compiled.with_suffix(".json").read_text())
        assert described["op_map"] == {"edge_tpu": 255, "cpu": 2}
        assert described["plain"] == "small.tflite"
        assert described["sha256"] == hashlib.sha256(made.compiled.read_bytes()).hexdigest()
        assert described["tools"]["edgetpu_compiler"] == "16.0.384591198"
        (tmp_path / "unpacked").mkdir()
        assert unpack(made.bundle, tmp_path / "unpacked") == "small"
        assert (tmp_path / "unpacked" / "small_edgetpu.tflite").exists()

        stand_in.unlink()  # it could not run again
        assert small.again(out).compiled == made.compiled

    @installs
    def test_one_that_maps_too_little_is_refused(self, small: Small, stand_in: Path, tmp_path: Path) -> None:
        work_folder(small.checkpoint, (128, 96)).joinpath("compile.record.json").unlink(missing_ok=True)
        content = json.loads(stand_in.read_text())
        content["table"][1][1] = 100
        stand_in.write_text(json.dumps(content))
        with pytest.raises(TooLittleMapped, match=r"255 of the 355 ops .* 100 PAD: Operation not supported"):
            small.again(tmp_path / "out")
        assert list((tmp_path / "out").iterdir()) == []

    @installs
    def test_size_is_chosen_by_the_compiler(
        self, small: Small, stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ladder, "SIZES", (64,))
        stand_in.write_text(json.dumps({"play": "large_activations"}))
        try:
            with pytest.raises(CompilerFailed, match=r"pico-64\.tflite: .*large activation tensors"):
                convert(small.checkpoint, None, small.photographs, tmp_path / "out")
        finally:
            remove_work(small.checkpoint, (64, 64))
        assert list((tmp_path / "out").iterdir()) == []


@installs
@needs_converter
def test_file_that_torch_cannot_read_names_the_step_and_the_log(
    tmp_path: Path, photographs: Path, no_model: Path, work: Work
) -> None:
    with pytest.raises(ConvertError, match=r"^export: no-model\.pt is damaged") as caught:
        convert(no_model, (64, 64), photographs, tmp_path / "out")
    log_file = work(no_model, (64, 64)) / "export.log"
    assert str(log_file) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "Traceback" in log_file.read_text()
    assert list((tmp_path / "out").iterdir()) == []


def test_missing_checkpoint(tmp_path: Path, photographs: Path) -> None:
    with pytest.raises(ConvertError, match=r"there is no file .*absent\.pt"):
        convert(tmp_path / "absent.pt", (64, 64), photographs, tmp_path)


def test_picture_instead_of_a_checkpoint(tmp_path: Path, photographs: Path) -> None:
    path = tmp_path / "picture.pt"
    path.write_bytes((photographs / "0.png").read_bytes())
    with pytest.raises(ConvertError, match=r"picture\.pt is no checkpoint"):
        convert(path, (64, 64), photographs, tmp_path)


@pytest.mark.parametrize("size_wh", [(100, 64), (64, 65), (0, 64), (-32, 64)])
def test_size_that_is_no_multiple_of_32(
    tmp_path: Path, photographs: Path, no_model: Path, size_wh: tuple[int, int]
) -> None:
    with pytest.raises(ConvertError, match="multiples of 32"):
        convert(no_model, size_wh, photographs, tmp_path)


def test_calibration_folder_missing_or_empty(tmp_path: Path, no_model: Path) -> None:
    with pytest.raises(ConvertError, match=r"there is no folder .*absent"):
        convert(no_model, (64, 64), tmp_path / "absent", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConvertError, match=r"empty holds no \.jpg or \.png"):
        convert(no_model, (64, 64), tmp_path / "empty", tmp_path)


def test_calibration_picture_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ConvertError, match=r"broken\.jpg cannot be read as a picture"):
        load_pictures([tmp_path / "broken.jpg"], (64, 64))


def test_calibration_picture_of_more_pixels_than_can_be_read(tmp_path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    path = tmp_path / "huge.png"
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    with pytest.raises(ConvertError, match=r"huge\.png cannot be read as a picture"):
        load_pictures([path], (64, 64))


def test_calibration_leaves_out_what_is_hidden_or_a_folder(photographs: Path) -> None:
    (photographs / "._0.png").write_bytes(b"as macOS leaves beside a photograph")
    (photographs / "more.png").mkdir()
    assert [path.name for path in find_pictures(photographs)] == [f"{number}.png" for number in range(6)]


def test_folder_that_cannot_be_written_to_is_told_before_anything_long(
    small_disk: Callable[[str], Path], photographs: Path, no_model: Path
) -> None:
    out = small_disk("100k")
    subprocess.run(["mount", "-o", "remount,ro", out], check=True)
    with pytest.raises(ConvertError, match=rf"^prepare: {out} cannot be written to"):
        convert(no_model, (64, 64), photographs, out)


UNFIT = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from export_raw_head import load
from ultralytics.nn.tasks import DetectionModel, SegmentationModel, yaml_model_load
p6 = yaml_model_load("yolov8-seg-p6.yaml")
for name, model in {
    "detector": DetectionModel("yolov8n.yaml", verbose=False),
    "grey": SegmentationModel("yolov8n-seg.yaml", ch=1, verbose=False),
    "p6": SegmentationModel(p6 | {"scale": "n"}, verbose=False),
    "fit": SegmentationModel("yolo11n-seg.yaml", verbose=False),
}.items():
    path = Path(sys.argv[2], name + ".pt")
    torch.save({"model": model.half(), "train_args": {}}, path)
    try:
        load(path)
    except SystemExit as refused:
        print("refused:", refused)
"""


@needs_converter
@installs
def test_networks_of_other_kinds_are_refused_with_the_reason(tmp_path: Path) -> None:
    command = [ensure(EXPORT), "-I", "-c", UNFIT, EXPORT_SCRIPT.parent, tmp_path]
    done = subprocess.run(
        command, check=True, timeout=200, text=True, capture_output=True, env=os.environ | EXPORT_VARIABLES
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("refused: ")]
    reasons = [
        "detector.pt ends in Detect, not in a YOLOv8/YOLO11 segmentation head; give a -seg checkpoint",
        "grey.pt takes pictures of 1 channels; needed are 3, red, green and blue",
        "p6.pt has strides (8, 16, 32, 64), 64 box and 32 mask channels; needed are (8, 16, 32), 64 and 32",
    ]
    assert said == [f"refused: {reason}" for reason in reasons]


def test_calibration_spreads_over_a_large_folder() -> None:
    paths = [Path(f"{number:04}.jpg") for number in range(1000)]
    assert spread(paths, 4) == [paths[0], paths[250], paths[500], paths[750]]
    assert spread(paths[:3], 4) == paths[:3]
    assert len(set(spread(paths[:150]))) == 100


def test_calibration_pictures_are_letterboxed_in_grey(tmp_path: Path) -> None:
    bgr = np.zeros((20, 40, 3), np.uint8)
    bgr[..., 2] = 255
    cv2.imwrite(str(tmp_path / "red.png"), bgr)
    (picture,) = load_pictures([tmp_path / "red.png"], (64, 64))
    assert (picture[:16] == 114).all()
    assert (picture[16:48] == (255, 0, 0)).all()
    assert (picture[48:] == 114).all()


def test_no_suitable_python(
    tmp_path: Path, photographs: Path, no_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that does not run, as pyenv leaves for versions that are not active.
    (tmp_path / "python3.11").write_text("#!/bin/sh\nexit 127\n")
    (tmp_path / "python3.11").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "absent"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(ConvertError, match=r"needs Python 3\.11 or 3\.12 .* none is on PATH"):
        convert(no_model, (64, 64), photographs, tmp_path)


@needs_converter
def test_cache_that_cannot_be_made(
    tmp_path: Path, photographs: Path, no_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConvertError, match=r"cannot be written: Not a directory"):
        convert(no_model, (64, 64), photographs, tmp_path)


class TestEnvironment:
    @pytest.fixture
    def tiny(self, converter: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
        """One that holds nothing but a placeholder, in a cache of its own."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setattr(environments, "LOCKS", tmp_path)
        (tmp_path / "tiny.txt").write_text("# nothing\n")
        return Environment("tiny", "tiny.txt", placeholders=(("thing", "1.2"),))

    def test_is_made_once_and_again_if_it_was_interrupted(self, tiny: Environment) -> None:
        python = ensure(tiny)
        folder = python.parents[1]
        code = "import importlib.metadata as m; print(m.version('thing'))"
        assert subprocess.check_output([python, "-I", "-c", code], text=True).strip() == "1.2"
        (folder / "mark").touch()
        assert ensure(tiny) == python
        assert (folder / "mark").exists()
        (folder / environments.READY).unlink()
        assert ensure(tiny) == python
        assert not (folder / "mark").exists()
        assert (folder / environments.READY).exists()

    def test_who_waits_for_another_process_says_so(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        with environments.locked(tmp_path / "it"):
            pass
        assert caplog.text == ""
        holder = ["flock", tmp_path / "it.lock", "sh", "-c", "echo; read line"]
        with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            let_go = process.stdin.close

            def when_said(record: logging.LogRecord) -> bool:
                let_go()
                return True

            process.stdout.readline()
            environments.log.addFilter(when_said)
            try:
                with environments.locked(tmp_path / "it"):
                    process.wait(10)
            finally:
                environments.log.removeFilter(when_said)
                let_go()
        assert f"waiting for another process that works on {tmp_path / 'it'}" in caplog.text

    def test_failed_installation_names_the_log_and_is_not_ready(
        self, tiny: Environment, tmp_path: Path
    ) -> None:
        (tmp_path / "tiny.txt").write_text(f"{tmp_path / 'absent.whl'}\n")
        with pytest.raises(ConvertError, match=r"^prepare tiny: .*absent\.whl.*its log is .*tiny-.*\.log"):
            ensure(tiny)
        assert not list((tmp_path / "cache").rglob(environments.READY))

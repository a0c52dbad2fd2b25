"""What the raw head is there to avoid, made for real: fused outputs with boxes in pixels, in int8."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from appliance.convert import check
from appliance.convert.calibration import load_pictures
from appliance.convert.environments import EXPORT, TFLITE, Environment, ensure
from appliance.errors import LossTooGreat

SHARED = Path(__file__).resolve().parents[2] / "shared"
CHECKPOINT = SHARED / "models" / "yolov8n-seg-ref.pt"
WH = (256, 256)

EXPORT_FUSED = """
import sys, types, onnx, onnxslim, torch
from ultralytics.nn.tasks import load_checkpoint
model, _ = load_checkpoint(sys.argv[1], fuse=True)
head = model.model[-1]
size = 256
strides = torch.cat([torch.full((1, (size // s) ** 2), float(s)) for s in (8, 16, 32)], 1)
sides = [torch.arange(size // s) + 0.5 for s in (8, 16, 32)]
grids = [torch.stack(torch.meshgrid(side, side, indexing="xy")).flatten(1) for side in sides]
anchors = torch.cat(grids, 1)[None]

def fused(head, features):
    flat = [torch.cat([one(f).flatten(2) for one, f in zip(part, features)], 2)
            for part in (head.cv2, head.cv3, head.cv4)]
    near, far = head.dfl(flat[0]).chunk(2, 1)
    centre, size = anchors + (far - near) / 2, near + far
    rows = torch.cat([centre * strides, size * strides, flat[1].sigmoid(), flat[2]], 1)
    return rows, head.proto(features[0])

head.forward = types.MethodType(fused, head)
with torch.inference_mode():
    torch.onnx.export(model, (torch.zeros(1, 3, size, size),), sys.argv[2], opset_version=17, dynamo=False)
onnx.save(onnxslim.slim(onnx.load(sys.argv[2])), sys.argv[2])
"""

QUANTISE_FUSED = """
import os, sys
os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np, onnx2tf, tensorflow as tf
pictures = np.load(sys.argv[2]).astype(np.float32) / 255
np.save("calibration_image_sample_data_20x128x128x3_float32.npy", np.zeros((20, 128, 128, 3), np.float32))
model = onnx2tf.convert(input_onnx_file_path=sys.argv[1], not_use_onnxsim=True, disable_model_save=True,
                        non_verbose=True)
function = tf.function(model).get_concrete_function(tf.TensorSpec((1, 256, 256, 3), tf.float32))
def converter():
    return tf.lite.TFLiteConverter.from_concrete_functions([function], model)
open("float.tflite", "wb").write(converter().convert())
int8 = converter()
int8.optimizations = [tf.lite.Optimize.DEFAULT]
int8.representative_dataset = lambda: ([picture[None]] for picture in pictures)
int8.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
int8.inference_input_type = int8.inference_output_type = tf.int8
open("int8.tflite", "wb").write(int8.convert())
"""


def run(code: str, environment: Environment, folder: Path, *arguments: Path) -> None:
    command = [ensure(environment), "-I", "-c", code, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the trained checkpoint is in ../shared, absent here")
@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_boxes_in_pixels_beside_scores_are_caught_and_named(tmp_path: Path) -> None:
    photographs = sorted((SHARED / "eval" / "calibration").glob("*.jpg"))[:12]
    pictures = load_pictures(photographs, WH)
    np.save(tmp_path / "pictures.npy", pictures)
    run(EXPORT_FUSED, EXPORT, tmp_path, CHECKPOINT, tmp_path / "fused.onnx")
    run(QUANTISE_FUSED, TFLITE, tmp_path, tmp_path / "fused.onnx", tmp_path / "pictures.npy")

    said, _ = check.run_tflite(tmp_path / "float.tflite", pictures[:4], range(16))
    assert sum(int((one.scores > 0.25).sum()) for one in said) > 20  # the float form is fine
    with pytest.raises(LossTooGreat) as caught:
        check.quantised(tmp_path / "float.tflite", tmp_path / "int8.tflite", pictures[:4])
    message = str(caught.value)
    assert "scores are off by" in message
    assert "its boxes, scores and coefficients share one output and one scale of 1." in message
    assert "use a raw head" in message

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "demo.tflite"


def test_the_model_is_the_one_that_its_papers_describe() -> None:
    content = MODEL.read_bytes()
    assert len(content) <= 2_000_000
    digest = hashlib.sha256(content).hexdigest()
    manifest = yaml.safe_load((ROOT / "models" / "manifest.yaml").read_text(encoding="utf-8"))
    sidecar = json.loads(MODEL.with_suffix(".json").read_text(encoding="utf-8"))
    entry = manifest["models"]["demo"]
    assert entry["file"] == MODEL.name
    assert entry["sha256"] == digest
    assert sidecar["sha256"] == digest
    assert sidecar["demo"] is True
    for model in manifest["models"].values():
        assert {"licence", "origin", "made"} <= model.keys()


@pytest.mark.timeout(180)
def test_the_model_finds_what_the_scene_shows(tmp_path: Path) -> None:
    """A part of what models/README.md reports, by the same script."""
    figures = tmp_path / "figures.json"
    script = ROOT / "models" / "training" / "score.py"
    sizes = ["--scenes", "25", "--pictures", "300", "--every", "10"]
    command = [sys.executable, str(script), str(MODEL), *sizes, "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=170, check=False)
    assert done.returncode == 0, done.stderr
    measured = json.loads(figures.read_text(encoding="utf-8"))
    assert measured["held_out_scenes"]["mask_map50"] >= 0.75
    assert measured["live_scene"]["found_iou_0.7"] >= 0.80
    assert measured["live_scene"]["click_right_on_found"] >= 0.97
    assert measured["live_scene"]["click_right_on_any"] >= 0.85

"""A description that is not of the model beside it."""

import json
from pathlib import Path

import pytest

from appliance.config import PROJECT_ROOT
from appliance.errors import ModelError
from appliance.invoke.runtime import read

DEMO = PROJECT_ROOT / "models" / "demo.tflite"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The demo model with its description."""
    for path in (DEMO, DEMO.with_suffix(".json")):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / DEMO.name


def test_model_that_is_described_is_read(model: Path) -> None:
    assert read(model) == DEMO.read_bytes()


def test_one_wrong_byte_is_noticed(model: Path) -> None:
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    with pytest.raises(
        ModelError, match=r"demo\.tflite is damaged, or not the model that demo\.json describes"
    ):
        read(model)


def test_description_without_a_checksum_is_believed(model: Path) -> None:
    description = model.with_suffix(".json")
    content = json.loads(description.read_text())
    del content["sha256"]
    description.write_text(json.dumps(content))
    model.write_bytes(model.read_bytes() + bytes(16))
    read(model)

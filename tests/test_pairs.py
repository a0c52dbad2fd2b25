"""A model and its sibling for the Edge TPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from edge_tpu import compile_model

from appliance.config import PROJECT_ROOT
from appliance.errors import ModelError, ModelMissing, NotCompiled
from appliance.invoke import runtime
from appliance.invoke.pairs import ModelPair, check_twins, find_pair
from appliance.invoke.sidecar import read_sidecar

PLAIN = PROJECT_ROOT / "models" / "demo.tflite"


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "net.tflite"
    path.write_bytes(PLAIN.read_bytes())
    return path


@pytest.fixture
def compiled(plain: Path) -> Path:
    path = plain.with_name("net_edgetpu.tflite")
    compile_model(plain, path)
    return path


def paths(pair: ModelPair) -> tuple[str | None, str | None]:
    plain, compiled = pair.plain, pair.compiled
    return (plain.path.name if plain else None, compiled.path.name if compiled else None)


def test_siblings_find_each_other_by_the_compilers_name(plain: Path, compiled: Path) -> None:
    assert paths(find_pair(plain)) == paths(find_pair(compiled)) == ("net.tflite", "net_edgetpu.tflite")


def test_either_may_be_alone(plain: Path) -> None:
    assert paths(find_pair(plain)) == ("net.tflite", None)
    compiled = plain.with_name("tpu.tflite")
    compile_model(plain, compiled)
    assert paths(find_pair(compiled)) == (None, "tpu.tflite")


def test_a_sidecar_names_the_sibling(plain: Path, compiled: Path) -> None:
    other = compiled.rename(compiled.with_name("for-the-coral.tflite"))
    plain.with_suffix(".json").write_text(json.dumps({"edge_tpu": other.name}))
    other.with_suffix(".json").write_text(json.dumps({"plain": plain.name}))
    assert paths(find_pair(plain)) == paths(find_pair(other)) == ("net.tflite", "for-the-coral.tflite")
    other.unlink()
    with pytest.raises(ModelMissing, match="for-the-coral"):
        find_pair(plain)


def test_siblings_that_are_not_what_they_should_be(plain: Path, compiled: Path) -> None:
    compiled.with_suffix(".json").write_text(json.dumps({"plain": compiled.name}))
    assert paths(find_pair(compiled)) == (None, compiled.name)
    copy = plain.with_name("copy.tflite")
    copy.write_bytes(compiled.read_bytes())
    compiled.with_suffix(".json").write_text(json.dumps({"plain": copy.name}))
    with pytest.raises(ModelError, match="compiled itself"):
        find_pair(compiled)
    compiled.write_bytes(plain.read_bytes())
    for path in (plain, compiled):
        with pytest.raises(NotCompiled, match=r"net_edgetpu\.tflite has no part"):
            find_pair(path)


@pytest.mark.parametrize("content", ['{"name": 1}', '{"demo": "yes"}', '{"plain": null}', "[]", "{", '"x"'])
def test_a_wrong_sidecar_is_an_error(plain: Path, content: str) -> None:
    plain.with_suffix(".json").write_text(content)
    with pytest.raises(ModelError, match=r"net\.json") as caught:
        read_sidecar(plain)
    assert "\n" not in str(caught.value)


def test_a_compiled_model_says_without_a_device_what_it_takes(plain: Path, compiled: Path) -> None:
    specs = [runtime.read_spec(path, path.read_bytes()) for path in (plain, compiled)]
    assert specs[0].input == specs[1].input
    assert specs[0].outputs == specs[1].outputs
    check_twins(specs[0], specs[1], find_pair(plain))


def test_a_model_for_another_size_cannot_stand_in(plain: Path, compiled: Path) -> None:
    spec = runtime.read_spec(plain, plain.read_bytes())
    other = replace(spec, input=replace(spec.input, zero_point=3))
    with pytest.raises(ModelError, match="compile it again"):
        check_twins(spec, other, find_pair(plain))

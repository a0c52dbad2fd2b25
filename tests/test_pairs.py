"""A model and its sibling for the Edge TPU."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from edge_tpu import compile_model
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import PROJECT_ROOT
from appliance.data import Layout
from appliance.errors import ModelError, ModelMissing, NotAModel, NotCompiled, SeveralModels
from appliance.invoke import runtime
from appliance.invoke.choice import choose_backend
from appliance.invoke.pairs import ModelPair, check_twins, find_pair, find_plain, locate
from appliance.invoke.sidecar import read_sidecar

PLAIN = PROJECT_ROOT / "models" / "demo.tflite"
REAL = PROJECT_ROOT.parent / "shared" / "models" / "yolov8n-seg_256_edgetpu.tflite"
KEYS = st.sampled_from(["name", "demo", "plain", "edge_tpu", "other"])


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
    with pytest.raises(ModelMissing, match=r"for-the-coral\.tflite.*net\.json, which names it") as caught:
        find_pair(plain)
    assert "\n" not in str(caught.value)


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


def test_for_the_cpu_the_compiled_one_does_not_matter(plain: Path, compiled: Path) -> None:
    for path in (plain, compiled):
        found = find_plain(path)
        assert found is not None
        assert found.path == plain
    for content in (plain.read_bytes(), b"damaged"):
        compiled.write_bytes(content)
        found = find_plain(plain)
        assert found is not None
        assert found.path == plain
    alone = plain.with_name("alone.tflite")
    compile_model(plain, alone)
    assert find_plain(alone) is None


def test_a_folder_with_one_model_means_that_model(plain: Path, compiled: Path) -> None:
    folder = plain.parent
    (folder / "README.md").write_text("no model")
    (folder / ".hidden.tflite").write_text("no model")
    assert locate(folder) == plain
    other = compiled.rename(compiled.with_name("for-the-coral.tflite"))
    for described, names in ((plain, {"edge_tpu": other.name}), (other, {"plain": plain.name})):
        described.with_suffix(".json").write_text(json.dumps(names))
        assert locate(folder) == plain
        described.with_suffix(".json").unlink()
    plain.unlink()
    assert locate(folder) == other
    assert locate(plain) == plain


def test_a_link_to_a_folder_is_followed_once(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    link = tmp_path / "models" / "current"
    link.symlink_to(plain.parent)
    found = locate(link)
    backend = choose_backend(link, "cpu", "auto", live=True)
    assert backend.spec.name == "net"
    backend.close()
    link.unlink()
    assert find_pair(found).plain is not None


def test_a_folder_that_could_mean_anything(plain: Path) -> None:
    folder = plain.parent
    other = plain.with_name("other.tflite")
    other.write_bytes(plain.read_bytes())
    with pytest.raises(SeveralModels, match=r"several models \(net\.tflite, other\.tflite\): name one"):
        locate(folder)
    for each, named in ((plain, other), (other, plain)):
        each.with_suffix(".json").write_text(json.dumps({"edge_tpu": named.name}))
    with pytest.raises(SeveralModels):
        locate(folder)
    for path in folder.iterdir():
        path.unlink()
    for kind in ("cpu", "auto", "edgetpu"):
        with pytest.raises(ModelMissing, match="no model in the folder") as caught:
            choose_backend(folder, kind, "auto", live=True)
        assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        '{"name": 1}',
        '{"name": "two\\nlines"}',
        '{"demo": "yes"}',
        '{"plain": null}',
        '{"plain": ""}',
        '{"plain": "a\\u0000b"}',
        '{"edge_tpu": "\\ud800"}',
        "[]",
        "{",
        '"x"',
        "[" * 100_000,
        "1" * 5000,
    ],
)
def test_a_wrong_sidecar_is_an_error(plain: Path, content: str) -> None:
    plain.with_suffix(".json").write_text(content)
    with pytest.raises(ModelError, match=r"net\.json") as caught:
        read_sidecar(plain)
    assert "\n" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(KEYS, values, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=50)
@given(
    st.one_of(st.dictionaries(KEYS, JSON, max_size=4).map(json.dumps).map(str.encode), st.binary(max_size=40))
)
def test_whatever_a_sidecar_holds_a_model_is_found_or_it_is_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.tflite"
    path.write_bytes(PLAIN.read_bytes())
    path.with_suffix(".json").write_bytes(content)
    try:
        found, said = find_pair(path).plain, "any.json"
    except ModelError as error:
        found, said = None, str(error)
    assert found is None or found.path == path
    assert "\n" not in said
    assert "any.json" in said


def test_a_compiled_model_says_without_a_device_what_it_takes(plain: Path, compiled: Path) -> None:
    specs = [runtime.read_spec(path, path.read_bytes()) for path in (plain, compiled)]
    assert specs[0].input == specs[1].input
    assert specs[0].outputs == specs[1].outputs
    check_twins(specs[0], specs[1], find_pair(plain))


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared")
def test_one_of_the_real_compiler_says_without_a_device_what_it_takes() -> None:
    content = REAL.read_bytes()
    assert runtime.is_compiled(content)
    spec = runtime.read_spec(REAL, content)
    assert (spec.layout, spec.nhwc, spec.input_wh) == (Layout.FUSED, True, (256, 256))
    assert [output.shape for output in spec.outputs] == [(1, 116, 1344), (1, 64, 64, 32)]
    assert spec.input.quantised
    with pytest.raises(NotAModel) as caught:
        runtime.read_spec(REAL, content[: len(content) // 2])
    assert "\n" not in str(caught.value)


def test_a_model_for_another_size_cannot_stand_in(plain: Path, compiled: Path) -> None:
    spec = runtime.read_spec(plain, plain.read_bytes())
    other = replace(spec, input=replace(spec.input, zero_point=3))
    with pytest.raises(ModelError, match="compile it again"):
        check_twins(spec, other, find_pair(plain))

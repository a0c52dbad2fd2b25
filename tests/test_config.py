"""Configuration: the reference file equals the defaults; every mistake is one line that helps."""

from pathlib import Path

import pytest

from appliance.config import PROJECT_ROOT, Config, load, parse
from appliance.errors import ConfigError


def test_the_reference_file_names_every_key_with_its_default() -> None:
    text = (PROJECT_ROOT / "config.yaml").read_text()
    parsed = parse(text, "config.yaml")
    assert parsed == Config()
    assert parsed.model_fields_set == set(Config.model_fields)
    for name in ("camera", "scene", "model", "display"):
        section = getattr(parsed, name)
        assert section.model_fields_set == set(type(section).model_fields), name


def test_an_empty_file_is_all_defaults() -> None:
    assert parse("# nothing\n", "x") == Config()


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {file: a.tflite}\nsource: photos\noutput: /somewhere\n")
    config = load(file)
    assert config.model.file == str(tmp_path / "a.tflite")
    assert config.source == str(tmp_path / "photos")
    assert config.output == "/somewhere"


def test_what_a_file_elsewhere_leaves_out_is_the_projects_own(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("model: {confidence: 0.5}\n")
    config = load(file)
    assert config.source == "scene"
    assert config.model.file == str(PROJECT_ROOT / "models" / "demo.tflite")
    assert config.output == str(PROJECT_ROOT / "out")


def test_a_camera_is_named_by_its_number(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    for source, number in (("camera", 0), ("camera:0", 0), ("camera:12", 12), ("camera.mp4", None)):
        file.write_text(f"source: '{source}'\n")
        config = load(file)
        assert config.camera_number == number
        assert config.source == (source if number is not None else str(tmp_path / source))


def test_a_v4l2_camera_has_fewer_settings() -> None:
    Config().camera.check_for_v4l2()
    with pytest.raises(ConfigError, match=r"camera\.gain can be set for the source camera only"):
        parse("camera: {gain: 2.0}", "x").camera.check_for_v4l2()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model: {confidnce: 0.4}", ["model.confidnce", "unknown key", "did you mean model.confidence?"]),
        ("modle: {}", ["modle", "did you mean model?", "allowed here: source, camera"]),
        ("model: {confidence: 1.5}", ["model.confidence", "1.5", "from 0.01 to 0.99"]),
        ("model: {confidence: high}", ["model.confidence", "'high'", "a number"]),
        ("camera: {width: 1280.5}", ["camera.width", "a whole number"]),
        ("camera: {width: '1280'}", ["camera.width", "a whole number"]),
        ("camera: 5", ["camera: 5", "a section"]),
        ("display: {kind: hdmi}", ["display.kind", "'hdmi'", "screen, files or null"]),
        ("display: {fullscreen: 1}", ["display.fullscreen", "true or false"]),
        ("camera: {flip: upside}", ["camera.flip", "'upside'", "none, horizontal, vertical or both"]),
        ("camera: {exposure: 5}", ["did you mean camera.exposure_ms?"]),
        ("scene: {rate_hz: 31}", ["scene.rate_hz", "30 or 60"]),
        ("source: null", ["source", "None"]),
        ("model: {file: [", ["line 1"]),
        ("output: a\noutput: b", ["line 2", "output", "twice"]),
        ("- a\n- b", ["holds no keys"]),
        ("camera: {1: 2}", ["line 1", "the key 1 is no name"]),
        ("? [a]\n: b", ["line 1", "is no name"]),
        ("output: 2026-02-30", ["see the project's config.yaml"]),
    ],
)
def test_a_mistake_is_one_line_with_file_key_and_help(text: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        parse(text, "my.yaml")
    message = str(raised.value)
    assert message.startswith("my.yaml:")
    assert "\n" not in message
    for word in words:
        assert word in message
    assert raised.value.exit_code == 2


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "binary.yaml")

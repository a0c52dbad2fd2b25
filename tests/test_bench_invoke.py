"""`appliance bench invoke`: real torch, converter and interpreter, with a small network."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest
from converting import new_cache

from appliance.__main__ import main
from appliance.bench import invoke
from appliance.bench.invoke import bench_invoke, converted, random_fastsam
from appliance.convert.journal import News
from appliance.convert.steps import work_folder
from appliance.download import sha256_of
from appliance.errors import ConvertError

KEYS = ["torch_1024_ms", "torch_512_ms", "float_512_ms", "int8_512_ms", "ratio_to_torch_1024"]


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_all_four_run_in_turn_and_int8_is_the_fastest(capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint = random_fastsam("n")
    assert main(["bench", "invoke", "--checkpoint", str(checkpoint), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert list(figures) == KEYS
    assert figures["ratio_to_torch_1024"] == pytest.approx(
        figures["torch_1024_ms"] / figures["int8_512_ms"], rel=1e-3
    )
    assert figures["torch_1024_ms"] > 1.5 * figures["torch_512_ms"]  # four times the work
    assert figures["ratio_to_torch_1024"] > 3
    assert min(figures.values()) > 0


def test_a_checkpoint_has_to_be_converted_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "invoke", "--checkpoint", str(tmp_path / "no.pt")]) == ConvertError.exit_code
    assert "there is no file" in capsys.readouterr().err
    (tmp_path / "yes.pt").write_bytes(b"")
    assert main(["bench", "invoke", "--checkpoint", str(tmp_path / "yes.pt")]) == ConvertError.exit_code
    err = capsys.readouterr().err.strip()
    assert "appliance convert --checkpoint" in err
    assert len(err.splitlines()) == 1


def test_one_that_was_replaced_has_to_be_converted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checkpoint = tmp_path / "net.pt"
    checkpoint.write_bytes(b"first")
    work = work_folder(checkpoint, (512, 512))
    work.mkdir(parents=True)
    for name in ("float.tflite", "int8.tflite", "quantise.record.json"):
        (work / name).touch()
    with pytest.raises(ConvertError, match="was not converted here yet; first: appliance convert"):
        converted(checkpoint)
    (work / "float.json").write_text(json.dumps({"checkpoint": {"sha256": sha256_of(checkpoint)}}))
    assert converted(checkpoint) == (work / "float.tflite", work / "int8.tflite")
    checkpoint.write_bytes(b"second")
    with pytest.raises(ConvertError, match="has changed since it was converted here; first: appliance conv"):
        converted(checkpoint)
    checkpoint.write_bytes(b"first")
    (work / "quantise.record.json").unlink()  # as a conversion does that is under way
    with pytest.raises(ConvertError, match="was not converted here yet"):
        converted(checkpoint)


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_a_random_one_is_made_once_and_only_asked_each_time_whether_what_it_is_made_of_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the journal does then, its own tests show. Nothing is checked or compiled."""
    made = random_fastsam("n").stat().st_mtime_ns
    seen: list[News] = []
    monkeypatch.setattr(invoke, "_show", seen.append)
    assert random_fastsam("n").stat().st_mtime_ns == made
    kept = [news.step for news in seen if news.kept]
    assert kept == ["random n", "calibrate", "export", "quantise"]
    assert {news.step for news in seen} == {"prepare", *kept}


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_what_torch_says_about_a_damaged_checkpoint_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = converted(random_fastsam("n"))
    broken = tmp_path / "broken.pt"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("archive/data.pkl", b"not a pickle")
    new_cache(tmp_path, monkeypatch)
    work = work_folder(broken, (512, 512))
    work.mkdir(parents=True)
    for model in models:
        (work / model.name).symlink_to(model)
    (work / "quantise.record.json").touch()
    (work / "float.json").write_text(json.dumps({"checkpoint": {"sha256": sha256_of(broken)}}))
    with pytest.raises(ConvertError, match=r"torch cannot run .*broken\.pt: "):
        bench_invoke(broken, rounds=1)

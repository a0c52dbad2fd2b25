"""`appliance bench invoke`: real torch, converter and interpreter, with a small network."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from appliance.__main__ import main
from appliance.bench.invoke import bench_invoke, converted, random_fastsam
from appliance.convert import environments
from appliance.convert.steps import work_folder
from appliance.errors import ConvertError

KEYS = ["torch_1024_ms", "torch_512_ms", "float_512_ms", "int8_512_ms", "ratio_to_torch_1024"]


@pytest.fixture
def converter() -> None:
    """TensorFlow's converter exists for some Pythons only, and a system may have no such one."""
    try:
        environments.find_python()
    except ConvertError as error:
        pytest.skip(str(error))


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


@pytest.mark.usefixtures("converter")
@pytest.mark.timeout(900)
def test_what_torch_says_about_a_damaged_checkpoint_is_passed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = converted(random_fastsam("n"))
    broken = tmp_path / "broken.pt"
    with zipfile.ZipFile(broken, "w") as archive:
        archive.writestr("archive/data.pkl", b"not a pickle")
    installed = environments.cache_folder() / "envs"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    work = work_folder(broken, (512, 512))
    work.mkdir(parents=True)
    (environments.cache_folder() / "envs").symlink_to(installed)
    for model in models:
        (work / model.name).symlink_to(model)
    with pytest.raises(ConvertError, match=r"torch cannot run .*broken\.pt: "):
        bench_invoke(broken, rounds=1)

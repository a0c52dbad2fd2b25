"""Installed models: whole or not at all, whatever is in the way."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edge_tpu import compile_model
from file_server import Behaviour, serving

from appliance import models_folder
from appliance.__main__ import main
from appliance.bundle import write_bundle
from appliance.config import PROJECT_ROOT
from appliance.errors import BundleError, DownloadError, ModelError, ModelMissing, ModelsNotWritable
from appliance.invoke.pairs import find_pair, locate
from appliance.models_folder import add, add_from, installed, use

DEMO = PROJECT_ROOT / "models" / "demo.tflite"
Contents = dict[str, bytes | str]


def make_bundle(folder: Path, name: str = "net", title: str = "Net", compiled: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    model = folder / f"{name}.tflite"
    shutil.copy(DEMO, model)
    if compiled:
        compile_model(DEMO, folder / f"{name}_edgetpu.tflite")
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    model.with_suffix(".json").write_text(json.dumps({"name": title, "sha256": sha256}))
    return write_bundle(model)


def contents(folder: Path) -> Contents:
    """All that is in a folder: files and where links lead."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "lib" / "models"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return make_bundle(tmp_path / "made")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another one of the same name."""
    return make_bundle(tmp_path / "other", title="Other", compiled=False)


def test_what_is_added_is_the_current_model(models: Path, bundle: Path) -> None:
    assert add(models, bundle) == ("net", "added")
    assert {path.name for path in models.iterdir()} == {"net", "current"}
    assert (models / "current").readlink() == Path("net")
    assert {oct(path.stat().st_mode & 0o777) for path in (models, models / "net")} == {"0o755"}
    assert {oct(path.stat().st_mode & 0o777) for path in (models / "net").iterdir()} == {"0o644"}
    pair = find_pair(locate(models / "current"))
    assert pair.plain is not None
    assert pair.compiled is not None
    assert pair.compiled.path == models / "net" / "net_edgetpu.tflite"
    (only,) = installed(models)
    assert (only.folder, only.current) == ("net", True)
    assert only.words.startswith("Net, 512 x 288, for CPU and Edge TPU, ")


def test_the_same_again_changes_nothing(models: Path, bundle: Path) -> None:
    add(models, bundle)
    before, inode = contents(models), (models / "net" / "net.tflite").stat().st_ino
    assert add(models, bundle) == ("net", "there already")
    assert contents(models) == before
    assert (models / "net" / "net.tflite").stat().st_ino == inode
    (models / "net" / "net.tflite").write_bytes(b"damaged")
    assert add(models, bundle) == ("net", "replaced")
    assert contents(models) == before


def test_another_of_the_same_name_takes_its_place(models: Path, bundle: Path, other: Path) -> None:
    add(models, bundle)
    assert add(models, other) == ("net", "replaced")
    assert [model.words.split(",")[0] for model in installed(models)] == ["Other"]
    assert not (models / "net" / "net_edgetpu.tflite").exists()
    assert {path.name for path in models.iterdir()} == {"net", "current"}


WATCH = """
import os, sys
while True:
    print(len([os.stat(sys.argv[1]) for _ in range(1000)]), flush=True)
"""


def test_while_one_is_replaced_there_is_always_one(models: Path) -> None:
    """Watched by a process of its own, which finds a moment without one within a few hundred exchanges."""
    one, other = models / "one", models / "other"
    for folder in (one, other):
        folder.mkdir(parents=True)
        (folder / "net.json").touch()
    with subprocess.Popen(
        [sys.executable, "-c", WATCH, one / "net.json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watcher:
        assert watcher.stdout is not None
        assert watcher.stdout.readline()
        end_s = time.monotonic() + 2
        while time.monotonic() < end_s:
            models_folder._exchange(one, other)
        watcher.kill()
        looked, error = watcher.communicate()
    assert error == b""
    assert looked


def test_a_bad_bundle_changes_nothing(models: Path, bundle: Path, other: Path) -> None:
    add(models, bundle)
    before = contents(models)
    other.write_bytes(other.read_bytes()[:-20_000])
    for path in (other, other.with_name("missing.tar"), DEMO):
        with pytest.raises(BundleError):
            add(models, path)
        assert contents(models) == before


@pytest.mark.parametrize(
    "put",
    [
        lambda place: place.mkdir(),
        lambda place: place.write_text("mine"),
        lambda place: place.symlink_to("/etc"),
        lambda place: (place.mkdir(), (place / "net.tflite").write_text("mine")),
    ],
)
def test_what_came_otherwise_is_left_alone(models: Path, bundle: Path, put: Callable[[Path], object]) -> None:
    models.mkdir(parents=True)
    put(models / "net")
    before = contents(models)
    with pytest.raises(ModelsNotWritable, match="move it away"):
        add(models, bundle)
    assert contents(models) == before
    assert [path.name for path in models.iterdir()] == ["net"]


def test_so_is_what_was_put_beside_an_installed_model(models: Path, bundle: Path, other: Path) -> None:
    add(models, bundle)
    (models / "net" / "notes.txt").write_text("mine")
    before = contents(models)
    with pytest.raises(ModelsNotWritable, match="net is there, and not only from a bundle"):
        add(models, other)
    assert contents(models) == before


def test_a_current_that_is_no_link_is_left_alone(models: Path, bundle: Path) -> None:
    (models / "current").mkdir(parents=True)
    with pytest.raises(ModelsNotWritable, match="current should be a link"):
        add(models, bundle)
    assert [path.name for path in models.iterdir()] == ["current"]


def test_a_model_cannot_be_called_current(models: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="cannot be called 'current'"):
        add(models, make_bundle(tmp_path / "made", "current"))
    assert list(models.iterdir()) == []


def test_one_is_chosen_among_several(models: Path, bundle: Path, tmp_path: Path) -> None:
    add(models, bundle)
    add(models, make_bundle(tmp_path / "second", "second", compiled=False))
    assert [(model.folder, model.current) for model in installed(models)] == [
        ("net", False),
        ("second", True),
    ]
    use(models, "net")
    assert (models / "current").readlink() == Path("net")
    for wrong in ("current", "..", "", "third", "net/"):
        with pytest.raises(ModelMissing, match="there are: net, second"):
            use(models, wrong)
    (models / "second" / "second.tflite").write_bytes(b"damaged")
    with pytest.raises(ModelError, match=r"second\.tflite is not a TFLite model"):
        use(models, "second")
    assert (models / "current").readlink() == Path("net")
    assert "cannot be used" in installed(models)[1].words


def test_a_current_model_from_elsewhere_is_listed(models: Path, bundle: Path, tmp_path: Path) -> None:
    assert installed(models) == ()
    demo = tmp_path / "demo"
    demo.mkdir()
    for path in (DEMO, DEMO.with_suffix(".json")):
        shutil.copy(path, demo)
    models.mkdir(parents=True)
    (models / "current").symlink_to(demo)
    (found,) = installed(models)
    assert (found.folder, found.current) == (str(demo), True)
    assert found.words.endswith("MB, demo")
    add(models, bundle)
    assert [model.folder for model in installed(models)] == ["net"]
    assert {path.name for path in demo.iterdir()} == {"demo.tflite", "demo.json"}


def test_what_an_interruption_left_is_removed(models: Path, bundle: Path) -> None:
    leftover = models / f"{models_folder._ADDING}abc"
    leftover.mkdir(parents=True)
    (leftover / "net.tflite").write_bytes(b"half")
    add(models, bundle)
    assert {path.name for path in models.iterdir()} == {"net", "current"}


def test_a_download_that_a_power_cut_left_whole_is_removed_unless_another_is_at_work(
    models: Path, bundle: Path
) -> None:
    """What is left of one that was not whole stays: it can be gone on with."""
    models.mkdir(parents=True)
    whole, part = (models / f"{before}{models_folder._DOWNLOAD}0123.tar" for before in ("", "."))
    part = part.with_name(f"{part.name}.part")
    for path in (whole, part):
        path.write_bytes(b"some")
    handle = os.open(models, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ModelsNotWritable):
        add(models, bundle)
    assert whole.exists()
    os.close(handle)
    add(models, bundle)
    assert {path.name for path in models.iterdir()} == {"net", "current", part.name}


@pytest.mark.parametrize("after_ms", [0, 20, 60, 120, 200])
def test_killed_at_any_time_the_folder_is_right(
    models: Path, bundle: Path, other: Path, after_ms: int
) -> None:
    add(models, bundle)
    code = (
        "import sys; from pathlib import Path; from appliance.models_folder import add\n"
        "print(flush=True)\n"
        "while True: [add(Path(sys.argv[1]), Path(path)) for path in sys.argv[2:]]"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, models, other, bundle], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(after_ms / 1000)
        child.send_signal(signal.SIGKILL)
    (found,) = installed(models)
    assert found.current
    assert "cannot" not in found.words
    add(models, bundle)
    assert {path.name for path in models.iterdir()} == {"net", "current"}


def test_two_at_a_time_do_not_mix(models: Path, bundle: Path) -> None:
    models.mkdir(parents=True)
    handle = os.open(models, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(ModelsNotWritable, match="another command is changing"):
        add(models, bundle)
    os.close(handle)
    add(models, bundle)


def test_a_full_disk(bundle: Path, small_disk: Callable[[str], Path]) -> None:
    models = small_disk("1m")
    with pytest.raises(ModelsNotWritable, match="No space left on device"):
        add(models, bundle)
    assert list(models.iterdir()) == []


# From an address


@pytest.fixture
def server(bundle: Path) -> Iterator[Behaviour]:
    with serving(bundle.read_bytes()) as behaviour:
        yield behaviour


def test_an_address_will_do(models: Path, server: Behaviour) -> None:
    server.breaks = [700_000]
    seen: list[tuple[int, int]] = []
    assert add_from(models, server.url, lambda done, of: seen.append((done, of))) == ("net", "added")
    assert seen[-1] == (len(server.content), len(server.content))
    assert server.asked == [None, "bytes=700000-"]
    assert {path.name for path in models.iterdir()} == {"net", "current"}


def test_an_interrupted_download_is_gone_on_with(
    models: Path, server: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, of: int) -> None:
        if done >= 500_000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        add_from(models, server.url, stop)
    assert not (models / "net").exists()
    add_from(models, server.url, lambda done, of: None)
    assert server.asked[0] is None
    assert str(server.asked[1]).startswith("bytes=5")
    with pytest.raises(KeyboardInterrupt):
        add_from(models, server.url, stop)
    add_from(models, f"{server.url}?other", lambda done, of: None)
    assert {path.name for path in models.iterdir()} == {"net", "current"}


def test_what_is_no_bundle_is_named_by_its_address(models: Path, server: Behaviour) -> None:
    server.content = b"<html>" * 1000
    with pytest.raises(BundleError, match=r"^http://127.*file\.pt cannot be used: it is no \.tar"):
        add_from(models, server.url, lambda done, of: None)
    server.answers = [404]
    with pytest.raises(DownloadError, match="404"):
        add_from(models, server.url, lambda done, of: None)
    assert list(models.iterdir()) == []


# The command


def test_the_command(models: Path, server: Behaviour, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--models", str(models)]
    assert main(["models", "add", server.url, *options]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"net: added, in {models}; it runs from the next start on")
    assert err.splitlines()[-1].endswith("MB, 100 %")
    assert len(err.splitlines()) <= 12
    assert main(["models", "list", *options]) == 0
    assert capsys.readouterr().out.startswith("* net: Net, 512 x 288, for CPU and Edge TPU")
    assert main(["models", "use", "net", *options]) == 0
    assert main(["models", "use", "no", *options]) == 11
    assert main(["models", "add", "no.tar", *options]) == 16
    assert main(["models", "add", "https:/x", *options]) == 16
    assert main(["models", "add", "ftp://x/y.tar", *options]) == 45
    err = capsys.readouterr().err
    assert [line.partition(":")[0] for line in err.splitlines()] == ["appliance"] * 4


AS_NOBODY = """
import os, sys
from pathlib import Path
from appliance import models_folder
from appliance.__main__ import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
pair = models_folder.find_pair(models_folder.locate(Path(sys.argv[2]) / "current"))
assert pair.plain and pair.compiled
sys.exit(main(["models", "add", sys.argv[1], "--models", sys.argv[2]]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs to become another user")
def test_every_user_can_read_what_root_installed_and_is_told_to_be_root_to_change_it(bundle: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        models = Path(folder) / "models"
        add(models, bundle)
        command = [sys.executable, "-c", AS_NOBODY, bundle, models]
        done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 18, done.stderr
    assert done.stderr.endswith("(Permission denied): run this with sudo\n")

"""Bundles: what comes out is what went in, and nothing else gets in."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from edge_tpu import compile_model
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from appliance.bundle import SUMS, unpack, write_bundle
from appliance.config import PROJECT_ROOT
from appliance.errors import BundleError

DEMO = PROJECT_ROOT / "models" / "demo.tflite"
Files = dict[str, bytes]
PLAIN, JSON, COMPILED, COMPILED_JSON = "net.tflite", "net.json", "net_edgetpu.tflite", "net_edgetpu.json"


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def describe(content: bytes, **more: object) -> bytes:
    return json.dumps({"name": "Net", "sha256": sha256(content), **more}).encode()


def with_sums(files: Files) -> Files:
    lines = [f"{sha256(content)}  {name}\n" for name, content in sorted(files.items()) if name != SUMS]
    return {**files, SUMS: "".join(lines).encode()}


def tar(path: Path, files: Files, change: Callable[[tarfile.TarInfo], None] = lambda entry: None) -> Path:
    """An archive, whatever is in it."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            change(entry)
            archive.addfile(entry, io.BytesIO(content))
    return path


def refused(bundle: Path, tmp_path: Path) -> str:
    """Why a bundle is not taken."""
    folder = tmp_path / "out"
    folder.mkdir()
    before = sorted(path for path in tmp_path.rglob("*") if folder not in path.parents)
    with pytest.raises(BundleError) as caught:
        unpack(bundle, folder)
    assert sorted(path for path in tmp_path.rglob("*") if folder not in path.parents) == before
    assert "\n" not in str(caught.value)
    assert str(bundle) in str(caught.value)
    return str(caught.value)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("compiled") / COMPILED
    compile_model(DEMO, path)
    return path.read_bytes()


@pytest.fixture
def files(compiled: bytes) -> Files:
    """What a whole bundle holds."""
    plain = DEMO.read_bytes()
    return with_sums(
        {
            PLAIN: plain,
            JSON: describe(plain, edge_tpu=COMPILED),
            COMPILED: compiled,
            COMPILED_JSON: describe(compiled, plain=PLAIN, op_map={"edge_tpu": 9, "cpu": 1}),
        }
    )


@pytest.fixture
def model(files: Files, tmp_path: Path) -> Path:
    """The same, as it lies in the folder that it is made in, beside other things."""
    folder = tmp_path / "made"
    folder.mkdir()
    for name, content in files.items():
        if name != SUMS:
            (folder / name).write_bytes(content)
    (folder / "other.tflite").write_bytes(b"other")
    return folder / PLAIN


def test_what_comes_out_is_what_went_in(model: Path, files: Files, tmp_path: Path) -> None:
    bundle = write_bundle(model)
    assert bundle == model.with_name("net.tar")
    folder = tmp_path / "out"
    folder.mkdir()
    os.umask(before := os.umask(0o077))
    try:
        os.umask(0o077)
        assert unpack(bundle, folder) == "net"
    finally:
        os.umask(before)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == files
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o644}


def test_the_same_files_make_the_same_bundle(model: Path) -> None:
    first = write_bundle(model).read_bytes()
    for path in model.parent.glob("net*"):
        os.utime(path, (1, 1))
        path.chmod(0o600)
    assert write_bundle(model).read_bytes() == first
    with tarfile.open(model.with_suffix(".tar")) as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted([PLAIN, JSON, COMPILED, COMPILED_JSON, SUMS])
    assert {(entry.mode, entry.uid, entry.gid, entry.uname, entry.mtime) for entry in entries} == {
        (0o644, 0, 0, "", 0)
    }


@pytest.mark.parametrize("without", [{COMPILED_JSON}, {COMPILED, COMPILED_JSON}])
def test_a_model_may_have_no_compiled_twin(
    model: Path, files: Files, without: set[str], tmp_path: Path
) -> None:
    for name in without:
        model.with_name(name).unlink()
    if COMPILED in without:
        model.with_name(JSON).write_bytes(describe(files[PLAIN]))
    folder = tmp_path / "out"
    folder.mkdir()
    unpack(write_bundle(model), folder)
    assert {path.name for path in folder.iterdir()} == files.keys() - without


def test_a_failure_leaves_the_bundle_that_was_there(model: Path) -> None:
    bundle = write_bundle(model)
    before = bundle.read_bytes()
    model.with_name(JSON).write_bytes(describe(b"another"))
    names = {path.name for path in model.parent.iterdir()}
    with pytest.raises(BundleError, match=r"net\.tflite cannot be bundled: net\.json describes another file"):
        write_bundle(model)
    assert bundle.read_bytes() == before
    assert {path.name for path in model.parent.iterdir()} == names
    model.with_name(JSON).unlink()
    with pytest.raises(BundleError, match=r"net\.json is missing"):
        write_bundle(model)


def test_a_tar_made_by_hand_will_do(files: Files, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for format in (tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT):
        path = tmp_path / f"{format}.tar"
        with tarfile.open(path, "w", format=format) as archive:
            for name, content in reversed(files.items()):
                entry = tarfile.TarInfo(name)
                entry.size, entry.uname, entry.mode = len(content), "somebody", 0o4777
                archive.addfile(entry, io.BytesIO(content))
        folder = tmp_path / "out" / str(format)
        folder.mkdir()
        assert unpack(path, folder) == "net"
        assert {path.stat().st_mode & 0o7777 for path in folder.iterdir()} == {0o644}


@pytest.mark.parametrize(
    "name",
    [
        "../net.tflite",
        "/tmp/net.tflite",
        "./net.tflite",
        "a/net.tflite",
        ".net.tflite",
        "-net.tflite",
        "net.tflite\n",
        "net.so",
        "\udcff.tflite",
        "x" * 90 + ".json",
    ],
)
def test_no_name_leads_elsewhere(files: Files, name: str, tmp_path: Path) -> None:
    bundle = tmp_path / "net.tar"
    with tarfile.open(bundle, "w", format=tarfile.USTAR_FORMAT, errors="surrogateescape") as archive:
        for each, content in {**files, name: files[PLAIN]}.items():
            entry = tarfile.TarInfo(each)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    assert "does not belong in it" in refused(bundle, tmp_path)


@pytest.mark.parametrize(
    "kind",
    [
        tarfile.SYMTYPE,
        tarfile.LNKTYPE,
        tarfile.DIRTYPE,
        tarfile.CHRTYPE,
        tarfile.FIFOTYPE,
        tarfile.GNUTYPE_SPARSE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
    ],
)
def test_only_plain_files_are_taken(files: Files, kind: bytes, tmp_path: Path) -> None:
    def change(entry: tarfile.TarInfo) -> None:
        if entry.name == JSON:
            entry.type, entry.linkname, entry.size = kind, "/etc/passwd", 0

    assert "no plain file" in refused(tar(tmp_path / "net.tar", files, change), tmp_path)


@pytest.mark.parametrize("size", [-1024, 0, (1 << 20) + 1, 1 << 50])
def test_no_size_is_believed(files: Files, size: int, tmp_path: Path) -> None:
    entry = tarfile.TarInfo(JSON)
    entry.size = size
    bundle = tmp_path / "net.tar"
    bundle.write_bytes(entry.tobuf(tarfile.GNU_FORMAT) + bytes(4096))
    assert f"net.json has {size} bytes" in refused(bundle, tmp_path)


def test_a_file_that_is_there_twice(files: Files, tmp_path: Path) -> None:
    bundle = tar(tmp_path / "net.tar", files)
    content = bundle.read_bytes()
    first = tarfile.BLOCKSIZE * (1 + -(-len(files[PLAIN]) // tarfile.BLOCKSIZE))
    bundle.write_bytes(content[:first] + content)
    assert "'net.tflite', which does not belong" in refused(bundle, tmp_path)


def changed(**changes: bytes | None) -> Callable[[Files], Files]:
    """The files, but for some; None leaves one out. Keys are the names of the constants above."""
    names = {"plain": PLAIN, "json": JSON, "compiled": COMPILED, "compiled_json": COMPILED_JSON, "sums": SUMS}

    def change(files: Files) -> Files:
        new = {**files, **{names[key]: content for key, content in changes.items() if content is not None}}
        return {name: new[name] for name in new if changes.get(key_of(name), b"") is not None}

    def key_of(name: str) -> str:
        return next((key for key, value in names.items() if value == name), "")

    return change


@pytest.mark.parametrize(
    ("change", "sums", "words"),
    [
        (changed(json=None), True, "net.json is missing"),
        (changed(sums=None), False, "SHA256SUMS is missing"),
        (changed(plain=None), True, "should hold one model, but holds none"),
        (changed(compiled=None), True, "net_edgetpu.tflite is missing"),
        (lambda files: {**files, "a.tflite": files[PLAIN]}, True, "does not belong in it"),
        (
            lambda files: {**changed(compiled_json=None)(files), "a.tflite": b"x"},
            True,
            "one model, but holds a.tflite, net.tflite",
        ),
        (
            lambda files: {**changed(compiled_json=None)(files), "a.json": b"x"},
            True,
            "a.json, which does not belong",
        ),
        (changed(compiled_json=b"{}"), False, "net_edgetpu.json is damaged"),
        (changed(sums=b"0" * 64 + b"  net.tflite\n"), False, "should list each other file once"),
        (changed(sums=b"nonsense"), False, "not what sha256sum writes"),
        (changed(sums=b"\xff" * 80), False, "not what sha256sum writes"),
        (changed(json=b"{}"), True, "describes another file"),
        (changed(json=b"[]"), True, "in braces"),
        (changed(json=b"[" * 100_000), True, "no JSON"),
        (changed(json=b"\xff"), True, "no JSON"),
        (changed(json=describe(DEMO.read_bytes(), edge_tpu="/etc/passwd")), True, "not in the bundle"),
        (changed(json=describe(DEMO.read_bytes(), plain="../x.tflite")), True, "not in the bundle"),
        (changed(json=describe(DEMO.read_bytes(), edge_tpu=1)), True, "not in the bundle"),
        (changed(json=describe(DEMO.read_bytes(), demo="yes")), True, '"demo" as true or false'),
        (changed(json=describe(DEMO.read_bytes(), bins=[1])), True, '"bins" as a list of 16'),
        (changed(plain=b"no model", json=describe(b"no model")), True, "net.tflite is not a TFLite model"),
        (
            changed(plain=DEMO.read_bytes()[:5000], json=describe(DEMO.read_bytes()[:5000])),
            True,
            "net.tflite is damaged",
        ),
        (
            changed(compiled=DEMO.read_bytes(), compiled_json=describe(DEMO.read_bytes())),
            True,
            "no part for the Edge TPU",
        ),
        (
            lambda files: {**files, PLAIN: files[COMPILED], JSON: describe(files[COMPILED])},
            True,
            "net.tflite is compiled for the Edge TPU",
        ),
    ],
)
def test_what_is_wrong_is_said(
    files: Files, change: Callable[[Files], Files], sums: bool, words: str, tmp_path: Path
) -> None:
    new = change(files)
    said = refused(tar(tmp_path / "net.tar", with_sums(new) if sums else new), tmp_path)
    assert words in said
    assert str(tmp_path / "out") not in said


def test_what_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "net.tar"
    os.mkfifo(path)
    assert "there is no bundle" in refused(path, tmp_path)
    path.unlink()
    (tmp_path / "out").rmdir()
    path.write_bytes(b"")
    assert "cut short" in refused(path, tmp_path)
    (tmp_path / "out").rmdir()
    path.write_bytes(b"\x1f\x8b" + bytes(2000))
    assert "no .tar archive" in refused(path, tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.999])
def test_an_archive_that_is_cut_short(model: Path, part: float, tmp_path: Path) -> None:
    bundle = write_bundle(model)
    used = bundle.read_bytes().rstrip(b"\0")
    bundle.write_bytes(used[: int(len(used) * part)])
    assert "cut short" in refused(bundle, tmp_path)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    places=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=4)
)
@example(places=[(0.0, 255)])
def test_a_damaged_archive_is_refused_or_whole(
    tmp_path_factory: pytest.TempPathFactory,
    files: Files,
    places: list[tuple[float, int]],
) -> None:
    """Flipped bits anywhere but in the weights: a `BundleError` and nothing else, or the same files."""
    small = {name: content for name, content in files.items() if name != COMPILED_JSON}
    small = with_sums(small)
    folder = tmp_path_factory.mktemp("damaged")
    bundle = tar(folder / "net.tar", small)
    content = bytearray(bundle.read_bytes())
    model_at = content.index(files[PLAIN])
    rest = [*range(model_at), *range(model_at + len(files[PLAIN]), len(content))]
    for place, bits in places:
        content[rest[int(place * len(rest))]] ^= bits
    bundle.write_bytes(content)
    out = folder / "out"
    out.mkdir()
    try:
        unpack(bundle, out)
        said = None
    except BundleError as error:
        said = str(error)
    assert {path.name for path in folder.iterdir()} == {"net.tar", "out"}
    if said is not None:
        assert "\n" not in said
        return
    found = {path.name: path.read_bytes() for path in out.iterdir()}
    found[SUMS] = small[SUMS]  # sha256sum writes it in two ways
    assert found == small

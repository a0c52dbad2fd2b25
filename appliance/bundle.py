"""A model's files in one archive, for another machine: NAME.tar.

It holds `NAME.tflite`, its description `NAME.json`, perhaps the same model compiled for the Edge TPU,
`NAME_edgetpu.tflite`, with or without a `NAME_edgetpu.json`, and their checksums, `SHA256SUMS`. What comes
from elsewhere is not trusted: it may hold nothing else, and it is checked as far as it can be.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from appliance.download import sha256_of
from appliance.durable import sync_folder, write_file
from appliance.errors import BundleError, ModelError, NotAModel
from appliance.invoke.pairs import check_twins, find_pair
from appliance.invoke.runtime import load, model_spec, read_spec

SUMS: Final = "SHA256SUMS"
BUNDLE_BYTES: Final = 260 << 20
"""More than any bundle can have."""
_MODEL_BYTES: Final = 128 << 20
_TEXT_BYTES: Final = 1 << 20
_MODEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\.tflite")
_TEXT: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}\.json|" + SUMS)
_FILES_AT_MOST: Final = 5
_PIECE: Final = 1 << 20


def write_bundle(model: Path) -> Path:
    """Make the bundle of NAME.tflite from what lies beside it; returns NAME.tar, in the same folder.

    The same files make the same bytes. Raises `BundleError` if something is missing, if the files do not
    belong together, or if the bundle cannot be written.
    """
    name, bundle = model.stem, model.with_suffix(".tar")
    files = [model.with_name(file) for file in _names(name)]
    archive = io.BytesIO()
    try:
        with tempfile.TemporaryDirectory(dir=model.parent, prefix=".bundle-") as temporary:
            folder = Path(temporary)
            for file in files:
                if file.is_file():
                    shutil.copyfile(file, folder / file.name)
            sums = [f"{sha256_of(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
            (folder / SUMS).write_text("".join(sums))
            check_unpacked(folder)
            with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for file in sorted(folder.iterdir()):
                    entry = tarfile.TarInfo(file.name)  # owner 0, time 0, mode 0644
                    entry.size = file.stat().st_size
                    with file.open("rb") as content:
                        tar.addfile(entry, content)
        write_file(bundle, archive.getvalue())
    except OSError as error:
        raise BundleError(f"{bundle} cannot be written: {error.strerror}") from error
    except BundleError as error:
        raise BundleError(f"{model} cannot be bundled: {error}") from error
    return bundle


def unpack(bundle: Path, folder: Path) -> str:
    """Unpack a bundle into an empty folder and check it; returns the model's name.

    The files are readable for all, and on the disk. Raises `BundleError`, and `OSError` if the folder cannot
    be written to; what the folder holds is then of no use.
    """
    if not bundle.is_file():
        raise BundleError(f"there is no bundle {bundle}: give the .tar that `appliance convert` made")
    try:
        archive = bundle.open("rb")
    except OSError as error:
        raise BundleError(f"{bundle} cannot be read: {error.strerror}") from error
    with archive:
        try:
            for name, size in _entries(archive):
                _unpack_file(archive, size, folder / name)
            sync_folder(folder)
            return check_unpacked(folder)
        except BundleError as error:
            raise BundleError(f"{bundle} cannot be used: {error}") from error


def check_unpacked(folder: Path) -> str:
    """Check the files of an unpacked bundle; returns the model's name.

    Which files there are, their checksums, the descriptions, and that the models can be loaded. Raises
    `BundleError`, naming no folder; `OSError`.
    """
    found = {path.name for path in folder.iterdir()}
    models = sorted(name for name in found if _MODEL.fullmatch(name) and not name.endswith("_edgetpu.tflite"))
    if len(models) != 1:
        raise BundleError(f"it should hold one model, but holds {', '.join(models) or 'none'}")
    name = models[0].removesuffix(".tflite")
    model, description, compiled, compiled_description = _names(name)
    if missing := {model, description, SUMS} - found:
        raise BundleError(f"{min(missing)} is missing")
    if unknown := found - {*_names(name), SUMS}:
        raise BundleError(f"it holds {min(unknown)}, which does not belong in it")
    if compiled not in found and compiled_description in found:
        raise BundleError(f"{compiled} is missing, and {compiled_description} describes it")
    sums = _read_sums(folder / SUMS)
    if sums.keys() != found - {SUMS}:
        raise BundleError(f"{SUMS} should list each other file once")
    for file, expected in sums.items():
        if sha256_of(folder / file) != expected:
            raise BundleError(f"{file} is damaged: its checksum differs from that in {SUMS}")
    _check_description(folder / description, sums[model], "edge_tpu", compiled if compiled in found else None)
    if compiled_description in found:
        _check_description(folder / compiled_description, sums[compiled], "plain", model)
    try:
        _check_models(folder / model)
    except ModelError as error:
        raise BundleError(str(error).replace(f"{folder}{os.sep}", "")) from error
    return name


def _names(name: str) -> tuple[str, str, str, str]:
    """What the files are called: model, description, compiled model, its description."""
    return f"{name}.tflite", f"{name}.json", f"{name}_edgetpu.tflite", f"{name}_edgetpu.json"


def _entries(archive: BinaryIO) -> Iterator[tuple[str, int]]:
    """Name and size of each file, with the archive at its content, which the caller is to read.

    `tarfile` as a whole is too obliging: it follows links, sparse files and extended headers. So it reads
    single headers only, and whatever is no plain file of a known name is refused. Raises `BundleError`.
    """
    seen: set[str] = set()
    while header := archive.read(tarfile.BLOCKSIZE):
        if len(header) < tarfile.BLOCKSIZE:
            break
        if not header.strip(b"\0"):
            return
        try:
            entry = tarfile.TarInfo.frombuf(header, "ascii", "surrogateescape")
        except (tarfile.HeaderError, ValueError) as error:
            raise BundleError("it is no .tar archive, or damaged") from error
        name = entry.name
        if entry.type != tarfile.REGTYPE:
            raise BundleError(f"it holds {name!r}, which is no plain file")
        limit = _MODEL_BYTES if _MODEL.fullmatch(name) else _TEXT_BYTES if _TEXT.fullmatch(name) else None
        if limit is None or name in seen or len(seen) == _FILES_AT_MOST:
            raise BundleError(f"it holds {name!r}, which does not belong in it")
        if not 0 < entry.size <= limit:
            raise BundleError(f"{name} has {entry.size} bytes, which cannot be right")
        seen.add(name)
        end = archive.tell() + -(-entry.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        yield name, entry.size
        archive.seek(end)
    raise BundleError("it is cut short")


def _unpack_file(archive: BinaryIO, size: int, path: Path) -> None:
    with path.open("xb") as file:
        while size:
            piece = archive.read(min(size, _PIECE))
            if not piece:
                raise BundleError("it is cut short")
            file.write(piece)
            size -= len(piece)
        file.flush()
        os.fchmod(file.fileno(), 0o644)
        os.fsync(file.fileno())


def _read_sums(path: Path) -> dict[str, str]:
    """Names and checksums, in the form of `sha256sum`."""
    sums: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        found = re.fullmatch(r"([0-9a-f]{64}) [ *](\S+)", line)
        if found is None or found[2] in sums:
            raise BundleError(f"{SUMS} is not what sha256sum writes")
        sums[found[2]] = found[1]
    return sums


def _check_description(path: Path, sha256: str, key: str, sibling: str | None) -> None:
    """Whether it is of the model with this checksum, and names no other sibling, which could lie anywhere."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{path.name} is no JSON") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path.name} should hold names with values, in braces")
    if str(content.get("sha256")).lower() != sha256:
        raise BundleError(f"{path.name} describes another file: its checksum is not the model's")
    other = "plain" if key == "edge_tpu" else "edge_tpu"
    if content.get(key, sibling) != sibling or other in content:
        raise BundleError(f"{path.name} names a model that is not in the bundle")


def _check_models(plain: Path) -> None:
    """Load them, as the appliance does. Raises `ModelError`."""
    pair = find_pair(plain)
    if pair.plain is None or pair.plain.path != plain:
        raise NotAModel(f"{plain} is compiled for the Edge TPU, and should be what can run on the CPU")
    spec = model_spec(plain, load(plain, pair.plain.content, threads=1))
    if pair.compiled is not None:
        check_twins(spec, read_spec(pair.compiled.path, pair.compiled.content), pair)

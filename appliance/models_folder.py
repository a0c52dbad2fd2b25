"""The folder of installed models: one folder each, and `current`, a link to the one in use.

    models/FastSAM-s-512/   the files of a bundle, with their checksums
    models/current -> FastSAM-s-512

A model is put there whole or not at all, also if the power goes.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.bundle import BUNDLE_BYTES, SUMS, check_unpacked, unpack
from appliance.download import Progress, Wanted, download
from appliance.durable import sync_folder
from appliance.errors import BundleError, ModelError, ModelMissing, ModelsNotWritable
from appliance.invoke.pairs import find_pair, locate
from appliance.invoke.runtime import read_spec

CURRENT: Final = "current"
_ADDING: Final = ".appliance-adding-"
_DOWNLOAD: Final = ".appliance-download-"
_RENAME_EXCHANGE: Final = 2
"""Of renameat2, in linux/fs.h."""
_AT_FDCWD: Final = -100


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """A folder that holds one model."""

    folder: str
    """Its name."""
    current: bool
    words: str
    """What it is, or why it cannot be used."""


def add(models: Path, bundle: Path) -> tuple[str, str]:
    """Install a bundle and make its model the current one; its name, and what was done, in words.

    A model of the same name stays until the new one is in its place. Raises `BundleError`, and
    `ModelsNotWritable`, also if something that came otherwise has this name.
    """
    with _at_work(models):
        return _add(models, bundle)


def add_from(models: Path, url: str, progress: Progress) -> tuple[str, str]:
    """The same with an address. Goes on with what an interruption left. Raises `DownloadError` too."""
    with _at_work(models):
        key = hashlib.sha256(url.encode()).hexdigest()[:16]
        bundle = models / f"{_DOWNLOAD}{key}.tar"
        for leftover in models.glob(f".{_DOWNLOAD}*"):  # of other addresses
            if key not in leftover.name:
                leftover.unlink()
        download(Wanted(url, at_most=BUNDLE_BYTES), bundle, progress)
        try:
            return _add(models, bundle)
        except BundleError as error:
            raise BundleError(str(error).replace(str(bundle), url)) from error
        finally:
            bundle.unlink(missing_ok=True)


def use(models: Path, name: str) -> None:
    """Make an installed model the current one.

    Raises `ModelMissing` if there is none of this name, `ModelError` if it cannot be used, and
    `ModelsNotWritable`.
    """
    known = [path.name for path in _folders(models)]
    if name not in known:
        there = (
            f"there are: {', '.join(known)}" if known else "there is none; appliance models add installs one"
        )
        raise ModelMissing(f"there is no model {name!r} in {models}; {there}")
    _describe(models / name)
    with _at_work(models):
        _point_at(models, name)


def installed(models: Path) -> tuple[InstalledModel, ...]:
    """All models of the folder, by name; first the current one if it lies elsewhere."""
    found = []
    current = models / CURRENT
    target = current.resolve()
    folders = _folders(models)
    if current.is_symlink() and target not in [folder.resolve() for folder in folders]:
        found.append(InstalledModel(str(target), True, _words(target)))
    for folder in folders:
        found.append(InstalledModel(folder.name, folder.resolve() == target, _words(folder)))
    return tuple(found)


def _folders(models: Path) -> list[Path]:
    return sorted(
        path
        for path in models.glob("[!.]*")
        if path.is_dir() and path.name != CURRENT and [*path.glob("*.tflite")]
    )


def _words(folder: Path) -> str:
    try:
        return _describe(folder)
    except ModelError as error:
        return f"cannot be used: {error}"


def _describe(folder: Path) -> str:
    """Raises `ModelError`."""
    pair = find_pair(locate(folder))
    files = {"CPU": pair.plain, "Edge TPU": pair.compiled}
    specs = [read_spec(file.path, file.content) for file in files.values() if file is not None]
    megabytes = sum(len(file.content) for file in files.values() if file is not None) / 1e6
    runs_on = " and ".join(kind for kind, file in files.items() if file is not None)
    demo = ", demo" if specs[0].demo else ""
    width, height = specs[0].input_wh
    return f"{specs[0].name}, {width} x {height}, for {runs_on}, {megabytes:.1f} MB{demo}"


@contextmanager
def _at_work(models: Path) -> Iterator[None]:
    """Alone in the folder, without what an interruption left there; errors become `ModelsNotWritable`."""
    try:
        models.mkdir(parents=True, exist_ok=True)
        handle = os.open(models, os.O_RDONLY)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for leftover in models.glob(f"{_ADDING}*"):
                shutil.rmtree(leftover)
            for leftover in models.glob(f"{_DOWNLOAD}*"):  # whole, or so it seems after a power cut
                leftover.unlink()
            yield
        finally:
            os.close(handle)
    except BlockingIOError as error:
        raise ModelsNotWritable(f"another command is changing {models}: wait until it has ended") from error
    except OSError as error:
        hint = ": run this with sudo" if isinstance(error, PermissionError) else ""
        raise ModelsNotWritable(f"{models} cannot be changed ({error.strerror}){hint}") from error


def _add(models: Path, bundle: Path) -> tuple[str, str]:
    _check_current(models)
    new = Path(tempfile.mkdtemp(prefix=_ADDING, dir=models))
    try:
        name = unpack(bundle, new)
        if name == CURRENT:
            raise BundleError(f"{bundle} cannot be used: a model cannot be called {CURRENT!r}")
        new.chmod(0o755)
        done = _put(new, models / name)
        _point_at(models, name)
    finally:
        if new.exists():  # the new one if something went wrong, the old one if it was replaced
            shutil.rmtree(new)
    return name, done


def _put(new: Path, place: Path) -> str:
    """Move a folder into its place; what was done, in words."""
    if not os.path.lexists(place):
        new.rename(place)
        sync_folder(place.parent)
        return "added"
    _check_ours(place)
    if (place / SUMS).read_bytes() == (new / SUMS).read_bytes() and _is_whole(place):
        return "there already"
    _exchange(new, place)
    sync_folder(place.parent)
    return "replaced"


def _check_ours(place: Path) -> None:
    """Raise `ModelsNotWritable` unless everything there came from a bundle."""
    stem = place.name
    ours = {SUMS, *(f"{stem}{ending}" for ending in (".tflite", ".json", "_edgetpu.tflite", "_edgetpu.json"))}
    found = {path.name for path in place.iterdir()} if place.is_dir() and not place.is_symlink() else set()
    if SUMS not in found or found - ours:
        raise ModelsNotWritable(
            f"{place} is there, and not only from a bundle: it is left as it is; move it away, then add again"
        )


def _is_whole(folder: Path) -> bool:
    try:
        check_unpacked(folder)
    except BundleError:
        return False
    return True


def _exchange(one: Path, other: Path) -> None:
    """Give each the other's name, at once: at no time is one of them missing. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _check_current(models: Path) -> None:
    current = models / CURRENT
    if os.path.lexists(current) and not current.is_symlink():
        raise ModelsNotWritable(f"{current} should be a link to the model in use, but is not: move it away")


def _point_at(models: Path, name: str) -> None:
    """Make `current` a link to a model, at once."""
    _check_current(models)
    folder = Path(tempfile.mkdtemp(prefix=_ADDING, dir=models))
    try:
        (folder / CURRENT).symlink_to(name)
        (folder / CURRENT).replace(models / CURRENT)
        sync_folder(models)
    finally:
        shutil.rmtree(folder)

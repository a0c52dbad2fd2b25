"""Getting a file over HTTP: an interruption costs little, and a wrong file is never taken for the right."""

from __future__ import annotations

import hashlib
import http.client
import logging
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.errors import DownloadError

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Told bytes done and bytes in all; 0 in all if the server does not say."""

ATTEMPTS: Final = 5
"""In a row that brought nothing new."""
PAUSE_S: Final = 1.0
"""After the first such attempt; longer after each further one."""
SILENCE_S: Final = 30.0
"""A server that says nothing for so long has gone."""
PIECE: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be got, and what is known about it."""

    url: str
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    """Hexadecimal."""
    at_most: int | None = None
    """Bytes, where the size is not known: what has more is not it, and is not to fill the disk."""


def sha256_of(path: Path) -> str:
    """The checksum of a file, hexadecimal. Raises `OSError`."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def download(
    wanted: Wanted, path: Path, progress: Progress = lambda done, of: None, pause_s: float = PAUSE_S
) -> str:
    """Get a file; returns its SHA-256. `path` appears when all of it is there and is what was wanted.

    What an interruption leaves in `.NAME.part` is gone on with, today or later, if the server can do that and
    still has the same file; otherwise it is got anew. Raises `DownloadError`.
    """
    if not wanted.url.startswith(("http://", "https://")):
        raise DownloadError(f"{wanted.url} is no address to download from: it should begin with https://")
    part = _Part(path.with_name(f".{path.name}.part"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _get(wanted, part, progress, pause_s)
        found = sha256_of(part.path)
        if (problem := _difference(wanted, part.size, found)) is not None:
            part.discard()
            raise DownloadError(f"{wanted.url} is not the file that was expected: {problem}")
        part.path.replace(path)
        part.discard()
    except OSError as error:
        raise DownloadError(f"{path} cannot be written: {error.strerror or error}") from error
    return found


class _Part:
    """What there is of the file, and the tag that the server gave it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tag_file = path.with_name(f"{path.name}.tag")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def tag(self) -> str:
        return self._tag_file.read_text() if self._tag_file.exists() else ""

    def begin(self, tag: str) -> None:
        self.path.write_bytes(b"")
        self._tag_file.write_text(tag)

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self._tag_file.unlink(missing_ok=True)


class _Interrupted(Exception):
    """The connection was lost; the next attempt may bring the rest."""


def _get(wanted: Wanted, part: _Part, progress: Progress, pause_s: float) -> None:
    """Make attempts until the part is whole."""
    failures = 0
    while True:
        before = part.size
        try:
            return _attempt(wanted, part, progress)
        except _Interrupted as error:
            failures = 1 if part.size > before else failures + 1
            if failures >= ATTEMPTS:
                raise DownloadError(
                    f"{wanted.url} cannot be downloaded: {error}; {part.size} bytes are kept, "
                    "and the next attempt goes on from there"
                ) from error
            log.debug("%s: %s; trying again", wanted.url, error)
            time.sleep(pause_s * failures)


def _attempt(wanted: Wanted, part: _Part, progress: Progress) -> None:
    """Add to the part what the server sends. Raises `_Interrupted` if that was not all."""
    have, tag = part.size, part.tag
    try:
        request = urllib.request.Request(wanted.url, headers={"User-Agent": "segmentation-appliance"})
        if have and tag:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", tag)
        response = urllib.request.urlopen(request, timeout=SILENCE_S)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416:  # there is nothing after what we have: it is whole, or of another file
            if have and have == wanted.size:
                return
            part.discard()
            raise _Interrupted("the server has another file than before") from error
        if error.code >= 500 or error.code == 429:
            raise _Interrupted(f"the server answers {error.code} {error.reason}") from error
        raise DownloadError(
            f"{wanted.url} cannot be downloaded: the server answers {error.code} {error.reason}; "
            "look whether the address is right, or get the file yourself and name it"
        ) from error
    except (http.client.InvalidURL, ValueError) as error:
        raise DownloadError(f"{wanted.url} is no address to download from: {error}") from error
    except (OSError, http.client.HTTPException) as error:  # nothing of this touches the disk
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise _Interrupted(f"no connection ({reason})") from error
    with response:
        if response.status != 206 or not _goes_on(response, have):
            have = 0
            part.begin(_strong_tag(response))
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else 0
        done = have
        _check_limit(wanted, part, max(total, done))
        with part.path.open("ab") as file:
            while piece := _read(response):
                file.write(piece)
                done += len(piece)
                _check_limit(wanted, part, done)
                progress(done, total)
        if total and done < total:
            raise _Interrupted(f"the connection ended after {done} of {total} bytes")


def _check_limit(wanted: Wanted, part: _Part, size: int) -> None:
    if wanted.at_most is not None and size > wanted.at_most:
        part.discard()
        raise DownloadError(
            f"{wanted.url} is not the file that was expected: it has more than {wanted.at_most} bytes"
        )


def _goes_on(response: http.client.HTTPResponse, have: int) -> bool:
    """Whether a partial answer begins where we stopped."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {have}-")


def _strong_tag(response: http.client.HTTPResponse) -> str:
    """The tag that tells versions of the file apart, if the server gives one that can be relied upon."""
    tag = response.headers.get("ETag", "")
    return "" if tag.startswith("W/") else tag


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(PIECE)
    except (http.client.HTTPException, OSError) as error:  # the network's, of TLS too; not the disk's
        raise _Interrupted(f"the connection was lost ({error})") from error


def _difference(wanted: Wanted, size: int, sha256: str) -> str | None:
    if wanted.size is not None and size != wanted.size:
        return f"it has {size} bytes, not {wanted.size}"
    if wanted.sha256 is not None and sha256 != wanted.sha256.lower():
        return f"its SHA-256 is {sha256}, not {wanted.sha256}"
    return None

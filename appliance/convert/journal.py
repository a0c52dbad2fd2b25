"""Steps that are named, timed, kept on disk, and done again only when what they are made of has changed."""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypeVar

from appliance.download import sha256_of
from appliance.durable import write_file
from appliance.errors import ConvertError

log = logging.getLogger(__name__)

Facts = dict[str, Any]
"""What a step found out, as JSON has it."""
Tick = Callable[[float | None], None]
"""Told from time to time how far a step is, 0..1, or None where it does not say."""

Result = TypeVar("Result")

RECORD_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class News:
    """How the conversion is getting on."""

    step: str
    what: str
    part: float | None = None
    """Of the step that is done, 0..1; None if it does not say."""
    took_s: float = 0.0
    ended: bool = False
    kept: bool = False
    """Nothing had changed since the last time, so it was not done again."""


Show = Callable[[News], None]


def log_news(news: News) -> None:
    """A line for each step's end, and one for its beginning."""
    if news.kept:
        log.info("%s: unchanged, kept", news.step)
    elif news.ended:
        log.info("%s: done in %.1f s", news.step, news.took_s)
    elif news.part is None and not news.took_s:
        log.info("%s: %s", news.step, news.what)


@dataclass(slots=True)
class Journal:
    """Does the steps of one conversion, and keeps their results in a folder."""

    folder: Path
    show: Show

    def step(
        self,
        name: str,
        what: str,
        made_of: Mapping[str, object],
        files: Sequence[Path],
        do: Callable[[Tick], Facts],
    ) -> Facts:
        """Do a step, unless `files` are still what it made out of the same `made_of`. Returns its facts.

        `made_of` holds whatever decides what comes out, as JSON can have it. Raises what `do` raises, but
        `ConvertError` for an `OSError`: the disk is full, or somebody tidied up.
        """
        news = News(name, what)
        key = digest_of(made_of)
        record_file = self.folder / f"{name.replace(' ', '-')}.record.json"
        kept = _read_record(record_file, key, files)
        if kept is not None:
            self.show(replace(news, ended=True, kept=True))
            return kept
        record_file.unlink(missing_ok=True)
        try:
            facts = told(news, self.show, do)
        except BrokenPipeError:  # nobody reads what is told
            raise
        except OSError as error:
            raise ConvertError(f"{name}: in {self.folder}: {error.strerror or error}") from error
        record = {
            "version": RECORD_VERSION,
            "made_of": key,
            "files": {path.name: sha256_of(path) for path in files},
            "facts": facts,
        }
        try:
            write_file(record_file, json.dumps(record).encode())
        except OSError as error:
            raise ConvertError(f"{name}: {record_file} cannot be written: {error.strerror}") from error
        return facts


def told(news: News, show: Show, do: Callable[[Tick], Result]) -> Result:
    """Do something, and tell when it begins, how it gets on, and how long it took."""
    show(news)
    started = time.monotonic()

    def tick(part: float | None) -> None:
        show(replace(news, part=part, took_s=time.monotonic() - started))

    result = do(tick)
    show(replace(news, part=1.0, took_s=time.monotonic() - started, ended=True))
    return result


def digest_of(made_of: Mapping[str, object]) -> str:
    """One checksum of all that decides what a step gives."""
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def digest_of_files(paths: Iterable[Path]) -> str:
    """One checksum of the content of files, in this order. Raises `OSError`."""
    return hashlib.sha256("".join(sha256_of(path) for path in paths).encode()).hexdigest()


def _read_record(record_file: Path, key: str, files: Sequence[Path]) -> Facts | None:
    """What is kept of a step, if it is still good."""
    try:
        record: Facts = json.loads(record_file.read_bytes())
        if record["version"] != RECORD_VERSION or record["made_of"] != key:
            return None
        if record["files"] != {path.name: sha256_of(path) for path in files}:
            return None
        return dict(record["facts"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None

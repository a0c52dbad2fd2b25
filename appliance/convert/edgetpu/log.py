"""What edgetpu_compiler says.

Its words are documented nowhere. Those known here are of versions 2 to 16, as users have quoted them in the
issues of github.com/google-coral/edgetpu, whose numbers stand beside them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAPPED: Final = "Mapped to Edge TPU"
SECOND_PART: Final = "More than one subgraph is not supported"
"""The status of an op that only stands behind one that cannot be mapped (#60, #601)."""

_VERSION: Final = re.compile(r"Edge TPU Compiler version (\S+)")
_SUCCESS: Final = re.compile(r"^Model compiled successfully", re.MULTILINE)
_ROW: Final = re.compile(r"^([A-Za-z][\w-]*)[ \t]+(\d{1,9})[ \t]+(\S.*?)[ \t]*$", re.MULTILINE)
_HEADER: Final = re.compile(r"^Operator\s+Count\s+Status\s*$", re.MULTILINE)
_ON_EDGE_TPU: Final = re.compile(r"^Number of operations that will run on Edge TPU: (\d{1,9})", re.MULTILINE)
_ON_CPU: Final = re.compile(r"^Number of operations that will run on CPU: (\d{1,9})", re.MULTILINE)
_TOTAL: Final = re.compile(r"^Total number of operations: (\d{1,9})", re.MULTILINE)
_CACHED: Final = re.compile(
    r"^On-chip memory used for caching model parameters: ([\d.]+)\s?(\w+)", re.MULTILINE
)
_STREAMED: Final = re.compile(
    r"^Off-chip memory used for streaming uncached model parameters: ([\d.]+)\s?(\w+)", re.MULTILINE
)
_UNITS: Final = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}

_FAILURES: Final = (
    re.compile(r"^Compilation failed: (.+)$", re.MULTILINE),  # large activation tensors, #608, #653
    re.compile(r"^(Compilation timeout\..*)$", re.MULTILINE),  # #686
    re.compile(r"^(.*uncaught exception of type .*)$", re.MULTILINE),  # #728
    re.compile(r"^(Model not quantized)", re.MULTILINE),  # #168, #313
    re.compile(r"^(Didn't find op for builtin opcode .*)$", re.MULTILINE),  # #358
    re.compile(r"^(Internal compiler error)", re.MULTILINE),  # #157, #211
    re.compile(r"^ERROR: (.+)$", re.MULTILINE),  # what the TFLite in it says, #829
)
"""Reasons, the telling ones first."""
LARGE_ACTIVATIONS: Final = re.compile(r"large activation", re.IGNORECASE)
"""In the reasons that a smaller input helps against."""


@dataclass(frozen=True, slots=True)
class Status:
    """One row of the compiler's table."""

    name: str
    count: int
    words: str


@dataclass(frozen=True, slots=True)
class CompilerLog:
    """What one run said. None is what it did not say."""

    version: str | None
    succeeded: bool
    failure: str | None
    """Why it failed, or why the search for a part that compiles had to go on."""
    table: tuple[Status, ...]
    edge_tpu: int | None
    """How many ops were mapped."""
    cpu: int | None
    on_chip_bytes: int | None
    """Weights that stay in the Edge TPU."""
    streamed_bytes: int | None
    """Weights that are sent again at each invoke."""


def parse(text: str) -> CompilerLog:
    """Read what a run wrote, whatever it is."""
    text = text.replace("\r\n", "\n")
    version = _VERSION.search(text)
    successes = list(_SUCCESS.finditer(text))
    # --search_delegate tries until one compiles: what counts comes after the last success.
    result = text[successes[-1].start() :] if successes else ""
    succeeded = bool(successes) and not re.search(r"^Compilation failed", result, re.MULTILINE)
    table = _table(result)
    edge_tpu, cpu = _counts(result, table)
    return CompilerLog(
        version=version[1] if version else None,
        succeeded=succeeded,
        failure=_failure(text),
        table=table,
        edge_tpu=edge_tpu,
        cpu=cpu,
        on_chip_bytes=_bytes(_CACHED, result),
        streamed_bytes=_bytes(_STREAMED, result),
    )


def causes(log: CompilerLog) -> tuple[Status, ...]:
    """The rows that say why ops stay on the CPU: those that only stand behind others are left out."""
    unmapped = tuple(status for status in log.table if status.words != MAPPED)
    return tuple(status for status in unmapped if status.words != SECOND_PART) or unmapped


def _table(text: str) -> tuple[Status, ...]:
    header = _HEADER.search(text)
    if header is None:
        return ()
    return tuple(Status(name, int(count), words) for name, count, words in _ROW.findall(text, header.end()))


def _counts(text: str, table: tuple[Status, ...]) -> tuple[int | None, int | None]:
    """Ops on the Edge TPU and on the CPU. Where all are mapped, only their total is said."""
    edge_tpu, cpu, total = (pattern.search(text) for pattern in (_ON_EDGE_TPU, _ON_CPU, _TOTAL))
    if edge_tpu and cpu:
        return int(edge_tpu[1]), int(cpu[1])
    if table:
        mapped = sum(status.count for status in table if status.words == MAPPED)
        return mapped, sum(status.count for status in table) - mapped
    return (int(total[1]), 0) if total else (None, None)


def _bytes(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    if found is None or found[2] not in _UNITS:
        return None
    try:
        return round(float(found[1]) * _UNITS[found[2]])
    except ValueError:
        return None


def _failure(text: str) -> str | None:
    for pattern in _FAILURES:
        found = pattern.findall(text)
        if found:
            return str(found[-1]).strip()
    return None

"""What a check says, and how all of them are run."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from appliance.doctor.machine import Machine


class Verdict(enum.Enum):
    """How good it is."""

    OK = "ok"
    WARN = "warn"
    """The appliance runs, but not as well as it could."""
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor."""

    name: str
    verdict: Verdict
    words: str
    """What was found."""
    advice: str = ""
    """What to do; empty if there is nothing to do."""


CheckFunction = Callable[[Machine], Check | None]


def ok(name: str, words: str) -> Check:
    """It is as it should be."""
    return Check(name, Verdict.OK, words)


def warn(name: str, words: str, advice: str) -> Check:
    """It could be better."""
    return Check(name, Verdict.WARN, words, advice)


def fail(name: str, words: str, advice: str) -> Check:
    """It has to be better."""
    return Check(name, Verdict.FAIL, words, advice)


def run(functions: Iterable[CheckFunction], machine: Machine) -> list[Check]:
    """All checks. One that raises is a failed one that says so."""
    found = []
    for function in functions:
        try:
            check = function(machine)
        except Exception as error:  # noqa: BLE001 - the doctor is for machines on which anything may be wrong
            name = function.__name__.replace("_", " ")
            words = f"the check itself went wrong: {type(error).__name__}: {error}"
            check = fail(name, words, "this is a mistake in the doctor: please report it")
        if check is not None:
            found.append(check)
    return found


def worst(checks: Iterable[Check]) -> Verdict:
    """The worst verdict; `OK` if there are no checks."""
    order = list(Verdict)
    return max((check.verdict for check in checks), key=order.index, default=Verdict.OK)


def as_text(checks: list[Check]) -> str:
    """One line for each check, and one more for what to do."""
    width = max((len(check.name) for check in checks), default=0)
    lines = []
    for check in checks:
        lines.append(f"{check.verdict.value:4}  {check.name:{width}}  {_one_line(check.words)}")
        if check.advice:
            lines.append(f"{'':{width + 6}}  -> {_one_line(check.advice)}")
    return "\n".join(lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())

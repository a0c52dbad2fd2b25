"""The model: there, described, undamaged, and running."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from appliance.doctor.checks import Check, fail, ok, warn
from appliance.doctor.machine import Machine, ProbeFailed

_MAPPED_AT_LEAST = 0.95
"""What `convert` asks of the compiler too. Not imported from there: this needs the standard library alone."""
_CONVERT = "appliance convert makes one of FastSAM-s.pt, appliance models add installs one; see the README"
_COMPILE = "run edgetpu_compiler on it, and put the result beside it"


def model(machine: Machine) -> Check:
    """The model that the configuration names, and its sibling."""
    name = "model"
    if machine.wanted.model is None:
        return fail(name, "the configuration does not say which", "correct the configuration first")
    try:
        found = machine.probe("model", str(machine.wanted.model))
    except ProbeFailed as failed:
        return fail(name, f"{machine.wanted.model} cannot be loaded: {failed}", _CONVERT)
    if "error" in found:
        return fail(name, str(found["error"]), "correct `model.file` in the configuration, or the file")
    size_wh = found["input_wh"]
    assert isinstance(size_wh, list)
    words = f"{found['name']}, {found['layout']}, {size_wh[0]} x {size_wh[1]}: "
    words += " and ".join(str(found[kind]) for kind in ("plain", "compiled") if found[kind])
    if found["compiled"] is None and machine.wanted.backend == "edgetpu":
        return fail(name, f"{words}; not compiled for the Edge TPU", _COMPILE)
    if found["demo"]:
        return warn(name, f"{words}; this is the demo model, of no use for real pictures", _CONVERT)
    if found["compiled"] is None and machine.wanted.backend == "auto":
        return warn(name, f"{words}; not compiled for the Edge TPU", _COMPILE)
    if found["plain"] is None and machine.wanted.backend == "cpu":
        return fail(name, f"{words}; nothing for the CPU", "put what it was compiled from beside it")
    if found["plain"] is None:
        return warn(name, f"{words}; nothing for the CPU", "put what it was compiled from beside it")
    return ok(name, words)


def description(machine: Machine) -> Check | None:
    """The sidecars of both files, and the checksums in them."""
    name = "model's description"
    files = _files(machine)
    if not files:
        return None
    checked = []
    missing = []
    for file in files:
        sidecar = file.with_suffix(".json")
        content = _sidecar(file)
        if content is None:
            missing.append(sidecar.name)
            continue
        wanted = content.get("sha256")
        if not isinstance(wanted, str):
            missing.append(f"a checksum in {sidecar.name}")
            continue
        if hashlib.sha256(file.read_bytes()).hexdigest() != wanted.lower():
            words = f"{file} is not the file that {sidecar.name} describes: its checksum differs"
            return fail(name, words, "copy both again, from the same place")
        checked.append(file.name)
    words = f"checksum right: {', '.join(checked)}" if checked else "nothing could be checked"
    if missing:
        return warn(name, f"{words}; missing: {', '.join(missing)}", "copy the .json files beside the models")
    return ok(name, words)


def op_map(machine: Machine) -> Check | None:
    """How much of the model the compiler put on the Edge TPU, where a sidecar says so."""
    name = "model's op map"
    for file in _files(machine):
        found = (_sidecar(file) or {}).get("op_map")
        if found is None:
            continue
        counts = [found.get(key) for key in ("edge_tpu", "cpu")] if isinstance(found, dict) else []
        on_tpu, on_cpu = (count if type(count) is int else -1 for count in (*counts, *(None,) * 2)[:2])
        if min(on_tpu, on_cpu) < 0 or on_tpu + on_cpu == 0:
            words = f"{file.with_suffix('.json')} has one that is no pair of counts, edge_tpu and cpu"
            return warn(name, words, "get the description that came with the model")
        words = f"{on_tpu} of {on_tpu + on_cpu} operations on the Edge TPU"
        if on_tpu == 0:
            return fail(name, words, "compile again, at a smaller size")
        if on_tpu < _MAPPED_AT_LEAST * (on_tpu + on_cpu):
            return warn(name, words, "read the compiler's log; compile again, at a smaller size")
        return ok(name, words)
    return None


def on_the_cpu(machine: Machine) -> Check | None:
    """A real run of the plain model."""
    name = "model on the CPU"
    plain = next((file for file in _files(machine) if not file.stem.endswith("_edgetpu")), None)
    if plain is None:
        return None
    try:
        found = machine.probe("cpu", str(plain))
    except ProbeFailed as failed:
        return fail(name, f"it does not run: {failed}", "install the appliance again")
    if "error" in found:
        # A model that is compiled under a plain name runs on the Edge TPU only.
        return warn(name, str(found["error"]), "put what it was compiled from beside it")
    return ok(name, f"{found['invoke_ms']} ms a run, {found['name']}")


def compiled_file(machine: Machine) -> Path | None:
    """What would run on an Edge TPU."""
    if machine.wanted.model is None:
        return None
    try:
        compiled = machine.probe("model", str(machine.wanted.model)).get("compiled")
    except ProbeFailed:
        return None
    return None if compiled is None else Path(str(compiled))


def _files(machine: Machine) -> list[Path]:
    """The model's files that are there: the plain one first."""
    if machine.wanted.model is None:
        return []
    try:
        found = machine.probe("model", str(machine.wanted.model))
    except ProbeFailed:
        found = {}
    files = [Path(str(found[kind])) for kind in ("plain", "compiled") if found.get(kind)]
    return files or [path for path in [machine.wanted.model] if path.is_file()]


def _sidecar(file: Path) -> dict[str, object] | None:
    try:
        content = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


CHECKS = (model, description, op_map, on_the_cpu)

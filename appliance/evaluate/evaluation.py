"""The whole comparison: models against the float reference, at 1024 and at their own size, and labels."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from appliance.data import ModelSpec
from appliance.evaluate import cost, matching
from appliance.evaluate.masks_rle import Rle, ious
from appliance.evaluate.matching import Figures, Wanted, box_only, compare, wanted
from appliance.evaluate.passes import LOOK_KINDS, LOOKS, Answers, BackendName, answer_all, file_that_runs
from appliance.evaluate.pictures import Picture
from appliance.evaluate.reference import (
    CONFIDENCE,
    PAPER_WH,
    Progress,
    Reference,
    Wh,
    machine_name,
)
from appliance.evaluate.thresholds import equal_count_confidence
from appliance.invoke.choice import choose_backend
from appliance.invoke.runtime import is_compiled, read, read_spec

Json = dict[str, object]
Truth = dict[str, list[Wanted]]
"""By picture."""

RULES: Final = {
    "plain": "the masks at the stated confidence, chosen as in the original FastSAM code; see matching.py",
    "guided": "the first pass alone, its candidates before suppression chosen by the prompt; see refine.py",
    "second_look_one": "that, and at most one more run on a crop",
    "second_look": "that, and at most two more runs on crops",
}


@dataclass(frozen=True, slots=True)
class Model:
    """A model to evaluate."""

    path: Path
    spec: ModelSpec
    name: str
    """Its own, with as much of its path as tells it apart from the others."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Everything that was found; `figures` is what --json writes."""

    figures: Json
    truths: dict[str, Truth]
    """By name: "1024", "polygons", and sizes such as "512x512"."""
    answers: dict[str, dict[str, Answers]] = field(default_factory=dict)
    """By model, then by picture."""


def open_models(paths: Sequence[Path], backend: BackendName) -> list[Model]:
    """Look at the models, and whether the backend takes them, before anything long begins.

    Raises `ModelError`, `EdgeTpuError`.
    """
    specs = {}
    for path in {path.absolute(): path for path in paths}.values():
        content = read(path)
        specs[path] = read_spec(path, content)
        if backend == "edgetpu" or is_compiled(content):
            choose_backend(path, backend, "auto", live=False).close()
    names = told_apart({path: spec.name for path, spec in specs.items()})
    return [Model(path, spec, names[path]) for path, spec in specs.items()]


def told_apart(names: Mapping[Path, str]) -> dict[Path, str]:
    """The names of files, each its own: one that repeats gets the end of the file's path in parentheses."""
    found = {}
    for name in dict.fromkeys(names.values()):
        paths = [path for path, its_name in names.items() if its_name == name]
        if len(paths) == 1:
            found[paths[0]] = name
            continue
        parts = {path: path.absolute().parts for path in paths}
        length = 1  # the file's name alone, if that will do
        while len({its_parts[-length:] for its_parts in parts.values()}) < len(paths):
            length += 1
        for path, its_parts in parts.items():
            found[path] = f"{name} ({'/'.join(its_parts[-length:])})"
    return found


def sizes_of(models: Sequence[Model]) -> list[Wh]:
    """The sizes that the reference is needed at: the paper's, and the models' own."""
    return list(dict.fromkeys([PAPER_WH, *(model.spec.input_wh for model in models)]))


def evaluate(
    models: Sequence[Model],
    reference: Reference,
    pictures: Sequence[Picture],
    labels: Mapping[str, Sequence[Rle]] | None,
    backend: BackendName,
    second_look: bool,
    progress: Progress,
) -> Evaluation:
    """Compare; `labels` are the true masks by picture.

    Raises `ModelError`, `EdgeTpuError`, `EvaluateError`, `SourceUnreadable`.
    """
    own = {wh: _truth_of_run(reference, wh) for wh in reference.runs}
    truths: dict[str, Truth] = {"1024": own[PAPER_WH]}
    if labels is not None:
        truths["polygons"] = {name: _wanted((rle, 1.0) for rle in rles) for name, rles in labels.items()}
    asked = {
        picture.name: [want for truth in truths.values() for want in truth[picture.name]]
        for picture in pictures
    }
    found: dict[str, dict[str, Answers]] = {}
    entries: list[Json] = []
    for model in models:
        answers = answer_all(model.path, backend, pictures, asked if second_look else {}, progress)
        entry = _facts(model, backend)
        entry.update(_against(answers, own[model.spec.input_wh], truths))
        if second_look:
            _add_looks(entry, answers, truths)
        entry.update(_costs(cost.measure(model.path, backend, pictures), reference))
        entries.append(entry)
        found[str(model.path)] = answers
    figures: Json = {
        "pictures": len(pictures),
        "pictures_sha256": hashlib.sha256("".join(p.sha256 for p in pictures).encode()).hexdigest(),
        "machine": machine_name(),
        "rules": RULES,
        "reference": {
            "name": reference.name,
            "sha256": reference.sha256,
            "machine": reference.machine,
            "peak_memory_mb": round(reference.peak_memory_bytes / 1e6, 1),
            "sizes": [_reference_entry(reference, wh, truths) for wh in reference.runs],
        },
        "prompt_box_alone": {f"vs_{name}": box_only(truth) for name, truth in truths.items()},
        "models": entries,
    }
    return Evaluation(figures, truths | {f"{w}x{h}": truth for (w, h), truth in own.items()}, found)


def _wanted(masks: Iterable[tuple[Rle, float]]) -> list[Wanted]:
    made = [wanted(rle, score) for rle, score in masks]
    return [want for want in made if want is not None]


def _truth_of_run(reference: Reference, wh: Wh) -> Truth:
    return {
        name: _wanted((one.rle, one.score) for one in scored)
        for name, scored in reference.runs[wh].masks.items()
    }


def _facts(model: Model, backend: BackendName) -> Json:
    file = file_that_runs(model.path, backend)
    return {
        "name": model.name,
        "file": file.path.name,
        "sha256": hashlib.sha256(file.content).hexdigest(),
        "size_mb": round(len(file.content) / 1e6, 2),
        "format": f"TFLite {model.spec.input.dtype}, {model.spec.layout.value}",
        "input_wh": list(model.spec.input_wh),
        "backend": backend,
        "confidence": CONFIDENCE,
    }


def _at(answers: Mapping[str, Answers], confidence: float) -> dict[str, list[Rle]]:
    return {
        name: [one.rle for one in answer.masks if one.score >= confidence] for name, answer in answers.items()
    }


def _against(answers: Mapping[str, Answers], own: Truth, truths: Mapping[str, Truth]) -> Json:
    """Plain prompts, at the reference's confidence and at that which gives as many masks as it has there."""
    scores = [one.score for answer in answers.values() for one in answer.masks]
    equal = equal_count_confidence(scores, sum(len(wants) for wants in own.values()))
    sections: list[Json] = []
    for confidence in (CONFIDENCE, equal):
        masks = _at(answers, confidence)
        section: Json = {
            "confidence": round(confidence, 5),
            "masks": sum(len(rles) for rles in masks.values()),
            "precision": _precisions(masks, {"own_size": own, **truths}),
            "vs_own_size": compare(masks, own, sure=True),
        }
        section |= {f"vs_{name}": compare(masks, truth) for name, truth in truths.items()}
        sections.append(section)
    plain, at_equal_count = sections
    return {"vs_polygons": None, **plain, "at_equal_count": at_equal_count}


def _precisions(masks: Mapping[str, Sequence[Rle]], truths: Mapping[str, Truth]) -> Json:
    return {f"vs_{name}": matching.precision(masks, truth) for name, truth in truths.items()}


def _add_looks(entry: Json, answers: Mapping[str, Answers], truths: Mapping[str, Truth]) -> None:
    """`point_second_look` and so on beside the plain kinds, each with what it cost."""
    for truth_name, kind, depth, values, invokes in look_ious(answers, truths):
        wants = [want for wants in truths[truth_name].values() for want in wants]
        figures: Figures = matching.means(values, wants)
        figures["extra_invokes"] = round(sum(invokes) / max(1, len(invokes)), 3)
        section = entry[f"vs_{truth_name}"]
        assert isinstance(section, dict)
        section[f"{kind}_{LOOKS[depth]}"] = figures


def look_ious(
    answers: Mapping[str, Answers], truths: Mapping[str, Truth]
) -> list[tuple[str, str, int, list[float], list[int]]]:
    """Per truth, kind of prompt and number of looks: the IoU of each object, and the runs each took."""
    found = []
    for kind in LOOK_KINDS:
        for depth in range(len(LOOKS)):
            start = dict.fromkeys(answers, 0)
            for truth_name, truth in truths.items():
                values, invokes = [], []
                for name, wants in truth.items():
                    looks = answers[name].looks[start[name] : start[name] + len(wants)]
                    start[name] += len(wants)
                    for look, want in zip(looks, wants, strict=True):
                        rle = look[kind].rles[depth]
                        values.append(float(ious([rle], [want.rle])[0, 0]) if rle else 0.0)
                        invokes.append(min(depth, look[kind].extra_invokes))
                found.append((truth_name, kind, depth, values, invokes))
    return found


def _costs(measured: cost.Cost, reference: Reference) -> Json:
    """Latency, and how many times as fast as the reference at the paper's size, if that ran here too."""
    latency = cost.summary(measured.invoke_ms)
    theirs = cost.summary(reference.runs[PAPER_WH].invoke_ms)["median_ms"]
    ours = latency["median_ms"]
    same = reference.machine == machine_name()
    return {
        "runs_on": measured.runs_on,
        "latency": latency,
        "ratio_to_reference": round(theirs / ours, 3) if theirs and ours and same else None,
        "peak_memory_mb": round(measured.peak_memory_bytes / 1e6, 1),
    }


def _reference_entry(reference: Reference, wh: Wh, truths: Mapping[str, Truth]) -> Json:
    run = reference.runs[wh]
    masks = {name: [one.rle for one in scored] for name, scored in run.masks.items()}
    return {
        "input_wh": list(wh),
        "confidence": CONFIDENCE,
        "masks": sum(len(rles) for rles in masks.values()),
        "precision": _precisions(masks, truths),
        "latency": cost.summary(run.invoke_ms),
        **{f"vs_{name}": compare(masks, truth) for name, truth in truths.items()},
    }


def as_json(figures: Json) -> bytes:
    """As --json writes it."""
    return (json.dumps(figures, indent=2) + "\n").encode()


def summary(figures: Json) -> str:
    """A few lines for a terminal: mean IoU of all objects, and of those under 5 %."""
    lines = [f"{'mean IoU, all / under 5 %':48s}  vs 1024        own size       polygons"]
    models = figures["models"]
    assert isinstance(models, list)
    for model in models:
        lines.append(f"{model['name']}: {model['latency']['median_ms']} ms, {model['masks']} masks")
        for kind in model["vs_1024"]:
            cells = []
            for section in ("vs_1024", "vs_own_size", "vs_polygons"):
                means = (model[section] or {}).get(kind)
                values = (means["all"], means["under_5"]) if means else (None, None)
                cells.append(" / ".join("  –  " if value is None else f"{value:.3f}" for value in values))
            lines.append(f"  {kind:46s}  {'  '.join(cells)}")
    return "\n".join(lines)

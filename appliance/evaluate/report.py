"""The report: one HTML page that needs nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.data import RgbImage
from appliance.evaluate.chart import by_size
from appliance.evaluate.evaluation import Evaluation, Model, Truth, look_ious
from appliance.evaluate.gallery import all_masks, prompted
from appliance.evaluate.masks_rle import Rle, ious
from appliance.evaluate.matching import Fits, Wanted, fits, point_box_answer
from appliance.evaluate.passes import LOOKS, Answers
from appliance.evaluate.pictures import Picture, small_jpeg
from appliance.evaluate.reference import CONFIDENCE, Reference
from appliance.evaluate.tables import tables

_SHOWN_PER_GROUP = 3
_PROMPTS_PER_GROUP = 4
_STYLE = """body{font:15px sans-serif;margin:2em auto;max-width:85em;padding:0 1em}
table{border-collapse:collapse;margin:1em 0}td,th{padding:.25em .7em;
border-bottom:1px solid #ddd;text-align:right}
td:nth-child(-n+2),th:nth-child(-n+2){text-align:left}td:first-child{white-space:nowrap}
.row{display:flex;gap:.5em;flex-wrap:wrap;margin:.7em 0}
figure{margin:0;width:16em}figcaption{font-size:12px}img{max-width:16em;max-height:18em}"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One prompt, and how it was answered."""

    picture: Picture
    want: Wanted
    plain: float
    looked: float
    answer: Rle | None
    look: Rle | None


def render(
    evaluation: Evaluation, models: Sequence[Model], reference: Reference, pictures: Sequence[Picture]
) -> str:
    """The whole page."""
    figures = evaluation.figures
    parts = [
        "<!doctype html><meta charset=utf-8><title>Evaluation</title>",
        f"<style>{_STYLE}</style><h1>Evaluation</h1>",
        f"<p>{len(pictures)} photographs; reference {html.escape(reference.name)}, float, confidence "
        f"{CONFIDENCE}, class-agnostic. Ran on {html.escape(str(figures['machine']))}; the reference on "
        f"{html.escape(reference.machine)}.</p>",
        tables(figures),
    ]
    truth_name = "polygons" if "polygons" in evaluation.truths else "1024"
    parts += ["<h2>IoU by the object's size</h2>", _chart(evaluation, models, reference, truth_name)]
    parts += ["<h2>Everything, side by side</h2>", *_everything(evaluation, models, reference, pictures)]
    for model in models:
        answers = evaluation.answers[str(model.path)]
        asked = _asked(answers, evaluation.truths, truth_name, pictures)
        looked = any(answer.looks for answer in answers.values())
        parts += [f"<h2>Point and box prompts: {html.escape(model.name)}</h2>", *_prompts(asked, looked)]
    return "\n".join(parts) + "\n"


def _chart(evaluation: Evaluation, models: Sequence[Model], reference: Reference, truth_name: str) -> str:
    truth = evaluation.truths[truth_name]
    parts = [want.part for wants in truth.values() for want in wants]
    lines: dict[str, list[float]] = {}
    for (wide, high), run in reference.runs.items():
        masks = {name: [one.rle for one in scored] for name, scored in run.masks.items()}
        lines[f"float {wide}x{high}"] = _point_box(masks, truth)
    for model in models:
        answers = evaluation.answers[str(model.path)]
        lines[model.name] = _point_box(_confident(answers), truth)
        if any(answer.looks for answer in answers.values()):
            for name, kind, depth, values, _ in look_ious(answers, _asked_truths(evaluation)):
                if (name, kind, depth) == (truth_name, "point_box", len(LOOKS) - 1):
                    lines[f"{model.name}, second look"] = values
    against = "polygons" if truth_name == "polygons" else "float 1024"
    return f"<p>Point and box, against {against}; means over sixths of the objects.</p>" + by_size(
        parts, lines
    )


def _asked_truths(evaluation: Evaluation) -> dict[str, Truth]:
    """Those that second looks were asked for, in the order they were."""
    return {name: truth for name, truth in evaluation.truths.items() if name in ("1024", "polygons")}


def _confident(answers: Mapping[str, Answers]) -> dict[str, list[Rle]]:
    return {
        name: [one.rle for one in answer.masks if one.score >= CONFIDENCE] for name, answer in answers.items()
    }


def _point_box(masks: Mapping[str, Sequence[Rle]], truth: Truth) -> list[float]:
    return [fit.point_box for name, wants in truth.items() for fit in fits(masks[name], wants)]


def _figure(rgb: RgbImage, caption: str) -> str:
    data = base64.b64encode(small_jpeg(rgb, 420)).decode()
    image = f'<img src="data:image/jpeg;base64,{data}">'
    return f"<figure>{image}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _everything(
    evaluation: Evaluation, models: Sequence[Model], reference: Reference, pictures: Sequence[Picture]
) -> list[str]:
    """The photographs that the first model did best, middling and worst on, as figure 3 of the paper."""
    answers = _confident(evaluation.answers[str(models[0].path)])
    truth = evaluation.truths["1024"]

    def best_match(picture: Picture) -> float:
        found: list[Fits] = fits(answers[picture.name], truth[picture.name])
        return float(np.mean([fit.best_match for fit in found]))

    counted = sorted((p for p in pictures if truth[p.name]), key=best_match)
    rows = []
    for title, group in _three_groups(counted, _SHOWN_PER_GROUP):
        rows.append(f"<h3>{title}</h3>")
        for picture in group:
            rgb = picture.rgb()
            columns = [_figure(rgb, f"{picture.name}, best match {best_match(picture):.2f}")]
            for (wide, high), run in reference.runs.items():
                masks = [one.rle for one in run.masks[picture.name]]
                columns.append(_figure(all_masks(rgb, masks), f"float {wide}x{high}: {len(masks)}"))
            for model in models:
                masks = _confident(evaluation.answers[str(model.path)])[picture.name]
                columns.append(_figure(all_masks(rgb, masks), f"{model.name}: {len(masks)}"))
            rows.append(f'<div class="row">{"".join(columns)}</div>')
    return rows


def _three_groups(worst_first: Sequence[Picture], count: int) -> list[tuple[str, Sequence[Picture]]]:
    middle = max(0, len(worst_first) // 2 - count // 2)
    return [
        ("Worst", worst_first[:count]),
        ("Middling", worst_first[middle : middle + count]),
        ("Best", worst_first[::-1][:count]),
    ]


def _asked(
    answers: Mapping[str, Answers], truths: Mapping[str, Truth], truth_name: str, pictures: Sequence[Picture]
) -> list[_Asked]:
    """Every point-and-box prompt, hardest for the last answer that there is first."""
    asked = []
    for picture in pictures:
        masks = [one.rle for one in answers[picture.name].masks if one.score >= CONFIDENCE]
        start = 0 if truth_name == "1024" else len(truths["1024"][picture.name])
        looks = answers[picture.name].looks[start:]
        for number, want in enumerate(truths[truth_name][picture.name]):
            answer = point_box_answer(masks, want)
            look = looks[number]["point_box"].rles[-1] if looks else None
            asked.append(_Asked(picture, want, _iou(answer, want), _iou(look, want), answer, look))
    return asked


def _iou(rle: Rle | None, want: Wanted) -> float:
    return 0.0 if rle is None else float(ious([rle], [want.rle])[0, 0])


def _prompts(asked: Sequence[_Asked], second_look: bool) -> list[str]:
    """Failures first, as figure 4 of the paper shows them."""

    def last(one: _Asked) -> float:
        return one.looked if second_look else one.plain

    ranked = sorted(asked, key=last)
    middle = max(0, len(ranked) // 2 - _PROMPTS_PER_GROUP // 2)
    groups = [
        ("Worst", ranked[:_PROMPTS_PER_GROUP]),
        ("Middling", ranked[middle : middle + _PROMPTS_PER_GROUP]),
    ]
    if second_look:
        by_gain = sorted(asked, key=lambda one: one.looked - one.plain)
        groups += [
            ("Worse after the second look", by_gain[:_PROMPTS_PER_GROUP]),
            ("Better after the second look", by_gain[::-1][:_PROMPTS_PER_GROUP]),
        ]
    rows = []
    for title, group in groups:
        rows.append(f"<h3>{title}</h3>")
        for one in group:
            rgb = one.picture.rgb()
            name = f"{one.picture.name}, {100 * one.want.part:.2g} % of the picture: what was wanted"
            columns = [
                _figure(prompted(rgb, one.want, one.want.rle), name),
                _figure(prompted(rgb, one.want, one.answer), f"first pass: {one.plain:.2f}"),
            ]
            if second_look:
                columns.append(_figure(prompted(rgb, one.want, one.look), f"second look: {one.looked:.2f}"))
            rows.append(f'<div class="row">{"".join(columns)}</div>')
    return rows

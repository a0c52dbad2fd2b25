"""The report's tables, from the figures that --json writes. Pure."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

from appliance.evaluate.passes import LOOKS

_SIZES = ("all", "over_5", "under_5", "under_1")
_SIZE_HEADS = ("all", "over 5 %", "under 5 %", "under 1 %")
_TITLES = {
    "vs_1024": "Against the float model at 1024",
    "vs_own_size": "Against the float model at the model's own size",
    "vs_polygons": "Against the labelled polygons",
}


def tables(figures: Mapping[str, object]) -> str:
    """All of them, as HTML."""
    parts = [
        _summary(figures),
        _losses(figures),
        *(_comparison(figures, section, title) for section, title in _TITLES.items()),
    ]
    return "\n".join([*parts, _rules(figures)])


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    def cell(tag: str, value: object) -> str:
        if isinstance(value, float):
            value = f"{value:.3f}" if value < 10 else f"{value:.1f}"
        text = "–" if value is None else str(value)
        return f"<{tag}>{html.escape(text)}</{tag}>"

    lines = ["<table><tr>", *(cell("th", name) for name in head), "</tr>"]
    for row in rows:
        lines += ["<tr>", *(cell("td", value) for value in row), "</tr>"]
    return "".join([*lines, "</table>"])


def _get(figures: object, *names: str) -> object:
    for name in names:
        figures = figures.get(name) if isinstance(figures, dict) else None
    return figures


def _entries(figures: object, *names: str) -> list[dict[str, object]]:
    found = _get(figures, *names)
    assert isinstance(found, list)
    return found


def _summary(figures: Mapping[str, object]) -> str:
    """The paper's table 3: best match against the reference at 1024, and what it costs."""
    head = (
        "",
        "format",
        "MB",
        "masks",
        *_SIZE_HEADS,
        "precision",
        "median ms",
        "p95 ms",
        "per second",
        "times as fast",
        "memory MB",
    )
    rows = []
    for entry in _entries(figures, "reference", "sizes"):
        wide, high = (int(side) for side in _sides(entry))
        best = [_get(entry, "vs_1024", "best_match", size) for size in _SIZES]
        latency = [_get(entry, "latency", name) for name in ("median_ms", "p95_ms", "per_second")]
        name = f"{_get(figures, 'reference', 'name')} {wide}x{high}"
        precision = _get(entry, "precision", "vs_1024")
        memory = _get(figures, "reference", "peak_memory_mb")
        rows.append([name, "PyTorch float", None, entry["masks"], *best, precision, *latency, None, memory])
    for entry in _entries(figures, "models"):
        best = [_get(entry, "vs_1024", "best_match", size) for size in _SIZES]
        latency = [_get(entry, "latency", name) for name in ("median_ms", "p95_ms", "per_second")]
        precision = _get(entry, "precision", "vs_1024")
        costs = [entry["ratio_to_reference"], entry["peak_memory_mb"]]
        first = [entry["name"], entry["format"], f"{entry['size_mb']:.2f}", entry["masks"]]
        rows.append([*first, *best, precision, *latency, *costs])
    about = "Best match against the reference at 1024; mean IoU. Memory is the peak of the process."
    return f"<h2>Formats</h2><p>{about}</p>" + _table(head, rows)


def _losses(figures: Mapping[str, object]) -> str:
    """What comes of the smaller input, of quantisation, and of scores that cross the threshold."""
    by_size = {tuple(_sides(entry)): entry for entry in _entries(figures, "reference", "sizes")}
    rows = []
    for entry in _entries(figures, "models"):
        float_model = by_size[tuple(_sides(entry))]
        for size, objects in zip(_SIZES, _SIZE_HEADS, strict=True):
            resolution = _get(float_model, "vs_1024", "best_match", size)
            equal = _get(entry, "at_equal_count", "vs_own_size", "best_match", size)
            plain = _get(entry, "vs_own_size", "best_match", size)
            rows.append([entry["name"] if size == "all" else "", objects, resolution, equal, plain])
    head = ("", "objects", "float at the model's size vs 1024", "model vs float, as many masks")
    about = (
        "Mean IoU, best match. The first column is what resolution alone leaves, the second what the model "
        "leaves of that, with its threshold set so that it returns as many masks as the float one; the third "
        "is the same with the reference's threshold."
    )
    return f"<h2>What is lost where</h2><p>{about}</p>" + _table([*head, "model vs float"], rows)


def _sides(entry: Mapping[str, object]) -> list[int]:
    sides = entry["input_wh"]
    assert isinstance(sides, list)
    return sides


def _comparison(figures: Mapping[str, object], section: str, title: str) -> str:
    rows: list[list[object]] = []
    box = _get(figures, "prompt_box_alone", section)
    if box is not None:
        rows.append(["the prompt's box, filled", "", *(_get(box, size) for size in _SIZES), None])
    for entry in _entries(figures, "reference", "sizes"):
        if _get(entry, section) is not None:
            wide, high = _sides(entry)
            rows += _kinds(f"float {wide}x{high}", entry[section])
    for entry in _entries(figures, "models"):
        if entry[section] is not None:
            rows += _kinds(str(entry["name"]), entry[section])
            equal = _get(entry, "at_equal_count")
            name = f"{entry['name']}, as many masks (at {_get(equal, 'confidence')})"
            rows += _kinds(name, _get(equal, section))
    if not rows:
        return ""
    head = ("", "prompt", *_SIZE_HEADS, "extra runs")
    return f"<h2>{title}</h2><p>Mean IoU.</p>" + _table(head, rows)


def _kinds(name: str, compared: object) -> list[list[object]]:
    assert isinstance(compared, dict)
    return [
        [name, _readable(kind), *(_get(value, size) for size in _SIZES), _get(value, "extra_invokes")]
        for kind, value in compared.items()
        if isinstance(value, dict)
    ]


def _readable(kind: str) -> str:
    """As in "point + box, second look"."""
    for look in sorted(LOOKS, key=len, reverse=True):
        if kind.endswith(f"_{look}"):
            return f"{_readable(kind.removesuffix(f'_{look}'))}, {look.replace('_', ' ')}"
    return kind.replace("point_box", "point + box").replace("_", " ")


def _rules(figures: Mapping[str, object]) -> str:
    rules = figures["rules"]
    assert isinstance(rules, dict)
    items = "".join(
        f"<dt>{name.replace('_', ' ')}</dt><dd>{html.escape(rule)}</dd>" for name, rule in rules.items()
    )
    return f"<h2>Rules</h2><dl>{items}</dl>"

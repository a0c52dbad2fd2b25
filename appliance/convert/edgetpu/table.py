"""A `GraphReport` for people and for programs."""

from __future__ import annotations

from typing import Any, Final

from appliance.convert.edgetpu.graph import ON_CHIP_BYTES, CpuOp, GraphReport

_HEADER: Final = ("op", "version", "count", "runs on", "why")
_MEGA: Final = 2**20


def as_text(report: GraphReport, name: str) -> str:
    """The table, what follows from it, and a verdict in the last line."""
    rows = [
        (
            line.name,
            str(line.version),
            str(line.count),
            "Edge TPU" if line.on_edge_tpu else "CPU",
            line.reason or "",
        )
        for line in report.lines
    ]
    widths = [max(len(row[column]) for row in (_HEADER, *rows)) for column in range(len(_HEADER))]
    text = [_row(_HEADER, widths), *(_row(row, widths) for row in rows), ""]
    if report.first_on_cpu is not None:
        text.append(f"first op on the CPU: {describe(report.first_on_cpu)}")
    text.append(_weights(report))
    text += [f"to be seen when it is compiled: {note}" for note in report.notes]
    text.append(verdict(report, name))
    return "\n".join(text)


def verdict(report: GraphReport, name: str) -> str:
    """One line."""
    if report.compiled:
        left = f"{report.cpu} ops are left to the CPU" if report.cpu else "no op is left to the CPU"
        return f"{name}: compiled for the Edge TPU, {left}"
    total = report.edge_tpu + report.cpu
    if report.refused is not None:
        return f"{name}: the compiler would refuse it: {report.refused}"
    return f"{name}: {report.edge_tpu} of {total} ops would run on the Edge TPU"


def describe(op: CpuOp) -> str:
    """An op that falls to the CPU, with what it gives and why."""
    return f"{op.name} version {op.version}, which gives {op.output!r} {list(op.output_shape)}: {op.reason}"


def as_json(report: GraphReport, name: str) -> dict[str, Any]:
    """For `json.dumps`. Sizes in bytes."""
    first = report.first_on_cpu
    return {
        "model": name,
        "compiled": report.compiled,
        "all_mapped": report.all_mapped,
        "refused": report.refused,
        "op_map": {"edge_tpu": report.edge_tpu, "cpu": report.cpu},
        "ops": [
            {
                "op": line.name,
                "version": line.version,
                "count": line.count,
                "runs_on": "edge_tpu" if line.on_edge_tpu else "cpu",
                "reason": line.reason,
            }
            for line in report.lines
        ],
        "first_on_cpu": first
        and {
            "op": first.name,
            "version": first.version,
            "output": first.output,
            "output_shape": list(first.output_shape),
            "reason": first.reason,
        },
        "weight_bytes": report.weight_bytes,
        "on_chip_bytes": ON_CHIP_BYTES,
        "streamed_bytes": report.streamed_bytes,
        "notes": list(report.notes),
    }


def _weights(report: GraphReport) -> str:
    if report.weight_bytes is None or report.streamed_bytes is None:
        return "weights: packed by the compiler; its log says what is streamed"
    held = (
        f"weights: {report.weight_bytes / _MEGA:.1f} MiB of at most {ON_CHIP_BYTES / _MEGA:.0f} on the chip"
    )
    if not report.streamed_bytes:
        return f"{held}: they fit, unless the program needs more than the rest"
    return f"{held}: at least {report.streamed_bytes / _MEGA:.1f} MiB are sent again at each invoke"


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    """Text to the left, numbers to the right."""
    padded = [
        cell.rjust(width) if title in ("version", "count") else cell.ljust(width)
        for title, cell, width in zip(_HEADER, cells, widths, strict=True)
    ]
    return "  ".join(padded).rstrip()

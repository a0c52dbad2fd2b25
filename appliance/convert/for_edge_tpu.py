"""The last steps of a conversion: what of the model would run on an Edge TPU, and having it compiled."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Final

from appliance.convert.edgetpu import compiler, graph, table
from appliance.convert.journal import Facts, Tick, digest_of_files
from appliance.convert.steps import HERE, Job
from appliance.errors import CompilerFailed, ConvertError

log = logging.getLogger(__name__)

CODE: Final = HERE / "edgetpu"


def check_graph(job: Job, name: str) -> Facts:
    """Which ops would run where; returns `op_map`, `table` and `verdict`. What does not fit is a warning."""

    def do(tick: Tick) -> Facts:
        del tick
        report = graph.check(job.int8_model)
        return {
            "op_map": {"edge_tpu": report.edge_tpu, "cpu": report.cpu},
            "all_mapped": report.all_mapped,
            "first_on_cpu": table.describe(report.first_on_cpu) if report.first_on_cpu else None,
            "table": table.as_text(report, name),
            "verdict": table.verdict(report, name),
        }

    made_of = {"int8": digest_of_files([job.int8_model]), "code": digest_of_files(sorted(CODE.glob("*.py")))}
    facts = job.journal.step("graph check", "the ops, for an Edge TPU", made_of | {"name": name}, (), do)
    if not facts["all_mapped"]:
        first = f"; the first that would not: {facts['first_on_cpu']}" if facts["first_on_cpu"] else ""
        log.warning("graph check: %s%s", facts["verdict"], first)
    return facts


def compiled_path(job: Job, name: str) -> Path:
    """Where `compile_model` leaves what it makes."""
    return job.work / f"{name}{compiler.SUFFIX}.tflite"


def compile_model(job: Job, name: str) -> Facts:
    """Compile; returns `op_map`, `compiler`, `on_chip_bytes` and `streamed_bytes`.

    There must be a compiler. Raises `CompilerFailed`, `TooLittleMapped`.
    """
    model = job.work / f"{name}.tflite"
    program = shutil.which(compiler.PROGRAM)
    if program is None:
        raise CompilerFailed(f"compile: there is no {compiler.PROGRAM} on PATH")

    def do(tick: Tick) -> Facts:
        shutil.copyfile(job.int8_model, model)
        try:
            compiled = compiler.compile_model(model, job.work, tick=lambda: tick(None))
        finally:
            model.unlink()
        if isinstance(compiled, compiler.Elsewhere):
            raise ConvertError(f"compile: {compiler.PROGRAM} is gone from PATH")
        return {
            "op_map": compiled.op_map,
            "compiler": compiled.compiler,
            "on_chip_bytes": compiled.on_chip_bytes,
            "streamed_bytes": compiled.streamed_bytes,
        }

    made_of = {
        "int8": digest_of_files([job.int8_model]),
        "name": name,
        "program": digest_of_files([Path(program)]),
        "code": digest_of_files(sorted(CODE.glob("*.py"))),
    }
    return job.journal.step("compile", "for the Edge TPU", made_of, (compiled_path(job, name),), do)

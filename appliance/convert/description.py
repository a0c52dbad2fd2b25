"""What is written beside a model: NAME.json. Pure."""

from __future__ import annotations

import hashlib
import json

from appliance.convert.journal import Facts
from appliance.convert.steps import METHOD, Job
from appliance.data import Layout


def describe(
    name: str,
    job: Job,
    calibration: str,
    exported: Facts,
    quantised: Facts,
    checked: Facts,
    graph: Facts,
    content: bytes,
) -> bytes:
    """The sidecar of a plain int8 model. `calibration` is what the folder of photographs is called."""
    return _as_json(
        {
            "name": name,
            "layout": Layout.RAW_HEAD.value,
            "input_wh": list(job.size_wh),
            "classes": exported["classes"],
            "input": quantised["input"],
            "outputs": quantised["outputs"],
            "bins": exported["bins"],
            "calibration": {"folder": calibration, "pictures": len(job.photographs), "method": METHOD},
            "accuracy": checked["accuracy"],
            "expected_op_map": graph["op_map"],
            "tools": {**exported["tools"], **quantised["tools"], **checked["tools"]},
            "licence": exported["licence"],
            "sha256": hashlib.sha256(content).hexdigest(),
            "checkpoint": {"name": job.checkpoint.name, "sha256": job.checkpoint_sha256},
        }
    )


def describe_float(name: str, job: Job, exported: Facts) -> bytes:
    """The sidecar of the float model that stays in the work folder, to compare the int8 one with."""
    return _as_json(
        {
            "name": f"{name}, float",
            "bins": exported["bins"],
            "licence": exported["licence"],
            "checkpoint": {"name": job.checkpoint.name, "sha256": job.checkpoint_sha256},
        }
    )


def describe_compiled(plain: bytes, name: str, compiled: Facts, content: bytes) -> bytes:
    """The sidecar of the same model compiled for the Edge TPU; `plain` is that of the model called NAME."""
    described: Facts = json.loads(plain)
    del described["expected_op_map"]
    described |= {
        "plain": f"{name}.tflite",
        "op_map": compiled["op_map"],
        "on_chip_bytes": compiled["on_chip_bytes"],
        "streamed_bytes": compiled["streamed_bytes"],
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    described["tools"] |= {"edgetpu_compiler": compiled["compiler"]}
    return _as_json(described)


def _as_json(content: Facts) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

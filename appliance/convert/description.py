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
    flatbuffer: bytes,
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
            "tools": {**exported["tools"], **quantised["tools"], **checked["tools"]},
            "licence": exported["licence"],
            "sha256": hashlib.sha256(flatbuffer).hexdigest(),
            "checkpoint": {"name": job.checkpoint.name, "sha256": job.checkpoint_sha256},
        }
    )


def _as_json(content: Facts) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()

"""The Edge TPU: there, usable, well connected, and running a model."""

from __future__ import annotations

import os

from appliance.doctor.checks import Check, Verdict, fail, ok, warn
from appliance.doctor.machine import Machine, ProbeFailed
from appliance.doctor.models import compiled_file
from appliance.doctor.service import systemctl
from appliance.errors import NoEdgeTpu
from appliance.invoke.discovery import EdgeTpu, choose, edge_tpus, pcie_without_driver

_WORKER = "appliance-tpu"
"""What the process that has the device is called."""
_PCIE_PAGE_BYTES = 4096
_PROBE_S = 90.0
"""More than loading and all runs may take, each of which has its own limit."""
_ADVICE = {
    "no device": "end other programs that use it, plug it in again, use a 5 A supply",
    "no library": "install libedgetpu1-std again, 16.0TF2.19.1 or later",
    "crashed": "libedgetpu and the TFLite runtime do not fit each other: install 16.0TF2.19.1 or later",
    "old runtime": "install the newest libedgetpu1-std",
    "model": "compile the model again",
    "lost": "plug it in again; use a 5 A supply, or a hub with power of its own, and a short USB 3 cable",
}
"""By `appliance.invoke.jobs.Trouble`."""


def device(machine: Machine) -> Check:
    """Whether there is one, and a driver for it."""
    name, wanted = "Edge TPU", machine.wanted
    devices = edge_tpus(machine.root)
    words = ", ".join(f"{found.name} ({found.link})" for found in devices)
    if wanted.backend == "cpu":
        return ok(name, f"{words or 'none'}; not wanted: `backend.kind` is cpu")
    if pcie_without_driver(machine.root):
        words = "there is one on PCIe, but no driver has taken it"
        return fail(name, words, "install gasket-dkms; on a Raspberry Pi 5 also the overlays in the README")
    try:
        chosen = choose(devices, wanted.device)
    except NoEdgeTpu as missing:
        advice = "plug it in; if it does not appear in `lsusb`: another port and cable, a 5 A supply"
        if wanted.backend == "edgetpu":
            return fail(name, str(missing), advice)
        return warn(name, f"{missing}: the CPU runs the model", f"{advice}; or `backend.kind: cpu`")
    return ok(name, words if len(devices) == 1 else f"{words}; {chosen.name} is used")


def rights(machine: Machine) -> Check | None:
    """Whether this user may open it."""
    chosen = _chosen(machine)
    if chosen is None:
        return None
    if chosen.may_open:
        return ok("Edge TPU's rights", f"this user may open {chosen.node}")
    words = f"this user may not open {chosen.node}"
    return fail("Edge TPU's rights", words, "sudo adduser $USER plugdev, and log in again")


def link(machine: Machine) -> Check | None:
    """How fast it is connected, and what it may draw."""
    chosen = _chosen(machine)
    if chosen is None:
        return None
    words = chosen.link
    words += "" if chosen.max_power_ma is None else f", may draw {chosen.max_power_ma} mA"
    if chosen.slow:
        return warn("Edge TPU's link", f"{words}: USB 2", "use a USB 3 port (blue) and a USB 3 cable")
    return ok("Edge TPU's link", words)


def pages(machine: Machine, page_bytes: int = os.sysconf("SC_PAGE_SIZE")) -> Check | None:
    """The driver of the PCIe device needs small pages, which a Pi 5's usual kernel does not have."""
    pcie = any(found.kind == "pci" for found in edge_tpus(machine.root)) or pcie_without_driver(machine.root)
    if not pcie or page_bytes == _PCIE_PAGE_BYTES:
        return None
    words = f"pages of {page_bytes // 1024} KB, but the driver for PCIe needs 4 KB"
    return fail("kernel", words, "kernel=kernel8.img in /boot/firmware/config.txt, and restart")


def real_run(machine: Machine) -> Check | None:
    """Load the compiled model and run it, in the worker process that the appliance uses."""
    name = "Edge TPU's run"
    chosen = _chosen(machine)
    if chosen is None:
        return None
    compiled = compiled_file(machine)
    if compiled is None:
        advice = "name a model that is compiled, or put its _edgetpu.tflite beside it"
        return warn(name, "not tried: there is no compiled model", advice)
    holder = next((pid for pid in machine.entries("proc", "[0-9]*") if _is_worker(machine, str(pid))), None)
    if holder is not None:
        words = f"not tried: the appliance is using it (process {holder.name})"
        return Check(name, Verdict.OK, words, f"{systemctl('stop', machine.root)}, to have it tried")
    try:
        found = machine.probe("edge_tpu", str(compiled), chosen.name, chosen.option, timeout_s=_PROBE_S)
    except ProbeFailed as failed:
        return fail(name, f"it went wrong: {failed}", _ADVICE["crashed"])
    if "error" in found:
        advice = _ADVICE.get(str(found.get("trouble")), "see the check of libedgetpu")
        return fail(name, str(found["error"]), advice)
    words = f"{found['invoke_ms']} ms (slowest {found['slowest_ms']}), loaded in {found['load_s']} s"
    return ok(name, words)


def pycoral(machine: Machine) -> Check:
    """What pycoral lists, where a working one is installed. The appliance does not use it."""
    name = "pycoral"
    try:
        found = machine.probe("pycoral", timeout_s=20.0)
    except ProbeFailed as failed:
        return ok(name, f"does not work, and is not needed ({failed})")
    if "error" in found:
        return ok(
            name, "not here, and not needed" if found.get("missing") else f"not needed ({found['error']})"
        )
    listed = found["devices"]
    assert isinstance(listed, list)
    return ok(name, f"lists {', '.join(listed) or 'nothing'}")


def _chosen(machine: Machine) -> EdgeTpu | None:
    if machine.wanted.backend == "cpu":
        return None
    try:
        return choose(edge_tpus(machine.root), machine.wanted.device)
    except NoEdgeTpu:
        return None


def _is_worker(machine: Machine, process: str) -> bool:
    return machine.text(f"{process}/comm") == _WORKER


CHECKS = (device, rights, link, pages, real_run, pycoral)

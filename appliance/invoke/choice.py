"""Which backend runs a model: the CPU, or an Edge TPU with the CPU as its stand-in."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from appliance.config import BackendKind
from appliance.errors import EdgeTpuError, NeedsEdgeTpu, NoEdgeTpu, NotCompiled
from appliance.invoke import Backend, discovery
from appliance.invoke.discovery import EdgeTpu
from appliance.invoke.edgetpu import EdgeTpuBackend
from appliance.invoke.jobs import EdgeTpuJob
from appliance.invoke.library import find_library, package_of
from appliance.invoke.pairs import ModelFile, check_twins, find_pair, find_plain, locate
from appliance.invoke.runtime import read_spec
from appliance.invoke.tflite import TfliteBackend

_log = logging.getLogger(__name__)

Devices = Callable[[], tuple[EdgeTpu, ...]]


def choose_backend(
    path: Path, kind: BackendKind, device: str, live: bool, devices: Devices = discovery.edge_tpus
) -> Backend:
    """The backend for a model: a file, or a folder that holds one.

    `cpu` and `edgetpu` either work or are an error. `auto` takes a device whenever there is one and the CPU
    otherwise. Raises `ModelError`, `EdgeTpuError`.
    """
    path = locate(path)
    if kind == "cpu":
        plain = find_plain(path)
        if plain is None:
            raise _needs_edge_tpu(path)
        return _cpu(plain)
    pair = find_pair(path)
    if pair.compiled is None:
        if kind == "edgetpu" or pair.plain is None:
            raise NotCompiled(_how_to_compile(path))
        if devices():
            _log.warning("there is an Edge TPU, but %s", _how_to_compile(path))
        return _cpu(pair.plain)
    try:
        _device_and_library(device, devices)
    except EdgeTpuError as missing:
        if kind == "edgetpu":
            raise
        if pair.plain is None:
            if not isinstance(missing, NoEdgeTpu):
                raise  # there is a device, and this is what it wants for
            raise _needs_edge_tpu(pair.compiled.path) from missing
    spec = read_spec(pair.compiled.path, pair.compiled.content)
    stand_in = None
    if pair.plain is not None:
        stand_in = _cpu(pair.plain)
        check_twins(stand_in.spec, spec, pair)
        spec = replace(spec, name=stand_in.spec.name, demo=stand_in.spec.demo)
    find = _finder(pair.compiled.path, device, devices)
    # Where every picture counts, and nothing else can run the model, the program would wait for ever.
    must_work = kind == "edgetpu" or (stand_in is None and not live)
    return EdgeTpuBackend(spec, find, stand_in, must_work, patient=not live)


def _cpu(model: ModelFile) -> TfliteBackend:
    return TfliteBackend(model.path, content=model.content)


def _needs_edge_tpu(path: Path) -> NeedsEdgeTpu:
    return NeedsEdgeTpu(
        f"{path} is compiled for the Edge TPU and cannot run on the CPU: plug one in, or give the .tflite "
        "file that it was compiled from"
    )


def _finder(model: Path, wanted: str, devices: Devices) -> Callable[[], EdgeTpuJob]:
    def find() -> EdgeTpuJob:
        device, library = _device_and_library(wanted, devices)
        package = package_of(library)
        power = "" if device.max_power_ma is None else f", draws up to {device.max_power_ma} mA"
        _log.info("%s: %s%s, %s (%s)", device.name, device.link, power, library, package or "of no package")
        if package is not None and package.outdated:
            _log.warning("%s crashes with today's runtimes: install one of 2024 or later", package)
        if device.slow:
            _log.warning("%s is connected at %s only: use a USB 3 port and cable", device.name, device.link)
        return EdgeTpuJob(str(model), str(library), device.name, device.option)

    return find


def _device_and_library(wanted: str, devices: Devices) -> tuple[EdgeTpu, Path]:
    """Raises `EdgeTpuError` with what is missing."""
    try:
        device = discovery.choose(devices(), wanted)
    except NoEdgeTpu as missing:
        if discovery.pcie_without_driver():
            words = "there is an Edge TPU on PCIe, but no driver for it: install gasket-dkms"
            raise EdgeTpuError(words) from missing
        raise
    library = find_library()
    if not device.may_open:
        raise EdgeTpuError(f"{device.name} may not be opened by this user: add it to the group plugdev")
    return device, library


def _how_to_compile(path: Path) -> str:
    return (
        f"{path} is not compiled for the Edge TPU: run edgetpu_compiler on it, and put the result beside it"
    )

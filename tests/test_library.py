"""Where libedgetpu is, and which package it came with."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from appliance.errors import NoEdgeTpuLibrary
from appliance.invoke import library
from appliance.invoke.library import NAME, Package, find_library, package_of

needs_dpkg = pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs a Debian system")

HEADER_NBYTES = 20
PROCESSOR = slice(18, 20)


def elf() -> bytearray:
    """The beginning of a library for this machine; nothing here loads it."""
    with Path("/proc/self/exe").open("rb") as file:
        return bytearray(file.read(HEADER_NBYTES))


def elf_for_another_machine() -> bytes:
    header = elf()
    header[PROCESSOR] = b"\xfe\xca"
    return bytes(header)


def put(folder: Path, content: bytes) -> Path:
    folder.mkdir()
    (folder / NAME).write_bytes(content)
    return folder


def installed_libc() -> Path:
    """The C library that the loader found for this process."""
    maps = Path("/proc/self/maps").read_text()
    return next(Path(line.split()[-1]) for line in maps.splitlines() if line.endswith("/libc.so.6"))


def test_the_first_folder_of_the_loaders_path_counts(tmp_path: Path) -> None:
    first, second = put(tmp_path / "a", elf()), put(tmp_path / "b", elf())
    assert find_library({"LD_LIBRARY_PATH": f"/nowhere::{first}:{second}"}) == first / NAME


@pytest.mark.parametrize("content", [elf_for_another_machine(), b"", b"not a library, but long enough"])
def test_what_the_loader_would_pass_over_is_passed_over(tmp_path: Path, content: bytes) -> None:
    wrong, right = put(tmp_path / "wrong", content), put(tmp_path / "right", elf())
    assert find_library({"LD_LIBRARY_PATH": f"{wrong}:{right}"}) == right / NAME


def test_it_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(library, "NAME", "libnobody-has-this.so.1")
    with pytest.raises(NoEdgeTpuLibrary, match=r"nobody.* is missing: install libedgetpu1-std"):
        find_library({})
    (tmp_path / "libnobody-has-this.so.1").write_bytes(elf_for_another_machine())
    with pytest.raises(NoEdgeTpuLibrary, match="no library for this machine"):
        find_library({"LD_LIBRARY_PATH": str(tmp_path)})


def test_one_of_the_system_is_found_as_the_loader_found_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "NAME", "libc.so.6")
    assert find_library({"PATH": "/nowhere"}).samefile(installed_libc())


@needs_dpkg
def test_the_package_of_a_library_of_the_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "NAME", "libc.so.6")
    monkeypatch.setattr(library, "_PACKAGES", "libc6*")
    package = package_of(find_library({}))
    assert package is not None
    assert package.name == "libc6"
    assert package.version[0].isdigit()


def registry(folder: Path, version: str, file: Path) -> dict[str, str]:
    """The environment in which dpkg knows of one package, which brought one file."""
    (folder / "info").mkdir(parents=True)
    (folder / "updates").mkdir()
    (folder / "status").write_text(
        "Package: libedgetpu1-std\nStatus: install ok installed\nMaintainer: nobody\nArchitecture: arm64\n"
        f"Multi-Arch: same\nVersion: {version}\nDescription: a library\n\n"
    )
    (folder / "info" / "format").write_text("1\n")
    (folder / "info" / "libedgetpu1-std:arm64.list").write_text(f"{file}\n")
    return {"DPKG_ADMINDIR": str(folder)}


@needs_dpkg
@pytest.mark.parametrize(
    ("version", "outdated"),
    [("16.0", True), ("15.0", True), ("16.0TF2.19.1-1", False), ("16.0tf2.13.1-2", False)],
)
def test_which_builds_are_too_old(tmp_path: Path, version: str, outdated: bool) -> None:
    file = put(tmp_path / "lib", elf()) / f"{NAME}.0"
    (file.with_name(NAME)).rename(file)
    (file.with_name(NAME)).symlink_to(file.name)
    package = package_of(file.with_name(NAME), registry(tmp_path / "dpkg", version, file))
    assert package == Package("libedgetpu1-std", version)
    assert str(package) == f"libedgetpu1-std {version}"
    assert package.outdated == outdated


@needs_dpkg
def test_a_library_that_no_package_brought(tmp_path: Path) -> None:
    folder = put(tmp_path / "lib", elf())
    assert package_of(folder / NAME) is None
    assert package_of(tmp_path / "missing") is None
    assert package_of(folder / NAME, {"DPKG_ADMINDIR": "/nowhere"}) is None


def test_a_system_without_dpkg(tmp_path: Path) -> None:
    assert package_of(tmp_path / NAME, {"PATH": str(tmp_path)}) is None

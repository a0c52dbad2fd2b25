"""Debian systems in a folder, for tests that need another system than this one.

    RECIPE = Recipe("camera", "trixie", packages=("python3",), setup="pip install ...")

    @pytest.mark.timeout(900)  # the first time on a machine it has to be made
    def test_something(tmp_path):
        root = open_root(RECIPE, tmp_path / "root")
        done = root.run("python3", "-c", "print(1)", timeout_s=20, binds={ROOT: "/project"})

`open_root` makes what a recipe says once on a machine, in `~/.cache/segmentation-appliance/roots/NAME-HASH`,
and never changes that again: a `Root` lays a layer of its own over it (overlayfs), so each test has a system
of its own at once. The layer is in the folder that the test gives, and goes with it.

- `Root.run` runs a command in it, as root, with a time limit that ends everything that it started.
- `Root.command` gives the same as an argument list, for `subprocess.Popen`.
- `Root.write` puts a file into it; `Root.file` says where one can be read.
- `Root.changes` has what was changed since the recipe (a deleted file is a character device 0:0).
- `Root.in_namespace` runs a script of this system, such as systemd-nspawn, where `$root` is the whole root.

Apt and pip in it use what this system's own use. Needs root, and apt to install mmdebstrap. Where there is no
way, the test is skipped with the reason; with CI=true in the environment it fails.
"""

from __future__ import annotations

import fcntl
import functools
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "segmentation-appliance" / "roots"
MAKE_S = 1200
"""How long each half of making a root may take."""
EMULATED_S = 5400
"""The same for another kind of machine, with every instruction emulated."""
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_FORM = 1
"""Count up when this module makes roots differently."""
_PASSED_ON = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
)
_IN_ROOT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@dataclass(frozen=True)
class Recipe:
    """What a root is made of. Any change of it makes another root."""

    name: str
    suite: str
    """Of Debian, such as "trixie"."""
    packages: tuple[str, ...] = ()
    setup: str = ""
    """A bash script that is run in the root, with `set -eu`, once the packages and files are there."""
    files: tuple[tuple[str, str], ...] = ()
    """Path in the root and text, for each file to be put there."""
    architecture: str = ""
    """Of Debian, such as "arm64"; this machine's if empty."""

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        text = json.dumps([_FORM, asdict(self)], sort_keys=True)
        return CACHE / f"{self.name}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Root:
    """A system over a kept one."""

    kept: Path
    folder: Path

    @property
    def changes(self) -> Path:
        """The files that are not as they were when it was made."""
        return self.folder / "changes"

    def file(self, path: str) -> Path:
        """Where a file of the root, by its absolute path in it, can be read from outside."""
        changed = self.changes / path.lstrip("/")
        return changed if os.path.lexists(changed) else self.kept / path.lstrip("/")

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Put a file into it."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1"; chmod "$2" "$1"'
        done = self.run("sh", "-euc", script, "write", path, f"{mode:o}", timeout_s=20, stdin=text)
        assert done.returncode == 0, done.stderr

    def in_namespace(self, script: str, *arguments: str, network: bool = True) -> list[str]:
        """The argument list that runs a bash script of this system where `$root` is mounted, whole.

        It has mounts and processes of its own: none outlives it, and a SIGKILL for it is one for all. Without
        `network` it has nothing but a loopback.
        """
        layers = f"lowerdir={self.kept},upperdir={self.changes},workdir={self.folder / 'work'}"
        script = (
            f'set -eu; root="{self.folder / "mounted"}"\n'
            f'mount -t overlay overlay -o "{layers}" "$root"\n'
            f"{'' if network else 'ip link set lo up'}\n{script}"
        )
        unshare = _UNSHARE if network else (*_UNSHARE, "--net")
        return [*unshare, "bash", "-c", script, "root", *arguments]

    def command(
        self,
        *command: str,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        network: bool = True,
    ) -> list[str]:
        """The argument list that runs a command in it.

        `binds`: folders of this system and where they are to be seen in the root, to be read only.
        """
        bind = "".join(
            f'mkdir -p "$root{inside}"; mount --bind "{outside}" "$root{inside}"\n'
            f'mount -o remount,bind,ro "$root{inside}"\n'
            for outside, inside in (binds or {}).items()
        )
        arguments = (*_environment(environment), *command)
        return self.in_namespace(f"{bind}{_MOUNT_SYSTEM}{_CHROOT}", *arguments, network=network)

    def run(
        self,
        *command: str,
        timeout_s: float,
        binds: Mapping[Path, str] | None = None,
        environment: Mapping[str, str] | None = None,
        network: bool = True,
        stdin: str = "",
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it. Raises `subprocess.TimeoutExpired`; the exit code is not looked at."""
        return subprocess.run(
            self.command(*command, binds=binds, environment=environment, network=network),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )


_UNSHARE = ("unshare", "--mount", "--propagation=private", "--pid", "--kill-child")
_MOUNT_SYSTEM = """
mount -t proc proc "$root/proc"; mount -t sysfs sysfs "$root/sys"; mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
"""
# Not `exec`: the first process of a namespace ignores signals, so the command should not be it.
_CHROOT = 'chroot "$root" /usr/bin/env -i "$@" || exit $?'


def open_root(recipe: Recipe, folder: Path) -> Root:
    """A system as the recipe says; its layer is in a folder that is new, or was used for it before."""
    if os.geteuid() != 0:
        unavailable("a root can only be entered as root")
    root = Root(_kept(recipe), folder)
    for part in ("changes", "work", "mounted"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    return root


def need(program: str, *packages: str) -> None:
    """See that a program is there, by apt if need be."""
    if shutil.which(program):
        return
    install = ["apt-get", "-q", "install", "-y", "--no-install-recommends", *packages]
    for command in (["apt-get", "-q", "update"], install):
        done = _quietly(command, {**os.environ, "DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode:
            unavailable(f"{program} is missing and cannot be installed: {_end_of(done.stdout)}")


def unavailable(reason: str) -> NoReturn:
    """Skip the test; on the machine that checks changes, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@functools.cache
def _kept(recipe: Recipe) -> Path:
    CACHE.mkdir(parents=True, exist_ok=True)
    lock = _lock_file(recipe.folder)
    while True:
        fcntl.flock(lock, fcntl.LOCK_SH)  # until this process ends: in use
        if recipe.folder.exists():
            return recipe.folder
        if _lock_at_once(lock):
            _remove_unused(recipe)
            _make(recipe)
        else:
            time.sleep(0.5)  # another run of the tests is here as well; one of them will make it


def _lock_at_once(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lock_file(folder: Path) -> int:
    return os.open(folder.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _remove_unused(recipe: Recipe) -> None:
    """Remove what older recipes of this name made, unless somebody is using it."""
    for old in CACHE.glob(f"{recipe.name}-" + "[0-9a-f]" * 12):
        lock = _lock_file(old)
        if _lock_at_once(lock):
            shutil.rmtree(old)
        os.close(lock)


def _make(recipe: Recipe) -> None:
    need("mmdebstrap", "mmdebstrap", "debian-archive-keyring")
    new = recipe.folder.with_suffix(".new")
    shutil.rmtree(new, ignore_errors=True)
    log = recipe.folder.with_suffix(".log")
    settings = _apt_settings()
    limit_s = EMULATED_S if recipe.architecture else MAKE_S
    command = [
        *_UNSHARE,
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join(('ca-certificates', *recipe.packages))}",
        *(f"--aptopt={setting}" for setting in settings),
        *(f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "doc", "locale")),
        *([f"--architectures={recipe.architecture}"] if recipe.architecture else []),
        recipe.suite,
        str(new),
        *_mirrors(recipe.suite),
    ]
    done = _quietly(command, timeout_s=limit_s)
    log.write_text(done.stdout)
    if done.returncode:
        shutil.rmtree(new, ignore_errors=True)
        unavailable(f"the root {recipe.name} cannot be made (see {log}): {_end_of(done.stdout)}")
    _let_apt_and_pip_work(new, settings)
    for path, text in recipe.files:
        target = new / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    script = f'root="{new}"; mount --bind "$root" "$root"\n{_MOUNT_SYSTEM}{_CHROOT}'
    setup = ["bash", "-c", f"set -eu\n{recipe.setup}"]
    entered = [*_UNSHARE, "bash", "-c", f"set -eu; {script}", "setup", *_environment(None), *setup]
    done = _quietly(entered, timeout_s=limit_s)
    log.write_text(done.stdout)
    assert done.returncode == 0, f"setup of the root {recipe.name} (see {log}): {_end_of(done.stdout)}"
    new.rename(recipe.folder)


def _environment(more: Mapping[str, str] | None) -> list[str]:
    passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    return [f"{name}={value}" for name, value in {**passed_on, **_IN_ROOT, **(more or {})}.items()]


def _apt_settings() -> list[str]:
    """How this system's apt reaches its sources."""
    groups = ("http", "https", "Retries", "Check-Valid-Until", "Check-Date")
    keys = [f"Acquire::{group}" for group in groups]
    done = _quietly(["apt-config", "dump", "--no-empty", "--format", '%F "%v";%n', *keys])
    return done.stdout.splitlines()


def _mirrors(suite: str) -> list[str]:
    """Sources for a suite, from where a Debian has its own; for others mmdebstrap knows some."""
    words = "$(REPO_URI) $(RELEASE)"
    done = _quietly(["apt-get", "indextargets", "--format", words, "Created-By: Packages"])
    ours = _quietly(["sh", "-c", ". /etc/os-release; echo $ID $VERSION_CODENAME"]).stdout.split()
    if not ours or ours[0] != "debian":
        return []
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        address, _, release = line.partition(" ")
        for part in ("", "-updates", "-security"):
            if release == ours[-1] + part:
                found.setdefault(part, address)
    return [f"deb [signed-by={_KEYRING}] {address} {suite}{part} main" for part, address in found.items()]


def _let_apt_and_pip_work(root: Path, settings: list[str]) -> None:
    """Give a root what this system has for reaching its package indexes."""
    (root / "etc/apt/apt.conf.d/00host").write_text("".join(f"{setting}\n" for setting in settings))
    keyring = root / str(_KEYRING).lstrip("/")
    keyring.parent.mkdir(parents=True, exist_ok=True)
    if not keyring.exists():
        shutil.copy(_KEYRING, keyring)
    for file in (_CERTIFICATES, Path("/etc/resolv.conf"), Path("/etc/hosts"), Path("/etc/pip.conf")):
        if file.exists():
            shutil.copy(file, root / str(file).lstrip("/"))


def _quietly(
    command: list[str], environment: Mapping[str, str] | None = None, timeout_s: float = MAKE_S
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def _end_of(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-3:]) or "it said nothing"

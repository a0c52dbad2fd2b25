"""The systems that other tests run in."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from roots import Recipe, Root, open_root

MINIMAL = Recipe(
    "minimal", "trixie", files=(("/etc/kept", "as it was\n"),), setup="sed 's/was/is/' /etc/kept >/etc/made"
)
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return open_root(MINIMAL, tmp_path / "root")


def test_each_test_has_a_system_of_its_own(root: Root, tmp_path: Path) -> None:
    assert root.file("/etc/made").read_text() == "as it is\n"
    root.write("/etc/kept", "changed\n", 0o600)
    assert root.run("sh", "-c", "cat /etc/kept; rm /etc/made", timeout_s=20).stdout == "changed\n"
    assert root.run("ls", "/etc/made", timeout_s=20).returncode == 2
    assert root.file("/etc/kept").read_text() == "changed\n"
    assert {file.name for file in (root.changes / "etc").iterdir()} == {"kept", "made"}
    other = open_root(MINIMAL, tmp_path / "other")
    assert other.run("cat", "/etc/kept", "/etc/made", timeout_s=20).stdout == "as it was\nas it is\n"


def test_a_command_gets_what_it_is_given_and_no_more(root: Root, tmp_path: Path) -> None:
    (tmp_path / "bound").mkdir()
    (tmp_path / "bound" / "file").write_text("here\n")
    script = (
        'cat /mnt/file - ; echo "$WORD ${PYTHONPATH-}"; touch /mnt/file && exit 1; ls /sys/class/net; exit 3'
    )
    done = root.run(
        *("sh", "-c", script),
        timeout_s=20,
        binds={tmp_path / "bound": "/mnt"},
        environment={"WORD": "two words"},
        network=False,
        stdin="typed\n",
    )
    assert done.stdout.splitlines()[:3] == ["here", "typed", "two words "]
    assert "Read-only" in done.stderr
    assert done.stdout.splitlines()[3:] == ["lo"]
    assert done.returncode == 3


def test_nothing_outlives_its_time(root: Root) -> None:
    start = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        root.run("sh", "-c", "setsid sleep 321321 & exec sleep 321321", timeout_s=1)
    assert time.monotonic() - start < 10
    time.sleep(0.2)
    assert subprocess.run(["pgrep", "-f", "sleep 321321"], check=False).returncode == 1


def test_signals_reach_a_command(root: Root) -> None:
    done = root.run("timeout", "-v", "-s", "TERM", "0.5", "sleep", "100", timeout_s=20)
    assert done.returncode == 124


def test_apt_works_in_it(root: Root) -> None:
    done = root.run("sh", "-c", "apt-get -q update && apt-cache policy python3", timeout_s=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Candidate: 3.13" in done.stdout

"""`install.sh`, interrupted: by signals, by a connection that breaks, and by a power cut before it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from installing import InstallableRoot, installable
from quick_install import on_terminal, quick_install
from roots import MAKE_S, open_root

pytestmark = pytest.mark.timeout(MAKE_S + 120)
PROJECT_ROOT = Path(__file__).resolve().parents[1]
UNDONE = "could not be undone"


@pytest.fixture
def machine(tmp_path: Path) -> InstallableRoot:
    (tmp_path / "packages").mkdir()
    return InstallableRoot(open_root(installable("bookworm"), tmp_path / "root"), tmp_path / "packages")


def test_a_signal_undoes_all(machine: InstallableRoot) -> None:
    nothing = machine.snapshot()
    for step, signal, code in (
        ("make_release", "INT", 130),
        ("set_up_data", "TERM", 143),
        ("put_in_place", "HUP", 129),
        ("enable_service", "PIPE", 141),
    ):
        said = machine.fails(*quick_install(before=f"interrupt {step} {signal}"), code=code)
        assert "interrupted while it did this: " in said
        assert "nothing was installed" in said
        assert UNDONE not in said
    assert machine.snapshot() == nothing

    machine.ok(*quick_install())
    first = machine.snapshot()
    for step, signal, code in (("make_release", "TERM", 143), ("put_in_place", "HUP", 129)):
        said = machine.fails(*quick_install(before=f"interrupt {step} {signal}"), code=code)
        assert "before is unchanged" in said
        assert UNDONE not in said
    assert machine.snapshot() == first


def test_a_connection_that_breaks(machine: InstallableRoot) -> None:
    nothing = machine.snapshot()
    hung_up = on_terminal(*quick_install(before="wait_after put_in_place"), log="/tmp/seen", until="NOW")
    machine.fails(*hung_up, code=129)
    assert machine.snapshot() == nothing
    nobody_reads = 'set -o pipefail; "$@" 2>&1 | head -n 1'
    machine.fails(
        "bash", "-c", nobody_reads, "test", *quick_install(before="wrap plan 'sleep 0.2'"), code=141
    )
    assert machine.snapshot() == nothing

    # Once it is in place, all the rest is done.
    machine.root.write("/tmp/model.tar", "a model")
    attention = "wrap look_over 'echo \"${notes[*]-}\" >/tmp/notes'"
    install = quick_install("--model", "/tmp/model.tar", before=f"wait_after tidy_up; {attention}")
    machine.ok(*on_terminal(*install, log="/tmp/seen", until="NOW"))
    assert "needs your attention" not in machine.ok("cat", "/tmp/notes")
    release = machine.release()
    piped = quick_install(before="wrap tidy_up 'echo NOW; sleep 0.2'")
    machine.ok("bash", "-c", 'set -o pipefail; "$@" 2>&1 | sed /NOW/q', "test", *piped)
    assert machine.release() != release
    assert len(machine.ok("ls", "/opt/appliance-releases").split()) == 1


def test_a_signal_once_it_is_in_place(machine: InstallableRoot) -> None:
    said = machine.fails(*quick_install(before="interrupt tidy_up TERM"), code=143)
    assert "run it again for that" in said
    release = machine.release()
    assert machine.ok("/usr/local/bin/appliance", "--version").strip() == release
    machine.ok("readlink", "/etc/systemd/system/multi-user.target.wants/appliance.service")
    machine.ok(*quick_install())
    assert machine.ok("ls", "/opt/appliance-releases").strip() == machine.release().rpartition("/")[2]


def test_packages_that_a_power_cut_left_half_installed(machine: InstallableRoot) -> None:
    # As dpkg leaves it when it is killed between two packages: apt then refuses all.
    machine.ok(
        *("sh", "-c", "sed -n '/^Package: tzdata$/,/^$/p' /var/lib/dpkg/status >/var/lib/dpkg/updates/0000")
    )
    machine.ok("sh", "-c", "sed -i 's/^Status: .*/Status: install ok unpacked/' /var/lib/dpkg/updates/0000")
    refused = machine.fails("apt-get", "-q", "install", "-y", "--no-download", "tzdata", code=100)
    assert "dpkg was interrupted" in refused
    said = machine.ok(*quick_install(before="install_packages() { prepare_apt; finish_packages; }"))
    assert "this is finished first" in said
    machine.ok("apt-get", "-q", "install", "-y", "--no-download", "tzdata")
    assert "this is finished first" not in machine.ok(
        *quick_install(before="wrap prepare_apt finish_packages")
    )


def test_packages_that_a_power_cut_left_without_what_they_need(machine: InstallableRoot) -> None:
    control = (
        "Package: {0}\\nVersion: 1\\nArchitecture: all\\nMaintainer: T <t@example.org>\\nDescription: t\\n{1}"
    )
    for name, needs in (("one", "Depends: two\\n"), ("two", "")):
        text = control.format(name, needs)
        machine.ok(
            "bash",
            "-ec",
            f"mkdir -p /tmp/{name}/DEBIAN /tmp/debs; printf '{text}' >/tmp/{name}/DEBIAN/control\n"
            f"dpkg-deb --build /tmp/{name} /tmp/debs\nfile=$(ls /tmp/debs/{name}_*)\n"
            f"{{ printf '{text}'; echo Filename: ./${{file##*/}}; echo Size: $(stat -c %s $file)\n"
            "echo SHA256: $(sha256sum $file | cut -d' ' -f1); echo; } >>/tmp/debs/Packages",
        )
    machine.root.write("/tmp/list", "deb [trusted=yes] file:/tmp/debs ./\n")
    # apt has come as far as the first of the two.
    machine.ok("sh", "-c", "mkdir -p /tmp/lists/partial && dpkg --unpack /tmp/debs/one_*")
    assert "one" in machine.ok("dpkg", "--audit")
    lists = (
        "-o Dir::Etc::sourcelist=/tmp/list -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists=/tmp/lists"
    )
    before = f"install_packages() {{ apt_options=({lists}); finish_packages; }}"
    assert "half installed still" not in machine.ok(*quick_install(before=before))
    assert (
        machine.ok("dpkg-query", "-W", "-f", "${db:Status-Status} ", "one", "two") == "installed installed "
    )


def test_another_apt_amid_its_work(machine: InstallableRoot) -> None:
    """What looks half installed then is none of ours."""
    half = "/var/lib/dpkg/updates/0000"
    machine.ok("sh", "-c", f"sed -n '/^Package: tzdata$/,/^$/p' /var/lib/dpkg/status >{half}")
    locks = "file = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    works = f"import fcntl, os, time; {locks}; time.sleep(3); os.remove('{half}')"
    before = f"""
        install_packages() {{ prepare_apt; finish_packages; }}
        python3 -c "{works}" & sleep 1
    """
    assert "this is finished first" not in machine.ok(*quick_install(before=before))


def test_a_mirror_that_does_not_answer(machine: InstallableRoot) -> None:
    machine.root.write("/tmp/list", "deb [trusted=yes] http://127.0.0.1:9/ ./\n")
    machine.ok("mkdir", "-p", "/tmp/lists/partial")
    script = """
        . <(sed -n '/^install_packages() {/,/^}/p' /project/scripts/install-packages)
        packages_if_known() { echo no-such-package; }
        prepare_apt() {
          apt_options=(-o Dir::Etc::sourcelist=/tmp/list -o Dir::Etc::sourceparts=/dev/null
            -o Dir::State::lists=/tmp/lists -o Dir::Cache::pkgcache=
            -o Acquire::http::Proxy=DIRECT -o Acquire::Retries=0)
        }
        packages() { echo python3; }
    """
    said = machine.fails(*quick_install(before=script))
    assert "knows not all that is wanted; try again later" in said
    # It does not keep one from an upgrade that was without it before.
    machine.ok(*quick_install())
    assert "older ones will do" in machine.ok(*quick_install(before=script))


def test_a_camera_that_comes_later(machine: InstallableRoot) -> None:
    machine.ok(*quick_install())
    machine.ok("sed", "-i", "s/^source: .*/source: scene/", "/etc/appliance/config.yaml")
    assert "still come from the generated scene" not in machine.ok(*quick_install())
    said = machine.ok(*quick_install(before="wrap prepare_apt 'is_installed() { :; }'"))
    assert "still come from the generated scene" in said


def test_another_apt_that_fetches_its_lists(machine: InstallableRoot) -> None:
    locks = "file = open('/var/lib/apt/lists/lock', 'w'); fcntl.lockf(file, fcntl.LOCK_EX)"
    holds = f"import fcntl, time; {locks}; time.sleep(3)"
    none = "-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts=/dev/null"
    before = f"""
        sleep() {{ command sleep 0.5; }}
        install_packages() {{ apt_options=({none}); update_lists; }}
        python3 -c "{holds}" & command sleep 1
    """
    said = machine.ok(*quick_install(before=before))
    assert said.count("this waits for it") == 1
    # One that fails for another reason is not waited for.
    before = "install_packages() { apt_options=(-o Dir::Etc::sourcelist=/tmp/list); update_lists; }"
    machine.root.write("/tmp/list", "deb file:/nowhere ./\n")
    machine.fails(*quick_install(before=before))


def test_what_a_power_cut_left_makes_room(machine: InstallableRoot) -> None:
    left = "/opt/appliance-releases/20200101-000000"
    machine.ok("sh", "-c", f"mkdir -p {left} && head -c 50M /dev/zero >{left}/half")
    free = "df() { printf 'Avail\\n1470M\\n'; }"
    said = machine.ok(*quick_install(before=f"{free}; wrap make_release '[ ! -e {left} ]'"))
    assert f"remove {left}/, which is no longer used" in said
    assert machine.run("ls", left).returncode != 0
    assert "1470 MB are free" in machine.fails(*quick_install(before=free))


def test_a_card_that_forgets(machine: InstallableRoot) -> None:
    overlay = "echo console=tty1 overlayroot=tmpfs quiet >/tmp/line; mount --bind /tmp/line /proc/cmdline"
    said = machine.fails("bash", "-c", f'{overlay}; "$@"', "test", *quick_install())
    assert "raspi-config" in said


def test_uninstalling_leaves_a_clone_of_the_project_alone(machine: InstallableRoot) -> None:
    machine.ok("mkdir", "/opt/appliance")
    machine.root.write("/opt/appliance/mine", "mine")
    machine.ok("/project/install.sh", "--purge")
    assert machine.ok("cat", "/opt/appliance/mine") == "mine"


def test_a_script_that_changes_while_it_runs_is_not_read_on(tmp_path: Path) -> None:
    """As when the project is updated meanwhile."""
    script = (PROJECT_ROOT / "install.sh").read_text()
    end = script.index("# Not when it is read by a test.")
    changing = 'main() { echo "echo read on; exit 7" >>"$0"; }\n'
    (tmp_path / "install.sh").write_text(script[:end] + changing + script[end:])
    (tmp_path / "scripts").mkdir()
    for part in PROJECT_ROOT.glob("scripts/install-*"):
        (tmp_path / "scripts" / part.name).write_bytes(part.read_bytes())
    done = subprocess.run(
        ["bash", tmp_path / "install.sh"], capture_output=True, text=True, timeout=20, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")

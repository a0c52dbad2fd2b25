"""From checkpoint to published bundle, as far as that works without the internet.

The script is the real one, and so are apt, the archive's signature and the bundle. What stands in: a server
on this machine for the photographs and for Google's archive, a package that is called edgetpu-compiler, and
the conversion.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from edge_tpu import compile_model
from file_server import Behaviour, serving
from roots import Recipe, open_root

from appliance.bundle import write_bundle

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "build-models"
PHOTOGRAPHS = "https://github.com/ultralytics/assets/releases/download/v0.0.0/coco128-seg.zip"
WORKFLOW = ROOT / ".github" / "workflows" / "models.yml"
DOCKERFILE = ROOT / "containers" / "build-models.Dockerfile"

APPLIANCE = """#!/bin/sh
echo "$*" >>"$0.log"
[ "$1" = convert ] || exec {python} -m appliance "$@"
echo "torch from: $PIP_EXTRA_INDEX_URL" >>"$0.log"
[ ! -e {made}/fails ] || exit 41
echo "a table of operators"
while [ "$1" != --out ]; do shift; done
echo "$2/FastSAM-s-448.tflite"
cp {made}/*.tar "$2" && echo "$2/FastSAM-s-448.tar"
"""


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def photographs() -> bytes:
    """A zip file laid out like the real one."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for number in range(3):
            archive.writestr(f"coco128-seg/images/train2017/00000000000{number}.jpg", b"jpeg")
            archive.writestr(f"coco128-seg/labels/train2017/00000000000{number}.txt", b"0 0.5")
        archive.writestr("coco128-seg/LICENSE", b"text")
    return content.getvalue()


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving(photographs()) as behaviour:
        yield behaviour


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A folder with what a conversion would make."""
    folder = tmp_path / "made"
    folder.mkdir()
    model = folder / "FastSAM-s-448.tflite"
    shutil.copy(ROOT / "models" / "demo.tflite", model)
    compile_model(model, model.with_name("FastSAM-s-448_edgetpu.tflite"))
    sha256 = hashlib.sha256(model.read_bytes()).hexdigest()
    model.with_suffix(".json").write_text(json.dumps({"name": "FastSAM-s-448", "sha256": sha256}))
    write_bundle(model)
    return folder


@pytest.fixture
def project(made: Path, server: Behaviour, tmp_path: Path) -> Path:
    """The project, with the script, and stand-ins for what takes long or is out of reach."""
    project = tmp_path / "project"
    project.mkdir()
    (project / "appliance").symlink_to(ROOT / "appliance")
    script = SCRIPT.read_text()
    assert PHOTOGRAPHS in script
    put(project / "scripts" / "build-models", script.replace(PHOTOGRAPHS, server.url))
    put(project / "scripts" / "environment", '#!/bin/sh\necho "environment $*" >>"$0.log"\n')
    put(project / ".venv" / "bin" / "appliance", APPLIANCE.format(python=sys.executable, made=made))
    for name in ("edgetpu_compiler", "apt-get"):
        put(project / "bin" / name, f'#!/bin/sh\necho "{name} $*" >>"$0.log"\n')
    # Whatever version this is, the script is to take it for one that the converter can use.
    asked = 'case "$2" in *version_info*) exit 0 ;; esac'
    put(project / "bin" / "python3", f'#!/bin/sh\n{asked}\nexec {sys.executable} "$@"\n')
    return project


def build(project: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    path = f"{project / 'bin'}:{os.environ['PATH']}"
    return subprocess.run(
        [project / "scripts" / "build-models", *arguments],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        cwd=project.parent,
        env={**os.environ, "PATH": path, "PYTHONPATH": str(project), **environment},
    )


def log(project: Path, program: str) -> list[str]:
    path = project / f"{program}.log"
    return path.read_text().splitlines() if path.exists() else []


def test_everything_in_turn(project: Path, made: Path, server: Behaviour, tmp_path: Path) -> None:
    server.breaks = [100]
    done = build(project, "--out", "result")
    assert done.returncode == 0, done.stderr
    bundle = tmp_path / "result" / "FastSAM-s-448.tar"
    assert bundle.read_bytes() == (made / bundle.name).read_bytes()
    assert "a table of operators" in done.stderr
    listed, summed = done.stdout.splitlines()
    assert listed.startswith("* FastSAM-s-448: FastSAM-s-448, 512 x 288, for CPU and Edge TPU")
    assert summed == f"{hashlib.sha256(bundle.read_bytes()).hexdigest()}  {bundle}"
    assert "sudo appliance models add FastSAM-s-448.tar" in done.stderr.splitlines()[-1]
    assert log(project, "scripts/environment") == ["environment appliance"]
    work = project / "build" / "build-models"
    asked, torch, *_ = log(project, ".venv/bin/appliance")
    assert asked == (
        f"convert fastsam-s --size auto --calibration {work}/photographs --out {tmp_path}/result"
    )
    assert torch.endswith("https://download.pytorch.org/whl/cpu")
    assert sorted(path.name for path in work.iterdir()) == ["photographs"]
    assert len(list((work / "photographs").iterdir())) == 3
    before = len(server.asked)
    assert build(project, "--out", "result").returncode == 0
    assert len(server.asked) == before


def test_photographs_of_ones_own(project: Path, server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    done = build(project, "--calibration", "my photos")
    assert done.returncode == 0, done.stderr
    assert server.asked == []
    assert (
        f"--calibration {tmp_path}/my photos --out {project}/build/models"
        in (log(project, ".venv/bin/appliance")[0])
    )


def test_a_dry_run_says_what_it_would_do_and_does_nothing(project: Path, server: Behaviour) -> None:
    before = sorted(project.rglob("*"))
    done = build(project, "--dry-run")
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 6
    for words in (server.url, "packages.cloud.google.com", f"{project}/build/models"):
        assert words in done.stderr
    assert sorted(project.rglob("*")) == before
    assert server.asked == []


def test_a_failed_conversion_is_the_end(project: Path, made: Path) -> None:
    (made / "fails").touch()
    done = build(project)
    assert done.returncode == 41
    assert "is the bundle right" not in done.stderr


def test_a_bundle_without_a_model_for_the_edge_tpu_is_no_success(project: Path, made: Path) -> None:
    (made / "FastSAM-s-448_edgetpu.tflite").unlink()
    write_bundle(made / "FastSAM-s-448.tflite")
    done = build(project)
    assert done.returncode == 1
    assert "there is no Edge TPU model in" in done.stderr.splitlines()[-1]


def test_photographs_that_are_out_of_reach_are_said(project: Path, server: Behaviour) -> None:
    server.answers = [404]
    done = build(project)
    assert done.returncode == 1
    assert "404" in done.stderr.splitlines()[-1]
    assert log(project, ".venv/bin/appliance") == []
    assert build(project).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--calibration", "none"], 1, "there is no folder"),
        (["--out"], 1, "--out needs a folder"),
        (["--help"], 0, "build-models [--out FOLDER]"),
        (["more"], 2, "build-models [--out FOLDER]"),
    ],
)
def test_what_is_asked_wrongly(project: Path, arguments: list[str], code: int, words: str) -> None:
    done = build(project, *arguments)
    assert done.returncode == code
    assert words in done.stdout + done.stderr
    assert not (project / "build").exists()


@pytest.mark.parametrize(
    ("program", "prints", "words"),
    [
        ("uname", "echo aarch64", "edgetpu_compiler is for x86-64 only, and this is aarch64"),
        ("python3", "exit 1", "needs Python 3.11 or 3.12"),
    ],
)
def test_other_machines_are_told_so(project: Path, program: str, prints: str, words: str) -> None:
    put(project / "bin" / program, f"#!/bin/sh\n{prints}\n")
    done = build(project, "--dry-run")
    assert done.returncode == 1
    assert words in done.stderr


# Google's archive, and the real apt

ARCHIVE = """
umask 022
mkdir -p /srv/apt/doc /srv/apt/pool /srv/apt/dists/coral-edgetpu-stable/main/binary-amd64 /tmp/deb
cd /srv/apt
package() {
  rm -rf /tmp/deb; mkdir -p /tmp/deb/DEBIAN /tmp/deb/usr/bin
  printf '%s\\n' "Package: $1" "Version: $2" 'Architecture: amd64' 'Maintainer: none' 'Description: none' \
    >/tmp/deb/DEBIAN/control
  printf '#!/bin/sh\\necho Edge TPU Compiler version 16.0\\n' >"/tmp/deb/usr/bin/$3"
  chmod 755 "/tmp/deb/usr/bin/$3"
  dpkg-deb --build --root-owner-group /tmp/deb "pool/$1.deb"
}
package edgetpu-compiler 16.0 edgetpu_compiler
package libedgetpu1-std 16.0 libedgetpu
apt-ftparchive packages pool >dists/coral-edgetpu-stable/main/binary-amd64/Packages
cd dists/coral-edgetpu-stable
as=APT::FTPArchive::Release
apt-ftparchive -o $as::Suite=coral-edgetpu-stable -o $as::Components=main -o $as::Architectures=amd64 \
  release . >/tmp/Release
mv /tmp/Release Release
export GNUPGHOME=/srv/gnupg
mkdir -m 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-generate-key 'Stand-in <nobody@example.org>' rsa2048 sign never
gpg --batch --quiet --clearsign -o InRelease Release
gpg --batch --quiet --export >/srv/apt/doc/binary
gpg --batch --quiet --export --armor >/srv/apt/doc/text
gpgconf --kill all
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/*
echo '127.0.0.1 packages.cloud.google.com' >>/etc/hosts
echo 'Acquire::http::Proxy::packages.cloud.google.com "DIRECT";' >/etc/apt/apt.conf.d/99direct
"""
BUILDER = Recipe(
    "build-models",
    "bookworm",
    packages=("python3", "python3-venv", "gpg", "gpg-agent", "apt-utils"),
    setup=ARCHIVE,
)
IN_ROOT = """
cd /srv
python3 -m http.server --bind 127.0.0.1 80 >/tmp/http.log 2>&1 &
server=$!
try() { python3 -c 'import socket; socket.create_connection(("127.0.0.1", 80), 1)' 2>/dev/null; }
until try; do sleep 0.1; done
cp "/srv/apt/doc/$1" /srv/apt/doc/apt-key.gpg
mkdir -p /root/photos
/root/project/scripts/build-models --calibration /root/photos
code=$?
kill "$server"
edgetpu_compiler
apt-cache policy libedgetpu1-std | sed -n 's/.*Candidate: /libedgetpu1-std: /p'
ls /etc/apt/keyrings
exit "$code"
"""


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("key", "keyring"), [("binary", "coral-edgetpu.gpg"), ("text", "coral-edgetpu.asc")])
def test_the_compiler_is_installed_from_googles_archive(key: str, keyring: str, tmp_path: Path) -> None:
    """And nothing else is ever taken from there. Over HTTP here, for want of a certificate."""
    root = open_root(BUILDER, tmp_path / "root")
    script = SCRIPT.read_text()
    assert "ARCHIVE=https://$ARCHIVE_HOST/apt" in script
    root.write(
        "/root/project/scripts/build-models", script.replace("https://$ARCHIVE", "http://$ARCHIVE"), 0o755
    )
    root.write("/root/project/scripts/environment", "#!/bin/sh\n", 0o755)
    root.write("/root/project/.venv/bin/appliance", "#!/bin/sh\necho converting >&2; exit 41\n", 0o755)
    for name in ("__init__", "download", "errors"):
        root.write(f"/root/project/appliance/{name}.py", (ROOT / "appliance" / f"{name}.py").read_text())
    direct = {"no_proxy": "*"}
    done = root.run("bash", "-c", IN_ROOT, "in", key, timeout_s=120, environment=direct, network=False)
    assert done.returncode == 41, done.stdout + done.stderr
    assert "converting" in done.stderr
    compiler, library, keyrings = done.stdout.splitlines()[-3:]
    assert compiler == "Edge TPU Compiler version 16.0"
    assert library == "libedgetpu1-std: (none)"
    assert keyrings == keyring


@pytest.mark.timeout(900)
def test_an_archive_that_another_key_signed_is_refused(tmp_path: Path) -> None:
    root = open_root(BUILDER, tmp_path / "root")
    other = (
        "export GNUPGHOME=/tmp/other; mkdir -m 700 /tmp/other; cd /tmp/other\n"
        "gpg --batch --quiet --passphrase '' --quick-generate-key 'Other <o@o.org>' rsa2048 sign never\n"
        "gpg --batch --quiet --export >/srv/apt/doc/other; gpgconf --kill all\n"
    )
    root.write(
        "/root/project/scripts/build-models", SCRIPT.read_text().replace("https://$", "http://$"), 0o755
    )
    for name in ("__init__", "download", "errors"):
        root.write(f"/root/project/appliance/{name}.py", (ROOT / "appliance" / f"{name}.py").read_text())
    direct = {"no_proxy": "*"}
    done = root.run(
        "bash", "-c", other + IN_ROOT, "in", "other", timeout_s=120, environment=direct, network=False
    )
    assert done.returncode == 100
    assert "NO_PUBKEY" in done.stderr
    assert "the appliance's own environment" not in done.stderr
    assert root.run("edgetpu_compiler", timeout_s=20).returncode == 127


# What runs elsewhere


def test_the_workflow_has_few_rights_and_runs_what_it_names() -> None:
    """Checked further by hand with check-jsonschema and zizmor; no such machine has run it."""
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    assert workflow["permissions"] == {}
    rights = {name: job.get("permissions") for name, job in workflow["jobs"].items()}
    assert rights == {"build": {"contents": "read"}, "publish": {"contents": "write"}}
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        if "uses" in step:
            assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
        else:
            assert "${{" not in step["run"]
            checked = subprocess.run(
                ["shellcheck", "--shell=bash", "-"],
                input=step["run"],
                capture_output=True,
                text=True,
                timeout=50,
                check=False,
            )
            assert checked.returncode == 0, checked.stdout
    build_step = next(step["run"] for step in steps if step.get("name") == "Build the bundle")
    done = subprocess.run(
        [*build_step.split(), "--dry-run"], cwd=ROOT, capture_output=True, timeout=50, check=False
    )
    assert done.returncode == 0 or b"Python 3.11 or 3.12" in done.stderr


def test_the_notes_of_a_release(made: Path, tmp_path: Path) -> None:
    workflow = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    script = next(
        step["run"] for step in workflow["jobs"]["publish"]["steps"] if step.get("name") == "Write the notes"
    )
    variables = {
        "GITHUB_SERVER_URL": "https://host",
        "GITHUB_REPOSITORY": "owner/name",
        "GITHUB_SHA": "0" * 40,
        "TAG": "models-1",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=made,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    notes = (tmp_path / "notes.md").read_text()
    address = "https://host/owner/name/releases/download/models-1/FastSAM-s-448.tar"
    assert f"sudo appliance models add {address}\n" in notes
    assert "AGPL-3.0" in notes
    assert hashlib.sha256((made / "FastSAM-s-448.tar").read_bytes()).hexdigest() in notes


def test_the_container_runs_the_script() -> None:
    lines = DOCKERFILE.read_text(encoding="utf-8").splitlines()
    (entry,) = [line.removeprefix("ENTRYPOINT ") for line in lines if line.startswith("ENTRYPOINT ")]
    program, *arguments = json.loads(entry)
    assert (ROOT / program).samefile(SCRIPT)
    assert arguments == ["--out", "/out"]
    ignored = DOCKERFILE.with_name(f"{DOCKERFILE.name}.dockerignore").read_text(encoding="utf-8").split()
    assert {".git", ".venv*", "build"} <= set(ignored)

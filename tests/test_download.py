"""Downloads from a real server that misbehaves."""

import hashlib
import shutil
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import Behaviour, serving

from appliance.convert.fetch import MANIFEST, fetch, published
from appliance.download import ATTEMPTS, Wanted, download
from appliance.errors import ConvertError, DownloadError

CONTENT = np.random.default_rng(0).bytes(600_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server() -> Iterator[Behaviour]:
    with serving(CONTENT) as behaviour:
        yield behaviour


def get(server: Behaviour, path: Path, **known: object) -> str:
    return download(Wanted(server.url, **known), path, pause_s=0.01)  # type: ignore[arg-type]


def test_whole_file_and_its_progress(server: Behaviour, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = tmp_path / "made" / "file.pt"
    found = download(Wanted(server.url, len(CONTENT), SHA256), path, lambda done, of: seen.append((done, of)))
    assert found == SHA256
    assert path.read_bytes() == CONTENT
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert list(path.parent.iterdir()) == [path]


def test_lost_connections_are_resumed_where_they_broke(server: Behaviour, tmp_path: Path) -> None:
    server.breaks = [100_000, 200_000]
    assert get(server, tmp_path / "file.pt", sha256=SHA256) == SHA256
    assert server.asked == [None, "bytes=100000-", "bytes=300000-"]


def test_server_that_knows_no_ranges_sends_all_of_it_again(server: Behaviour, tmp_path: Path) -> None:
    server.ranges = False
    server.breaks = [100_000]
    get(server, tmp_path / "file.pt", sha256=SHA256)
    assert (tmp_path / "file.pt").read_bytes() == CONTENT


def test_server_without_tags_is_not_trusted_to_have_the_same_file(server: Behaviour, tmp_path: Path) -> None:
    server.tag = ""
    server.breaks = [100_000]
    get(server, tmp_path / "file.pt")
    assert server.asked == [None, None]
    assert (tmp_path / "file.pt").read_bytes() == CONTENT


def test_next_day_goes_on_unless_the_file_has_changed(server: Behaviour, tmp_path: Path) -> None:
    server.breaks = [100_000] + [0] * (ATTEMPTS - 1)
    with pytest.raises(DownloadError, match=r"after 100000 of 600000 bytes; 100000 bytes are kept"):
        get(server, tmp_path / "file.pt")
    assert not (tmp_path / "file.pt").exists()

    server.asked.clear()
    server.content, server.tag = CONTENT[::-1], '"two"'
    get(server, tmp_path / "file.pt")
    assert server.asked == ["bytes=100000-"]
    assert (tmp_path / "file.pt").read_bytes() == CONTENT[::-1]


def test_part_that_is_whole_already(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / ".file.pt.part").write_bytes(CONTENT)
    (tmp_path / ".file.pt.part.tag").write_text(server.tag)
    assert get(server, tmp_path / "file.pt", size=len(CONTENT)) == SHA256
    assert len(server.asked) == 1


def test_part_that_is_longer_than_the_file(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / ".file.pt.part").write_bytes(CONTENT + b"more")
    (tmp_path / ".file.pt.part.tag").write_text(server.tag)
    assert get(server, tmp_path / "file.pt", size=len(CONTENT)) == SHA256


@pytest.mark.parametrize(
    ("known", "problem"),
    [({"size": 5}, r"600000 bytes, not 5"), ({"sha256": "0" * 64}, rf"SHA-256 is {SHA256}, not 0000")],
)
def test_wrong_file_is_named_and_thrown_away(
    server: Behaviour, tmp_path: Path, known: dict[str, object], problem: str
) -> None:
    with pytest.raises(DownloadError, match=f"not the file that was expected: .*{problem}"):
        get(server, tmp_path / "file.pt", **known)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("breaks", [[], [500_000]])
def test_more_than_was_allowed_is_not_kept(server: Behaviour, tmp_path: Path, breaks: list[int]) -> None:
    server.breaks = breaks
    for at_most in (len(CONTENT) - 1, 50):
        with pytest.raises(DownloadError, match=f"has more than {at_most} bytes"):
            get(server, tmp_path / "file.pt", at_most=at_most)
        assert list(tmp_path.iterdir()) == []
    get(server, tmp_path / "file.pt", at_most=len(CONTENT))


def test_a_server_that_says_no_length_is_stopped_too(server: Behaviour, tmp_path: Path) -> None:
    server.says_length = False
    with pytest.raises(DownloadError, match="has more than 1000 bytes"):
        get(server, tmp_path / "file.pt", at_most=1000)
    assert list(tmp_path.iterdir()) == []


def test_no_such_file_is_said_at_once(server: Behaviour, tmp_path: Path) -> None:
    server.answers = [404]
    with pytest.raises(DownloadError, match=r"file\.pt cannot be downloaded: the server answers 404"):
        get(server, tmp_path / "file.pt")
    assert len(server.asked) == 1


def test_busy_server_is_asked_again(server: Behaviour, tmp_path: Path) -> None:
    server.answers = [503, 429]
    get(server, tmp_path / "file.pt")
    assert len(server.asked) == 3


def test_no_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(DownloadError, match=r"no connection \(.*refused"):
        download(Wanted(f"http://127.0.0.1:{port}/file"), tmp_path / "file", pause_s=0.01)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Key and certificate of 127.0.0.1 in one file, which is trusted."""
    if shutil.which("openssl") is None:
        pytest.skip("makes a certificate with openssl, which is not here")
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=test", "-days", "2"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", path, "-out", tmp_path / "only.pem"]
    subprocess.run(command, check=True, capture_output=True, timeout=30)
    with path.open("ab") as file:
        file.write((tmp_path / "only.pem").read_bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setattr(urllib.request, "_opener", None)  # since Python 3.12 it keeps what it trusts
    return path


def test_a_wire_that_garbles_is_like_one_that_breaks(certificate: Path, tmp_path: Path) -> None:
    """What TLS then says is an `OSError` as any of the disk's."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(CONTENT, context) as server:
        server.breaks, server.breaks_with = [100_000], b"garbage" * 100
        assert get(server, tmp_path / "file.pt", sha256=SHA256) == SHA256
        assert len(server.asked) == 2
        server.breaks = [0] * ATTEMPTS
        with pytest.raises(DownloadError, match=r"connection was lost \(.*SSL.*bytes are kept"):
            get(server, tmp_path / "other.pt")


def test_a_server_that_speaks_no_tls(server: Behaviour, tmp_path: Path) -> None:
    server.url = server.url.replace("http:", "https:")
    with pytest.raises(DownloadError, match=r"no connection \(.*SSL"):
        get(server, tmp_path / "file.pt")


@pytest.mark.timeout(20)
def test_a_full_disk_is_said_at_once(server: Behaviour, small_disk: Callable[[str], Path]) -> None:
    with pytest.raises(DownloadError, match=r"file\.pt cannot be written: No space left on device"):
        get(server, small_disk("100k") / "file.pt")
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "url", ["http://[::1/x", "http://127.0.0.1:port/x", f"http://{'a' * 70}.com/x", "http://a b/"]
)
def test_what_is_no_address_is_said_at_once(url: str, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no address to download from"):
        download(Wanted(url), tmp_path / "file", pause_s=60)


def test_address_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match="no address to download from"):
        download(Wanted("file:///etc/passwd"), tmp_path / "file")


def test_folder_that_cannot_be_made(server: Behaviour, tmp_path: Path) -> None:
    (tmp_path / "taken").touch()
    with pytest.raises(DownloadError, match="cannot be written: File exists"):
        get(server, tmp_path / "taken" / "file.pt")


class TestFetch:
    @pytest.fixture
    def manifest(self, server: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """One that lists the server's file without a checksum; the cache is empty."""
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        path = tmp_path / "manifest.yaml"
        path.write_text(
            f"models:\n  demo: {{file: demo.tflite}}\n"
            f"  small: {{checkpoint: file.pt, checkpoint_url: '{server.url}'}}\n"
        )
        return path

    def test_is_downloaded_once(self, server: Behaviour, manifest: Path) -> None:
        path = fetch("small", lambda done, of: None, manifest)
        assert path.read_bytes() == CONTENT
        assert path.with_name("file.pt.sha256").read_text().strip() == SHA256
        assert fetch("small", lambda done, of: None, manifest) == path
        assert len(server.asked) == 1

    def test_file_that_changed_later_is_an_error(self, manifest: Path) -> None:
        path = fetch("small", lambda done, of: None, manifest)
        path.write_bytes(b"something else")
        with pytest.raises(ConvertError, match=r"^fetch: .*file\.pt has changed since"):
            fetch("small", lambda done, of: None, manifest)

    def test_damaged_file_with_a_known_checksum_is_got_again(self, server: Behaviour, manifest: Path) -> None:
        manifest.write_text(manifest.read_text().replace("checkpoint:", f"sha256: '{SHA256}', checkpoint:"))
        path = fetch("small", lambda done, of: None, manifest)
        path.write_bytes(b"damaged")
        assert fetch("small", lambda done, of: None, manifest).read_bytes() == CONTENT
        assert len(server.asked) == 2

    def test_wrong_checksum(self, manifest: Path) -> None:
        manifest.write_text(manifest.read_text().replace("checkpoint:", f"sha256: '{'0' * 64}', checkpoint:"))
        with pytest.raises(ConvertError, match=r"^fetch: .*not the file that was expected"):
            fetch("small", lambda done, of: None, manifest)

    def test_unknown_name(self, manifest: Path) -> None:
        with pytest.raises(ConvertError, match=r"no network 'smal'; did you mean small\?"):
            fetch("smal", lambda done, of: None, manifest)
        with pytest.raises(ConvertError, match=r"no network 'demo'; .*known are: small"):
            published("demo", manifest)

    def test_manifest_that_is_no_use(self, manifest: Path) -> None:
        manifest.write_text("models: 5")
        with pytest.raises(ConvertError, match=r"manifest\.yaml cannot be used"):
            published("small", manifest)


def test_the_projects_own_manifest_knows_fastsam() -> None:
    entry = published("fastsam-s", MANIFEST)
    assert entry.file == "FastSAM-s.pt"
    assert entry.wanted.url.startswith("https://github.com/ultralytics/assets/releases/download/")
    assert entry.wanted.size is not None
    assert entry.wanted.sha256 is not None
    assert len(entry.wanted.sha256) == 64

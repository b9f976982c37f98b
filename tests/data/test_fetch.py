"""Fetching public data: checksums, going on where a download was cut off, and what servers do wrong; against
a server on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from hepml.cli.main import main
from hepml.data.public import fetch as fetching
from hepml.data.public.fetch import DATASETS, PublicData, fetch
from hepml.errors import ConfigError, FileError

CONTENT = bytes(range(256)) * 12_000  # 3 MB: several blocks


@dataclass
class Server:
    """A loopback server of one file, `jets.bin`, and what it was asked."""

    url: str = ""
    ranges: list[str | None] = field(default_factory=list)
    cut_after: list[int] = field(
        default_factory=list
    )  # each answer ends after so many bytes; then they are whole
    takes_ranges: bool = True
    answers: list[int] = field(default_factory=list)  # status codes to give first


@pytest.fixture
def server() -> Iterator[Server]:
    known = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked = self.headers.get("Range")
            known.ranges.append(asked)
            if known.answers:
                return self.send_error(known.answers.pop(0))
            if self.path != "/files/jets.bin":
                return self.send_error(404)
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and known.takes_ranges else 0  # type: ignore[index]
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            body = CONTENT[start:]
            self.send_response(206 if asked and known.takes_ranges else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: known.cut_after.pop(0)] if known.cut_after else body)
            return None

        def log_message(self, *arguments: object) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    known.url = f"http://127.0.0.1:{httpd.server_port}/files"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield known
    httpd.shutdown()
    httpd.server_close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_PAUSE", 0.0)


def registry(checksum: str | None = None) -> dict[str, PublicData]:
    digest = checksum or hashlib.md5(CONTENT).hexdigest()
    return {
        "toy": PublicData(
            "toy", "0000.00000", "http://nowhere.invalid/", {"jets.bin": f"md5:{digest}"}, "3 MB", ""
        )
    }


def test_a_file_is_fetched_once_and_kept(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int | None]] = []
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry(), tell=lambda *a: seen.append(a))
    assert file.read_bytes() == CONTENT
    assert seen[-1] == ("jets.bin", len(CONTENT), len(CONTENT))
    fetch("toy", tmp_path, url=server.url, registry=registry())
    assert len(server.ranges) == 1, "a whole file is not asked for again"
    assert [p.name for p in tmp_path.iterdir()] == ["jets.bin"]


def test_a_lost_connection_is_taken_up_where_it_was_lost(server: Server, tmp_path: Path) -> None:
    server.cut_after = [1_200_000, 700_000]
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT
    starts = [0 if r is None else int(r.removeprefix("bytes=").removesuffix("-")) for r in server.ranges]
    assert starts[0] == 0
    assert 0 < starts[1] <= 1_200_000, "the second request asks for what is missing"
    assert starts[1] < starts[2]


def test_a_part_of_an_earlier_call_is_gone_on_with(server: Server, tmp_path: Path) -> None:
    (tmp_path / "jets.bin.part").write_bytes(CONTENT[:2_000_000])
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert server.ranges == ["bytes=2000000-"]
    assert file.read_bytes() == CONTENT


def test_a_complete_part_needs_no_byte(server: Server, tmp_path: Path) -> None:
    (tmp_path / "jets.bin.part").write_bytes(CONTENT)
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT


def test_a_server_without_ranges_sends_the_file_again(server: Server, tmp_path: Path) -> None:
    server.takes_ranges = False
    (tmp_path / "jets.bin.part").write_bytes(b"something else")
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FileError, match="another checksum"):
        fetch("toy", tmp_path, url=server.url, registry=registry("0" * 32))
    assert not list(tmp_path.iterdir())


def test_a_file_that_has_changed_since_is_fetched_again(server: Server, tmp_path: Path) -> None:
    (tmp_path / "jets.bin").write_bytes(CONTENT[:-1])
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT


def test_a_connection_that_is_always_lost_leaves_the_part_and_says_how_to_go_on(
    server: Server, tmp_path: Path
) -> None:
    server.cut_after = [1_100_000] + [0] * 50
    with pytest.raises(FileError, match="same command goes on"):
        fetch("toy", tmp_path, url=server.url, registry=registry())
    assert (tmp_path / "jets.bin.part").stat().st_size >= 1_000_000
    server.cut_after = []
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(server: Server, tmp_path: Path) -> None:
    server.answers = [503, 429]
    (file,) = fetch("toy", tmp_path, url=server.url, registry=registry())
    assert file.read_bytes() == CONTENT
    asked = len(server.ranges)
    with pytest.raises(FileError, match="404"):
        fetch("toy", tmp_path / "other", url=server.url + "/wrong", registry=registry())
    assert len(server.ranges) == asked + 1


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(ConfigError, match="toptag"):
        fetch("toptags", "anywhere")
    with pytest.raises(ConfigError, match=r"train\.h5"):
        fetch("toptag", "anywhere", only=["nothing"])


def test_every_public_file_has_a_checksum_of_its_kind() -> None:
    lengths = {"md5": 32, "sha256": 64}
    for found in DATASETS.values():
        for file, checksum in found.files.items():
            kind, _, digest = checksum.partition(":")
            assert re.fullmatch(rf"[0-9a-f]{{{lengths[kind]}}}", digest), file
        assert len(set(found.files.values())) == len(found.files)
        assert found.base.startswith("https://")


def test_the_command_fetches_from_a_mirror_and_reports(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fetching, "DATASETS", registry())
    assert main(["data", "fetch", "toy", "--url", server.url, "-o", str(tmp_path / "here"), "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert Path(told["files"][0]).read_bytes() == CONTENT
    assert main(["data", "list"]) == 0
    assert "toy" in capfd.readouterr().out
    assert main(["data", "fetch", "toys"]) == 2
    assert "did you mean 'toy'" in capfd.readouterr().err

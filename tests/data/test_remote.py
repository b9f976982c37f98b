"""Files on a server (of this machine): read where they are, or copied where the server hands out whole files
only; silent, failing and forbidding servers end in one line without the token."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import socketserver
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import numpy as np
import pytest
from toys import toy_arrays

import hepml
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.errors import FileError

INPUTS = Inputs(features=("log_pt", "delta_eta", "charge"))


class Server(socketserver.ThreadingTCPServer):
    """Serves a folder.

    Args:
        folder: served.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder, self.parts, self.fails, self.silent, self.closed = folder, True, 0, False, ()
        self.asked: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server = self.server
        server.asked.append(self.headers.get("Range", self.command))
        if server.silent:
            time.sleep(3)
            return
        if server.fails:
            server.fails -= 1
            return self.send(503, b"")
        path = server.folder / self.path.partition("?")[0].lstrip("/")
        if not path.is_file():
            return self.send(404, b"")
        if path.name in server.closed:
            return self.send(403, b"")
        content, wanted = path.read_bytes(), self.headers.get("Range")
        if wanted and server.parts:
            first, last = wanted.removeprefix("bytes=").split("-")
            return self.send(206, content[int(first) : int(last) + 1], body)
        self.send(200, content, body)

    def send(self, status: int, content: bytes, body: bool = True) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, *anything: object) -> None:
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr("hepml.data.reading.remote._PAUSE", 0.01)
    server = Server(tmp_path)
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("ntuple", [True, False])
def test_a_remote_root_file_has_the_jets_of_the_local_one(write, arrays, server, parts, ntuple) -> None:
    local = write(arrays, "jets.root", ntuple=ntuple)
    server.parts = parts
    url = server.url("jets.root")
    for address in (url, f"{url}:tree", f"{url}?token=secret"):
        assert JetDataset.open(address, INPUTS).digest == JetDataset.open(local, INPUTS).digest
    assert hepml.read_jets(url).tolist() == hepml.read_jets(local).tolist()
    whole = local.stat().st_size
    assert any(asked.startswith("bytes=") for asked in server.asked)
    assert (server.asked.count("GET") == 0) == parts, f"{whole} bytes were fetched at once"


def test_other_formats_are_copied_once(server, tmp_path) -> None:
    toys = toy_arrays(20, seed=1)
    momenta = np.zeros((20, 5, 4), dtype=np.float32)
    momenta[:, :3] = [50.0, 30.0, 20.0, 10.0]
    np.savez(tmp_path / "jets.npz", four_momenta=momenta.reshape(-1, 4), offsets=np.arange(21) * 5)
    assert len(toys["jet_pt"]) == 20
    first = hepml.read_jets(server.url("jets.npz"))
    again = hepml.read_jets(server.url("jets.npz"))
    assert first.tolist() == again.tolist() == hepml.read_jets(tmp_path / "jets.npz").tolist()
    assert server.asked.count("GET") == 1


def test_commands_take_addresses_and_do_not_show_their_tokens(
    write, arrays, server, tmp_path, capsys
) -> None:
    from hepml.cli.main import run

    write(arrays, "jets.root")
    for words in (
        ["inspect", server.url("jets.root?token=verysecret")],
        ["data", "pack", server.url("jets.root?token=verysecret"), "-o", str(tmp_path / "pack")],
        ["convert", server.url("absent.npz?token=verysecret"), "-o", str(tmp_path / "out.root")],
    ):
        with pytest.raises(SystemExit) as left:
            run(words)
        assert left.value.code == (2 if words[0] == "convert" else 0)
    told = capsys.readouterr()
    assert "verysecret" not in told.out + told.err
    assert "no such file on the server" in told.err
    files = [p for p in (tmp_path / "pack").rglob("*") if p.is_file()]
    assert files
    assert not any(b"verysecret" in p.read_bytes() for p in files)


def test_a_request_that_fails_once_is_tried_again(write, arrays, server) -> None:
    write(arrays, "jets.root")
    server.fails = 2  # fsspec asks for the head, then for the file, before it gives up
    assert len(hepml.read_jets(server.url("jets.root"))) == 60


def test_what_is_wrong_is_said_in_one_line_without_the_token(write, arrays, server, monkeypatch) -> None:
    write(arrays, "jets.root")
    write(arrays, "closed.root")
    server.closed = ("closed.root",)
    token = "?token=verysecret"

    def problem(url: str) -> str:
        with pytest.raises(FileError) as found:
            hepml.read_jets(url)
        assert "verysecret" not in str(found.value)
        assert "\n" not in str(found.value)
        return str(found.value)

    assert "no such file on the server" in problem(server.url("absent.root") + token)
    assert "does not let us read" in problem(server.url("closed.root") + token)
    assert "list the addresses" in problem(server.url("*.root") + token)
    with monkeypatch.context() as without:
        without.setattr(importlib.util, "find_spec", lambda name: None)
        assert "fsspec_xrootd" in problem("root://127.0.0.1//jets.root" + token)
    assert "no way to read nowhere://" in problem("nowhere://jets.root" + token)
    server.fails = 1000
    assert "cannot be fetched" in problem(server.url("jets.root") + token)
    server.fails, server.silent = 0, True
    monkeypatch.setenv("HEPML_TIMEOUT", "0.2")
    began = time.monotonic()
    assert "did not answer within 0.2 s, twice" in problem(server.url("jets.root") + token)
    assert time.monotonic() - began < 30
    monkeypatch.setenv("HEPML_TIMEOUT", "soon")
    assert "HEPML_TIMEOUT is 'soon'" in problem(server.url("jets.root"))


@pytest.fixture
def xrootd(tmp_path) -> Iterator[str]:
    """The address of a folder that a real XRootD server hands out."""
    pytest.importorskip("fsspec_xrootd", reason="fsspec-xrootd is not installed")
    if shutil.which("xrootd") is None:
        pytest.skip("the server xrootd is absent: apt-get install xrootd-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # the server does not run as root, and the folders of a test belong to its user alone
    home = Path(tempfile.mkdtemp())
    folder = home / "files"
    folder.mkdir()
    for place in (home, folder):
        place.chmod(0o777)
    told = f"all.export {folder} r/o\nall.adminpath {home}\nall.pidpath {home}\nxrd.port {port}\n"
    (home / "xrootd.cfg").write_text(told)
    words = ["xrootd", "-c", str(home / "xrootd.cfg"), "-l", str(home / "log")]
    if os.geteuid() == 0:
        words += ["-R", "nobody"]
    server = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            with socket.socket() as asked:
                if asked.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"root://127.0.0.1:{port}/{folder}"
    finally:
        server.terminate()
        server.wait(10)
        shutil.rmtree(home)


def test_root_addresses_are_read_where_they_are(xrootd, write, arrays, tmp_path) -> None:
    served = Path(xrootd.partition("//127")[2].partition("/")[2])
    write(arrays, "jets.root")
    np.savez(served / "jets.npz", X=np.ones((30, 4, 4)), y=np.arange(30) % 2)
    shutil.copy(tmp_path / "jets.root", served)
    for path in served.iterdir():
        path.chmod(0o644)
    there, here = (
        JetDataset.open(f"{xrootd}/jets.root", INPUTS),
        JetDataset.open(tmp_path / "jets.root", INPUTS),
    )
    assert there.digest == here.digest
    assert len(hepml.read_jets(f"{xrootd}/jets.npz", bad="keep")) == 30
    with pytest.raises(FileError, match="no such file on the server"):
        hepml.read_jets(f"{xrootd}/absent.root")


def test_a_cache_of_remote_jets_is_found_again_until_the_file_changes(
    write, arrays, server, tmp_path
) -> None:
    write(arrays, "jets.root")
    for parts in (True, False):
        server.parts = parts
        JetDataset.open(server.url("jets.root"), INPUTS, cache=tmp_path / "cache")
        assert len(list((tmp_path / "cache").iterdir())) == 1
    write(toy_arrays(50, seed=9), "jets.root")
    assert len(JetDataset.open(server.url("jets.root"), INPUTS, cache=tmp_path / "cache")) == 50

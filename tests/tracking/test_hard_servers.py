"""Runs against real MLflow servers that are slow, refuse, or are killed and come back, and against one fresh
store of twenty processes: training is untouched, everything arrives, nothing arrives twice.

By name, minutes each: `pytest -m slow tests/tracking/test_hard_servers.py`."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from servers import serving

from hepml import tracking
from hepml.tracking.journal import read_journal
from hepml.tracking.store import open_store

pytestmark = pytest.mark.slow
EPOCHS = 12


@contextmanager
def before(server: str, seconds: float = 0.0, status: int | None = None) -> Iterator[str]:
    """The address of a gate before a server: every answer takes so many seconds, or is this status."""

    class Gate(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)) or None
            code, answer = 401, b"no entry"
            if status is None:
                request = urllib.request.Request(f"{server}{self.path}", body, method=self.command)
                request.add_header("Content-Type", self.headers.get("Content-Type") or "application/json")
                try:
                    with urllib.request.urlopen(request, timeout=60) as told:
                        code, answer = told.status, told.read()
                except urllib.error.HTTPError as told:
                    code, answer = told.code, told.read()
            time.sleep(seconds)
            try:
                self.send_response(status or code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)
            except OSError:
                pass  # nobody waits any more

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def log_message(self, *_: object) -> None:
            """Not on the screen."""

    gate = ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    gate.daemon_threads = True
    threading.Thread(target=gate.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{gate.server_port}"
    finally:
        gate.shutdown()
        gate.server_close()


def train(folder: Path, uri: str, pause: float = 0.05, meanwhile: dict[int, object] | None = None) -> float:
    """A run of some epochs; the longest that a report took."""
    slowest = 0.0
    tracker = tracking.start(folder, experiment="hard", uri=uri, system_interval=0)
    for epoch in range(EPOCHS):
        if meanwhile and epoch in meanwhile:
            meanwhile[epoch]()  # type: ignore[operator]
        began = time.monotonic()
        tracker.metrics({"loss": 1.0 / (epoch + 1), "val_loss": 2.0 / (epoch + 1)}, epoch)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(pause)
    tracker.finish(timeout=3)
    return slowest


def arrived(uri: str, run_id: str | None) -> list[tuple[int, float]]:
    history = open_store(uri).get_metric_history(str(run_id), "loss")
    return sorted((m.step, m.value) for m in history)


EXPECTED = [(epoch, 1.0 / (epoch + 1)) for epoch in range(EPOCHS)]


def test_sync_comes_to_an_end_against_a_server_that_takes_longer_than_its_time_limit(
    migrated: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two seconds an answer where one is given, as ten were where ten were given."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with serving(migrated, tmp_path / "server") as server, before(server, 2.0) as slow:
        assert train(tmp_path / "run", slow) < 1.0, "a report waits for nobody"
        for _ in range(2):
            (result,) = tracking.sync(tmp_path / "run")
            assert result.problem is None
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        assert arrived(server, result.run_id) == EXPECTED
        assert len(open_store(server).search_runs(["1"])) == 1


def test_a_server_that_is_killed_and_comes_back_has_everything_once(migrated: Path, tmp_path: Path) -> None:
    place = tmp_path / "server"
    with serving(migrated, place) as server:
        port = int(server.rpartition(":")[2])
        with before(server) as gate:
            first = train(tmp_path / "whole", gate)
            assert first < 1.0
    # the same store under the same address; it dies at epoch 5 and is back at epoch 9
    running: list[object] = []

    def start() -> None:
        running.append(serving(place / "server.db", place, port))
        running[-1].__enter__()  # type: ignore[attr-defined]

    def kill() -> None:
        running[-1].__exit__(None, None, None)  # type: ignore[attr-defined]

    start()
    try:
        assert train(tmp_path / "run", server, 0.5, {5: kill, 9: start}) < 1.0
        (result,) = tracking.sync(tmp_path / "run")
        assert result.problem is None
        assert arrived(server, result.run_id) == EXPECTED
    finally:
        kill()


def test_a_server_that_refuses_costs_a_warning(migrated: Path, tmp_path: Path, store: str) -> None:
    with before("http://127.0.0.1:9", status=401) as refusing:
        assert train(tmp_path / "run", refusing) < 1.0
        (result,) = tracking.sync(tmp_path / "run")
        assert result.problem is not None
    assert len(read_journal(tmp_path / "run").of("metrics")) == EPOCHS
    (result,) = tracking.sync(tmp_path / "run", store)
    assert arrived(store, result.run_id) == EXPECTED


def test_twenty_tasks_that_start_at_once_share_one_fresh_store(tmp_path: Path) -> None:
    code = (
        "import sys, time; from hepml import tracking\n"
        "t = tracking.start(f'runs/{sys.argv[1]}', experiment='array', system_interval=0)\n"
        "for e in range(5): t.metrics({'loss': 1.0 / (e + 1)}, e); time.sleep(0.2)\n"
        "t.finish(timeout=600)\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "MLFLOW_TRACKING_URI"}
    tasks = [
        subprocess.Popen([sys.executable, "-c", code, str(i)], cwd=tmp_path, env=environment)
        for i in range(20)
    ]
    assert [task.wait(900) for task in tasks] == [0] * 20
    tracking.sync([tmp_path / "runs" / str(i) for i in range(20)], f"sqlite:///{tmp_path / 'mlflow.db'}")
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        asked = "SELECT count(*), count(DISTINCT run_uuid) FROM"
        assert database.execute(f"{asked} runs WHERE status = 'FINISHED'").fetchone() == (20, 20)
        assert database.execute(f"{asked} metrics").fetchone() == (100, 20)

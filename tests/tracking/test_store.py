"""The embedded store is made once and whole, and MLflow stays quiet and at home."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from hepml.errors import TrackingError
from hepml.tracking import store as stores


def python(code: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW", "PYTEST", "CI"))}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[2]), environment.get("PYTHONPATH", "")]
    )
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=environment,
    )


FOUR = """
import os, sys
# once, not four times, which takes most of the time; no store is opened by it
import mlflow.data, mlflow.store.artifact.local_artifact_repo, mlflow.store.db.utils, mlflow.tracking
import mlflow.store.tracking.sqlalchemy_store
from hepml import tracking

ready, go = os.pipe()
children = []
for i in range(4):
    if (pid := os.fork()) == 0:
        os.close(go)
        os.read(ready, 1)  # returns for all four when the parent closes its end
        t = tracking.start(f"runs/{i}", experiment="shared", system_interval=0)
        t.metrics({"loss": 1.0}, 0)
        t.metrics({"loss": 0.5}, 1)
        os.write(1, f"{t.finish(timeout=170)} {t.run_id}\\n".encode())
        os._exit(0)
    children.append(pid)
os.close(ready)
os.close(go)
sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children))
"""


def test_four_processes_that_start_at_once_share_one_fresh_store(tmp_path: Path) -> None:
    parent = python(FOUR, cwd=tmp_path)
    out, err = parent.communicate(timeout=300)
    assert parent.returncode == 0, err
    answers = [line.split() for line in out.splitlines()]
    assert [a[0] for a in answers] == ["None"] * 4  # nobody was warned
    assert len({a[1] for a in answers}) == 4
    database = sqlite3.connect(tmp_path / "mlflow.db")
    assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert database.execute("SELECT name FROM experiments WHERE name != 'Default'").fetchall() == [
        ("shared",)
    ]
    assert database.execute("SELECT count(*) FROM metrics").fetchone() == (8,)
    assert sorted(p.name for p in tmp_path.iterdir() if "partial" in p.name) == []


def test_a_migration_that_is_interrupted_leaves_no_half_made_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    def interrupted(self: MlflowClient, *_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "mlflow.db"
    with monkeypatch.context() as patch:
        patch.setattr(MlflowClient, "search_experiments", interrupted)
        with pytest.raises(KeyboardInterrupt):
            stores.open_store(f"sqlite:///{path}")
    assert [p.name for p in tmp_path.iterdir() if p.name != ".mlflow.db.lock"] == []
    left = tmp_path / ".mlflow.db.1.1.partial"  # of a process that was killed
    left.write_bytes(b"half")
    client = stores.open_store(f"sqlite:///{path}")
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert not left.exists()


def test_artifacts_lie_beside_the_database(tmp_path: Path, store: str) -> None:
    client = stores.open_store(store)
    made = stores.experiment_id(client, store, "top tagging/pfn")
    assert stores.experiment_id(client, store, "top tagging/pfn") == made
    assert client.get_experiment(made).artifact_location == (tmp_path / "mlruns" / "top-tagging-pfn").as_uri()


def test_a_deleted_experiment_is_a_mendable_error(store: str) -> None:
    client = stores.open_store(store)
    client.delete_experiment(stores.experiment_id(client, store, "old"))
    with pytest.raises(TrackingError, match="mlflow experiments restore"):
        stores.experiment_id(client, store, "old")


def test_a_file_that_is_no_database_is_a_mendable_error(tmp_path: Path) -> None:
    path = tmp_path / "mlflow.db"
    path.write_text("this is a text, longer than the hundred bytes in which sqlite looks for its header" * 3)
    with pytest.raises(TrackingError, match=r"tracking\.uri"):
        stores.open_store(f"sqlite:///{path}")
    assert path.read_text().startswith("this is a text")


def test_the_store_is_the_variable_then_the_config_then_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    here = Path.cwd()
    assert stores.tracking_uri() == f"sqlite:///{here}/mlflow.db"
    assert stores.tracking_uri("sqlite:///sub/a.db") == f"sqlite:///{here}/sub/a.db"
    assert stores.tracking_uri("sub/a.db") == f"sqlite:///{here}/sub/a.db"
    assert stores.tracking_uri("http://host:5000") == "http://host:5000"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://server:80")
    assert stores.tracking_uri("sqlite:///sub/a.db") == "http://server:80"


def test_a_password_in_the_uri_is_written_nowhere(tmp_path: Path) -> None:
    from hepml import tracking

    uri = "http://someone:secret@127.0.0.1:9"
    warning = tracking.start(tmp_path / "run", uri=uri, system_interval=0).finish(timeout=20)
    assert warning is not None
    written = [p.read_text() for p in (tmp_path / "run").iterdir() if p.is_file()]
    assert all("secret" not in text for text in [*written, warning])


def test_importing_tracking_does_not_import_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; import hepml.tracking as t; t.start, t.sync, t.list_runs, "
        "t.capture_environment; print('mlflow' in sys.modules)"
    )
    assert python(code, cwd=tmp_path).communicate(timeout=120)[0] == "False\n"


def test_mlflow_says_nothing_and_calls_nobody(tmp_path: Path) -> None:
    code = """
import socket, sys
called = []
def refuse(self, address, *rest):
    called.append(address)
    raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *a, **k: called.append(a) or (_ for _ in ()).throw(OSError("no network"))
from hepml import tracking
t = tracking.start("run", system_interval=0)
t.metrics({"loss": 1.0}, 0)
assert t.finish() is None
import mlflow.telemetry
assert mlflow.telemetry.get_telemetry_client() is None
assert not called, called
"""
    process = python(code, cwd=tmp_path)
    out, err = process.communicate(timeout=180)
    assert (process.returncode, out, err) == (0, "", "")

"""A real MLflow server on the loopback, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serving(migrated: Path, folder: Path, port: int | None = None) -> Iterator[str]:
    """The address of a server with an empty store, which ends with the block.

    Args:
        migrated: an empty sqlite store, which takes seconds to make.
        folder: of the store and its log; what was there before is served again where it is its own.
        port: a free one where left out.
    """
    folder.mkdir(exist_ok=True)
    if migrated != folder / "server.db":
        (folder / "server.db").write_bytes(migrated.read_bytes())
    if port is None:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = int(s.getsockname()[1])
    command = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    stores = [
        "--backend-store-uri",
        f"sqlite:///{folder}/server.db",
        "--artifacts-destination",
        str(folder / "artifacts"),
    ]
    environment = {
        **os.environ,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    environment.pop("MLFLOW_TRACKING_URI", None)
    log = (folder / "log.txt").open("w")
    process = subprocess.Popen(
        [sys.executable, *command, *stores],
        stdout=log,
        stderr=log,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    uri = f"http://127.0.0.1:{port}"
    try:
        for _ in range(900):
            try:
                with urllib.request.urlopen(f"{uri}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                assert process.poll() is None, (folder / "log.txt").read_text()
                time.sleep(0.1)
        else:
            pytest.fail("the server does not start: " + (folder / "log.txt").read_text())
        yield uri
    finally:
        os.killpg(process.pid, 15)
        process.wait(30)
        log.close()

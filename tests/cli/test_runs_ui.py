"""`hepml runs ui` leaves nothing behind: the server and its workers end with it, however it is ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVER = """
import pathlib, subprocess, sys, time
worker = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1] + "~").write_text(str(worker.pid))
pathlib.Path(sys.argv[1] + "~").rename(sys.argv[1])
time.sleep(60)
"""


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_server_and_its_workers_end_with_the_command(tmp_path: Path, signum: signal.Signals) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    command = [sys.executable, "-S", str(tmp_path / "server.py"), str(tmp_path / "worker")]
    line = f"from hepml.cli.runs import _serve; raise SystemExit(_serve({command!r}))"
    process = subprocess.Popen([sys.executable, "-c", line])
    deadline = time.monotonic() + 60
    while not (tmp_path / "worker").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    worker = int((tmp_path / "worker").read_text())
    process.send_signal(signum)
    assert process.wait(60) == 0
    deadline = time.monotonic() + 10
    while alive(worker) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(worker)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"

"""Work on all cores: in order, from within itself, in forks, and on the same few threads for all files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import uproot
from toys import write_toy_jets

from hepml.data.reading import cores
from hepml.data.reading.baskets import BasketReader
from hepml.data.reading.cores import on_all_cores


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "available_cores", lambda: 2)


def test_results_are_in_order_and_errors_are_raised() -> None:
    assert on_all_cores(lambda k: k * k, range(40), 40) == [k * k for k in range(40)]
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda k: 1 // k, (1, 0), 2)


def test_work_within_work_does_not_wait_for_itself() -> None:
    def outer(k: int) -> int:
        return sum(on_all_cores(lambda j: j + k, range(10), 10))

    assert on_all_cores(outer, range(8), 8) == [45 + 10 * k for k in range(8)]


def test_many_open_files_are_read_by_the_same_threads(tmp_path: Path) -> None:
    write_toy_jets(tmp_path / "jets.root", 60)
    names = ["part_px", "part_py", "part_pz", "part_energy"]
    with uproot.open(tmp_path / "jets.root") as file:
        tree = file["tree"]
        readers = [BasketReader(tree, str(tmp_path / "jets.root")) for _ in range(6)]
        first = readers[0].read(names, 0, 60)
        before = threading.active_count()
        for reader in readers[1:]:
            for name, (content, _) in reader.read(names, 0, 60).items():
                assert content.tolist() == first[name][0].tolist()
    assert threading.active_count() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_fork_has_threads_of_its_own() -> None:
    """The child of a process that has used its threads, which it does not inherit."""
    script = (
        "import os\n"
        "from hepml.data.reading import cores\n"
        "cores.available_cores = lambda: 2\n"
        "work = lambda: cores.on_all_cores(lambda k: k + 1, range(6), 6)\n"
        "assert work() == [1, 2, 3, 4, 5, 6]\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    os._exit(0 if work() == [1, 2, 3, 4, 5, 6] else 1)\n"
        "raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

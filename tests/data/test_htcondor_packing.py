"""`hepml data pack --dask htcondor` where a pool would be: HTCondor's own parser reads what dask-jobqueue
submits, and the job runs here. By name: `pytest -m slow tests/data/test_htcondor_packing.py`."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
from toys import toy_arrays

from hepml.data.cache import verify
from hepml.data.dataset import JetDataset
from hepml.data.inputs import Inputs
from hepml.data.packing_cluster import packing_on

pytestmark = pytest.mark.slow

SUBMIT = """#!{python}
import subprocess, sys
from pathlib import Path
import htcondor2
job = htcondor2.Submit(Path(sys.argv[-1]).read_text())
command = job["arguments"].strip('"').removeprefix("-c '").removesuffix("'")
home = Path(__file__).parent
with open(home / "job.log", "w") as log:
    job = subprocess.Popen([job["executable"], "-c", command], stdout=log, stderr=log, start_new_session=True)
print(f"1 job(s) submitted to cluster {{job.pid}}.\\n{{job.pid}}.0")
"""
REMOVE = """#!{python}
import os, signal, sys
from pathlib import Path
for job in sys.argv[1:]:
    (Path(__file__).parent / "removed").write_text(job)
    os.killpg(int(job.split(".")[0]), signal.SIGTERM)
"""


def test_jobs_of_a_pool_pack_the_bytes_that_one_process_packs(write, tmp_path: Path, monkeypatch) -> None:
    pytest.importorskip("htcondor2", reason="the extra `htcondor` is not installed")
    pytest.importorskip("dask_jobqueue", reason="the extra `dask` is not installed")
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("condor_submit", SUBMIT), ("condor_rm", REMOVE)):
        (commands / name).write_text(text.format(python=sys.executable))
        (commands / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    file, inputs = write(toy_arrays(60, seed=3), baskets=4), Inputs(features=("log_pt", "charge"))
    with packing_on("htcondor", jobs=1) as pack:
        JetDataset.open(file, inputs, cache=tmp_path / "pool", write=pack)
    JetDataset.open(file, inputs, cache=tmp_path / "local")
    pool, local = (
        {p.relative_to(home).as_posix(): p.read_bytes() for p in home.rglob("*") if p.is_file()}
        for home in (tmp_path / "pool", tmp_path / "local")
    )
    assert pool == local
    assert list(verify(tmp_path / "pool").values()) == [[]]
    assert (commands / "removed").exists(), "the workers end with the packing"

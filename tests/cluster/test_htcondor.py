"""Submit descriptions as HTCondor's own parser reads them: nothing relies on the submitting environment, a
time limit is said once, checkpoints are taken, and without a pool the error says what to run."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from hepml.cluster import htcondor
from hepml.cluster.jobs import ClusterError, Job, Resources, Surroundings
from hepml.errors import ConfigError

JOBS = [
    Job("a", ("train", "it's a.yaml", "model.f=[1, 2]")),
    Job("b", ("train", "b.yaml", 'name="b"')),
    Job("c", ("train", "c.yaml")),
]


def parsed(text: str) -> Any:
    return pytest.importorskip("htcondor2").Submit(text)


def test_the_real_parser_reads_a_description(tmp_path: Path) -> None:
    resources = Resources(gpus=2, tasks=2, cpus=3, minutes=100)
    text = htcondor.description(JOBS, resources, tmp_path, environment={"HEPML_DATA": "/a b", "PATH": "/bin"})
    read = parsed(text)
    assert read["request_gpus"] == "2"
    assert read["request_cpus"] == "6"
    assert int(read["request_memory"].removesuffix("M")) == 2048 * 6, "two GB a core where nothing is asked"
    assert read["checkpoint_exit_code"] == "138"
    assert read["max_retries"] == "3"
    assert read["when_to_transfer_output"] == "ON_EXIT_OR_EVICT"
    assert "getenv" not in text
    assert "HEPML_DATA='/a b'" in read["environment"]
    items = [next(iter(dict(item).values())) for item in read.itemdata()]
    assert len(items) == 3
    assert items[0] == "\"train 'it''s a.yaml' 'model.f=[1, 2]'\""
    assert items[1] == '"train b.yaml name=""b"""'


@pytest.mark.parametrize(
    ("flavour", "minutes", "present", "absent"),
    [
        (None, 90, "+MaxRuntime = 5400", "JobFlavour"),
        ("workday", 480, '+JobFlavour = "workday"', "MaxRuntime"),
    ],
)
def test_a_time_limit_is_said_once(
    tmp_path: Path, flavour: str | None, minutes: int, present: str, absent: str
) -> None:
    text = htcondor.description(JOBS, Resources(minutes=minutes, partition=flavour), tmp_path)
    assert present in text
    assert absent not in text


def test_a_time_that_the_flavour_does_not_give_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"espresso.*gives 20.*tomorrow"):
        htcondor.job_script(Resources(minutes=600, partition="espresso"))


def test_passwords_of_the_environment_are_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host/")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    assert "secret" not in str(htcondor.present_environment())


def test_the_script_sets_the_node_up_and_asks_for_a_checkpoint_before_the_slot_ends(tmp_path: Path) -> None:
    """Run for real, with a stand-in for Python that ends as a training does after SIGUSR1."""
    stand_in = tmp_path / "python"
    stand_in.write_text(
        '#!/bin/bash\necho "$FROM_PROLOGUE" "$@"; trap "echo asked; exit 138" USR1; sleep 20 & wait\n'
    )
    stand_in.chmod(0o755)
    text = htcondor.job_script(Resources(minutes=4), Surroundings(("export FROM_PROLOGUE=ready",)))
    assert " 60 " in text, "the margin is taken off"
    line = text.replace(" 60 ", " 1 ").splitlines()
    line[-1] = line[-1].replace(line[-1].split(" -u ")[0].split()[-1], str(stand_in))
    script = tmp_path / "job.sh"
    script.write_text("\n".join(line))
    done = subprocess.run(
        ["bash", script, "train", "a b"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("ready -u -m hepml train a b\nasked\n"), done.stderr
    assert done.returncode == htcondor.AGAIN


def test_logs_on_eos_and_several_machines_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="EOS"):
        htcondor.description(JOBS, Resources(), Path("/eos/jane/board"))
    with pytest.raises(ConfigError, match="one machine"):
        htcondor.description(JOBS, Resources(nodes=2), tmp_path)


def test_without_a_pool_the_error_says_what_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("htcondor2")
    monkeypatch.setenv("PATH", os.defpath)
    path = htcondor.write(
        {htcondor.FILE: htcondor.description(JOBS, Resources(), tmp_path), "job.sh": ""}, tmp_path
    )
    with pytest.raises(ClusterError, match=r"condor_submit .*jobs\.sub"):
        htcondor.submit(path, 3)

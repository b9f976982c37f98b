"""How many processes train together: a table of environments, each with what holds or why it is refused."""

from __future__ import annotations

import pytest

from hepml.errors import ConfigError
from hepml.training.ranks import Ranks, check_gpus, decide, refuse_ranks

BATCH = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NNODES": "1"}
STEP = {**BATCH, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_NODES": "1"}
TORCHRUN = {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}


def step(tasks: int, rank: int = 0, nodes: int = 1) -> dict[str, str]:
    found = {
        **STEP,
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_PROCID": str(rank),
    }
    per_node = max(1, tasks // nodes)
    return {**found, "SLURM_STEP_NUM_NODES": str(nodes), "SLURM_LOCALID": str(rank % per_node)}


@pytest.mark.parametrize(
    ("environment", "devices", "expected"),
    [
        ({}, 1, ("self", 1, 0, 0, 1)),
        ({}, 2, ("self", 2, 0, 0, 1)),
        ({"HEPML_RUN_FOLDER": "r", "LOCAL_RANK": "1", "WORLD_SIZE": "2"}, 2, ("self", 2, 1, 1, 1)),
        # torchrun
        (TORCHRUN, 1, ("torchrun", 2, 1, 1, 1)),
        (TORCHRUN, 2, ("torchrun", 2, 1, 1, 1)),
        ({"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}, 1, ("self", 1, 0, 0, 1)),
        (
            {"RANK": "5", "LOCAL_RANK": "1", "WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "4"},
            4,
            ("torchrun", 8, 5, 1, 2),
        ),
        ({**step(1), **TORCHRUN}, 1, ("torchrun", 2, 1, 1, 1)),  # torchrun within a step of Slurm
        # Slurm
        (step(1), 1, ("self", 1, 0, 0, 1)),
        (step(1), 2, ("self", 2, 0, 0, 1)),
        (step(2, 1), 1, ("slurm", 2, 1, 1, 1)),
        (step(2, 1), 2, ("slurm", 2, 1, 1, 1)),
        (step(8, 6, nodes=2), 4, ("slurm", 8, 6, 2, 2)),
        (step(8, 6, nodes=2), 8, ("slurm", 8, 6, 2, 2)),
        ({**STEP, "SLURM_NTASKS": "3", "SLURM_PROCID": "2", "SLURM_LOCALID": "2"}, 1, ("slurm", 3, 2, 2, 1)),
        ({**BATCH, "SLURM_NTASKS": "1"}, 1, ("self", 1, 0, 0, 1)),
        ({**BATCH, "SLURM_NTASKS": "1"}, 2, ("self", 2, 0, 0, 1)),
        ({**BATCH, "SLURM_NTASKS": "2"}, 2, ("self", 2, 0, 0, 1)),  # told of both: it starts the other
        ({**BATCH, "SLURM_NTASKS": "4", "SLURM_JOB_NAME": "interactive"}, 1, ("self", 1, 0, 0, 1)),
        ({**BATCH, "OMPI_COMM_WORLD_SIZE": "1"}, 1, ("self", 1, 0, 0, 1)),
    ],
)
def test_an_environment_decides_the_ranks(
    environment: dict[str, str], devices: int, expected: tuple[str, int, int, int, int]
) -> None:
    found = decide(environment, devices)
    assert (found.launcher, found.size, found.rank, found.local_rank, found.nodes) == expected


@pytest.mark.parametrize(
    ("environment", "devices", "words"),
    [
        ({"WORLD_SIZE": "2"}, 1, "RANK does not say"),
        ({"RANK": "2", "WORLD_SIZE": "2"}, 1, "no set of processes"),
        ({"RANK": "0", "WORLD_SIZE": "two"}, 1, "should be a number"),
        (TORCHRUN, 3, "torchrun started 2 processes"),
        (step(2), 4, "srun started 2 processes"),
        (step(3, nodes=2), 1, "shared evenly"),
        ({**BATCH, "SLURM_NTASKS": "2"}, 1, "without srun"),
        ({**BATCH, "SLURM_NTASKS": "2"}, 4, "without srun"),
        ({**BATCH, "SLURM_NTASKS": "2", "SLURM_NNODES": "2"}, 2, "without srun"),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, 1, "without srun"),
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, 1, "mpirun"),
        ({"PMI_SIZE": "4"}, 2, "mpiexec"),
        ({"_CONDOR_NPROCS": "2"}, 1, "parallel universe"),
    ],
)
def test_what_cannot_be_right_is_refused_with_the_mend(
    environment: dict[str, str], devices: int, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as problem:
        decide(environment, devices)
    assert problem.value.mend


def test_more_processes_than_gpus_on_a_node_are_refused() -> None:
    check_gpus(Ranks("self", 2), 0)
    check_gpus(Ranks("slurm", 8, nodes=2), 4)
    with pytest.raises(ConfigError, match="each sees 1 GPU"):
        check_gpus(Ranks("slurm", 4), 1)


def test_a_command_that_is_one_process_refuses_to_be_several() -> None:
    refuse_ranks({}, "a benchmark")
    refuse_ranks(step(1), "a benchmark")
    for environment in (TORCHRUN, step(2, 1), {"PMI_SIZE": "2"}):
        with pytest.raises(ConfigError):
            refuse_ranks(environment, "a benchmark")

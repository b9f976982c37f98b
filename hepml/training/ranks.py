"""How many processes train together, decided in one place.

A training is one process, several that Lightning starts itself (`training.devices=2`), or several that were
started from outside: by `torchrun`, or as the tasks of a Slurm step (`srun`). `decide` reads which of these
holds from the environment and what the config asks for, and refuses where the two cannot both be right;
nothing else in hepml looks at `SLURM_NTASKS`, `WORLD_SIZE` or their kin.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from hepml.errors import ConfigError

Launcher = Literal["self", "torchrun", "slurm"]
CHILD = "HEPML_RUN_FOLDER"  # in the environment of the processes that Lightning starts for us
SPEAKER = "LOCAL_RANK"
# Step ids that are no srun step of tasks: the shell of `salloc`, the batch script, and external processes.
_NO_STEP = frozenset({"4294967290", "4294967291", "4294967292", "interactive", "batch", "extern"})
_INTERACTIVE = ("bash", "interactive")  # job names that Slurm gives to shells
# Sizes that other launchers announce; hepml does not speak their protocols.
_FOREIGN = {
    "OMPI_COMM_WORLD_SIZE": "mpirun",
    "PMI_SIZE": "mpiexec",
    "MV2_COMM_WORLD_SIZE": "mpirun",
    "JSM_NAMESPACE_SIZE": "jsrun",
    "FLUX_JOB_SIZE": "flux run",
    "_CONDOR_NPROCS": "HTCondor's parallel universe",
}


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this is.

    Args:
        launcher: who starts them: Lightning on behalf of this process, torchrun, or Slurm.
        size: how many.
        rank, local_rank: this process among all, and among those of its node.
        nodes: machines.
        note: a line worth telling, or None.
    """

    launcher: Launcher = "self"
    size: int = 1
    rank: int = 0
    local_rank: int = 0
    nodes: int = 1
    note: str | None = None

    @property
    def per_node(self) -> int:
        return self.size // self.nodes

    @property
    def first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    @property
    def outside(self) -> bool:
        """Whether the other processes exist already, started by somebody else."""
        return self.launcher != "self" and self.size > 1


def decide(environment: Mapping[str, str], devices: int = 1) -> Ranks:
    """The processes of a training.

    Args:
        environment: as `os.environ`.
        devices: `training.devices`: of a node or of all nodes together. One, the default, stands for "as many
            as were started".

    Raises:
        ConfigError: the environment and the config contradict each other, or this process is one of several
            that cannot find each other.
    """
    read = _Reader(environment)
    if "RANK" in environment and "WORLD_SIZE" in environment:
        ranks = _torchrun(read)
    elif CHILD in environment and read.number(SPEAKER, 0) > 0:
        rank = read.number(SPEAKER, 0)
        return Ranks("self", max(devices, rank + 1), rank, rank)
    elif read.number("WORLD_SIZE", 1) > 1 and CHILD not in environment:
        raise ConfigError(
            f"WORLD_SIZE={environment['WORLD_SIZE']} announces several processes, and RANK does not say "
            "which of them this is",
            where="environment",
            mend="start with torchrun, which sets both, or unset WORLD_SIZE",
        )
    elif _in_a_step(read):
        ranks = _slurm(read)
    else:
        _refuse_lone_tasks(read, devices)
        return Ranks("self", devices)
    if ranks.size == 1:
        return Ranks("self", devices)
    if devices not in (1, ranks.per_node, ranks.size):
        started = {"torchrun": "torchrun started", "slurm": "srun started", "self": ""}[ranks.launcher]
        raise ConfigError(
            f"training.devices={devices}, and {started} {ranks.size} processes on {ranks.nodes} "
            f"node{'s' if ranks.nodes > 1 else ''}",
            where="training.devices",
            mend=f"leave it out, which takes all {ranks.size}, or start as many",
        )
    return ranks


def refuse_ranks(environment: Mapping[str, str], what: str) -> None:
    """Refuses to do `what` in each of several processes that were started to do something together.

    Raises:
        ConfigError: this is one of several ranks.
    """
    ranks = decide(environment)
    if ranks.outside:
        raise ConfigError(
            f"{what} is one process, and this is one of {ranks.size} that were started together",
            where="environment",
            mend="start it without srun or torchrun; --workers or a job array do several at a time",
        )


def check_gpus(ranks: Ranks, visible: int) -> None:
    """Refuses more processes on a node than it has GPUs to give.

    Args:
        ranks: from `decide`.
        visible: GPUs that this process sees; 0 on a CPU.

    Raises:
        ConfigError: one of several processes would have none.
    """
    if not 0 < visible < ranks.per_node:
        return
    if ranks.launcher == "slurm":
        mend = (
            "#SBATCH --gpus-per-node with as many as --ntasks-per-node, without --gpus-per-task or --gpu-bind"
        )
    else:
        mend = f"training.devices={visible}, or training.device=cpu"
    raise ConfigError(
        f"{ranks.per_node} processes on this node, and each sees {visible} GPU{'s' if visible > 1 else ''}",
        where="training.devices",
        mend=mend,
    )


# ------------------------------------------------------------------------------------------------------------
# helpers


class _Reader:
    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment

    def number(self, name: str, default: int | None = None) -> int:
        text = self.environment.get(name)
        if text is None and default is not None:
            return default
        try:
            return int(text or "")
        except ValueError:
            raise ConfigError(
                f"{name} is {'absent' if text is None else repr(text)}, and should be a number",
                where="environment",
                mend="start with srun or torchrun, which set it",
            ) from None


def _torchrun(read: _Reader) -> Ranks:
    size, rank = read.number("WORLD_SIZE"), read.number("RANK")
    local, per_node = read.number("LOCAL_RANK", rank), read.number("LOCAL_WORLD_SIZE", size)
    if not 0 <= rank < size or per_node < 1 or size % per_node:
        raise ConfigError(
            f"RANK={rank}, WORLD_SIZE={size}, LOCAL_WORLD_SIZE={per_node} describe no set of processes",
            where="environment",
            mend="start with torchrun, and as many processes on every node",
        )
    note = f"{size} processes of torchrun, this node has {per_node}"
    return Ranks("torchrun", size, rank, local, size // per_node, note if size > 1 else None)


def _in_a_step(read: _Reader) -> bool:
    step = read.environment.get("SLURM_STEP_ID", read.environment.get("SLURM_STEPID"))
    return step is not None and step not in _NO_STEP


def _slurm(read: _Reader) -> Ranks:
    size = read.number("SLURM_STEP_NUM_TASKS", read.number("SLURM_NTASKS", 1))
    if size == 1:
        return Ranks()
    nodes = read.number("SLURM_STEP_NUM_NODES", read.number("SLURM_NNODES", 1))
    if size % nodes:
        raise ConfigError(
            f"{size} tasks cannot be shared evenly by {nodes} nodes",
            where="srun",
            mend="give --ntasks-per-node instead of --ntasks",
        )
    rank = read.number("SLURM_PROCID")
    note = f"{size} tasks of Slurm on {nodes} node{'s' if nodes > 1 else ''}"
    return Ranks("slurm", size, rank, read.number("SLURM_LOCALID", rank % (size // nodes)), nodes, note)


def _refuse_lone_tasks(read: _Reader, devices: int) -> None:
    """One process where a job has several tasks, or another launcher several processes."""
    for name, launcher in _FOREIGN.items():
        size = read.number(name, 1)
        if size > 1:
            raise ConfigError(
                f"this is one of {size} processes of {launcher} ({name}), each of which would train the "
                "whole run",
                where="environment",
                mend="start with srun or torchrun, or one process alone",
            )
    tasks = read.number("SLURM_NTASKS", 1)
    if tasks == 1 or read.environment.get("SLURM_JOB_NAME") in _INTERACTIVE:
        return
    one_node = read.number("SLURM_NNODES", 1) == 1
    if one_node and devices == tasks:
        return  # told of all of them: Lightning starts the others on this node
    raise ConfigError(
        f"the job has {tasks} tasks, and this process was started alone, without srun",
        where="Slurm job",
        mend=f"srun hepml train …, or ask for one task (--ntasks=1 --cpus-per-task={tasks})",
    )

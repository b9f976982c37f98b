"""Processes that train together, as Lightning and torch.distributed expect them to be described.

Ranks that were started from outside meet before anything is written: what only the first of them does (making
the run folder, taking its lock) then succeeds for all or fails for all, and none waits half an hour for one
that has left with an error.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from hepml.errors import ConfigError, HepmlError
from hepml.training.ranks import Ranks, check_gpus
from hepml.training.sharding import Sharded, refuse_unshardable
from hepml.training.training_config import TrainingConfig

T = TypeVar("T")
# What Lightning and torchrun put into the environment of processes that train together.
_ANNOUNCED = (
    "WORLD_SIZE", "RANK", "NODE_RANK", "GROUP_RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR",
    "MASTER_PORT",
)  # fmt: skip
_MEET = timedelta(minutes=10)  # ranks of a job start together, give or take a slow disk
_PORTS = 15000, 16000  # below those that the kernel gives to outgoing connections


@contextmanager
def meeting(ranks: Ranks, settings: TrainingConfig) -> Iterator[None]:
    """Connects the ranks that were started from outside for the time of the block.

    Raises:
        ConfigError: more processes than GPUs on a node; the others do not come.
    """
    on_gpu = settings.device != "cpu" and torch.cuda.is_available()
    check_gpus(ranks, torch.cuda.device_count() if on_gpu else 0)
    if not ranks.outside or dist.is_initialized():
        yield
        return
    if ranks.launcher == "slurm":
        _name_the_meeting_place(ranks)
    if on_gpu:
        torch.cuda.set_device(ranks.local_rank)
    try:
        dist.init_process_group(
            "nccl" if on_gpu else "gloo", rank=ranks.rank, world_size=ranks.size, timeout=_MEET
        )
    except (RuntimeError, ValueError) as problem:
        message = " ".join(str(problem).split())[:160]
        raise ConfigError(
            f"rank {ranks.rank} of {ranks.size} does not find the others "
            f"({os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}): {message}",
            where="environment",
            mend="start all of them together with srun or torchrun; MASTER_ADDR and MASTER_PORT say where",
        ) from None
    try:
        yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


@contextmanager
def unannounced(ranks: Ranks) -> Iterator[None]:
    """Hides what an outer launcher has announced from the processes that Lightning starts, and takes back
    what Lightning announces to them: the next run of this process is another one."""
    if ranks.outside or not ranks.first:
        yield
        return
    before = {name: os.environ.pop(name) for name in _ANNOUNCED if name in os.environ}
    try:
        yield
    finally:
        for name in _ANNOUNCED:
            os.environ.pop(name, None)
        os.environ.update(before)


def first_decides(ranks: Ranks, action: Callable[[], T]) -> T | None:
    """Runs `action` on the first rank. What it returns is returned on all ranks that were started from
    outside, and an error of the user's there is an error on all; processes that Lightning starts get None.

    Raises:
        HepmlError: that of `action`.
    """
    if not ranks.outside:
        return action() if ranks.first else None
    decision: list[Any] = [None, None]
    if ranks.first:
        try:
            decision[0] = action()
        except HepmlError as problem:
            decision[1] = problem
        except BaseException as problem:
            decision[1] = HepmlError(f"the first rank failed: {type(problem).__name__}: {problem}")
            dist.broadcast_object_list(decision, src=0)
            raise
    dist.broadcast_object_list(decision, src=0)
    if decision[1] is not None:
        raise decision[1]
    out: T | None = decision[0]
    return out


def trainer_options(ranks: Ranks, settings: TrainingConfig) -> dict[str, Any]:
    """What Lightning's trainer is told about the processes; it decides nothing by itself.

    Raises:
        ConfigError: something that FSDP cannot do.
    """
    strategy: Any = "ddp" if ranks.size > 1 else "auto"
    if settings.strategy == "fsdp":
        refuse_unshardable(settings)
        if ranks.size > 1:
            strategy = Sharded(ranks.size)
    return {"devices": ranks.per_node, "num_nodes": ranks.nodes, "strategy": strategy}


def environment_of(ranks: Ranks) -> ClusterEnvironment:
    """Lightning's view of who started the processes. Always given: left to itself, Lightning takes the
    world's size from `SLURM_NTASKS` wherever it finds it."""
    if ranks.size > 1 and ranks.launcher == "torchrun":
        return TorchElasticEnvironment()
    if ranks.size > 1 and ranks.launcher == "slurm":
        # `srun -n` does not say how many are on a node, which Lightning wants to hear
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(ranks.per_node))
        return _Step(ranks)
    return LightningEnvironment()


class _Step(SLURMEnvironment):
    """The tasks of a step, of which a job may have several."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return self._ranks.size

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """`hepml.training.ranks` has."""


def _name_the_meeting_place(ranks: Ranks) -> None:
    """MASTER_ADDR and MASTER_PORT of a step of Slurm, where nobody has set them."""
    nodes = os.environ.get("SLURM_STEP_NODELIST", os.environ.get("SLURM_NODELIST", "127.0.0.1"))
    host = "127.0.0.1" if ranks.nodes == 1 else SLURMEnvironment.resolve_root_node_address(nodes)
    os.environ.setdefault("MASTER_ADDR", host)
    job, step = (int(os.environ.get(name) or 0) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
    begin, many = _PORTS
    os.environ.setdefault("MASTER_PORT", str(begin + (16 * job + step) % many))

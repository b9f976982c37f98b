"""Training of models that are too large for one device: weights, gradients and optimizer state distributed
over devices.

FSDP2 (`torch.distributed.fsdp.fully_shard`) through Lightning's ModelParallelStrategy. A checkpoint is the
one file that every other run leaves: gathered when it is written, and shared out when a run goes on from it,
by any number of ranks and by either strategy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.optim import Optimizer

from hepml.errors import ConfigError
from hepml.training.training_config import TrainingConfig


class Sharded(ModelParallelStrategy):
    """FSDP2 over all ranks, with whole checkpoints.

    Args:
        size: ranks.
    """

    def __init__(self, size: int) -> None:
        super().__init__(data_parallel_size=size, tensor_parallel_size=1, save_distributed_checkpoint=False)

    @property
    def lightning_restore_optimizer(self) -> bool:
        return True

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """The whole module, on every rank."""
        assert self.lightning_module is not None
        out: dict[str, Any] = whole(self.lightning_module.state_dict())
        return out

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        """The whole state of the optimizer, on every rank."""
        out: dict[str, Any] = whole(optimizer.state_dict())
        return out

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """The content of the file; what of it belongs to this rank is taken when it is restored."""
        return dict(self.checkpoint_io.load_checkpoint(checkpoint_path))

    def load_model_state_dict(self, checkpoint: Mapping[str, Any], strict: bool = True) -> None:
        assert self.lightning_module is not None
        module = self.lightning_module
        state = shared_out(checkpoint["state_dict"], module.state_dict())
        module.load_state_dict(state, strict=strict)

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            _load_optimizer(optimizer, state)


def shard(model: nn.Module, mesh: DeviceMesh, *, by_blocks: bool | None = None) -> None:
    """Shares out the parameters of a model over the ranks of a mesh.

    Weights are gathered for a forward and backward pass, gradients and the optimizer's state stay in pieces.
    Where a model names the list of its blocks (`sharded_blocks`), these are gathered one by one, when their
    turn comes.

    Args:
        model: its parameters become DTensors.
        mesh: of one dimension.
        by_blocks: whether blocks are gathered one by one; on accelerators where left out. On a CPU models
            take their jets in groups, of which ranks have different numbers, so that they would not ask for
            the same block at the same time.
    """
    if by_blocks if by_blocks is not None else mesh.device_type != "cpu":
        for name in getattr(model, "sharded_blocks", ()):
            for block in model.get_submodule(name).children():
                fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def put_back(model: nn.Module) -> None:
    """Lets go of weights that were gathered for a pass without gradients: the model's parameters are DTensors
    again."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def refuse_unshardable(settings: TrainingConfig) -> None:
    """Refuses what cannot be done with parameters that are in pieces.

    Raises:
        ConfigError: names the key.
    """
    for key, why in {
        "compile": "torch.compile of a model whose weights are gathered in its hooks is not supported here",
        "muon": "muon orthogonalises whole matrices, of which each rank has a piece",
    }.items():
        if settings.optimizer == key or getattr(settings, key, False):
            where = "training.optimizer" if key == "muon" else f"training.{key}"
            raise ConfigError(why, where=where, mend="training.strategy=ddp, or leave it out")


def whole(state: Any) -> Any:
    """The same nested state with every tensor whole and on the CPU; all ranks ask together."""
    if isinstance(state, DTensor):
        return state.full_tensor().detach().cpu()
    if isinstance(state, Tensor):
        return state.detach().cpu()
    if isinstance(state, Mapping):
        return {key: whole(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(whole(value) for value in state)
    return state


def shared_out(given: Mapping[str, Tensor], own: Mapping[str, Any]) -> dict[str, Any]:
    """Whole tensors as the ranks hold them."""
    return {name: _like(value, own.get(name)) for name, value in given.items()}


def _like(value: Tensor, own: Any) -> Tensor:
    if not isinstance(own, DTensor):
        return value
    mesh, placed = own.device_mesh, own.placements
    return distribute_tensor(value.to(own.device, own.dtype), mesh, placed, src_data_rank=None)


def _load_optimizer(optimizer: Optimizer, state: Mapping[str, Any]) -> None:
    """Gives an optimizer a whole state, of which each tensor of a parameter's shape is shared out as that
    parameter is."""
    parts = getattr(optimizer, "parts", None)
    if parts is not None:  # `hepml.training.optimizers.Together`
        for part, given in zip(parts, state["parts"], strict=True):
            _load_optimizer(part, given)
        return
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    placed: dict[Any, Any] = {}
    for number, parameter in zip(numbers, parameters, strict=True):
        values = state["state"].get(number)
        if values is not None:
            placed[number] = {
                name: _like(value, parameter)
                if isinstance(value, Tensor) and value.shape == parameter.shape
                else value
                for name, value in values.items()
            }
    optimizer.load_state_dict({**state, "state": placed})

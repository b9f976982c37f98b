"""Any convolution of `torch_geometric.nn` by its name, as a layer from [ΣN, inputs] to [ΣN, outputs] on the
edges of jets.

PyG's convolutions differ in what they are made from and in what they are called with. Here the names of their
own parameters say what each wants: widths, edge features, an MLP, positions, the first embedding. What a
convolution needs and cannot be known is asked for in one line; one that needs what jets have not (relations
of several kinds, surface normals) is refused in one line.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from hepml.errors import ConfigError, HepmlError, did_you_mean
from hepml.nn.norm import PackedBatchNorm

# Parameters of `forward` that a layer can give.
_GIVEN = ("x", "edge_index", "edge_attr", "edge_weight", "edge_type", "pos", "batch", "x_0")
# Of every MessagePassing's own keywords, those that change what is computed without changing what rows mean.
_EVERY = ("aggr", "aggr_kwargs")
_FORBIDDEN = {
    "cached": "it would keep the edges of the first batch for all others",
    "in_channels": "it follows from the layers before",
    "out_channels": "it is the layer's width: set widths",
    "channels": "it is the layer's width: set widths",
    "flow": "edges run from source to target",
    "node_dim": "constituents are rows",
}
_COORDINATES = 2


def convolution_names() -> list[str]:
    """Names of the convolutions of the installed `torch_geometric.nn`."""
    from torch_geometric.nn import conv

    return sorted(name for name in conv.__all__ if name != "MessagePassing")


class Convolution(nn.Module):
    """A convolution of `torch_geometric.nn`.

    Edge features go in as `edge_attr` where the convolution takes that; where it takes one `edge_weight`, the
    weight is sigmoid(a . e_ij + b), learnt; where it takes neither they are not used (`uses_edge_features`
    says which).

    Args:
        name: as in `torch_geometric.nn`, for instance `GATv2Conv`.
        inputs: columns of x.
        outputs: the width that is asked for. Heads that are joined share it.
        edge_columns: columns of the edge features, 0 for none.
        arguments: further arguments of the convolution's constructor. Where it takes a network (`nn`,
            `local_nn`, `mlp_h`), a list of widths makes one; where it takes a convolution (`conv`, `phi`),
            its name does.

    Raises:
        ConfigError: an unknown convolution or argument (names the nearest), an argument that is missing, or a
            convolution that does not fit jets.
    """

    def __init__(
        self,
        name: str,
        inputs: int,
        outputs: int,
        edge_columns: int = 0,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        kind = _kind(name)
        takes = inspect.signature(kind.forward).parameters
        _check_forward(name, takes)
        self.conv = _build(name, kind, inputs, outputs, edge_columns, dict(arguments or {}))
        self._takes = [p for p in _GIVEN if p in takes]
        self.gate: nn.Linear | None = None
        if edge_columns and "edge_weight" in takes and not (name == "FAConv" and self.conv.normalize):
            self.gate = nn.Linear(edge_columns, 1)
        with_attributes = bool(edge_columns) and "edge_attr" in takes and _made_for_edges(self.conv)
        if not with_attributes and "edge_attr" in self._takes:
            self._takes.remove("edge_attr")
        self.uses_edge_features = with_attributes or self.gate is not None
        self.outputs = self._measured_width(name, inputs, edge_columns)

    def forward(
        self,
        x: Tensor,
        edges: Tensor,
        attributes: Tensor | None = None,
        points: Tensor | None = None,
        jet_of: Tensor | None = None,
        initial: Tensor | None = None,
    ) -> Tensor:
        """One step.

        Args:
            x: [ΣN, inputs].
            edges: [2, E] as (source, target).
            attributes: [E, edge_columns].
            points: [ΣN, 2] positions.
            jet_of: [ΣN] jet of each constituent.
            initial: [ΣN, inputs] what the first convolution was given, for those that come back to it.

        Returns:
            [ΣN, outputs].
        """
        if (
            not torch.compiler.is_compiling() and len(x) == 0
        ):  # several convolutions have no answer to no rows
            return x.new_zeros((0, self.outputs))
        given: dict[str, Tensor | None] = {
            "x": x,
            "edge_index": edges,
            "edge_attr": attributes,
            "pos": points,
            "batch": jet_of,
            "x_0": x if initial is None else initial,
        }
        if "edge_type" in self._takes:
            given["edge_type"] = edges.new_zeros(edges.shape[1])
        if self.gate is not None and attributes is not None:
            given["edge_weight"] = torch.sigmoid(self.gate(attributes)).flatten().to(x.dtype)
        out: Tensor = self.conv(**{p: given[p] for p in self._takes if given.get(p) is not None})
        return out

    @torch.no_grad()
    def _measured_width(self, name: str, inputs: int, edge_columns: int) -> int:
        """Columns of the result, found on a graph of three constituents; random numbers and training mode
        stay as they were."""
        edges = torch.tensor([[1, 2, 0, 2, 0, 1], [0, 0, 1, 1, 2, 2]])
        self.eval()
        try:
            with torch.random.fork_rng(devices=[]):
                out = self(
                    torch.rand(3, inputs),
                    edges,
                    torch.rand(6, edge_columns) if edge_columns else None,
                    torch.rand(3, _COORDINATES),
                    torch.zeros(3, dtype=torch.int64),
                )
            if not isinstance(out, Tensor) or out.ndim != 2 or len(out) != 3:
                raise ConfigError(f"convolution '{name}' does not give one row a constituent")
        except HepmlError:
            raise
        except Exception as problem:
            reason = " ".join(str(problem).split())[:160] or type(problem).__name__
            raise ConfigError(
                f"convolution '{name}' does not work on a graph of {inputs} features a constituent and "
                f"{edge_columns} an edge ({reason})",
                mend="change convolution_arguments, widths or edge_features, or name another convolution",
            ) from None
        finally:
            self.train()
        return int(out.shape[1])


def _kind(name: str) -> Any:
    from torch_geometric import nn as pyg

    if name not in convolution_names():
        raise ConfigError(
            f"unknown convolution '{name}'",
            mend=did_you_mean(name, convolution_names(), noun="torch_geometric.nn has"),
        )
    return getattr(pyg, name)


def _check_forward(name: str, takes: Mapping[str, inspect.Parameter]) -> None:
    """Refuses a convolution that is called with what jets do not have."""
    if "x" in takes and "edge_index" not in takes and "batch" in takes:
        raise ConfigError(
            f"convolution '{name}' searches neighbours itself, with a compiled library",
            mend="use EdgeConv with `dynamic: true`, whose search needs none",
        )
    variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    needed = [
        p.name
        for p in takes.values()
        if p.default is inspect.Parameter.empty and p.name not in (*_GIVEN, "self") and p.kind not in variadic
    ]
    if needed or not {"x", "edge_index"} <= set(takes):
        what = f"needs {' and '.join(needed)}" if needed else "does not work on constituents and edges"
        raise ConfigError(
            f"convolution '{name}' {what}, which jets do not have",
            mend="name one that works on (x, edge_index)",
        )


def _build(
    name: str, kind: Any, inputs: int, outputs: int, edge_columns: int, arguments: dict[str, Any]
) -> nn.Module:
    takes = {k: p for k, p in inspect.signature(kind.__init__).parameters.items() if k != "self"}
    named = {k: p for k, p in takes.items() if p.kind is not inspect.Parameter.VAR_KEYWORD}
    where = f"convolution_arguments of {name}"
    for key in arguments:
        if key in _FORBIDDEN:
            raise ConfigError(f"'{key}' is not yours to set", where=where, mend=_FORBIDDEN[key])
        if key not in named and key not in _EVERY:
            raise ConfigError(
                f"{name} takes no '{key}'", where=where, mend=did_you_mean(key, set(named) - set(_FORBIDDEN))
            )
    share = outputs
    if arguments.get("concat", _default(named, "concat")) and "heads" in named:
        heads = int(arguments.get("heads", _default(named, "heads")))
        if heads < 1 or outputs % heads:
            raise ConfigError(
                f"{heads} heads do not share {outputs} columns",
                where=where,
                mend="make widths multiples of heads",
            )
        share = outputs // heads
    known: dict[str, Any] = {
        "in_channels": inputs,
        "channels": inputs,
        "out_channels": share,
        "num_relations": 1,
        "deg": torch.ones(33, dtype=torch.int64),
    }
    if edge_columns:
        known |= {"edge_dim": edge_columns, "in_edge_channels": edge_columns, "dim": edge_columns}
    known |= _networks(name, named, inputs, outputs, edge_columns, arguments)
    keywords = {k: v for k, v in known.items() if k in named}
    keywords |= {
        k: v for k, v in arguments.items() if k not in keywords or not isinstance(keywords[k], nn.Module)
    }
    missing = [k for k, p in named.items() if k not in keywords and p.default is inspect.Parameter.empty]
    if missing:
        without = not edge_columns and {"edge_dim", "in_edge_channels", "dim"} & set(missing)
        mend = "give edge_features" if without else f"set them, as {{{missing[0]}: …}}"
        raise ConfigError(f"{name} needs {', '.join(missing)}", where=where, mend=mend)
    try:
        built: nn.Module = kind(**keywords)
    except Exception as problem:
        reason = " ".join(str(problem).split())[:160] or type(problem).__name__
        raise ConfigError(
            f"{name} cannot be made ({reason})", where=where, mend="change its arguments"
        ) from None
    return built


def _networks(
    name: str,
    named: Mapping[str, inspect.Parameter],
    inputs: int,
    outputs: int,
    edge_columns: int,
    arguments: Mapping[str, Any],
) -> dict[str, nn.Module]:
    """The networks and convolutions that a convolution is made from, of the sizes that it gives them."""
    sizes = {
        "nn": (inputs, outputs),
        "local_nn": (inputs + _COORDINATES, outputs),
        "mlp_h": (inputs, _COORDINATES),
        "mlp_f": (inputs + _COORDINATES, outputs),
        "mlp_g": (outputs, inputs),
        "pos_nn": (_COORDINATES, outputs),
    }
    if name in ("EdgeConv",):
        sizes["nn"] = (2 * inputs, outputs)
    if name == "NNConv":
        sizes["nn"] = (edge_columns, inputs * outputs)
    networks: dict[str, nn.Module] = {}
    for key, (first, last) in sizes.items():
        wanted = key in named and (named[key].default is inspect.Parameter.empty or key == "pos_nn")
        if not (wanted or (key in named and key in arguments)):
            continue
        widths = arguments.get(key, (last,) if name != "NNConv" else (16,))
        if (
            not isinstance(widths, Sequence)
            or isinstance(widths, str)
            or not all(isinstance(w, int) for w in widths)
        ):
            raise ConfigError(
                f"'{key}' of {name} is a list of widths", where="convolution_arguments", mend="as [64]"
            )
        ending = () if widths and widths[-1] == last and name != "NNConv" else (last,)
        networks[key] = mlp(first, widths, ending[0] if ending else None)
    for key in ("conv", "phi"):
        if key in named:
            inner = str(arguments.get(key, "GCNConv"))
            networks[key] = _build(
                inner, _kind(inner), inputs, inputs if name != "DirGNNConv" else outputs, 0, {}
            )
    return networks


def mlp(inputs: int, widths: Sequence[int], outputs: int | None = None) -> nn.Sequential:
    """Linear, batch norm and leaky ReLU for each width, as in EdgeConv's paper (arXiv:1801.07829), then a
    bare linear map to `outputs`."""
    layers: list[nn.Module] = []
    sizes = [inputs, *widths]
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b, bias=False), PackedBatchNorm(b), nn.LeakyReLU(0.2)]
    if outputs is not None:
        layers.append(nn.Linear(sizes[-1], outputs))
    return nn.Sequential(*layers)


def _default(named: Mapping[str, inspect.Parameter], key: str) -> Any:
    return named[key].default if key in named else None


def _made_for_edges(conv: nn.Module) -> bool:
    """Whether a convolution that takes `edge_attr` was made with room for it."""
    for attribute in ("edge_dim", "in_edge_channels"):
        if hasattr(conv, attribute):
            return bool(getattr(conv, attribute))
    return True

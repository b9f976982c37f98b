"""Every registered model in a size for tests, and in the variants that work differently; models that batch
norms have seen jets in."""

from __future__ import annotations

from typing import Any

import torch
from cloud import cloud
from norms import stir_norms
from torch import nn

from hepml.models import create, registry

# Small sizes, for speed; a model that is not named here is taken as it is.
SMALL: dict[str, dict[str, Any]] = {
    "cnn": {"pixels": 16, "maps": ((4, 4), (6,)), "head": (8,)},
    "dgcnn": {"widths": (8, 8), "neighbours": 4, "fusion": 8, "head": (8,)},
    "efp": {"degree": 4},
    "efn": {"phi": (8, 8), "f": (8,)},
    "ensemble": {"members": [{"name": "efp_mlp", "degree": 3}, {"name": "pfn", "phi": (8, 8), "f": (8,)}]},
    "gat": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "gcn": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "graph_network": {"widths": (8, 8), "neighbours": 4, "embed": 8, "head": (8,)},
    "hamiltonian_cloud": {"hidden": 8, "embedding": (8,), "phi": (8,), "f": (8,)},
    "lgatr": {"channels": 2, "scalars": 4, "blocks": 2, "heads": 2},
    "lgatr_slim": {"vectors": 4, "scalars": 8, "blocks": 2, "heads": 2},
    "lgn": {"channels": (2, 3, 2)},
    "lloca": {"hidden": 8, "backbone_arguments": {"width": 16, "heads": 2, "blocks": 2}},
    "lloca_transformer": {"width": 24, "heads": 2, "blocks": 2, "hidden": 8},
    "lorentznet": {"n_hidden": 8, "n_blocks": 3},
    "part": {"embedding": (16, 16), "pair_embedding": (8,), "heads": 2, "blocks": 2, "class_blocks": 1},
    "lundnet": {"widths": ((8, 8), (8, 8), (12,)), "head": (8,)},
    "p_cnn": {"stem": 4, "stages": ((6,), (8, 8)), "head": (8,)},
    "particlenet": {"widths": ((8, 8), (8, 8)), "neighbours": 4, "head": (8,)},
    "particlenet_lite": {"widths": ((8, 8), (8, 8)), "neighbours": 4, "head": (8,)},
    "pelican": {"hidden": 9, "messages": 6, "blocks": 2, "scalars": 3},
    "pfn": {"phi": (8, 8), "f": (8,)},
    "residual_cloud": {"embedding": (8,), "phi": (8,), "f": (8,)},
    "resnext": {"pixels": 16, "stem": 6, "widths": (4, 8), "blocks": (1, 2), "groups": 2},
    "rnn": {"hidden": 8, "head": (8,)},
    "topodnn": {"hidden": (16, 8)},
    "transformer": {"width": 16, "heads": 2, "blocks": 2},
}
NAMES = sorted(registry())
# Variants that run through other code: the registered name, and how it is built.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "gru": ("rnn", {"cell": "gru", "hidden": 6, "layers": 2, "bidirectional": True, "head": (8,)}),
    "hamiltonian_cloud, physical": (
        "hamiltonian_cloud",
        {**SMALL["hamiltonian_cloud"], "positions": "physical"},
    ),
    "lloca around mlp": ("lloca", {"hidden": 8, "backbone": "mlp"}),
    "lloca around mlp, one frame a jet": ("lloca", {"hidden": 8, "backbone": "mlp", "frame": "jet"}),
    "lloca, one frame a jet": ("lloca", {**SMALL["lloca"], "frame": "jet"}),
    "lorentznet, any number of nodes": ("lorentznet", {**SMALL["lorentznet"], "nodes": None}),
    "lorentznet, in components": ("lorentznet", {**SMALL["lorentznet"], "vectors": "components"}),
    "p_cnn, of forty constituents": ("p_cnn", {**SMALL["p_cnn"], "length": 40}),
    "part, two class blocks": (
        "part",
        {"embedding": (16, 16), "pair_embedding": (8, 8), "heads": 4, "blocks": 2, "class_blocks": 2},
    ),
    "particlenet, sixteen neighbours": ("particlenet", {"widths": ((8, 8, 8), (12, 12, 12))}),
    "particlenet_lite, seven neighbours": ("particlenet_lite", {"widths": ((8, 8), (12, 12))}),
    "pelican, by sums": ("pelican", {**SMALL["pelican"], "normalisation": "sum"}),
    "transformer, mean": ("transformer", {**SMALL["transformer"], "pooling": "mean"}),
}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    name: (name, SMALL.get(name, {})) for name in NAMES
} | VARIANTS
# Those that are invariant under boosts as long as no reference vector tells them of the beam.
EQUIVARIANT = [case for case, (name, _) in CASES.items() if "lorentz" in registry()[name].symmetries]
CASES |= {
    f"{case}, beams": (CASES[case][0], {**CASES[case][1], "references": ("beam",)}) for case in EQUIVARIANT
}


def random_tagger(case: str, **hyperparameters: Any) -> nn.Module:
    """A small tagger with random weights, and with the statistics and affine maps of its batch norms
    randomised."""
    torch.manual_seed(7)
    name, arguments = CASES[case]
    model = create(name, **{**arguments, **hyperparameters})
    stir_norms(model)
    return model


def seen(case: str, dtype: torch.dtype = torch.float64, **hyperparameters: Any) -> nn.Module:
    """A small tagger, in evaluation mode, whose norms and whitening have seen jets."""
    model = random_tagger(case, **hyperparameters).to(dtype).train()
    with torch.no_grad():
        for seed in range(3):
            model(cloud(seed=seed, dtype=dtype))
    return model.eval()

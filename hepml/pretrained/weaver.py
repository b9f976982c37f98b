"""weaver-core's ParticleNet, as trained on JetClass: names and shapes to `hepml.models.particlenet`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hepml.data.features import FEATURE_SETS
from hepml.data.reading.layouts import JETCLASS_CLASSES
from hepml.models.particlenet import weaver_state_dict_to_hepml

FEATURES_OF = {len(names): name for name, names in FEATURE_SETS.items()}  # 7, 13 and 17 columns


def read_particlenet(
    state: Mapping[str, Tensor],
) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, renamed state and classes; k is 16, or 7 for two blocks (ParticleNet-Lite), which
    shapes do not tell.

    Raises:
        ValueError: a number of input columns that no JetClass recipe has.
        KeyError: a parameter that is not there.
    """
    blocks = 1 + _last(state, r"edge_convs\.(\d+)\.")
    widths = []
    for b in range(blocks):
        layers = 1 + _last(state, rf"edge_convs\.{b}\.convs\.(\d+)\.")
        widths.append(tuple(state[f"edge_convs.{b}.convs.{i}.weight"].shape[0] for i in range(layers)))
    last = _last(state, r"fc\.(\d+)\.")
    outputs = state[f"fc.{last}.weight"].shape[0]
    columns = state["edge_convs.0.convs.0.weight"].shape[1] // 2
    if columns not in FEATURES_OF:
        raise ValueError(
            f"{columns} input columns, where the JetClass recipes have {', '.join(map(str, FEATURES_OF))}"
        )
    hyperparameters: dict[str, Any] = {
        "outputs": outputs,
        "neighbours": 7 if blocks == 2 else 16,
        "widths": tuple(widths),
        "head": tuple(state[f"fc.{i}.0.weight"].shape[0] for i in range(last)),
        "fusion": any(name.startswith("fusion_block.") for name in state),
        "features": FEATURES_OF[columns],
    }
    classes = JETCLASS_CLASSES if outputs == len(JETCLASS_CLASSES) else None
    return hyperparameters, weaver_state_dict_to_hepml(state), classes


def _last(state: Mapping[str, Tensor], pattern: str) -> int:
    numbers = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    if not numbers:
        raise KeyError(pattern.replace("\\", ""))
    return max(numbers)

"""weaver-core's Particle Transformer, as trained on JetClass: names and shapes to `hepml.models.part`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from hepml.data.reading.layouts import JETCLASS_CLASSES
from hepml.models.part import weaver_state_dict_to_hepml
from hepml.packed.pair_features import PAIR_FEATURES
from hepml.pretrained.weaver import FEATURES_OF


def read(state: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor], tuple[str, ...] | None]:
    """Hyperparameters, renamed state and classes.

    Dropout, and whether pairs pass a GELU last (`pair_activation`), are not told by shapes; they are as
    published.

    Raises:
        ValueError: a number of input columns that no JetClass recipe has, or other pair features than the
            four.
        KeyError: a parameter that is not there.
    """
    columns, pair_columns = len(state["embed.input_bn.weight"]), len(state["pair_embed.embed.0.weight"])
    if columns not in FEATURES_OF:
        raise ValueError(
            f"{columns} input columns, where the JetClass recipes have {', '.join(map(str, FEATURES_OF))}"
        )
    if pair_columns != len(PAIR_FEATURES):
        raise ValueError(f"{pair_columns} pair features, where {len(PAIR_FEATURES)} are known")
    *pair_widths, heads = _widths(state, r"pair_embed\.embed\.(\d+)\.weight")
    *head, outputs = [*_widths(state, r"fc\.(\d+)\.0\.weight"), *_widths(state, r"fc\.(\d+)\.weight")]
    hidden, width = state["blocks.0.fc1.weight"].shape
    hyperparameters: dict[str, Any] = {
        "outputs": outputs,
        "features": FEATURES_OF[columns],
        "embedding": tuple(_widths(state, r"embed\.embed\.(\d+)\.weight")),
        "pair_embedding": tuple(pair_widths),
        "heads": heads,
        "blocks": len(_widths(state, r"blocks\.(\d+)\.fc1\.weight")),
        "class_blocks": len(_widths(state, r"cls_blocks\.(\d+)\.fc1\.weight")),
        "expansion": hidden // width,
        "rounded_masses": True,
        "head": tuple(head),
    }
    classes = JETCLASS_CLASSES if outputs == len(JETCLASS_CLASSES) else None
    return hyperparameters, weaver_state_dict_to_hepml(state), classes


def _widths(state: Mapping[str, Tensor], pattern: str) -> list[int]:
    """Rows of the matrices of that name, in the order of their numbers; convolution kernels [C', C, 1] are
    matrices here."""
    layers = {int(m[1]): value for name, value in state.items() if (m := re.fullmatch(pattern, name))}
    return [len(layers[number]) for number in sorted(layers) if layers[number].ndim > 1]

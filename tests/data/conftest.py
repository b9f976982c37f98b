"""Small files of jets in several forms, written on the fly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from toys import toy_arrays

Arrays = dict[str, Any]
Write = Callable[..., Path]


@pytest.fixture
def arrays() -> Arrays:
    """Branches of 60 toy jets of two classes in the JetClass layout."""
    return toy_arrays(60, seed=3)


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes branches as a TTree (or an RNTuple) called `tree`; `compression` and `baskets` choose how."""

    def make(
        branches: Arrays,
        name: str = "jets.root",
        *,
        ntuple: bool = False,
        compression: Any = None,
        baskets: int = 1,
    ) -> Path:
        path = tmp_path / name
        with uproot.recreate(
            path, compression=uproot.ZSTD(1) if compression is None else compression
        ) as file:
            if ntuple:
                file.mkrntuple("tree", {n: ak.Array(v) for n, v in branches.items()})
                return path
            kinds = {
                n: ak.type(ak.Array(v)).content if _is_list(v) else np.asarray(v).dtype
                for n, v in branches.items()
            }
            tree = file.mktree("tree", kinds)
            for part in np.array_split(np.arange(len(next(iter(branches.values())))), baskets):
                if len(part):
                    tree.extend({n: v[part[0] : part[-1] + 1] for n, v in branches.items()})
        return path

    return make


def _is_list(values: Any) -> bool:
    return isinstance(values, ak.Array) and values.ndim > 1

"""Makes `lgn_released.npz`: `python make_lgn_golden.py CHECKOUT` with a checkout of
fizisist/LorentzGroupNetwork (commit c1669ce; GPL-3.0, nothing of it is kept here but four pairs of numbers).

The program walks sets of irreps, in an order that Python 3.8 changed; here it is that of Python 3.7, in which
its published weights were trained.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
ORDER = [(0, 0), (2, 0), (1, 1), (2, 2), (0, 2)]


def main(checkout: str) -> None:
    sys.path[:0] = [checkout + "/src", str(HERE.parent)]
    import released_lgn

    plain = torch.where
    torch.where = lambda c, *x: plain(c.bool(), *x)  # masks of bytes, which torch no longer takes
    import lgn.g_lib.g_torch as functions
    import lgn.g_lib.parameter_dict_new as parameters

    def place(key: tuple[int, int]) -> int:
        return ORDER.index(key)

    def joined(reps: list) -> object:
        keys = sorted(set().union(*[rep.keys() for rep in reps]), key=place)
        own = {key: [rep[key] for rep in reps if key in list(rep.keys())] for key in keys}
        return type(reps[0])({key: torch.cat(x, dim=reps[0].cdim) for key, x in own.items()})

    parameters.ParameterDictNew.keys = lambda self: dict.fromkeys(
        sorted(map(eval, self._parameters), key=place)
    ).keys()
    functions.cat = joined
    import lgn.nn.output_levels

    lgn.nn.output_levels.cat = joined
    from lgn.data.collate import collate_fn
    from lgn.models import LGNTopTag

    torch.set_default_dtype(torch.float64)
    far = float("inf")
    model = LGNTopTag(
        [3], [1], 3, [2, 4, 4, 2], ["learn"], far, far, far, "randn", [1.0], 10, "linear", "linear", 1,
        pmu_in=True, add_beams=True, mlp=True, mlp_depth=3, mlp_width=2, dtype=torch.float64,
    )  # fmt: skip
    model.load_state_dict(released_lgn.weights())
    padded = []
    for jet in released_lgn.jets():
        rows = torch.zeros(200, 4)
        rows[: len(jet)] = torch.from_numpy(jet)
        padded.append({"Pmu": rows})
    with torch.no_grad():
        outputs = model(collate_fn(padded, scale=0.005, nobj=126, add_beams=True)).numpy()
    np.savez(HERE / "lgn_released.npz", outputs=outputs)


if __name__ == "__main__":
    main(sys.argv[1])

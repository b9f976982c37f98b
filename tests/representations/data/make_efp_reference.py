"""Writes efp_reference.npz: energy-flow polynomials of twenty real jets by the `energyflow` package (GPL:
only its values are kept here).

    python make_efp_reference.py toptag_reference_1000.npz      # with energyflow 1.4.0 and hepml installed

`beta1` and `beta05` are [20, 1000] in the order of `hepml.representations.efp_graphs.multigraphs(7)`, for
theta = R and theta = sqrt(R), in the normalised hadronic measure.
"""

from __future__ import annotations

import sys
from pathlib import Path

import energyflow
import numpy as np

from hepml.representations.efp_graphs import Edges, canonical, multigraphs


def components(edges: list[tuple[int, int]]) -> tuple[Edges, ...]:
    """The connected components of a multigraph in our canonical labelling."""
    left, found = {v for e in edges for v in e}, []
    while left:
        part = {left.pop()}
        while (wider := part | {v for e in edges if set(e) & part for v in e}) != part:
            part = wider
        left -= part
        at = {v: i for i, v in enumerate(sorted(part))}
        rows = [[0] * len(part) for _ in part]
        for a, b in edges:
            if a in part:
                rows[at[a]][at[b]] += 1
                rows[at[b]][at[a]] += 1
        c = canonical(tuple(map(tuple, rows)))
        found.append(tuple((i, j, c[i][j]) for i in range(len(c)) for j in range(i + 1, len(c)) if c[i][j]))
    return tuple(sorted(found))


if __name__ == "__main__":
    with np.load(sys.argv[1]) as file:
        momenta, offsets = file["four_momenta"], file["offsets"]
    counts = np.diff(offsets)
    jets = np.argsort(counts, kind="stable")[np.linspace(0, 420, 20).astype(int)]
    place = {tuple(sorted(graph)): i for i, graph in enumerate(multigraphs(7))}
    out = {
        "four_momenta": np.concatenate([momenta[offsets[j] : offsets[j + 1]] for j in jets]),
        "offsets": np.concatenate([[0], np.cumsum(counts[jets])]),
    }
    for name, beta in (("beta1", 1.0), ("beta05", 0.5)):
        efps = energyflow.EFPSet("d<=7", measure="hadr", beta=beta, normed=True, coords="epxpypz")
        order = [place[components([tuple(e) for e in graph])] for graph in efps.graphs()]
        values = [efps.compute(momenta[offsets[j] : offsets[j + 1]].astype(np.float64)) for j in jets]
        out[name] = np.empty((len(jets), len(order)), dtype=np.float32)
        out[name][:, order] = values
    np.savez_compressed(Path(__file__).with_name("efp_reference.npz"), **out)

"""Event files written on the fly: NanoAOD v15, EDM4hep in its old and new names, nested lists."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot

Branches = dict[str, Any]


def write_tree(path: Path, name: str, branches: Branches, ntuple: bool = False) -> Path:
    """Branches as a TTree or an RNTuple."""
    with uproot.recreate(path) as file:
        if ntuple:
            file.mkrntuple(name, {n: ak.Array(v) for n, v in branches.items()})
            return path
        kinds = {
            n: ak.type(v).content if isinstance(v, ak.Array) else np.asarray(v).dtype
            for n, v in branches.items()
        }
        tree = file.mktree(name, kinds)
        half = len(next(iter(branches.values()))) // 2
        tree.extend({n: v[:half] for n, v in branches.items()})
        tree.extend({n: v[half:] for n, v in branches.items()})
    return path


def nano_events(events: int = 40, seed: int = 0, index: Any = np.int16, mass: bool = True) -> Branches:
    """NanoAOD v15: AK8 and AK4 jets whose constituents are rows of an index table into `PFCand`, in any
    order, with some rows of no candidate (-1) and some events without jets."""
    rng = np.random.default_rng(seed)
    jets = rng.integers(0, 4, events)
    jets[0] = 0
    candidates = rng.integers(30, 60, events)
    out: Branches = {
        "run": np.full(events, 3, dtype=np.uint32),
        "luminosityBlock": np.arange(events, dtype=np.uint32) // 10,
        "event": np.arange(events, dtype=np.uint64) + 2**40,
        "genWeight": rng.normal(1, 0.1, events).astype(np.float32),
    }
    cand = _momenta(rng, candidates, 1.0, 30.0)
    out |= {f"PFCand_{n}": v for n, v in cand.items() if mass or n != "mass"}
    out["PFCand_pdgId"] = _lists(rng.choice([211, -211, 22, 130, 11, -13], candidates.sum()), candidates)
    for name in ("FatJet", "Jet"):
        size = jets if name == "FatJet" else jets + 1
        rows_jet, rows_cand, counts = [], [], []
        sums = []
        for e in range(events):
            chosen = rng.permutation(candidates[e])[: 6 * size[e]]
            owner = np.arange(len(chosen)) % max(size[e], 1)
            p = np.stack([ak.to_numpy(cand[n][e]) for n in ("pt", "eta", "phi", "mass")], 1)[chosen]
            if not mass:
                p[:, 3] = 0
            sums += [_sum(p[owner == j]) for j in range(size[e])]
            shuffle = rng.permutation(len(chosen) + 1)
            rows_jet.append(np.append(owner, -1)[shuffle])
            rows_cand.append(np.append(chosen, 0)[shuffle])
            counts.append(len(shuffle))
        momenta = np.array(sums).reshape(-1, 4)
        for i, n in enumerate(("pt", "eta", "phi", "mass")):
            out[f"{name}_{n}"] = _lists(momenta[:, i].astype(np.float32), size)
        out[f"{name}_rawFactor"] = _lists(np.full(size.sum(), 0.0, dtype=np.float32), size)
        out[f"{name}_hadronFlavour"] = _lists(rng.choice([0, 4, 5], size.sum()).astype(np.uint8), size)
        out[f"{name}PFCand_jetIdx"] = _lists(np.concatenate(rows_jet).astype(index), np.array(counts))
        out[f"{name}PFCand_pfCandIdx"] = _lists(np.concatenate(rows_cand).astype(index), np.array(counts))
        out[f"n{name}"] = size.astype(np.int32)
    out["nPFCand"] = candidates.astype(np.int32)
    tops = rng.integers(0, 3, events)
    part = _momenta(rng, tops, 100.0, 500.0)
    out |= {f"GenPart_{n}": v for n, v in part.items()}
    out["GenPart_pdgId"] = _lists(rng.choice([6, -6, 5], tops.sum()), tops)
    return out


def podio_events(events: int = 30, seed: int = 0, old: bool = False) -> tuple[Branches, np.ndarray]:
    """EDM4hep: jets that point into a relation of object ids; returns branches and constituents a jet."""
    rng = np.random.default_rng(seed)
    jets, particles = rng.integers(0, 4, events), rng.integers(20, 40, events)
    relation = "Jet#0" if old else "_Jet_particles"
    px, py, pz = (rng.normal(0, 10, particles.sum()).astype(np.float32) for _ in range(3))
    energy = np.sqrt(px**2 + py**2 + pz**2 + 0.02)
    counts, index, begin, end, momentum = [], [], [], [], []
    first = np.concatenate([[0], np.cumsum(particles)])
    for e in range(events):
        at = 0
        for _ in range(jets[e]):
            size = int(rng.integers(1, 6))
            chosen = rng.permutation(particles[e])[:size]
            index.append(chosen)
            begin.append(at)
            end.append(at + size)
            at += size
            rows = first[e] + chosen
            momentum.append([px[rows].sum(), py[rows].sum(), pz[rows].sum(), energy[rows].sum()])
        counts.append(at)
    links = np.concatenate(index).astype(np.int32)
    momentum_ = np.array(momentum, dtype=np.float32)
    out: Branches = {}
    for i, n in enumerate(("momentum.x", "momentum.y", "momentum.z", "energy")):
        out[f"Jet.{n}"] = _lists(momentum_[:, i], jets)
        out[f"ReconstructedParticles.{n}"] = _lists((px, py, pz, energy)[i], particles)
    out["Jet.particles_begin"] = _lists(np.array(begin, dtype=np.uint32), jets)
    out["Jet.particles_end"] = _lists(np.array(end, dtype=np.uint32), jets)
    out["ReconstructedParticles.charge"] = _lists(np.ones(particles.sum(), dtype=np.float32), particles)
    out[f"{relation}.index"] = _lists(links, np.array(counts))
    out[f"{relation}.collectionID"] = _lists(np.full(len(links), 7, dtype=np.int32), np.array(counts))
    return out, np.array(end) - np.array(begin)


def _momenta(rng: np.random.Generator, counts: np.ndarray, least: float, most: float) -> Branches:
    n = int(counts.sum())
    return {
        "pt": _lists(rng.uniform(least, most, n).astype(np.float32), counts),
        "eta": _lists(rng.uniform(-2, 2, n).astype(np.float32), counts),
        "phi": _lists(rng.uniform(-3.1, 3.1, n).astype(np.float32), counts),
        "mass": _lists(rng.uniform(0, 0.14, n).astype(np.float32), counts),
    }


def _sum(p: np.ndarray) -> tuple[float, float, float, float]:
    """pt, eta, phi, mass of the sum of rows (pt, eta, phi, mass)."""
    pt, eta, phi, mass = p.astype(np.float64).T
    px, py, pz = (pt * np.cos(phi)).sum(), (pt * np.sin(phi)).sum(), (pt * np.sinh(eta)).sum()
    e = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2).sum()
    t = np.hypot(px, py)
    return t, np.arcsinh(pz / max(t, 1e-9)), np.arctan2(py, px), np.sqrt(max(e**2 - t**2 - pz**2, 0))


def _lists(values: np.ndarray, counts: np.ndarray) -> ak.Array:
    return ak.unflatten(values, counts)

"""LundNet is the published network: edge convolutions on the declusterings that FastJet finds."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from cloud import cloud
from norms import stir_norms
from torch import Tensor

import hepml
from hepml.models import create
from hepml.representations.lund import lund_graph

fastjet = pytest.importorskip("fastjet")
State = dict[str, Tensor]


def _declusterings(p: np.ndarray) -> tuple[list[list[float]], list[tuple[int, int]]]:
    """Lund coordinates and ties of one jet, as the published program takes them out of FastJet."""
    nodes: list[list[float]] = []
    ties: list[tuple[int, int]] = []

    def walk(jet: object, parent: int | None) -> None:
        one, other = fastjet.PseudoJet(), fastjet.PseudoJet()
        if not jet.has_parents(one, other):  # type: ignore[attr-defined]
            return
        if other.pt() > one.pt():
            one, other = other, one
        delta = max(1e-6, one.delta_R(other))
        angle = math.atan((one.rap() - other.rap()) / (one.phi() - other.phi()))
        mass = 0.5 * math.log(abs((one + other).m2()))
        z = other.pt() / (one.pt() + other.pt())
        own = len(nodes)
        nodes.append([math.log(z), math.log(delta), angle, mass, math.log(other.pt() * delta)])
        if parent is not None:
            ties.extend([(parent, own), (own, parent)])
        walk(one, own)
        walk(other, own)

    if len(p):
        particles = [fastjet.PseudoJet(*map(float, (x, y, z, e))) for e, x, y, z in p]
        sequence = fastjet.ClusterSequence(
            particles, fastjet.JetDefinition(fastjet.cambridge_algorithm, 1000.0)
        )
        walk(sequence.inclusive_jets(0.0)[0], None)
    return nodes or [[0.0] * 5], ties


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    scale = state[f"{name}.weight"] / (state[f"{name}.running_var"] + 1e-5).sqrt()
    return (x - state[f"{name}.running_mean"]) * scale + state[f"{name}.bias"]


def _logits(p: np.ndarray, state: State, blocks: int) -> Tensor:
    """The paper's equations, one tie at a time."""
    nodes, ties = _declusterings(p)
    x = _norm(torch.tensor(nodes, dtype=torch.float64), state, "bn_fts")
    found = []
    for block in range(blocks):
        here = f"edge_convs.{block}"
        theta, phi = state[f"{here}.theta.weight"], state[f"{here}.phi.weight"]
        means = torch.zeros(len(x), len(state[f"{here}.bns.1.weight"]), dtype=torch.float64)
        for i in range(len(x)):
            messages = []
            for sender, receiver in ties:
                if receiver == i:
                    e = theta @ (x[i] - x[sender]) + phi @ x[sender]
                    e = torch.relu(_norm(e, state, f"{here}.bns.0"))
                    e = torch.relu(_norm(state[f"{here}.fcs.0.weight"] @ e, state, f"{here}.bns.1"))
                    messages.append(e)
            if messages:
                means[i] = torch.stack(messages).mean(0)
        short = state.get(f"{here}.sc.weight")
        kept = x if short is None else _norm(x @ short.T, state, f"{here}.sc_bn")
        x = torch.relu(means + kept)
        found.append(x)
    fused = torch.cat(found, 1) @ state["fusion_block.0.weight"].T + state["fusion_block.0.bias"]
    jet = _norm(torch.relu(fused), state, "fusion_block.2").mean(0)
    jet = torch.relu(state["fc.0.0.weight"] @ jet + state["fc.0.0.bias"])
    return state["fc.1.weight"] @ jet + state["fc.1.bias"]


def test_lundnet_is_the_published_network_jet_by_jet(tmp_path: Path) -> None:
    torch.manual_seed(2)
    made = create("lundnet", widths=((8, 8), (8, 8), (12, 12)), head=(8,))
    stir_norms(made)
    torch.save({f"module.{name}": v for name, v in made.state_dict().items()}, tmp_path / "lundnet.pt")
    model = hepml.pretrained.load(tmp_path / "lundnet.pt")
    assert model.wrapped is False
    batch = cloud([0, 1, 2, 3, 9, 14], seed=3, dtype=torch.float32)
    with torch.inference_mode():
        found = model(batch).double()
    state = {name: v.double() for name, v in model.state_dict().items()}
    for i in range(len(batch)):
        wanted = _logits(batch[i].four_momenta.double().numpy(), state, 3)
        torch.testing.assert_close(found[i], wanted, rtol=1e-4, atol=1e-5)


def test_the_published_sizes_and_coordinates_are_read_from_shapes(tmp_path: Path) -> None:
    for columns in (3, 5):
        names = (
            ("ln_z", "ln_delta", "ln_kt") if columns == 3 else ("ln_z", "ln_delta", "psi", "ln_m", "ln_kt")
        )
        torch.save(create("lundnet", coordinates=names).state_dict(), tmp_path / "w.pt")
        assert hepml.pretrained.load(tmp_path / "w.pt").coordinates == names


def test_a_jet_has_one_declustering_less_than_constituents_and_they_form_a_tree() -> None:
    graph = lund_graph(cloud([0, 1, 2, 7], seed=1))
    assert torch.bincount(graph.jet_of).tolist() == [1, 1, 1, 6]
    assert graph.edges.shape[1] == 2 * 5  # six nodes of the last jet, in both directions
    assert not graph.values[graph.jet_of < 2].any()

"""What every registered tagger promises, and its variants: answers for jets of any length, jets that do not
see each other, gradients where they belong, and the same numbers in every precision. What single taggers
promise besides is in the files beside this one."""

from __future__ import annotations

import pytest
import torch
from cloud import COUNTS, cloud
from small_taggers import CASES, NAMES, random_tagger, seen
from torch import nn

from hepml.data.batch import JetBatch
from hepml.models import registry

SHORT = ((0, 1, 2, 3, 6, 7, 8, 15, 16, 17, 39, 40, 41), (0,), (1,), (2,), (0, 0, 1), (2, 3), (2, 0))


@pytest.mark.parametrize("name", NAMES)
def test_it_is_registered_with_paper_symmetry_and_summary(name: str) -> None:
    found = registry()[name]
    assert found.paper
    assert "permutation" in found.symmetries
    assert len(found.summary) > 20


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("outputs", [1, 5])
def test_logits_have_one_row_a_jet_and_one_column_an_output(case: str, outputs: int) -> None:
    model = random_tagger(case, outputs=outputs).eval()
    with torch.no_grad():
        assert model(cloud(dtype=torch.float32)).shape == (len(COUNTS), outputs)


@pytest.mark.parametrize("case", CASES)
def test_jets_of_no_one_or_few_constituents_have_finite_scores(case: str) -> None:
    model = seen(case)
    for counts in SHORT:
        with torch.no_grad():
            assert torch.isfinite(model(cloud(counts))).all(), counts


@pytest.mark.parametrize("case", CASES)
def test_training_steps_on_short_jets_stay_finite(case: str) -> None:
    model = seen(case, torch.float32).train()
    for counts in SHORT:
        model.zero_grad()
        jets = cloud(counts, dtype=torch.float32)
        momenta = jets.four_momenta.requires_grad_()
        model(jets.with_four_momenta(momenta)).square().sum().backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in (momenta, *model.parameters())), (
            counts
        )
    assert all(torch.isfinite(b).all() for b in model.buffers())


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("training", [True, False])
def test_an_empty_batch_gives_no_rows(case: str, training: bool) -> None:
    empty = JetBatch.from_arrays(torch.zeros((0, 4)), torch.zeros(1, dtype=torch.int64))
    assert random_tagger(case).train(training)(empty).shape == (0, 2)


@pytest.mark.parametrize("case", CASES)
def test_a_score_does_not_depend_on_the_rest_of_its_batch(case: str) -> None:
    """Neither on other jets, nor on their order, nor on what the longest of them is."""
    model, batch, longest = seen(case), cloud(), cloud((90, 70), seed=9)
    joined = JetBatch.from_arrays(
        torch.cat((batch.four_momenta, longest.four_momenta)),
        torch.cat((batch.offsets, batch.offsets[-1] + longest.offsets[1:])),
    )
    with torch.no_grad():
        together = model(batch)
        alone = torch.cat([model(batch.take([i])) for i in range(len(batch))])
        backwards = model(batch.take(torch.arange(len(batch) - 1, -1, -1))).flip(0)
        crowded = model(joined)[: len(batch)]
    for other in (alone, backwards, crowded):
        # Of a lone massless constituent m² is rounding. L-GATr-slim divides by such a norm; the observables
        # behind local frames have its root, m = sqrt(epsilon) E = 1e-8 E, over a spread of 100 GeV: 5e-12 of
        # a score on one processor, and less where sums happen to be rounded alike.
        rounded = case.startswith(("lgatr_slim", "lloca around mlp"))
        torch.testing.assert_close(other, together, rtol=0, atol=1e-10 if rounded else 1e-12)
    assert together[batch.counts > 2].std(0).min() > 1e-4, "jets differ"


@pytest.mark.parametrize("case", CASES)
def test_gradients_reach_every_parameter(case: str) -> None:
    """With fixed norms too: in training, a batch norm takes what is constant in front of it away again."""
    model, batch = seen(case), cloud()
    p = batch.four_momenta.clone()
    p[:, 0] = (p.square()[:, 1:].sum(1) + 0.25).sqrt()  # masses, which some taggers read
    for training in (True, False):
        model.train(training).zero_grad()
        model(batch.with_four_momenta(p)).square().sum().backward()
        absent = {key for key, q in model.named_parameters() if q.grad is None}
        assert {key for key in absent if not _without_bivectors(case, key)} == set()
    idle = {key for key, q in model.named_parameters() if q.grad is None or float(q.grad.abs().sum()) < 1e-12}
    assert {key for key in idle if not _without_bivectors(case, key)} == set()


@pytest.mark.parametrize("case", CASES)
def test_float32_and_mixed_precision_stay_near_float64(case: str) -> None:
    """But for local frames and Minkowski norms of up to three massless constituents, which hang on rounding
    (docs/lorentz-layers.md)."""
    model, batch = seen(case), cloud(dtype=torch.float32)
    with torch.no_grad():
        exact = model(cloud())
        single = model.float()(batch)
        with torch.autocast("cpu", torch.bfloat16):
            mixed = model(batch).float()
    assert exact.dtype == torch.float64
    assert single.dtype == torch.float32
    some = batch.counts > (3 if case.startswith(("lloca", "lgatr")) else -1)
    # vectors that are moved in components lose digits, and pair features of order ten are rounded
    assert (single - exact)[some].abs().max() < (1e-3 if "components" in case else 1e-4)
    assert (mixed - exact)[some].abs().max() < (0.1 if case.startswith("part") else 0.03) * exact.abs().max()
    model.train()
    with torch.autocast("cpu", torch.bfloat16):
        model(batch).float().square().sum().backward()
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("case", CASES)
def test_it_learns_the_side_of_a_simple_boundary(case: str) -> None:
    """Wide jets against narrow ones: the loss halves in 30 steps."""
    batch = cloud([14] * 48, dtype=torch.float32, spread=[0.1, 0.3] * 24)
    model = random_tagger(case).train()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses: list[float] = []
    while len(losses) < 30 and (not losses or losses[-1] > 0.5 * losses[0]):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(batch), batch.labels)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0], losses


def _without_bivectors(case: str, key: str) -> bool:
    """Whether the parameter acts on bivectors before the first product has made any."""
    return (
        case.partition(",")[0] == "lgatr"
        and key.endswith(".bivectors")
        and key.startswith(("embed.", "blocks.0."))
    )

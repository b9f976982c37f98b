"""A model that was reported comes back from MLflow with the same scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hepml import models, objectives, tracking
from hepml.data.batch import JetBatch
from hepml.data.features import resolve
from hepml.tracking import packaging
from hepml.tracking.pyfunc import PackagedModel


def jets(
    counts: list[int], seed: int = 0, features: tuple[str, ...] = (), jet_features: tuple[str, ...] = ()
) -> JetBatch:
    """Random massless constituents of a jet along x, packed."""
    rng = np.random.default_rng(seed)
    n = sum(counts)
    momenta = rng.normal((30.0, 0.0, 0.0), 5.0, (n, 3))
    energy = np.linalg.norm(momenta, axis=1, keepdims=True)
    return JetBatch.from_arrays(
        np.concatenate([energy, momenta], axis=1).astype(np.float32),
        np.concatenate([[0], np.cumsum(counts)]),
        rng.normal(size=(n, len(features))).astype(np.float32) if features else None,
        feature_names=features,
        jet_features=rng.uniform(1, 100, (len(counts), len(jet_features))).astype(np.float32)
        if jet_features
        else None,
        jet_feature_names=jet_features,
    )


def arrays(batch: JetBatch) -> dict[str, Any]:
    return {"four_momenta": batch.four_momenta.numpy(), "offsets": batch.offsets.numpy()}


def test_mlflow_loads_the_model_with_its_signature_and_the_same_scores(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    torch.manual_seed(1)
    model = models.create("pfn", outputs=2)
    batch = jets([12, 1, 30, 5, 8, 44])
    model.train()
    tracker = tracking.start(tmp_path / "run", uri=store, system_interval=0)
    tracker.model(
        model, batch, objective=objectives.objective("categorical", classes=2), classes=["qcd", "top"]
    )
    assert tracker.finish() is None
    assert model.training  # the training goes on as it was

    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)  # unlike set_tracking_uri, ends with this test
    loaded = mlflow.pyfunc.load_model(f"runs:/{tracker.run_id}/model")
    signature = loaded.metadata.signature
    assert signature.inputs.input_names() == ["four_momenta", "offsets"]
    assert signature.outputs.to_dict() == [
        {"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": (-1, 2)}}
    ]
    with torch.inference_mode():
        expected = torch.softmax(model.eval()(batch), dim=-1).numpy()
    np.testing.assert_allclose(loaded.predict(arrays(batch)), expected, rtol=0, atol=1e-6)
    experiment = mlflow.get_run(tracker.run_id).info.experiment_id
    (registered,) = mlflow.search_logged_models(experiment_ids=[experiment], output_format="list")
    assert (registered.name, registered.source_run_id, registered.status.value) == (
        "pfn",
        tracker.run_id,
        "READY",
    )
    again = mlflow.pyfunc.load_model(f"models:/{registered.model_id}")
    np.testing.assert_array_equal(again.predict(arrays(batch)), loaded.predict(arrays(batch)))
    requirements = Path(
        mlflow.artifacts.download_artifacts(f"runs:/{tracker.run_id}/model/requirements.txt")
    ).read_text()
    assert requirements.startswith("hepml-jets==")


@pytest.mark.parametrize(
    "objective", ["bernoulli", "categorical", {"name": "gaussian", "centre": 80.0, "width": 10.0}]
)
def test_every_objective_comes_back(tmp_path: Path, objective: Any) -> None:
    name = objective if isinstance(objective, str) else objective["name"]
    head = objectives.objective(
        name, **({} if isinstance(objective, str) else {"centre": 80.0, "width": 10.0})
    )
    model = models.create("pfn", outputs=head.outputs).eval()
    batch = jets([3, 9, 20])
    packaging.save(tmp_path / "by-name", model, batch, objective=objective)
    packaging.save(tmp_path / "by-instance", model, batch, objective=head)
    with torch.inference_mode():
        expected = head.activation(model(batch)).numpy()
    for folder in ("by-name", "by-instance"):
        np.testing.assert_allclose(
            PackagedModel(tmp_path / folder).predict(arrays(batch)), expected, rtol=1e-6
        )
        example = np.load(tmp_path / folder / "example.npz")
        np.testing.assert_allclose(example["scores"], expected, rtol=1e-6)


def test_features_that_do_not_follow_from_four_momenta_are_part_of_the_signature(tmp_path: Path) -> None:
    names = tuple(resolve("full"))
    model = models.create("pfn", outputs=2, features="full").eval()
    batch = jets([4, 7], features=names)
    packaging.save(tmp_path / "model", model, batch, objective="categorical")
    packaged = PackagedModel(tmp_path / "model")
    signature = packaging._signature(packaged.description)
    assert signature.inputs.input_names() == ["four_momenta", "offsets", "features"]
    assert batch.features is not None
    given = {**arrays(batch), "features": batch.features.numpy()}
    with torch.inference_mode():
        expected = torch.softmax(model(batch), dim=-1).numpy()
    np.testing.assert_allclose(packaged.predict(given), expected, rtol=0, atol=1e-6)


def test_only_the_leading_constituents_are_kept() -> None:
    batch = jets([5, 0, 2, 9], seed=3)
    cut = batch.leading(3)
    assert cut.counts.tolist() == [3, 0, 2, 3]
    pt = batch.four_momenta[:, 1:3].norm(dim=1)
    for jet in range(4):
        own = pt[batch.offsets[jet] : batch.offsets[jet + 1]]
        kept = torch.topk(own, 3).indices if len(own) > 3 else torch.arange(len(own))
        expected = batch.four_momenta[batch.offsets[jet] : batch.offsets[jet + 1]][kept]
        torch.testing.assert_close(cut.four_momenta[cut.offsets[jet] : cut.offsets[jet + 1]], expected)


def test_a_module_of_unknown_origin_is_refused(tmp_path: Path) -> None:
    from hepml.errors import TrackingError

    with pytest.raises(TrackingError, match=r"hepml\.models\.create"):
        packaging.save(tmp_path / "model", torch.nn.Linear(2, 2), jets([3]))

"""More than two classes: one-vs-one, one-vs-rest, confusion, and JetClass's rejections."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from hepml.errors import ConfigError, DataError
from hepml.evaluation import (
    background_rejection,
    confusion_matrix,
    discriminant,
    evaluate,
    one_vs_one_auc,
    one_vs_rest_auc,
)

JETCLASS = ("QCD", "Hbb", "Hcc", "Hgg", "H4q", "Hqql", "Zqq", "Wqq", "Tbqq", "Tbl")


def jets(count: int, classes: int, seed: int = 0, separation: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and softmax scores [N, C] of a tagger that knows something."""
    generator = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    logits = generator.normal(size=(count, classes))
    logits[np.arange(count), labels] += separation
    odds = np.exp(logits)
    return labels, odds / odds.sum(axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(3, 5), st.integers(1, 4))
def test_one_vs_one_and_one_vs_rest_equal_scikit_learn_with_ties(
    seed: int, classes: int, digits: int
) -> None:
    labels, scores = jets(60, classes, seed)
    rounded = np.round(scores, digits) + 1e-9
    rounded /= rounded.sum(axis=1, keepdims=True)
    expected = metrics.roc_auc_score(labels, rounded, multi_class="ovo", average="macro")
    assert one_vs_one_auc(labels, rounded) == pytest.approx(expected, abs=1e-12)
    rest = one_vs_rest_auc(labels, rounded)
    expected = metrics.roc_auc_score(labels, rounded, multi_class="ovr", average=None)
    assert [rest[k] for k in range(classes)] == pytest.approx(list(expected), abs=1e-12)


def test_a_jet_of_weight_n_counts_as_n_jets() -> None:
    labels, scores = jets(90, 3)
    n = np.random.default_rng(1).integers(1, 5, 90)
    repeated = np.repeat(labels, n), np.repeat(scores, n, axis=0)
    assert one_vs_one_auc(labels, scores, n) == pytest.approx(one_vs_one_auc(*repeated), abs=1e-12)
    assert one_vs_rest_auc(labels, scores, n) == pytest.approx(one_vs_rest_auc(*repeated), abs=1e-12)
    np.testing.assert_allclose(confusion_matrix(labels, scores, n), confusion_matrix(*repeated))
    assert evaluate(labels, scores, n)["accuracy"] == pytest.approx(
        evaluate(*repeated)["accuracy"], abs=1e-12
    )


def test_the_confusion_matrix_equals_scikit_learn() -> None:
    labels, scores = jets(300, 4)
    ours = confusion_matrix(labels, scores)
    np.testing.assert_allclose(
        ours, metrics.confusion_matrix(labels, scores.argmax(axis=1), normalize="true")
    )
    counts = confusion_matrix(labels, scores, normalise=False)
    np.testing.assert_array_equal(counts, metrics.confusion_matrix(labels, scores.argmax(axis=1)))


def test_the_discriminant_is_the_pair_probability_and_zero_where_nothing_speaks_for_the_signal() -> None:
    scores = np.array([[0.2, 0.6, 0.2], [0.0, 0.0, 1.0], [0.5, 0.0, 0.5]])
    np.testing.assert_allclose(discriminant(scores, 1, 0), [0.75, 0.0, 0.0])


def test_jetclass_rejections_are_quoted_at_their_own_working_points_on_pairs_of_classes() -> None:
    labels, scores = jets(4000, 10)
    names = [f"label_{name}" for name in JETCLASS]
    report = evaluate(labels, scores, classes=names)
    points = {
        name.removeprefix("label_"): list(row.get("rejection", {})) for name, row in report["classes"].items()
    }
    assert points["QCD"] == []
    assert points["Hqql"] == ["0.99"]
    assert points["Tbl"] == ["0.995"]
    assert all(points[name] == ["0.5"] for name in JETCLASS if name not in ("QCD", "Hqql", "Tbl"))
    pair = (labels == 0) | (labels == 5)
    expected = background_rejection(
        labels[pair] == 5, scores[pair, 5] / (scores[pair, 5] + scores[pair, 0]), signal_efficiency=0.99
    )
    found = report["classes"]["label_Hqql"]["rejection"]["0.99"]
    assert (found["value"], found["error"]) == pytest.approx((expected.value, expected.error))


def test_a_report_of_many_classes_has_the_keys_of_one_of_two() -> None:
    labels, scores = jets(600, 4)
    report = evaluate(labels, scores, classes=["b", "c", "uds", "g"], signal="b", background="uds")
    assert {"jets", "accuracy", "accuracy_error", "auc", "auc_error", "rejection"} <= report.keys()
    assert set(report["rejection"]) == {"0.3", "0.5"}
    assert (report["signal"], report["background"]) == ("b", "uds")
    assert report["classes"]["b"]["rejection"] == report["rejection"]


def test_the_background_is_the_class_called_so_wherever_it_stands() -> None:
    labels, scores = jets(600, 3)
    assert evaluate(labels, scores, classes=["Hbb", "QCD", "Tbqq"])["background"] == "QCD"
    assert evaluate(labels, scores, classes=["b", "c", "g"])["background"] == "b"


def test_classes_without_jets_are_named() -> None:
    labels, scores = jets(600, 4)
    some = labels != 2
    report = evaluate(labels[some], scores[some], classes=["b", "c", "uds", "g"])
    assert report["absent_classes"] == ["uds"]
    assert set(report["classes"]) == {"b", "c", "g"}
    assert report["auc"] == pytest.approx(one_vs_one_auc(labels[some], scores[some]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y, p: (np.where(y == 2, 7, y), p),
        "20 of 60 labels are not a class index 0 … 2, the first is 7 of jet 2"),
        (lambda y, p: (y + 0.5, p), "60 of 60 labels are not a class index"),
        (lambda y, p: (y * 0, p), "all 60 jets are of class 0, one class only"),
        (lambda y, p: (y, np.log(p)), "60 of 60 jets have negative class scores"),
        (lambda y, p: (y, np.where(np.arange(60)[:, None] == 4, np.nan, p)),
        "1 of 60 scores are NaN or infinite, the first is of jet 4"),
        (lambda y, p: (y[:-1], p), "59 labels but 60 scores"),
        (lambda y, p: (np.eye(3)[y], p), "labels have shape [60, 3]"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated_is_refused(change: object, message: str) -> None:
    labels, scores = change(*jets(60, 3))  # type: ignore[operator]
    with pytest.raises(DataError) as error:
        evaluate(labels, scores)
    assert message in str(error.value)


def test_an_unknown_class_is_refused_with_the_nearest() -> None:
    labels, scores = jets(60, 3)
    with pytest.raises(ConfigError, match="did you mean 'Tbqq'"):
        evaluate(labels, scores, classes=["QCD", "Hbb", "Tbqq"], signal="Tbq")
    with pytest.raises(DataError, match="class QCD is both signal and background"):
        evaluate(labels, scores, classes=["QCD", "Hbb", "Tbqq"], signal="QCD")
    with pytest.raises(DataError, match="2 class names for scores of 3 classes"):
        evaluate(labels, scores, classes=["QCD", "Hbb"])


def test_a_signal_and_a_background_of_several_classes_are_sums_of_scores_on_their_jets() -> None:
    generator = np.random.default_rng(3)
    labels, scores = generator.integers(0, 4, 4000), generator.dirichlet([1.0] * 4, 4000)
    names = ["b", "c", "uds", "g"]
    report = evaluate(labels, scores, classes=names, signal=["b"], background=["c", "g"])
    assert (report["signal"], report["background"]) == ("b", "c + g")
    chosen = np.isin(labels, [0, 1, 3])
    score = scores[:, 0] / (scores[:, 0] + scores[:, 1] + scores[:, 3])
    plain = evaluate((labels == 0)[chosen].astype(int), score[chosen])
    assert report["rejection"]["0.5"]["value"] == pytest.approx(plain["rejection"]["0.5"]["value"])
    assert report["classes"]["g"]["rejection"]["0.5"]["value"] > 1
    with pytest.raises(DataError, match="class c is both signal and background"):
        evaluate(labels, scores, classes=names, signal=["b", "c"], background=["c", "g"])

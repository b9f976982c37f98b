"""Names and values reach MLflow in a form that it accepts."""

from __future__ import annotations

import pytest

from hepml.tracking import names


def test_nested_parameters_are_flattened() -> None:
    nested = {
        "model": {"name": "pfn", "hidden": [100, 100], "dropout": None, "extra": {}},
        "lr": 0.1,
        "inf": float("inf"),
    }
    assert names.flatten(nested) == {
        "model.name": "pfn",
        "model.hidden": "[100, 100]",
        "model.dropout": "null",
        "model.extra": "{}",
        "lr": "0.1",
        "inf": "inf",
    }


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_loss", "val_loss"),
        ("1/eps_B@0.3", "1/eps_B_0.3"),
        ("test//auc", "test/auc"),
        ("/auc", "auc"),
        ("../auc", "_auc"),
        ("", "_"),
        ("ε", "ε"),
        ("a" * 300, "a" * 250),
    ],
)
def test_names_are_made_acceptable(name: str, expected: str) -> None:
    assert names.accepted(name) == expected


@pytest.mark.parametrize("name", ["1/eps_B@0.3", "a//b/../c", "/", "..", ".", "ε_S = 0.3 %", "x" * 400])
def test_mlflow_accepts_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(names.accepted(name))


def test_a_long_value_is_cut_visibly() -> None:
    assert names.cut("abcdef", 6) == "abcdef"
    assert names.cut("abcdefg", 6) == "abcde…"

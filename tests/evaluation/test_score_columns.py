"""Columns of score files that are named twice, or hold half a label, are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from hepml.errors import DataError, LayoutError
from hepml.evaluation.score_files import read_scores


def test_score_columns_that_are_named_twice_or_have_half_a_label_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("label,score_a,score_a,score_b\n0,0.5,0.3,0.2\n1,0.1,0.1,0.8\n")
    with pytest.raises(LayoutError, match="two columns are called 'score_a'"):
        read_scores(path)
    path.write_text("score_a,score_b,a,b\n0.1,0.9,0.5,0\n0.1,0.9,0,1\n")
    with pytest.raises(DataError, match="not of exactly one of the classes"):
        read_scores(path)

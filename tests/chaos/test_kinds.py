"""Every kind of odd or bad input is read right, dropped and counted, or refused, in every format; and the
page says so."""

from __future__ import annotations

import pytest
from chaos import count, kinds


@pytest.mark.parametrize(
    "name",
    [
        "TTree",
        "npz",
        pytest.param("RNTuple", marks=pytest.mark.slow),
        pytest.param("Parquet", marks=pytest.mark.slow),
    ],
)
def test_no_kind_of_input_is_read_wrongly(name: str) -> None:
    found, wrong = count.count_kinds([name])
    assert not wrong, "\n".join(wrong)
    assert sum(c.total() for c in found.values()) > 60


def test_the_page_counts_the_kinds_that_are_tried() -> None:
    tried = sum(1 for _ in kinds.cases())
    page = count.PAGE.read_text().partition("<!-- kinds:")[2].partition("<!-- end of kinds")[0]
    assert f"| **all** | {tried:,} |" in page
    for kind, _ in kinds.cases():
        assert f"| {kind.group} |" in page


@pytest.mark.slow
def test_the_page_says_what_became_of_them() -> None:
    found, _ = count.count_kinds()
    assert count.kinds_table(found) in count.PAGE.read_text()

"""Small random samples for hypothesis: both classes present, many equal scores."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]


@st.composite
def samples(draw: st.DrawFn, negative_weights: bool = False) -> Sample:
    """Labels 0 or 1, scores from nine values, weights (small whole numbers, or floats of either sign with
    positive sums); each [N]."""
    jets = draw(st.integers(2, 40))
    labels = np.array(
        draw(st.lists(st.integers(0, 1), min_size=jets, max_size=jets).filter(lambda y: 0 < sum(y) < len(y)))
    )
    scores = draw(st.lists(st.sampled_from(np.linspace(-1, 2, 9).tolist()), min_size=jets, max_size=jets))
    one = st.floats(-0.3, 3.0) if negative_weights else st.integers(1, 4)
    weights = np.array(draw(st.lists(one, min_size=jets, max_size=jets)), dtype=float)
    assume(min(weights[labels == 1].sum(), weights[labels == 0].sum()) > 1e-2)
    return labels, np.array(scores), weights

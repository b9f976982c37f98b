"""A model that has predicted can be trained: nothing that it keeps was made in inference mode."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import torch
from hepml.models import create, registry
from hepml.testing import sample_jets

jets = sample_jets(jets=3).to(torch.float32)
for name in sorted(registry()):
    model = create(name).eval()
    with torch.inference_mode():
        model(jets.to(torch.float32))
    try:
        model.train()(jets).sum().backward()
    except RuntimeError as problem:
        raise SystemExit(f"{name}: {problem}")
print("trained after a prediction:", len(registry()))
"""


def test_every_model_can_be_trained_after_a_prediction() -> None:
    """In a process of its own, where no earlier test has filled what models keep."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "trained after a prediction" in done.stdout

"""The table of `docs/symmetry.md`: relative deviation against gamma for registered taggers at full size.

Run by name: `python tests/benchmarks/symmetry_table.py lgn pelican --float32` prints a row a model, `--set key=value` changes
hyperparameters of all, no names take the whole register. Weights and batch-norm statistics are random, jets are 8 of massless constituents,
and each gamma has 3 random directions.
"""

from __future__ import annotations

import argparse
import math

import torch
import yaml
from torch import nn

from hepml.models import create, registry
from hepml.testing import measure

GAMMAS = (1.5, 10.0, 100.0, 1000.0, 4000.0, 1e5)


def random_model(name: str, **hyperparameters: object) -> nn.Module:
    torch.manual_seed(7)
    model = create(name, **hyperparameters)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.2)
    return model


def row(name: str, dtype: torch.dtype, **hyperparameters: object) -> str:
    found = measure(random_model(name, **hyperparameters), "lorentz", gammas=GAMMAS, dtype=dtype)
    words = "".join(f", `{key}: {value}`" for key, value in hyperparameters.items())
    precision = ", float32" if dtype == torch.float32 else ""
    return f"| {name}{words}{precision} | " + " | ".join(_short(found.by_gamma[g]) for g in (1.0, *GAMMAS)) + " |"


def _short(x: float) -> str:
    return f"{x:.0e}" if x < 1 else f"{x:.{max(0, -math.floor(math.log10(x)))}f}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--float32", action="store_true", help="float32 as well as float64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    changed = {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in arguments.set)}
    for tagger in arguments.names or registry():
        for dtype in (torch.float64, torch.float32)[: 1 + arguments.float32]:
            print(row(tagger, dtype, **changed), flush=True)

"""The table and the plot of `docs/symmetry.md`: relative deviation against gamma for registered taggers at
full size.

Run by name: `python tests/benchmarks/symmetry_table.py --page --plot docs/symmetry.png` makes all of the
page: each registered tagger, in float32 too where it declares Lorentz symmetry, the settings named in
`SETTINGS`, and published weights where they are at hand. `lgn pelican --float32` prints a row a model, `--set
key=value` changes hyperparameters of all, no names take the whole register. Weights and batch-norm statistics
are random, jets are 8 of massless constituents, and each gamma has 3 random directions.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import nn

from hepml import pretrained
from hepml.models import create, registry
from hepml.testing import measure

GAMMAS = (1.5, 10.0, 100.0, 1000.0, 4000.0, 1e5)
# Settings whose deviation the page discusses, beside the defaults.
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "lgatr": ({"references": ["lightlike_beam", "time"]},),
    "lgatr_slim": ({"references": ["lightlike_beam", "time"]},),
    "lgn": ({"scale": 0.05}, {"frame": "lab"}, {"references": ["beam"]}),
    "lloca": ({"references": ["lightlike_beam", "time"]},),
    "lloca_transformer": ({"balanced": False}, {"references": ["lightlike_beam", "time"]}),
    "lorentznet": ({"vectors": "components"}, {"references": ["beam"]}),
    "pelican": ({"references": ["lightlike_beam"]},),
}
IN_FLOAT32 = ("{}", "{'vectors': 'components'}", "{'frame': 'lab'}")  # settings measured in float32 as well
WEIGHTS = {
    "published LorentzNet weights": "lorentznet_toptag.pt",
    "published ParticleNet (JetClass) weights": "particlenet_jetclass_kin.pt",
}
COLOURS = (
    "#1f77b4",
    "#ff7f0e",
    "#2ca02c",
    "#d62728",
    "#9467bd",
    "#8c564b",
    "#e377c2",
    "#17becf",
    "#bcbd22",
    "#000000",
)
SHARED = Path(__file__).resolve().parents[3] / "shared/reference/weights"


@dataclass(frozen=True)
class Row:
    """Deviations of one model: under rotations, then at each of `GAMMAS`."""

    name: str
    words: str
    deviations: tuple[float, ...]
    equivariant: bool

    def __str__(self) -> str:
        name = f"**{self.name}**" if self.equivariant and not self.words else self.name
        cells = [_short(x) for x in self.deviations]
        if name != self.name:
            cells[1 + GAMMAS.index(4000.0)] = f"**{cells[1 + GAMMAS.index(4000.0)]}**"
        return f"| {name}{self.words} | " + " | ".join(cells) + " |"


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


def row(name: str, dtype: torch.dtype = torch.float64, **hyperparameters: object) -> Row:
    """Of a registered tagger with these hyperparameters."""
    words = "".join(f", `{key}: {_written(value)}`" for key, value in hyperparameters.items())
    precision = ", float32" if dtype == torch.float32 else ""
    lorentz = "lorentz" in registry()[name].symmetries
    return Row(name, words + precision, _deviations(random_model(name, **hyperparameters), dtype), lorentz)


def page() -> Iterator[Row]:
    """Every row of the page: taggers that declare Lorentz symmetry first."""
    entries = registry()
    for name in sorted(entries, key=lambda name: ("lorentz" not in entries[name].symmetries, name)):
        lorentz = "lorentz" in entries[name].symmetries
        for setting in ({}, *SETTINGS.get(name, ())):
            yield row(name, **setting)
            if lorentz and str(setting) in IN_FLOAT32:
                yield row(name, torch.float32, **setting)
    for words, file in WEIGHTS.items():
        if (SHARED / file).exists():
            yield Row(words, "", _deviations(pretrained.load(SHARED / file), torch.float64), False)


def plot(rows: Sequence[Row], path: Path) -> None:
    """One curve a tagger, by default and in float64: those that declare Lorentz symmetry in colour below,
    others in grey above."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chosen = [r for r in rows if not r.words and r.name in registry()]
    figure, axes = plt.subplots(2, 1, sharex=True, figsize=(8.5, 9), height_ratios=(1.15, 1))
    colours = iter(COLOURS)
    for axis, equivariant in zip(axes, (False, True), strict=True):
        curves = {r: next(colours) if equivariant else "0.6" for r in chosen if r.equivariant == equivariant}
        for r, colour in curves.items():
            width = 1.6 if equivariant else 0.8
            axis.loglog((1.0, *GAMMAS), r.deviations, marker=".", ms=4, color=colour, lw=width)
        axis.set_xlim(0.8, GAMMAS[-1])
        axis.set_ylim(*((1e-17, 1e-7) if equivariant else (2e-4, 1e6)))
        _labels(axis, curves)
        axis.set_ylabel("relative deviation of the score")
        axis.grid(alpha=0.25, lw=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.axvline(4000, color="0.8", lw=0.8, ls=":", zorder=0)
    axes[1].axhline(1e-9, color="0.8", lw=0.8, ls=":", zorder=0)
    axes[0].set_title("not Lorentz-equivariant", loc="left", fontsize=10)
    axes[1].set_title("Lorentz-equivariant", loc="left", fontsize=10)
    axes[1].set_xlabel("Lorentz factor of the boost (1: a rotation)")
    figure.subplots_adjust(left=0.09, right=0.8, top=0.96, bottom=0.06, hspace=0.12)
    figure.savefig(path, dpi=80, bbox_inches="tight")  # labels may stand outside
    plt.close(figure)


def _labels(axis: Any, curves: Mapping[Row, Any]) -> None:
    """Names at the right end of their curves, moved apart, with a line to the curve where they were moved."""
    low, high = (math.log10(y) for y in axis.get_ylim())
    ordered = sorted(curves, key=lambda r: r.deviations[-1])
    wanted = [(math.log10(max(r.deviations[-1], 1e-17)) - low) / (high - low) for r in ordered]
    gap = 0.95 / max(len(curves), 20)
    up: list[float] = []
    down: list[float] = []
    for y in wanted:  # as near as they fit, from below and from above
        up.append(max(y, up[-1] + gap) if up else y)
    for y in reversed(wanted):
        down.append(min(y, down[-1] - gap) if down else y)
    placed = [(a + b) / 2 for a, b in zip(up, reversed(down), strict=True)]
    placed = [at + max(0.0, 0.01 - placed[0]) for at in placed]
    for r, y, at in zip(ordered, wanted, placed, strict=True):
        axis.annotate(
            r.name,
            (1.0, y),
            (1.06, at),
            xycoords="axes fraction",
            fontsize=8,
            va="center",
            color=curves[r] if r.equivariant else "0.25",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "lw": 0.5,
                "color": curves[r],
                "shrinkA": 1,
                "shrinkB": 0,
                "relpos": (0, 0.5),
            },
        )


def _deviations(model: nn.Module, dtype: torch.dtype) -> tuple[float, ...]:
    found = measure(model, "lorentz", gammas=GAMMAS, dtype=dtype)
    return tuple(found.by_gamma[g] for g in (1.0, *GAMMAS))


def _written(value: object) -> str:
    return (
        f"[{', '.join(map(str, value))}]" if isinstance(value, list | tuple) else json.dumps(value).strip('"')
    )


def _short(x: float) -> str:
    return f"{float(f'{x:.0e}'):g}" if 0.95 <= x < 1000 else f"{x:.0e}"


def _changed(pairs: Sequence[str]) -> Mapping[str, object]:
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*")
    parser.add_argument("--float32", action="store_true", help="float32 as well as float64")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--page", action="store_true", help="all rows of docs/symmetry.md")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw what was measured")
    arguments = parser.parse_args()
    dtypes = (torch.float64, torch.float32)[: 1 + arguments.float32]
    names = arguments.names or registry()
    each = (row(name, dtype, **_changed(arguments.set)) for name in names for dtype in dtypes)
    measured = []
    for made in page() if arguments.page else each:
        print(made, flush=True)
        measured.append(made)
    if arguments.plot:
        plot(measured, arguments.plot)

"""Jets, weights and scores of others that some tests compare with, and where each can be had.

They are looked for in one place, `shared/` beside the checkout or the folder that HEPML_SHARED names. A test
that needs one that is absent is skipped with the lines that make it run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_COFFEA = "curl -L https://raw.githubusercontent.com/scikit-hep/coffea"

# file of the folder -> the line that brings it there; {} is the folder of the file
SOURCES = {
    "reference/weights/lorentznet_toptag.pt": "hepml pretrained fetch lorentznet_toptag -o {}",
    "reference/weights/particlenet_jetclass_kin.pt": "hepml pretrained fetch particlenet_jetclass_kin -o {}",
    "data/toptag/train.root": "hepml generate toptag --jets 24000 -o {}/train.root",
    "data/real/toptag_reference_1000.npz": "github.com/tim-legge/Interpreting-Particle-Transformers",
    "data/real/quarkgluon_reference_1000.npz": "github.com/tim-legge/Interpreting-Particle-Transformers",
    "data/real/jetclass_500.npz": "github.com/tim-legge/Interpreting-Particle-Transformers",
    "data/root/jetclass2_100jets.root": "curl -L https://raw.githubusercontent.com/jet-universe/sophon/main"
    "/notebooks/JetClassII_example.root -o {}/jetclass2_100jets.root",
    "data/root/cms_deepjet_ttbar_7199jets.root": "github.com/DL4Jets/DeepJet, its example ntuple",
    "data/root/cms_pfnano_10events.root": f"{_COFFEA}/3c38ab09090044830368fd7ea9b1d857cb13a993"
    "/tests/samples/pfnano.root -o {}/cms_pfnano_10events.root",
    "data/root/atlas_physlite_100events.root": "github.com/scikit-hep/coffea, tests/samples",
    "data/root/delphes_25events.root": "github.com/scikit-hep/coffea, tests/samples",
    "data/root/broken_delphes.root": f"{_COFFEA}/31bec5c404c5d622671ce950bf30f5e776ed48f8"
    "/tests/samples/bad_delphes.root -o {}/broken_delphes.root",
    "reference/cms_particlenet_ak4_hlt": "github.com/cms-data, its AK4 ParticleNet of the HLT",
    "reference/scores/toptag_test_scores.npz": "",
    "reference/golden_lorentznet_toptag.npz": "",
    "data/real/toptag_reference_lorentznet_logits.npz": "",
}
_OURS = "of the project's own machines; it is published nowhere"


class ReferenceFolder(type(Path())):  # type: ignore[misc]
    """A path in the folder; `/` on the way to a known file that is absent skips the test, and a file that is
    not known fails it wherever it is run, so that no clone is the first to miss it."""

    def __truediv__(self, name: str | os.PathLike[str]) -> ReferenceFolder:
        below = super().__truediv__(name)
        if not below.is_relative_to(FOLDER):
            return below
        inner = below.relative_to(FOLDER)
        known = next((at.as_posix() for at in (inner, *inner.parents) if at.as_posix() in SOURCES), None)
        if known is None and inner.suffix:
            raise LookupError(f"{inner} is not in SOURCES of {__file__}: say where it can be had")
        if known is not None and not below.exists():
            pytest.skip(line_for(known))
        return below


FOLDER = ReferenceFolder(os.environ.get("HEPML_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def line_for(name: str) -> str:
    """What to do so that tests which need this file run."""
    place = Path(FOLDER) / name
    how = SOURCES[name].format(place.parent) or _OURS
    if not how.startswith(("hepml ", "curl ")):
        return f"{place} is absent: {how}"
    folder = "" if place.parent.is_dir() else f"mkdir -p {place.parent} && "
    return f"{place.name} is absent; this test runs after: {folder}{how}"

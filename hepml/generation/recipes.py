"""What can be generated: each recipe names its processes, their slices in pT-hat, and which jet of an event
is kept.

The hard process falls steeply with its transverse momentum pT-hat, and jets of the window come from a wide
range of it: a cut throws away the busier ones. So the whole range that feeds the window is sampled in slices,
a chosen number of events in each, and jets carry weights that undo the choice. The numbers of events follow
cross-section × sqrt(acceptance / cost), which gives the smallest variance for the time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from hepml.errors import ConfigError, did_you_mean
from hepml.generation.jets import Selection
from hepml.generation.veto import PartonWindow

_W_TO_QUARKS = ("24:onMode = off", "24:onIfAny = 1 2 3 4 5")
_Z_TO_QUARKS = ("23:onMode = off", "23:onIfAny = 1 2 3 4 5")
_Z_TO_NEUTRINOS = ("23:onMode = off", "23:onIfAny = 12 14 16")
_W_TO_LEPTONS = ("24:onMode = off", "24:onIfAny = 11 13")
_TOPS = ("Top:gg2ttbar = on", "Top:qqbar2ttbar = on", *_W_TO_QUARKS)
# the top mass that Pythia had by default when the reference jets were made (8.2; 173 GeV since 8.3)
_REFERENCE_TOP_MASS = ("6:m0 = 171.0",)


@dataclass(frozen=True)
class Slice:
    """A range of pT-hat in GeV and its share of a chunk's events (those that the early veto lets pass).

    Examples:
        >>> part = hepml.generation.Slice(200.0, 300.0, 0.5)
        >>> part.share
        0.5
    """

    low: float
    high: float
    share: float


@dataclass(frozen=True)
class Process:
    """One class of jets.

    `name` is the class, as in the JetClass label that it sets in the file; `settings` are lines for Pythia;
    `resonance` the |PDG number| of what decays into the jet, or None.

    Examples:
        >>> hepml.generation.recipes()['toptag'].processes[0].resonance
        6
    """

    name: str
    settings: tuple[str, ...]
    resonance: int | None
    selection: Selection
    slices: tuple[Slice, ...]

    @property
    def parton_window(self) -> PartonWindow:
        """When to give an event up early."""
        return PartonWindow.around(self.selection.pt_min, self.selection.pt_max, self.resonance)


@dataclass(frozen=True)
class Recipe:
    """A data set: its classes in equal numbers, and whether multiple interactions are simulated unless the
    user says otherwise.

    Examples:
        >>> hepml.generation.recipes()['toptag'].multiple_interactions
        True
    """

    name: str
    description: str
    processes: tuple[Process, ...]
    multiple_interactions: bool


def recipes() -> dict[str, Recipe]:
    """Every recipe by name.

    Examples:
        >>> [process.name for process in hepml.generation.recipes()['toptag'].processes]
        ['Tbqq', 'QCD']
    """
    return dict(_RECIPES)


def find_recipe(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ConfigError: there is none; the message names the nearest.
    """
    if name not in _RECIPES:
        raise ConfigError(f"unknown recipe '{name}'", mend=did_you_mean(name, _RECIPES, noun="recipes"))
    return _RECIPES[name]


def _slices(*triples: tuple[float, float, float]) -> tuple[Slice, ...]:
    total = sum(share for _, _, share in triples)
    return tuple(Slice(low, high, share / total) for low, high, share in triples)


_TOPTAG_JET = Selection("leading", 550.0, 650.0)
_TOPTAG = Recipe(
    "toptag",
    "hadronic tops against QCD jets as in the top-tagging reference data set: 550 < pT < 650 GeV, |eta| < 2",
    (
        Process(
            "Tbqq",
            (*_TOPS, *_REFERENCE_TOP_MASS),
            6,
            replace(_TOPTAG_JET, partons=3),
            _slices(
                (80, 200, 0.012), (200, 320, 0.08), (320, 420, 0.13), (420, 520, 0.25),
                (520, 600, 0.30), (600, 700, 0.17), (700, 900, 0.03),
            ),
        ),
        Process(
            "QCD",
            ("HardQCD:all = on",),
            None,
            _TOPTAG_JET,
            _slices(
                (200, 300, 0.01), (300, 380, 0.10), (380, 450, 0.17), (450, 520, 0.25),
                (520, 600, 0.30), (600, 700, 0.14), (700, 900, 0.03),
            ),
        ),
    ),
    multiple_interactions=True,
)  # fmt: skip

_JETCLASS_JET = Selection("leading", 500.0, 1000.0)
_BOSON_SLICES = _slices(
    (300, 450, 0.1), (450, 550, 0.35), (550, 700, 0.33), (700, 1000, 0.2), (1000, 1300, 0.02)
)
_HIGGS = ("HiggsSM:ffbar2HZ = on", "25:onMode = off", *_Z_TO_NEUTRINOS)
_TWO_PRONGS = replace(_JETCLASS_JET, pick="resonance", partons=2)
_JETCLASS = Recipe(
    "jetclass",
    "six of the JetClass classes: H->bb, H->gg, W->qq, Z->qq, t->bqq and QCD, 500 < pT < 1000 GeV, |eta| < 2",
    (
        Process("Hbb", (*_HIGGS, "25:onIfAny = 5"), 25, _TWO_PRONGS, _BOSON_SLICES),
        Process("Hgg", (*_HIGGS, "25:onIfAny = 21"), 25, _TWO_PRONGS, _BOSON_SLICES),
        Process(
            "Wqq",
            ("WeakDoubleBoson:ffbar2ZW = on", *_Z_TO_NEUTRINOS, *_W_TO_QUARKS),
            24,
            _TWO_PRONGS,
            _BOSON_SLICES,
        ),
        Process(
            "Zqq",
            ("WeakDoubleBoson:ffbar2ZW = on", *_Z_TO_QUARKS, *_W_TO_LEPTONS),
            23,
            _TWO_PRONGS,
            _BOSON_SLICES,
        ),
        Process(
            "Tbqq",
            _TOPS,
            6,
            replace(_JETCLASS_JET, pick="resonance", partons=3),
            _slices((200, 350, 0.1), (350, 450, 0.15), (450, 550, 0.33), (550, 700, 0.28), (700, 1000, 0.14)),
        ),
        Process(
            "QCD",
            ("HardQCD:all = on",),
            None,
            _JETCLASS_JET,
            _slices((300, 400, 0.14), (400, 500, 0.38), (500, 600, 0.3), (600, 750, 0.14), (750, 1100, 0.04)),
        ),
    ),
    multiple_interactions=True,
)

_RECIPES = {recipe.name: recipe for recipe in (_TOPTAG, _JETCLASS)}

"""Published figures of other taggers on the reference data sets, as data, to stand beside ours in a table.

Only figures that were read in a paper or its repository (`read`) or in a transcription of its table
(`transcribed`) are here, each with its paper. Errors are those the papers quote: the spread over independent
trainings, which is another thing than the statistical error of one test sample that `hepml evaluate` prints.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hepml.errors import ConfigError, did_you_mean


class Published(NamedTuple):
    """One row of a published table.

    Attributes:
        name: of the tagger.
        accuracy, auc: as published.
        rejection: {signal efficiency as text: (1/eps_B, its spread over trainings or None)}.
        parameters: number of trainable parameters as published, None where it is not given.
        paper: arXiv id of the tagger's paper, or of the comparison that trained it.
        mark: "read" in the paper or its repository, "transcribed" from a copy of its table.
    """

    name: str
    accuracy: float
    auc: float
    rejection: dict[str, tuple[float, float | None]]
    parameters: int | None
    paper: str
    mark: Literal["read", "transcribed"]


def _row(
    name: str,
    accuracy: float,
    auc: float,
    at_30: float,
    spread: float | None,
    at_50: float | None,
    parameters: int | None,
    paper: str,
    mark: Literal["read", "transcribed"] = "read",
) -> Published:
    rejection: dict[str, tuple[float, float | None]] = {"0.3": (at_30, spread)}
    if at_50 is not None:
        rejection["0.5"] = (at_50, None)
    return Published(name, accuracy, auc, rejection, parameters, paper, mark)


# The Machine Learning Landscape of Top Taggers; the @0.5 column was measured from its score files
_LANDSCAPE = "1902.09914"

TOPTAG: tuple[Published, ...] = (
    _row("ParticleNet (landscape)", 0.9384, 0.98477, 1298, 46, 329, 498_000, _LANDSCAPE),
    _row("ResNeXt-50", 0.9358, 0.98372, 1122, 47, 302, 1_460_000, _LANDSCAPE),
    _row("TreeNiN", 0.9331, 0.98236, 1025, 11, None, 33_901, _LANDSCAPE),
    _row("CNN", 0.9308, 0.98140, 914, 14, None, None, _LANDSCAPE),
    _row("PFN", 0.9322, 0.98187, 891, 18, 257, 82_000, _LANDSCAPE),
    _row("N-subjettiness (8)", 0.9295, 0.98086, 867, 15, None, None, _LANDSCAPE),
    _row("LBN", 0.9309, 0.98110, 836, 17, None, None, _LANDSCAPE),
    _row("P-CNN", 0.9296, 0.98028, 732, 24, 201, 348_000, _LANDSCAPE),
    _row("LoLa", 0.9292, 0.98019, 722, 17, None, None, _LANDSCAPE),
    _row("EFN", 0.9265, 0.97886, 633, 31, 184, 82_000, _LANDSCAPE),
    _row("EFP", 0.9323, 0.98033, 384, None, 184, 1_000, _LANDSCAPE),
    _row("TopoDNN", 0.9157, 0.97133, 295, 5, 96, 59_000, _LANDSCAPE),
    _row("LGN", 0.929, 0.964, 435, 95, None, 4_500, "2006.04780"),
    _row("ParticleNet", 0.940, 0.9858, 1615, 93, 397, 366_000, "1902.08570", "transcribed"),
    _row("ParticleNet-Lite", 0.937, 0.9844, 1262, 49, 325, 26_000, "1902.08570", "transcribed"),
    _row("LorentzNet", 0.942, 0.9868, 2195, 173, 498, 224_000, "2201.08187", "transcribed"),
    _row("ParT", 0.940, 0.9858, 1602, 81, 413, 2_140_000, "2202.03772", "transcribed"),
    _row("PELICAN", 0.9426, 0.9870, 2250, 75, None, 208_000, "2307.16506", "transcribed"),
    _row("CGENN", 0.942, 0.9869, 2172, None, 500, 300_000, "2305.11141"),
    _row("L-GATr", 0.9423, 0.9870, 2240, 70, 540, 1_100_000, "2405.14806"),
    _row("Transformer", 0.9393, 0.9855, 1613, 118, 389, 2_000_000, "2505.20280", "transcribed"),
    _row("LLoCa-Transformer", 0.9416, 0.9866, 2150, 130, 492, 2_000_000, "2505.20280", "transcribed"),
    _row("L-GATr-slim", 0.9420, 0.9869, 2264, 93, 546, 2_000_000, "2512.17011", "transcribed"),
    _row("ParT fine-tuned", 0.944, 0.9877, 2766, 130, 691, 2_100_000, "2202.03772", "transcribed"),
    _row("OmniLearned-L", 0.944, 0.9880, 3486, 157, 688, 423_000_000, "2510.24066", "transcribed"),
)

# What a figure has room for: the ends of the table and what most papers compare with.
LANDMARKS = ("OmniLearned-L", "L-GATr-slim", "LorentzNet", "ParT", "ParticleNet", "PFN", "EFP", "TopoDNN")

# PELICAN by its size (arXiv:2307.16506): parameters, AUC, 1/eps_B at eps_S = 0.3; and by the number of its
# training jets, 0.5, 1, 5 and 100 % of the 1.2 million, 1/eps_B at 0.3.
PELICAN_BY_SIZE: tuple[tuple[int, float, float], ...] = (
    (248, 0.9780, 516), (605, 0.9823, 901), (1_000, 0.9835, 1145), (3_000, 0.9850, 1494),
    (11_000, 0.9858, 1879), (208_000, 0.9870, 2250),
)  # fmt: skip
PELICAN_BY_JETS: tuple[tuple[int, float], ...] = (
    (6_000, 633), (12_000, 789), (60_000, 1270), (1_200_000, 2250),
)  # fmt: skip

# Our model names and the row that each is held to, where its training is that of the row.
MODELS: dict[str, str] = {
    "particlenet": "ParticleNet",
    "particlenet_lite": "ParticleNet-Lite",
    "part": "ParT",
    "pfn": "PFN",
    "efn": "EFN",
    "efp": "EFP",
    "p_cnn": "P-CNN",
    "resnext": "ResNeXt-50",
    "cnn": "CNN",
    "topodnn": "TopoDNN",
    "treenin": "TreeNiN",
    "lgn": "LGN",
    "lorentznet": "LorentzNet",
    "pelican": "PELICAN",
    "cgenn": "CGENN",
    "lgatr": "L-GATr",
    "transformer": "Transformer",
}

COLLECTIONS: dict[str, tuple[Published, ...]] = {"toptag": TOPTAG}


def published(collection: str = "toptag", names: list[str] | None = None) -> tuple[Published, ...]:
    """The rows of a collection, or those of the given names, in the order of the names.

    Raises:
        ConfigError: no such collection or tagger.
    """
    if collection not in COLLECTIONS:
        raise ConfigError(
            f"no published results for '{collection}'", mend=did_you_mean(collection, COLLECTIONS)
        )
    rows = COLLECTIONS[collection]
    if names is None:
        return rows
    known = {row.name: row for row in rows}
    for name in names:
        if name not in known:
            raise ConfigError(f"no published tagger '{name}'", mend=did_you_mean(name, known))
    return tuple(known[name] for name in names)


def published_for(model: str, collection: str = "toptag") -> Published | None:
    """The published row that a registered model is held to; None where there is none."""
    name = MODELS.get(model)
    return next((row for row in COLLECTIONS[collection] if row.name == name), None)

"""Published weights by name: where their authors keep them, under which licence, and what they read.

Nothing of theirs is in this repository. `fetch` downloads a file from the authors' address (a download that
was cut off goes on), checks it against the checksum where one is known, and keeps it where configs find it by
name. Weights of our own are in `ours/` and need no download.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from hepml import outputs, paths
from hepml.data.public.fetch import PublicData
from hepml.data.public.fetch import fetch as download
from hepml.errors import ConfigError, FileError, did_you_mean

_WEAVER = "https://github.com/jet-universe/particle_transformer/raw/main/models/"
_LORENTZNET = "https://github.com/sdogsq/LorentzNet-release/raw/main/logs/"
_LUNDNET = "https://github.com/fdreyer/LundNet/raw/master/models/"
_TREENIN = (
    "https://github.com/diana-hep/TreeNiN/raw/master/code/recnn/experiments/top_tag_reference_dataset/"
    "top_tag_reference_dataset_NiNRecNNReLU_last_kt_full_test_2L4WleavesInnerNiNuk_lr_0.002_decay_0.9_batch_400"
    "_epochs_40_hidden_50_Njets_1200000_features_7/run_0/"
)
# The authors took the files back an hour later; they stand in the history of their repository.
_LGN = "https://github.com/fizisist/LorentzGroupNetwork/raw/b5d8017d10e0ce6c561398942f63c9acfd16b127/model/pretrained/"
_OURS = Path(__file__).parent / "ours"
ENDING = ".pt"


@dataclass(frozen=True)
class Weights:
    """One published file of weights.

    Args:
        title: the network and what it was trained on.
        base, file: address of the folder, and the file in it; no address where it comes with hepml.
        sha256: of the file; empty where it is not known.
        blob: git's name of the file in the authors' repository, SHA-1 of its length and content, where that
            is what is known.
        licence: of the authors' repository.
        paper: arXiv id.
        inputs: features it reads.
        scores: what the paper quotes for it.
    """

    title: str
    base: str
    file: str
    sha256: str
    licence: str
    paper: str
    inputs: str
    scores: str
    blob: str = ""

    @property
    def address(self) -> str:
        return self.base + self.file


def _part(kind: str, columns: str, blob: str, scores: str = "") -> Weights:
    return Weights(
        "Particle Transformer on JetClass", _WEAVER, f"ParT_{kind}.pt", "", "MIT", "2202.03772", columns,
        scores, blob,
    )  # fmt: skip


def _particlenet(kind: str, columns: str, checksum: str, scores: str = "") -> Weights:
    return Weights(
        "ParticleNet on JetClass", _WEAVER, f"ParticleNet_{kind}.pt", checksum, "MIT", "2202.03772", columns,
        scores,
    )  # fmt: skip


PUBLISHED: dict[str, Weights] = {
    "efp_mlp_toptag": Weights(
        "a perceptron on energy-flow polynomials (configs/toptag/efp_mlp.yaml, 2,282 parameters)", "",
        "efp_mlp_toptag.pt", "df19f459af0165868e8c556282d44298fa4b4e2626a1af625756ab03b982f4f4",
        "BSD-3-Clause", "1712.07124", "four-momenta",
        "ours, 6,000 jets: AUC 0.9815 ± 0.0022 generated, 0.979 ± 0.004 reference",
    ),
    "part_jetclass": _part(
        "full", "full (17)", "cf510276bb5616caf87adace4e05eafab4b6c762", "accuracy 0.861, AUC 0.9877"
    ),
    "part_jetclass_kin": _part("kin", "kinematic (7)", "70a82e78a7dc54601d4b19c089969fd917e397b9"),
    "part_jetclass_kinpid": _part(
        "kinpid", "kinematic_pid (13)", "f4bf560aed152f0b2acd37f60be1323ea84039f8"
    ),
    "particlenet_jetclass": _particlenet(
        "full", "full (17)", "375b81543769f4a0bd2de9818c5885a04c735b5462a64dcadc2a088edaf3d1d2",
        "accuracy 0.844, AUC 0.9849",
    ),
    "particlenet_jetclass_kin": _particlenet(
        "kin", "kinematic (7)", "73aff244c657db0f7b62abe9ad13ec007c17cf10057ff1ad54c320f3bd4a4f26"
    ),
    "particlenet_jetclass_kinpid": _particlenet(
        "kinpid", "kinematic_pid (13)", "f56876afb26a7f0782407fc4fde2502ac23656b47a970ad912e58502a0b8839b"
    ),
    "lorentznet_toptag": Weights(
        "LorentzNet on the top-tagging reference", _LORENTZNET + "top/pretrained/", "best-val-model.pt",
        "fd96288d5a59347c19dfc65e79bc4db95379d3b9d286907dd01b3dd5f8b385c4",
        "GPL-3.0", "2201.08187", "four-momenta and two beams",
        "accuracy 0.942, AUC 0.9868, 1/eB 2195 at eS 0.3",
    ),
    "lorentznet_quarkgluon": Weights(
        "LorentzNet on quark and gluon jets", _LORENTZNET + "qg/pretrained/", "best-val-model.pt",
        "c0ea4cdcb95516a3fc11679b89e828730922ee5d112d9ff826f6e31453945f2e",
        "GPL-3.0", "2201.08187", "four-momenta and identity (8)", "",
    ),
    "lgn_toptag": Weights(
        "LGN on the top-tagging reference (third of six runs)", _LGN,
        "maxdim3_nobj126_lr1e-3_1e-7_lrdecay-exp_pt550-650_nepoch_100_data100_run3.pt",
        "9e2b22fbfe9ac5cb33a8328beb43fa6027d6ffc0b7084a79547c531485a6db1b",
        "GPL-3.0", "2006.04780", "four-momenta and two beams",
        "accuracy 0.9296 (its log); 0.929 ± 0.001, AUC 0.964 ± 0.018 (paper)",
    ),
    "treenin_toptag": Weights(
        "TreeNiN on the top-tagging reference (first of nine runs)", _TREENIN, "best.pth.tar",
        "2ca8a0d276ebd6e6231f50fad2fe3b296681664d1e6b84332486c0191465c879", "MIT", "1902.09914",
        "the kT tree", "accuracy 0.938, AUC 0.9842",
    ),
    **{
        f"lundnet{number}_{task}": Weights(
            f"LundNet-{number}, {title}", f"{_LUNDNET}LundNet{number}/{folder}/",
            f"{start}_QCD_500GeV_LundNet{number}_state.pt", checksum, "GPL-3.0", "2012.08526",
            f"the Cambridge/Aachen tree ({number} coordinates)", "",
        )
        for number, task, title, folder, start, checksum in (
            (3, "top", "top tagging", "TopTagging", "Top",
             "af5a526e618c96a52985a2822c17f86fe85e832a757607c6232889934ebea9c9"),
            (3, "w", "W tagging", "WTagging", "W",
             "56b563136509ffc811473f888c2e2fc0e9cee9f5c85e763cfecdad9cff918c44"),
            (5, "top", "top tagging", "TopTagging", "Top",
             "6e649ad51cc79f4aff63853fb49313866c0a5f983164ac478512398600aa3e66"),
            (5, "w", "W tagging", "WTagging", "W",
             "ee12822adc319a73dad8b300eb11c663ee5b96c03380c876f2b844c6c9468661"),
        )
    },
}  # fmt: skip


def store() -> Path:
    """The folder that fetched weights are kept in: `pretrained` in the first folder of the data path, else in
    the user's cache."""
    folders = paths.data_path()
    if folders:
        return folders[0] / "pretrained"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hepml" / "pretrained"


def find(name: str) -> Path | None:
    """The file of these weights, which came with hepml or was fetched; None where it was not fetched, or
    where no weights are called so."""
    if name not in PUBLISHED:
        return None
    path = (store() if PUBLISHED[name].base else _OURS) / f"{name}{ENDING}"
    return path if path.is_file() else None


def named(path: Path | str, name: str | None = None) -> Path:
    """The path; where nothing is there, the file of the published weights of that name, if there is one: of
    `name`, which is the path itself where left out."""
    path = Path(path)
    return path if path.exists() else find(name or str(path)) or path


def resolve(word: str, config_file: Path | None) -> str:
    """A path of weights, a run or a checkpoint as `hepml.paths.resolve_weights` gives it; where nothing is
    there, fetched weights of that name."""
    return str(named(paths.resolve_weights(word, config_file), word))


def fetch(
    name: str,
    output: Path | str | None = None,
    *,
    url: str | None = None,
    tell: Callable[[str, int, int | None], None] = lambda file, done, total: None,
    registry: Mapping[str, Weights] | None = None,
) -> Path:
    """Downloads published weights, unless they are there and whole or came with hepml.

    Args:
        name: of `PUBLISHED`.
        output: folder for the file `NAME.pt`; `store()` where left out.
        url: address of a mirror of the folder.
        tell: called with (file, bytes so far, bytes in all where known).
        registry: weights to choose from; the published ones where left out.

    Returns:
        the file.

    Raises:
        ConfigError: no such weights.
        FileError: the server does not give the file, or what came has another checksum.
    """
    known = PUBLISHED if registry is None else registry
    if name not in known:
        raise ConfigError(f"no published weights '{name}'", mend=did_you_mean(name, known))
    chosen = known[name]
    if not chosen.base:
        return _copied(_OURS / chosen.file, output)
    folder = Path(output) if output is not None else store()
    target = folder / f"{name}{ENDING}"
    if target.is_file() and not chosen.sha256 and chosen.blob in ("", _blob(target)):
        return target
    checksum = f"sha256:{chosen.sha256}" if chosen.sha256 else ""
    data = PublicData(chosen.title, chosen.paper, chosen.base, {chosen.file: checksum or None}, "", "")  # type: ignore[dict-item]
    # under the authors' name in a folder of its own: several of them have files of the same name
    [came] = download(name, folder / f".{name}", url=url, tell=tell, registry={name: data})
    if chosen.blob and _blob(came) != chosen.blob:
        came.unlink()
        raise FileError(
            f"what came is not {chosen.file}: it has another checksum than git gives it",
            where=chosen.address if url is None else url,
            mend="try again, or another mirror",
        )
    folder.mkdir(parents=True, exist_ok=True)
    os.replace(came, target)
    return target


def _copied(ours: Path, output: Path | str | None) -> Path:
    if output is None:
        return ours
    target = Path(output) / ours.name
    target.parent.mkdir(parents=True, exist_ok=True)
    with outputs.writing(target) as temporary:
        shutil.copyfile(ours, temporary)
    return target


def _blob(path: Path) -> str:
    """git's name of a file: SHA-1 of its length and content."""
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()

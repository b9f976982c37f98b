"""Which runs a benchmark has, where each lives, and which of them are done already.

A run is one config with one seed (and perhaps a share of the training jets, or all folds of them but one).
Its folder is `runs/LABEL/seed_S`, with `benchmark.json` beside what every run leaves: whose run it is and
digests of its config. A run with a `summary.json` and the same digest is finished and kept; one with a
checkpoint goes on; a finished one of which test files or `evaluation` alone have changed is scored again; one
whose training has changed is put aside and begins again.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from hepml import config as configs
from hepml.errors import ConfigError, FileError
from hepml.tracking.journal import is_locked
from hepml.training.checkpoints import write_atomically
from hepml.training.config_digest import digest
from hepml.training.run_config import RunConfig, check, compose, load_run_config
from hepml.training.run_directory import CONFIG, SUMMARY, RunDirectory, untaken

MARK = "benchmark.json"
RUNS = "runs"
ASIDE = ".before-"
State = Literal["finished", "started", "trained", "new"]


@dataclass(frozen=True)
class PlannedRun:
    """One training of a benchmark.

    Args:
        label: the tagger's name in the leaderboard.
        seed: of the training.
        config: checked, with this seed and share.
        folder: the run folder.
        share: share of the training jets, 1 for all.
        fold: the part of the training jets that it leaves out, or None.
    """

    label: str
    seed: int
    config: RunConfig
    folder: Path
    share: float = 1.0
    fold: int | None = None

    @property
    def name(self) -> str:
        """What people call it: `pfn seed 2`, `pfn 1 % seed 2`, `pfn fold 0 seed 2`."""
        return run_name(self.label, self.share, self.seed, self.fold)

    @property
    def config_file(self) -> Path:
        """The config that its process is started with."""
        return self.folder.parent / f"{self.folder.name}.yaml"

    def words(self, *, resume: bool) -> list[str]:
        """The words after `hepml` that carry it out."""
        words = ["train", str(self.config_file), "--output", str(self.folder)]
        return [*words, "--resume"] if resume else words


@dataclass(frozen=True)
class Fraction:
    """A share of the training jets, and perhaps other epochs than the config's (few jets make few steps an
    epoch)."""

    share: float
    epochs: int | None = None


def run_name(label: str, share: float, seed: int, fold: int | None = None) -> str:
    """`LABEL seed 2`, or `LABEL 5 % seed 2` for a share of the jets, `LABEL fold 0 seed 2` where that fold
    was left out."""
    part = "" if share == 1 else f" {100 * share:g} %"
    return f"{label}{part}{'' if fold is None else f' fold {fold}'} seed {seed}"


def plan(
    files: Sequence[Path | str],
    output: Path | str,
    *,
    seeds: Sequence[int] = (1,),
    overrides: Sequence[str] = (),
    fractions: Sequence[Fraction] = (),
    variations: Mapping[str, Sequence[str]] | None = None,
    threads: int | None = None,
    folds: int | None = None,
) -> list[PlannedRun]:
    """The runs of a benchmark, config by config, each with every seed.

    Args:
        files: config files.
        output: folder of the benchmark.
        seeds: one run each.
        overrides: `key.sub=value` for every run.
        fractions: shares of the training jets to train on; all of them where left out.
        variations: keys with several values each; every combination is a tagger of its own.
        threads: CPU threads a run, where the config does not say.
        folds: cut the training jets into so many parts, and train without each in turn.

    Raises:
        ConfigError: no config, a seed or share twice, a regression, or a config that is not valid.
    """
    if not files:
        raise ConfigError(
            "no config given", where="command line", mend="hepml benchmark configs/toptag/pfn.yaml …"
        )
    if len(set(seeds)) < len(seeds) or not seeds:
        raise ConfigError("no seed, or a seed twice", where="command line", mend="name each seed once")
    if folds is not None and folds < 2:
        raise ConfigError(
            f"{folds} fold leaves nothing to train on", where="--folds", mend="at least 2, as --folds 5"
        )
    output = Path(output).absolute()
    parts = [None] if folds is None else [(k, folds) for k in range(folds)]
    runs: list[PlannedRun] = []
    taken: set[str] = set()
    for file in files:
        for chosen in _combinations(variations or {}):
            label = _label(file, chosen, taken)
            for fraction, seed, fold in product(fractions or (Fraction(1.0),), seeds, parts):
                runs.append(_run(file, label, seed, fraction, [*overrides, *chosen], output, threads, fold))
    return runs


def state(run: PlannedRun) -> State:
    """`finished` runs are kept, `started` ones are resumed, `trained` ones are scored again."""
    known, place = _mark(run.folder), RunDirectory(run.folder)
    finished, goes_on = (run.folder / SUMMARY).is_file(), place.last.is_file()
    if known.get("digest") == digest(run.config):
        if finished:
            return "finished"
        return "started" if goes_on or (run.folder / CONFIG).is_file() else "new"
    if goes_on and known.get("training_digest") == digest(run.config, results=False):
        return "trained" if finished else "started"
    return "new"


def prepare(run: PlannedRun) -> State:
    """Makes the folder ready for its process: writes config and mark, puts a run of another config aside;
    returns the state."""
    now = state(run)
    if now == "finished":
        return now
    if run.folder.is_dir() and is_locked(run.folder):
        raise FileError(
            f"{run.name} is being trained by another process",
            where=str(run.folder),
            mend="wait until it ends, or choose another output",
        )
    if now == "new" and any((run.folder / name).is_file() for name in (CONFIG, SUMMARY)):
        run.folder.rename(
            untaken(run.folder.with_name(f"{run.folder.name}{ASIDE}{time.strftime('%Y%m%d-%H%M%S')}"))
        )
    if now == "trained":
        RunDirectory(run.folder).put_results_aside()
    RunDirectory(run.folder.parent).write_json(f"{run.folder.name}/{MARK}", mark_of(run))
    values = configs.plain_values(run.config)
    heading = f"# {run.name} of a benchmark, as it was checked; the run is in {run.folder.name}/.\n"
    write_atomically(run.config_file, (heading + configs.dump_yaml(values)).encode())
    return now


def mark_of(run: PlannedRun) -> dict[str, Any]:
    """What `benchmark.json` says about a run."""
    mark = {
        "label": run.label,
        "seed": run.seed,
        "share": run.share,
        "digest": digest(run.config),
        "training_digest": digest(run.config, results=False),
    }
    return mark if run.fold is None else {**mark, "fold": run.fold}


def find_runs(places: Iterable[Path | str]) -> list[Path]:
    """Run folders below some places, those put aside left out."""
    folders: dict[Path, Path] = {}  # by where they really are: the same one may be named twice
    for place in places:
        root = Path(place)
        hits = sorted(p.parent for name in (SUMMARY, MARK) for p in root.rglob(name) if ASIDE not in str(p))
        hits = [p for p in hits if p.name != "artifacts"]  # MLflow's copies
        for hit in hits:
            folders.setdefault(hit.resolve(), hit)
    return [*folders.values()]


def prepared(output: Path | str) -> list[PlannedRun]:
    """The runs that a benchmark's folder was prepared for, to go on without naming the configs again.

    Raises:
        FileError: none there.
        ConfigError: a config that is not valid any more.
    """
    runs = []
    for mark in sorted(Path(output).absolute().rglob(MARK)):
        folder, known = mark.parent, _mark(mark.parent)
        file = folder.parent / f"{folder.name}.yaml"
        if ASIDE not in str(folder) and file.is_file() and known:
            runs.append(
                PlannedRun(
                    known["label"],
                    known["seed"],
                    load_run_config(file),
                    folder,
                    known["share"],
                    known.get("fold"),
                )
            )
    if not runs:
        raise FileError(
            "no benchmark was begun here", where=str(output), mend="hepml benchmark CONFIG… -o FOLDER"
        )
    return runs


def read_mark(folder: Path) -> dict[str, Any]:
    """Label, seed and share of a run folder; of one that no benchmark made, what its summary and config
    say."""
    known = _mark(folder)
    if known:
        return known
    summary = RunDirectory(folder).read_json(SUMMARY)
    try:
        values = configs.read_yaml(folder / CONFIG) or {}
    except ConfigError:
        values = {}

    def number(block: str, key: str, otherwise: float) -> Any:
        below = values.get(block) if isinstance(values, dict) else None
        value = below.get(key, otherwise) if isinstance(below, dict) else otherwise
        return value if isinstance(value, int | float) else otherwise

    seed, share = number("training", "seed", 0), number("data", "train_share", 1.0)
    label = summary.get("config") or summary.get("model") or folder.name
    mark = {"label": label, "seed": seed, "share": share}
    return {**mark, "fold": int(number("data", "fold", 0))} if number("data", "folds", 0) else mark


def parse_fractions(text: str) -> list[Fraction]:
    """`0.005:200,0.05,1` as shares of the training jets, each perhaps with its number of epochs.

    Raises:
        ConfigError: not numbers in (0, 1], or one twice.
    """
    out: list[Fraction] = []
    for word in text.split(","):
        share, _, epochs = word.strip().partition(":")
        try:
            fraction = Fraction(float(share), int(epochs) if epochs else None)
        except ValueError:
            raise ConfigError(
                f"'{word}' is no share", where="--fractions", mend="as 0.005,0.05,1 or 0.005:200"
            ) from None
        if not 0 < fraction.share <= 1 or (fraction.epochs is not None and fraction.epochs < 1):
            raise ConfigError(
                f"'{word}' is no share", where="--fractions", mend="shares lie above 0 and up to 1"
            )
        if any(fraction.share == other.share for other in out):
            raise ConfigError(
                f"the share {fraction.share:g} twice", where="--fractions", mend="name each once"
            )
        out.append(fraction)
    return out


# ------------------------------------------------------------------------------------------------------------
# helpers


def _run(
    file: Path | str,
    label: str,
    seed: int,
    fraction: Fraction,
    overrides: Sequence[str],
    output: Path,
    threads: int | None,
    fold: tuple[int, int] | None = None,
) -> PlannedRun:
    own = [f"training.seed={seed}", f"name={label}"]
    if fraction.share < 1:
        own.append(f"data.train_share={fraction.share!r}")
    if fold is not None:
        own += [f"data.fold={fold[0]}", f"data.folds={fold[1]}"]
    if fraction.epochs is not None:
        own.append(f"training.epochs={fraction.epochs}")
    composed = compose(file, [*overrides, *own])
    data = composed.values.get("data")
    if isinstance(data, dict) and not data.get("stream"):  # jets that are streamed are not packed
        data.setdefault("cache", str(output / "jets"))  # all runs map the same packed jets
    config = check(composed)
    if config.objective_name == "gaussian":
        raise ConfigError(
            "a leaderboard ranks taggers, this is a regression", where=str(file), mend="hepml train"
        )
    if not config.data.tests() and fold is None:
        raise ConfigError("no test jets to rank taggers on", where=str(file), mend="give data.test")
    if threads is not None and config.training.threads is None:
        config = config.model_copy(
            update={"training": config.training.model_copy(update={"threads": threads})}
        )
    named = config.tracking.model_copy(
        update={"name": config.tracking.name or run_name(label, fraction.share, seed, fold and fold[0])}
    )
    config = config.model_copy(update={"output": None, "tracking": named})
    place = output / RUNS / label
    if fraction.share < 1:
        place /= f"share_{fraction.share:g}"
    if fold is not None:
        place /= f"fold_{fold[0]}"
    return PlannedRun(label, seed, config, place / f"seed_{seed}", fraction.share, fold and fold[0])


def _combinations(variations: Mapping[str, Sequence[str]]) -> list[list[str]]:
    return [
        [f"{k}={v}" for k, v in zip(variations, values, strict=True)]
        for values in product(*variations.values())
    ]


def _label(file: Path | str, chosen: Sequence[str], taken: set[str]) -> str:
    base = Path(file).stem if not Path(file).is_dir() else Path(file).name
    word = re.sub(r"[^\w.,=+-]+", "-", ",".join([base, *(_short(c) for c in chosen)]))
    label, n = word, 1
    while label in taken:
        n += 1
        label = f"{word}-{n}"
    taken.add(label)
    return label


def _short(override: str) -> str:
    key, _, value = override.partition("=")
    return f"{key.rpartition('.')[2]}={value}"


def _mark(folder: Path) -> dict[str, Any]:
    return RunDirectory(folder).read_json(MARK)

"""The leaderboard: run folders gathered by tagger, every figure as mean and standard deviation over seeds,
ensembles of their scores.

Only what lies in the run folders is read (`summary.json`, `scores/`, `cost.json`, `boost.json`,
`benchmark.json`), so it makes no difference who made them. Rows are ordered by AUC. The result is one plain
mapping, which is also `leaderboard.json`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import hepml
from hepml.data.reading.arrays import read_arrays
from hepml.errors import DataError, FileError, HepmlError
from hepml.evaluation.multiclass import bare_name
from hepml.evaluation.pairs import Tested, compare_all
from hepml.evaluation.published import published_for
from hepml.evaluation.report import evaluate
from hepml.tracking.last_words import why_unfinished
from hepml.tracking.runs import is_report
from hepml.training.benchmark.grouping import taggers_of
from hepml.training.benchmark.out_of_fold import joined, same_jets
from hepml.training.benchmark.plan import find_runs, read_mark, run_name
from hepml.training.jets import FOLD
from hepml.training.run_directory import BOOST, COST, STATE, SUMMARY, RunDirectory

_TOP_TAGGING = ({"qcd", "tbqq"}, {"qcd", "top"}, {"0", "1"})
Scores = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def gather(places: Iterable[Path | str], problems: dict[str, str] | None = None) -> dict[str, Any]:
    """The leaderboard of all runs below some folders.

    Args:
        places: folders of benchmarks, or of runs.
        problems: what went wrong with runs that have no result, by run name; added to what their folders say.

    Returns:
        {"taggers": [row, …], "tests": [name, …], "fractions": […], "boost": […], "failed": {…}, "remarks":
        […], …}.

    Raises:
        FileError: no run there at all.
    """
    places = [Path(p) for p in places]
    folders = find_runs(places)
    if not folders:
        raise FileError(
            "no run here", where=", ".join(map(str, places)), mend="hepml benchmark CONFIG… -o FOLDER"
        )
    failed, remarks = dict(problems or {}), list[str]()
    by_label: dict[str, list[dict[str, Any]]] = {}
    marks = {folder: read_mark(folder) for folder in folders}
    whole = {mark["label"] for mark in marks.values() if mark.get("fold") is None}
    for folder in folders:
        mark, run = marks[folder], _read(folder)
        name = run_name(mark["label"], mark["share"], mark["seed"], mark.get("fold"))
        if run is None:
            if name not in failed:
                place = RunDirectory(folder)
                ended = place.read_json(STATE).get("status")
                reason = f"ended as {ended}" if ended else "has not finished"
                reason = why_unfinished(folder) or reason
                failed[name] = place.read_json("failed.json").get("problem") or reason
            continue
        failed.pop(name, None)
        # the same tagger trained on all jets and on all folds but one: two rows
        label = (
            f"{mark['label']}_folds"
            if mark.get("fold") is not None and mark["label"] in whole
            else mark["label"]
        )
        by_label.setdefault(label, []).append({**run, **mark, "fold": mark.get("fold")})
    groups = {
        (name, share): [run for run in seeds if run["share"] == share]
        for label, runs in by_label.items()
        for name, seeds in taggers_of(label, runs, by_label, remarks).items()
        for share in dict.fromkeys(run["share"] for run in seeds)
    }
    taggers = [_row(label, runs, remarks) for (label, share), runs in groups.items() if share == 1]
    taggers.sort(key=lambda row: -(row["auc"]["mean"] or 0.0))
    return {
        "version": hepml.__version__,
        "folders": [str(p) for p in places],
        "tests": list(dict.fromkeys(name for row in taggers for name in row["tests"])),
        "paired": _paired(taggers, remarks),
        "points": sorted({p for row in taggers for p in row["rejection"]}, key=float),
        "taggers": taggers,
        "fractions": _fractions(groups),
        "boost": [
            row for row in (_boost(label, runs) for (label, s), runs in groups.items() if s == 1) if row
        ],
        "failed": failed,
        "remarks": list(dict.fromkeys(remarks)),
    }


def scores_of(row: dict[str, Any], test: str | None = None) -> Scores:
    """Labels, ensemble scores (mean over seeds) and weights of a row's test set, for curves. Of folds alone
    they are the out-of-fold scores of all jets.

    Raises:
        DataError: the seeds were tested on different jets; a fold is missing.
    """
    beside, scores = _tested(row, test or row["test"])
    return beside["labels"], scores, beside.get("weights")


def spread(values: Sequence[float | None]) -> dict[str, Any]:
    """Mean, sample standard deviation (None for one value) and the values."""
    clean = [float(v) for v in values if v is not None and math.isfinite(v)]
    return {
        "mean": statistics.fmean(clean) if clean else None,
        "std": statistics.stdev(clean) if len(clean) > 1 else None,
        "values": clean,
    }


# ------------------------------------------------------------------------------------------------------------
# helpers


def _read(folder: Path) -> dict[str, Any] | None:
    """What a finished run left, or None."""
    place = RunDirectory(folder)
    summary = place.read_json(SUMMARY)
    if not summary.get("test") or not is_report(summary["test"]) or "auc" not in summary["test"]:
        return None
    return {
        "folder": str(folder),
        "summary": summary,
        "cost": place.read_json(COST),
        "boost": place.read_json(BOOST),
    }


def _shares(cost: Mapping[str, Any]) -> dict[str, float | None]:
    """Which share of the device's matmul rate a tagger's products are done at; None where one of the figures
    is unknown, as in the `cost.json` of older versions. A training step is taken as three forward passes."""
    rate, flops = cost.get("matmul_flop_per_second"), cost.get("step_flops", cost.get("flops"))
    shares: dict[str, float | None] = {}
    for what, passes in (("training", 3), ("inference", 1)):
        speed = cost.get(f"{what}_jets_per_second")
        known = bool(rate) and flops is not None and speed is not None
        shares[f"{what}_share_of_matmul"] = passes * flops * speed / rate if known else None
    return shares


def _row(label: str, runs: list[dict[str, Any]], remarks: list[str]) -> dict[str, Any]:
    runs = sorted(runs, key=lambda run: (run["seed"], -1 if run.get("fold") is None else run["fold"]))
    folded = any(run.get("fold") is not None for run in runs)
    summaries = [run["summary"] for run in runs]
    first = summaries[0]
    test = _first_test(first)
    tests: dict[str, list[Any]] = {test: []}
    for summary in summaries:
        for name, report in {_first_test(summary): summary["test"], **(summary.get("tests") or {})}.items():
            tests.setdefault(name, []).append(report)
    for name, reports_of in tests.items():
        if len(reports_of) < len(runs):
            remarks.append(f"{label}: only {len(reports_of)} of {len(runs)} runs were tested on {name}")
    for key in (test,) if folded else ("train", test):
        if key == FOLD:
            continue
        different = [
            {s["jets"].get(key) for s in summaries},
            {(s.get("digest") or {}).get(key) for s in summaries},
        ]
        remarks += [f"{label}: the seeds have different {key} jets"] * any(
            len(values) > 1 for values in different
        )
    costs = [run["cost"] for run in runs if run["cost"].get("flops") is not None]
    bad_cost = next((run["cost"]["problem"] for run in runs if run["cost"].get("problem")), None)
    if bad_cost and not costs:
        remarks.append(f"{label}: cost not measured: {bad_cost}")
    cost = costs[0] if costs else {}
    reports = {name: _report(r) for name, r in tests.items() if r}
    row: dict[str, Any] = {
        "label": label,
        "model": first["model"],
        "classes": first.get("classes") or [],
        "seeds": list(dict.fromkeys(run["seed"] for run in runs)),
        "test": test,
        "jets": first["jets"],
        "epochs": [s["epochs"] for s in summaries],
        "parameters": first["parameters"],
        "flops": cost.get("flops"),
        "constituents": cost.get("constituents"),
        "training_jets_per_second": cost.get("training_jets_per_second"),
        "inference_jets_per_second": cost.get("inference_jets_per_second"),
        **_shares(cost),
        "measured_on": cost.get("device"),
        "seconds": spread([s["seconds"] for s in summaries]),
        "device": first.get("device"),
        **reports[test],
        "tests": reports,
        "ensemble": {},
        "published": _published(first),
        "runs": [
            {
                "seed": run["seed"],
                "folder": run["folder"],
                **({} if run.get("fold") is None else {"fold": run["fold"]}),
            }
            for run in runs
        ],
    }
    if len(runs) > 1:
        for name in reports:
            if name == FOLD:  # each fold has its own jets; their scores are put together in one file
                continue
            try:
                ways = _combined([Path(run["folder"]) for run in runs], name)
                row["ensemble"][name] = {way: _plain_report(*scores, first) for way, scores in ways.items()}
            except HepmlError as problem:
                remarks.append(f"{label}: no ensemble on {name}: {problem.what}")
    return row


def _first_test(summary: Mapping[str, Any]) -> str:
    """The name of the test set that `test` in a summary is of."""
    return next((name for name in summary["jets"] if name not in ("train", "val")), "test")


def _tested(row: Mapping[str, Any], test: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What stands beside the scores of a test set (labels; weights, and of folds the entry, where there are
    any), and the means over seeds."""
    if test == FOLD:
        return joined(row["runs"])
    labels, scores, weights = _combined([Path(run["folder"]) for run in row["runs"]], test)["mean"]
    return {"labels": labels} | ({} if weights is None else {"weights": weights}), scores


def _paired(taggers: list[dict[str, Any]], remarks: list[str]) -> list[dict[str, Any]]:
    """Every tagger against the best on the same test jets, by paired tests of the scores' means over seeds:
    [{"first", "second", "accuracy", "auc", "rejection"}]."""
    samples: dict[str, Tested] = {}
    reports: dict[str, Any] = {}
    folds: dict[str, np.ndarray] = {}  # beside the scores of the first tagger that has folds alone
    for row in taggers if len(taggers) > 1 else []:
        try:
            beside, scores = _tested(row, row["test"])
            if row["test"] == FOLD:
                folds = folds or beside
                if not same_jets(folds, beside):
                    raise DataError("it was trained on other jets")
            classes = row["classes"] if scores.ndim == 2 else None
            sample = Tested(beside["labels"], scores, beside.get("weights"), classes or None)
            reports[row["label"]] = evaluate(*sample[:3], classes=sample.classes)
            samples[row["label"]] = sample
        except HepmlError as problem:
            remarks.append(f"{row['label']}: not compared with the others: {problem.what}")
    best = next(iter(samples), "")
    comparisons = []
    for name in list(samples)[1:]:
        tests = compare_all({best: samples[best], name: samples[name]}, reports).get(best, {}).get(name)
        if tests is not None:
            comparisons.append({"first": best, "second": name, **tests})
    return comparisons


def _report(reports: list[dict[str, Any]]) -> dict[str, Any]:
    """Reports of several seeds as one: the mean, its spread over seeds as `std` and the error of the test
    sample as `error`, which are different things.

    Of rejections the mean is that of eps_B, inverted: the mean of 1/eps_B is biased high where few jets pass.
    """
    out: dict[str, Any] = {
        key: _figure([(r[key], r.get(f"{key}_error")) for r in reports]) for key in ("accuracy", "auc")
    }
    points = [
        p for p in reports[0].get("rejection") or {} if all(p in (r.get("rejection") or {}) for r in reports)
    ]
    out["rejection"] = {}
    for point in points:
        entries = [r["rejection"][point] for r in reports]
        figure = _rejection([(float(e["value"]), e.get("error")) for e in entries])
        figure["lower_limit"] = any(e.get("lower_limit") for e in entries)
        out["rejection"][point] = figure
    return out


def _figure(values: list[tuple[float | None, float | None]]) -> dict[str, Any]:
    figure = spread([v for v, _ in values if v is not None])
    figure["error"] = _root_mean_square([error for _, error in values])
    return figure


def _rejection(values: list[tuple[float, float | None]]) -> dict[str, Any]:
    passing = spread([1 / value for value, _ in values])
    mean, std = passing["mean"], passing["std"]
    if not mean:
        return {**spread([value for value, _ in values]), "error": None}
    errors = [None if error is None else error / value**2 for value, error in values]
    error = _root_mean_square(errors)
    return {
        "mean": 1 / mean,
        "std": None if std is None else std / mean**2,
        "values": [value for value, _ in values],
        "error": None if error is None else error / mean**2,
    }


def _root_mean_square(errors: list[float | None]) -> float | None:
    """The typical error of a single run; None where one of them has none."""
    known = [error for error in errors if error is not None]
    return math.sqrt(statistics.fmean(e**2 for e in known)) if known and len(known) == len(errors) else None


def _combined(folders: list[Path], test: str) -> dict[str, Scores]:
    """Mean and median over seeds of the scores on one test set."""
    rows: list[np.ndarray] = []
    labels: np.ndarray | None = None
    weights: np.ndarray | None = None
    for folder in folders:
        try:
            arrays = read_arrays(folder / "scores" / f"{test}.npz")
            own = arrays["labels"]
            (key,) = [k for k in arrays if k not in ("labels", "weights", "index", "entry")]
            scores, weights = arrays[key], arrays.get("weights")
        except (HepmlError, ValueError, KeyError) as problem:
            raise DataError(
                f"the scores of {folder.name} cannot be read ({problem})", where=str(folder)
            ) from None
        if labels is not None and not np.array_equal(labels, own):
            raise DataError("the seeds were tested on different jets", where=str(folder))
        labels = own
        rows.append(scores.astype(np.float64))
    if labels is None:
        raise DataError("there are no scores")
    stacked = np.stack(rows)
    return {
        "mean": (labels, stacked.mean(0), weights),
        "median": (labels, np.median(stacked, axis=0), weights),
    }


def _plain_report(
    labels: np.ndarray, scores: np.ndarray, weights: np.ndarray | None, summary: dict[str, Any]
) -> Any:
    classes = summary.get("classes") if scores.ndim == 2 else None
    report = evaluate(labels, scores, weights, classes=classes or None)
    return {key: report[key] for key in ("accuracy", "accuracy_error", "auc", "auc_error", "rejection")}


def _published(summary: dict[str, Any]) -> dict[str, Any] | None:
    """The published row of a top tagger; other classes have no table here."""
    if {bare_name(c).lower() for c in summary.get("classes") or ()} not in _TOP_TAGGING:
        return None
    figures = published_for(summary["model"])
    return None if figures is None else figures._asdict()


def _fractions(groups: dict[tuple[str, float], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One entry a tagger that was trained on several shares: figures by share, rising."""
    out = []
    for label in dict.fromkeys(label for label, share in groups if share < 1):
        shares = sorted(share for other, share in groups if other == label)
        points = []
        for share in shares:
            summaries = [run["summary"] for run in groups[label, share]]
            report = _report([s["test"] for s in summaries])
            runs_of_point = [{"seed": run["seed"], "folder": run["folder"]} for run in groups[label, share]]
            points.append(
                {"share": share, "train": summaries[0]["jets"]["train"], "runs": runs_of_point, **report}
            )
        out.append({"label": label, "points": points})
    return out


def _boost(label: str, runs: list[dict[str, Any]]) -> dict[str, Any] | None:
    scans = [run["boost"] for run in runs if run["boost"].get("betas")]
    if not scans:
        problem = next((run["boost"]["problem"] for run in runs if run["boost"].get("problem")), None)
        return None if problem is None else {"label": label, "problem": problem}
    betas = scans[0]["betas"]
    scans = [scan for scan in scans if scan["betas"] == betas]
    columns = {
        key: [spread([scan[key][i] for scan in scans]) for i in range(len(betas))]
        for key in ("accuracy", "auc")
    }
    return {"label": label, "betas": betas, "jets": scans[0]["jets"], "seeds": len(scans), **columns}

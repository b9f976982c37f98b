"""What makes the MLflow page of a run worth opening: tables that it shows as tables, pictures in its
description, and a logged model that knows its metrics and jets."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hepml.tracking import names
from hepml.tracking.journal import Entry, Record

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DESCRIPTION = "mlflow.note.content"
TABLES = "mlflow.loggedArtifacts"  # by this tag the pages know which JSON files are tables
_RUN = "@RUN@"


def picture(path: str, title: str) -> str:
    """A Markdown picture of an artifact of the run, for its description."""
    return f"![{title}](get-artifact?path={quote(path, safe='')}&run_uuid={_RUN})"


def addressed(text: str, run_id: str) -> str:
    """A description whose pictures are those of this run."""
    return text.replace(_RUN, run_id)


def shown_tables(record: Record) -> str:
    """What the pages are told of a run's tables."""
    paths = dict.fromkeys(f"tables/{Path(e['path']).name}" for e in record.of("table"))
    return json.dumps([{"path": path, "type": "table"} for path in paths])


def dataset_title(files: list[str]) -> str:
    """Data sets are called by their files: `train.root`, `train_0.root and 9 more`."""
    plain = [re.sub(r"(\.root):[^/]*$", r"\1", file) for file in files]  # without the tree
    titles = [Path(file).name for file in plain]
    more = f" and {len(titles) - 1} more" if len(titles) > 1 else ""
    return (titles[0] + more)[:500] if titles else ""


def link_model(client: MlflowClient, run_id: str, model_id: str, entry: Entry, record: Record) -> None:
    """Gives a logged model the validation metrics of its epoch, with the jets they are of, and the final
    figures of the run as tags."""
    from mlflow.entities import Metric

    jets = next((e for e in record.of("dataset") if e["name"] == "val"), None)
    linked: dict[str, Any] = {}
    if jets is not None:
        title = dataset_title(jets["files"]) or jets["name"]
        linked = {"dataset_name": title, "dataset_digest": jets["digest"][:36]}
    metrics, tags = {}, {}
    for report in record.of("metrics"):
        for name, value in report["values"].items():
            if report["step"] != entry.get("step"):
                continue  # of other weights: the run went on since
            if report.get("final"):
                tags[names.accepted(name).replace("/", ".")] = f"{value:.6g}"
            elif name.startswith("val_"):
                # the same values at the same times: what the run has of them stays as it is
                metrics[name] = Metric(
                    names.accepted(name), value, report["time"], report["step"], model_id=model_id,
                    run_id=run_id, **linked,
                )  # fmt: skip
    if metrics:
        client.log_batch(run_id, metrics=list(metrics.values()))
    if tags:
        client.set_logged_model_tags(model_id, tags)

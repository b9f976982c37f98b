"""What an exported file says about itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import nn

from hepml import __version__
from hepml.inference.exporting.tagger import Form, name_of
from hepml.inference.prediction import head_of
from hepml.models import registry
from hepml.models.identity import identity_of
from hepml.models.standardised import standards_of


def describe(model: nn.Module, form: Form) -> dict[str, str]:
    """Entries of the file's metadata; lists as JSON."""
    name, identity = name_of(model), identity_of(model)
    entry = registry().get(name)
    head = head_of(model)
    arguments = {k: v for k, v in vars(head).items() if isinstance(v, int | float)}
    if head.name == "bernoulli":
        arguments = {}
    entries: dict[str, Any] = {
        "hepml.version": __version__,
        "hepml.model": name,
        "hepml.hyperparameters": json.dumps(dict(identity.hyperparameters), default=str),
        "hepml.classes": json.dumps(list(form.classes)),
        "hepml.columns": json.dumps(list(form.columns)),
        "hepml.features": json.dumps(list(form.features)),
        "hepml.jet_columns": json.dumps(list(form.jet_columns)),
        "hepml.inputs": json.dumps(list(form.inputs)),
        "hepml.outputs": json.dumps(list(form.outputs)),
        "hepml.standards": json.dumps(standards_of(model)),
        "hepml.jet_axis": form.jet_axis,
        "hepml.objective": json.dumps({"name": head.name, "arguments": arguments}),
        "hepml.target": identity.target or "",
        "hepml.layout": identity.layout or "",
        "hepml.units": json.dumps({"four_momenta": "GeV", "components": ["E", "px", "py", "pz"]}),
        "hepml.paper": entry.paper if entry else "",
        "hepml.form": form.kind,
    }
    return {key: str(value) for key, value in entries.items()}


def of_run(source: Path | str) -> dict[str, str]:
    """Where a tagger comes from: its run, the code's commit and the digest of the training jets, as far as
    its folder says."""
    path = Path(source)
    folder = (
        path if path.is_dir() else next((p for p in path.parents if (p / "summary.json").is_file()), None)
    )
    entries = {"hepml.run": str(path)}
    if folder is None:
        return entries
    entries["hepml.run"] = folder.name
    for file in ("summary.json", "environment.json"):
        try:
            content = json.loads((folder / file).read_text())
        except (OSError, ValueError):
            continue
        for key, value in _walk(content):
            if key in ("git_commit", "commit") and isinstance(value, str):
                entries.setdefault("hepml.commit", value)
            if key == "digest" and isinstance(value, dict) and "train" in value:
                entries.setdefault("hepml.training_digest", str(value["train"]))
    return entries


def _walk(content: Any) -> list[tuple[str, Any]]:
    if not isinstance(content, dict):
        return []
    return [pair for key, value in content.items() for pair in [(str(key), value), *_walk(value)]]

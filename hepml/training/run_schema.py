"""The JSON schema of a run's config, for editors: every block, and the hyperparameters of every registered
model and objective."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import create_model

from hepml import config as configs
from hepml import models, objectives
from hepml.models import catalogue
from hepml.training.run_config import RunConfig


def run_schema() -> dict[str, Any]:
    """JSON schema of a run config, with the hyperparameters of every registered model, for editors."""
    schema = RunConfig.model_json_schema()
    definitions = schema.setdefault("$defs", {})

    def variants(kinds: Mapping[str, Any], leave_out: tuple[str, ...], title: str) -> list[dict[str, Any]]:
        refs = []
        for name, build in kinds.items():
            part = configs.signature_schema(build, f"{title}_{name}", leave_out=leave_out)
            common: dict[str, Any] = {"name": (Literal[name], ...)}
            if title == "model":
                common["initialisation"] = (catalogue.Initialisation, "scaled")
            named = create_model(f"{title}_{name}", __base__=part, **common)
            sub = named.model_json_schema(ref_template="#/$defs/{model}")
            definitions.update(sub.pop("$defs", {}))
            definitions[f"{title}_{name}"] = sub
            refs.append({"$ref": f"#/$defs/{title}_{name}"})
        return refs

    registry = models.registry()
    model_refs = variants({name: entry.build for name, entry in registry.items()}, ("outputs",), "model")
    schema["properties"]["model"] = {"anyOf": [{"enum": list(registry)}, *model_refs]}
    objective_refs = variants(objectives.OBJECTIVES, ("classes", "targets"), "objective")
    schema["properties"]["objective"] = {
        "anyOf": [{"enum": list(objectives.OBJECTIVES)}, *objective_refs, {"type": "null"}]
    }
    schema["properties"]["base"] = {
        "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        "description": "config file(s) that this one is laid over",
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema

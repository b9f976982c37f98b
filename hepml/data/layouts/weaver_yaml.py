"""From a data YAML of weaver-core to a layout: the same branches, expressions, standardisation, labels,
selection and weights under hepml's keys.

Expressions are parsed (`hepml.data.reading.expressions`) and never run as code. What has no counterpart is a
note with the line it stands in; nothing is left out without one.

Longer than other files because it is one idea: one format, translated block by block.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from hepml.data.features import FEATURES, RAW_COLUMNS
from hepml.data.layouts.weaver_checks import Checks
from hepml.data.layouts.weaver_lines import Dumper, lines_of, nearest_line
from hepml.data.layouts.weaver_weights import reweighting
from hepml.data.reading.expressions import Expression
from hepml.errors import ConfigError, FileError, LayoutError

_KNOWN = (
    "treename", "branch_magic", "file_magic", "selection", "test_time_selection", "preprocess",
    "new_variables", "inputs", "labels", "observers", "monitor_variables", "weights", "bucketing",
)  # fmt: skip
_MOMENTUM = ("px", "py", "pz", "energy", "pt", "eta", "phi", "mass")
_SPELLINGS = {
    "px": ("px",), "py": ("py",), "pz": ("pz",), "energy": ("energy", "e", "E"), "pt": ("pt",),
    "eta": ("eta",), "phi": ("phi",), "mass": ("mass", "m"), "delta_eta": ("deta", "etarel"),
    "delta_phi": ("dphi", "phirel"),
}  # fmt: skip
_FORMS = (
    ("px", "py", "pz", "energy"), ("pt", "eta", "phi", "mass"), ("pt", "eta", "phi", "energy"),
    ("px", "py", "pz"), ("pt", "eta", "phi"), ("pt", "delta_eta", "delta_phi"),
)  # fmt: skip
_CLIP = (-5.0, 5.0)


@dataclass
class Translation:
    """A layout made of a weaver YAML.

    Args:
        layout: the mapping.
        notes: what is read differently, or needs a look: (line or None, sentence).
        untranslated: what has no counterpart: (line or None, sentence).
    """

    layout: dict[str, Any] = field(default_factory=dict)
    notes: list[tuple[int | None, str]] = field(default_factory=list)
    untranslated: list[tuple[int | None, str]] = field(default_factory=list)

    def text(self, source: str) -> str:
        """The layout as YAML, with what was found on the way as comments."""
        lines = [f"# Translated from {source} by `hepml data layout-from`."]
        for kind, sentences in (("", self.notes), ("NOT TRANSLATED ", self.untranslated)):
            lines += [f"# {kind}{_at(line)}{sentence}" for line, sentence in sentences]
        body = yaml.dump(self.layout, Dumper=Dumper, sort_keys=False, width=140, allow_unicode=True)
        return "\n".join(lines) + "\n" + body


def translate(path: Path | str, classes: Sequence[str] | int | None = None) -> Translation:
    """The layout that a weaver YAML says.

    Args:
        path: the YAML.
        classes: names, or number, of the classes of an integer label, which the YAML does not say.

    Raises:
        FileError: no such file. ConfigError: no YAML of weaver's. LayoutError: no momenta of constituents.
    """
    path = Path(path)
    if not path.is_file():
        raise FileError("no such file", where=str(path), mend="give a data YAML of weaver")
    text = path.read_text(errors="replace")
    try:
        content = yaml.safe_load(text)
        lines = lines_of(yaml.compose(text, Loader=yaml.SafeLoader))
    except (yaml.YAMLError, RecursionError) as problem:
        raise ConfigError(f"not YAML ({' '.join(str(problem).split())[:120]})", where=str(path)) from None
    if not isinstance(content, Mapping) or not isinstance(content.get("inputs"), Mapping):
        raise ConfigError(
            "no data YAML of weaver: it has no `inputs`", where=str(path), mend="name weaver's --data-config"
        )
    return _Translator(content, lines, str(path), classes).run()


class _Translator:
    """One translation, section by section."""

    def __init__(
        self,
        content: Mapping[str, Any],
        lines: Mapping[tuple[str, ...], int],
        where: str,
        classes: Sequence[str] | int | None,
    ) -> None:
        self.content, self.lines, self.where, self.classes = content, lines, where, classes
        self.translation = Translation()
        self.checks = Checks(where, lines)
        self.define: dict[str, str] = {}
        self.named: dict[str, None] = {}  # every branch or variable that the YAML mentions

    def run(self) -> Translation:
        """The layout, its keys in the order in which a reader wants them."""
        self.checks.sections(self.content)
        for key in self.content:
            if key not in _KNOWN:
                self.lost((str(key),), f"unknown key '{key}'")
        for place, sentence in self.checks.unknown(self.content):
            self.lost(place, sentence)
        self.variables()
        layout: dict[str, Any] = {"name": re.sub(r"\W+", "_", Path(self.where).stem)}
        if self.content.get("treename"):
            layout["tree"] = str(self.content["treename"])
        for key in ("branch_magic", "file_magic", "bucketing"):
            if self.content.get(key):
                self.lost((key,), f"{key}: it has no counterpart")
        inputs = self.inputs()
        labels = self.labels()
        weights = self.weights()
        layout |= self.selections()
        self.carried()
        layout |= inputs | labels | weights
        if self.define:
            layout["define"] = self.define
        self.translation.layout = layout
        return self.translation

    # ------------------------------------------------------------------ sections

    def variables(self) -> None:
        for name, text in (self.content.get("new_variables") or {}).items():
            name, text = str(name), str(text)
            if text.strip() == name:
                continue  # a branch under its own name
            self.add(name, text, ("new_variables", name))

    def add(self, name: str, text: str, key: tuple[str, ...]) -> bool:
        """Defines a column; a note where its expression is not understood."""
        try:
            expression = Expression(text)
        except ConfigError as problem:
            if name.endswith("_mask"):  # packed jets have no padding to mask
                return False
            self.lost(key, f"{name}: {text.strip()[:160]} ({problem.what})")
            return False
        self.define[name] = " ".join(text.split())
        self.named.update(dict.fromkeys((name, *expression.names)))
        return True

    def selections(self) -> dict[str, str]:
        flags = {}
        for key, ours in (("selection", "selection"), ("test_time_selection", "test_selection")):
            text = self.content.get(key)
            if not text:
                continue
            name = f"weaver_{ours}"
            if self.add(name, str(text), (key,)):
                flags[ours] = f"{name} != 0"
        if flags:
            self.note(
                ("selection",),
                "selections apply to the jets of a training; predict scores every jet of a file",
            )
        return flags

    def inputs(self) -> dict[str, Any]:
        groups: dict[str, dict[str, Any]] = {}
        for name, value in self.content["inputs"].items():
            stem, _, kind = str(name).rpartition("_")
            if kind not in ("points", "features", "vectors", "mask") or not stem:
                stem, kind = str(name), "features"
            if not isinstance(value, Mapping) or not isinstance(value.get("vars"), list):
                self.lost(("inputs", str(name)), f"input {name}: no list of vars")
                continue
            groups.setdefault(stem, {})[kind] = value
            if kind == "mask":
                self.note(("inputs", str(name)), f"{name}: jets are packed here, and need no mask")
        jet_inputs = [s for s, g in groups.items() if set(g) == {"features"} and not self.is_list(g)]
        main = next((s for s in groups if s not in jet_inputs), None)
        if main is None:
            raise LayoutError(
                "no constituents among the inputs", where=self.where, mend="a layout needs some"
            )
        layout: dict[str, Any] = {}
        for stem in jet_inputs:
            self.lost(("inputs", f"{stem}_features"), f"{stem}: inputs of a jet, not of constituents: "
                      "name them as a model's observables")  # fmt: skip
        columns, features = self.group(main, groups[main])
        layout["constituents"] = columns
        layout["features"] = features
        lengths = {kind: int(g["length"]) for kind, g in groups[main].items() if g.get("length")}
        if lengths:
            length = layout["max_constituents"] = max(lengths.values())
            self.note(
                ("inputs", f"{main}_features"),
                f"length {length}: the leading {length} by pT (weaver takes the first {length} of the file)",
            )
        for kind, shorter in lengths.items():
            if shorter < length:
                self.lost(
                    ("inputs", f"{main}_{kind}"),
                    f"{main}_{kind}: length {shorter}: one jet has one list, {length} here",
                )
        others = [s for s in groups if s not in (main, *jet_inputs)]
        if others:
            layout["collections"] = {}
            wanted = {}
            for stem in others:
                layout["collections"][stem], wanted[stem] = self.group(stem, groups[stem])
                longest = max((int(g.get("length") or 0) for g in groups[stem].values()), default=0)
                if longest:
                    self.note(
                        ("inputs", f"{stem}_features"),
                        f"{stem}: length {longest}: all are kept (weaver takes the first {longest})",
                    )
            layout["collection_features"] = wanted
        jet = {n: f"jet_{n}" for n in ("pt", "eta", "phi", "energy") if f"jet_{n}" in self.named}
        jet |= {"mass": "jet_mass"} if "jet_mass" in self.named and "energy" not in jet else {}
        relative = "delta_eta" in columns and "pt" in columns and "eta" not in columns
        if relative and "eta" not in jet:
            jet["eta"] = "jet_eta"
            self.note(("inputs",), "jet_eta is taken for the jet's axis, which relative coordinates need")
        if relative or {"pt", "eta", "phi"} <= set(jet):
            layout["jet"] = jet
        return layout

    def is_list(self, group: Mapping[str, Any]) -> bool:
        """Whether a group of features alone belongs to constituents: `length` 1 says that it does not."""
        return any(int(g.get("length") or 2) > 1 for g in group.values())

    def group(self, stem: str, group: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """The columns of one collection, and its features in their order."""
        columns = self.momentum(stem, group)
        points = [_first(v) for v in (group.get("points") or {}).get("vars", [])]
        if len(points) == 2:
            own = ("eta", "phi") if [p.rpartition("_")[2] for p in points] == ["eta", "phi"] else None
            for ours, theirs in zip(own or ("delta_eta", "delta_phi"), points, strict=True):
                if own is None and self.there(theirs):
                    columns.setdefault(ours, theirs)
        features = []
        automatic = str((self.content.get("preprocess") or {}).get("method", "manual")).startswith("auto")
        for value in (group.get("features") or {}).get("vars", []):
            name = _first(value)
            if not self.there(name):
                self.lost(
                    ("inputs", f"{stem}_features", name), f"input {name}: its variable is not translated"
                )
                continue
            ours = name if name not in (*columns, *FEATURES, *RAW_COLUMNS, *_MOMENTUM) else f"{name}_input"
            columns[ours] = self.column(name, value, automatic)
            features.append(ours)
        return columns, features

    def column(self, name: str, value: Any, automatic: bool) -> Any:
        """One input with its standardisation, as weaver reads it."""
        params = (self.content.get("preprocess") or {}).get("params") or {}
        if isinstance(params.get(name), Mapping):  # a YAML that weaver wrote, with what it measured
            given = params[name]
            centre, scale = given.get("center"), given.get("scale", 1)
            bounds = (given.get("min", _CLIP[0]), given.get("max", _CLIP[1]))
        else:
            entries = value if isinstance(value, list) else [value]
            centre = entries[1] if len(entries) > 1 else "auto" if automatic else None
            scale = entries[2] if len(entries) > 2 else 1
            bounds = (
                entries[3] if len(entries) > 3 else _CLIP[0],
                entries[4] if len(entries) > 4 else _CLIP[1],
            )
            if len(entries) > 5 and entries[5] not in (0, None):
                self.note(("inputs",), f"{name}: pad value {entries[5]}: nothing is padded here")
        if centre == "auto":
            return {"branch": name, "standardise": True}
        if centre is None:
            return {"branch": name, "standardise": False}
        shift, factor, clip = self.checks.numbers(("inputs", name), name, centre, scale, bounds)
        return {"branch": name, "shift": shift, "scale": factor, "clip": clip}

    def momentum(self, stem: str, group: Mapping[str, Any]) -> dict[str, Any]:
        names = [_first(v) for v in (group.get("vectors") or {}).get("vars", [])]
        if len(names) == 4 and all(self.there(n) for n in names):
            return dict(zip(("px", "py", "pz", "energy"), names, strict=True))
        mentioned = [_first(v) for g in group.values() for v in g.get("vars", [])]
        pool = {*self.named, *mentioned}
        stems = dict.fromkeys([n.rpartition("_")[0] for n in (*mentioned, *self.named) if "_" in n])
        for prefix in stems:
            spelt = {}
            for part, endings in _SPELLINGS.items():
                there = next((f"{prefix}_{e}" for e in endings if f"{prefix}_{e}" in pool), None)
                if there is not None and prefix != "jet":
                    spelt[part] = there
            for form in _FORMS:
                if set(form) <= set(spelt):
                    parts = {part: spelt[part] for part in form}
                    listed = ", ".join(parts.values())
                    self.note(("inputs",), f"{stem}: no vectors: four-momenta are taken from {listed}")
                    return parts
        raise LayoutError(
            f"the four-momenta of '{stem}' are not in this YAML",
            where=self.where,
            mend=f"add {stem}_vectors with px, py, pz and energy to its inputs",
        )

    def labels(self) -> dict[str, Any]:
        labels = self.content.get("labels") or {}
        value = labels.get("value")
        if labels.get("type") == "simple" and isinstance(value, list):
            return self.one_hot([str(v) for v in value], ("labels", "value"))
        if not isinstance(value, Mapping) or not value:
            self.lost(("labels",), "no labels")
            return {}
        for name in list(value)[1:]:
            self.lost(
                ("labels", "value", str(name)), f"label {name}: one label a model; this is a further one"
            )
        name, text = next((str(n), str(t)) for n, t in value.items())
        stacked = re.fullmatch(
            r"np\.argmax\(np\.stack\(\[(.*)\],\s*axis=1\),\s*axis=1\)", " ".join(text.split())
        )
        if stacked:
            parts = re.sub(r"ak\.to_numpy\(([^()]*)\)", r"\1", stacked[1])
            return self.one_hot([p.strip() for p in parts.split(",")], ("labels", "value", name))
        label = text.strip()
        if not label.isidentifier():
            label = name if name not in self.define else f"{name}_label"
            if not self.add(label, text, ("labels", "value", name)):
                return {}
        number = self.classes if self.classes is not None else self.largest(label)
        if number is None:
            self.lost(
                ("labels", "value", name),
                f"label {label}: how many classes there are is not in this YAML: give --classes",
            )
            return {"label": label}
        if isinstance(number, int):
            self.note(("labels", "value", name), f"label {label}: {number} classes, named 0 to {number - 1}")
        return {"label": label, "classes": number if isinstance(number, int) else list(number)}

    def one_hot(self, values: Sequence[str], key: tuple[str, ...]) -> dict[str, Any]:
        labels = {}
        for i, text in enumerate(values):
            name = text if text.isidentifier() else f"label_{i}"
            if name != text and not self.add(name, text, key):
                continue
            if name.removeprefix("label_") in labels:
                self.lost(key, f"label {name}: it is named twice")
            elif self.there(name):
                labels[name.removeprefix("label_")] = name
            else:
                self.lost(key, f"label {name}: its variable is not translated")
        return {"labels": labels}

    def largest(self, label: str) -> int | None:
        """The classes of an integer label, from the largest `label < N` among the definitions."""
        bounds = [int(n) for t in self.define.values() for n in re.findall(rf"\b{label}\s*<\s*(\d+)", t)]
        equal = [int(n) + 1 for t in self.define.values() for n in re.findall(rf"\b{label}\s*==\s*(\d+)", t)]
        return max([*bounds, *equal], default=None)

    def weights(self) -> dict[str, Any]:
        section = self.content.get("weights")
        if not section:
            return {}
        if section.get("use_precomputed_weights"):
            branches = [str(b) for b in section.get("weight_branches") or []]
            if branches and self.add("weaver_weight", " * ".join(branches), ("weights", "weight_branches")):
                return {"weight": "weaver_weight"}
            return {}
        for name in section.get("reweight_classes") or []:
            if not self.there(str(name)):
                self.lost(("weights", "reweight_classes"), f"group {name}: its variable is not translated")
        base = section.get("reweight_basewgt")
        if base and not self.add("weaver_base_weight", str(base), ("weights", "reweight_basewgt")):
            base = None
        try:
            settings, lost = reweighting(section, "weaver_base_weight" if base else None)
        except (TypeError, ValueError):
            words = "edges, class_weights or the threshold are no numbers"
            raise self.checks.problem(("weights",), words) from None
        for word in lost:
            self.lost(("weights", word), f"weights.{word}: it has no counterpart")
        if settings is None:
            return {}
        self.note(
            ("weights",),
            "weaver draws jets with these weights; here they weight the loss, which is the same on average",
        )
        return {"reweight": settings}

    def carried(self) -> None:
        for key in ("observers", "monitor_variables"):
            names = [str(n) for n in self.content.get(key) or []]
            if names:
                self.note((key,), f"{key}: `hepml predict` carries every number of a jet, these among them: "
                          + ", ".join(names))  # fmt: skip
            for name in names:
                if not self.there(name):
                    self.lost((key,), f"{name}: its variable is not translated")
        fraction = (self.content.get("preprocess") or {}).get("data_fraction")
        if fraction and str((self.content.get("preprocess") or {}).get("method", "")).startswith("auto"):
            self.note(
                ("preprocess", "data_fraction"),
                f"data_fraction {fraction}: measured on all training jets instead, 100,000 at most",
            )

    # ------------------------------------------------------------------ helpers

    def there(self, name: str, through: tuple[str, ...] = ()) -> bool:
        """Whether a name means something: a branch, or a variable that was translated."""
        given = self.content.get("new_variables") or {}
        if name in given and str(given[name]).strip() != name and name not in self.define:
            return False
        if name not in self.define:
            self.named[name] = None
            return True
        if name in through:
            circle = " -> ".join((*through[through.index(name) :], name))
            raise self.checks.problem(
                ("new_variables", name), f"new_variables lead in a circle: {circle}", "break it"
            )
        return all(self.there(n, (*through, name)) for n in Expression(self.define[name]).names)

    def note(self, key: tuple[str, ...], sentence: str) -> None:
        self.translation.notes.append((self.line(key), sentence))

    def lost(self, key: tuple[str, ...], sentence: str) -> None:
        self.translation.untranslated.append((self.line(key), sentence))

    def line(self, key: tuple[str, ...]) -> int | None:
        return nearest_line(self.lines, key)


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) and value else value)


def _at(line: int | None) -> str:
    return "" if line is None else f"line {line}: "

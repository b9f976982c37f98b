"""What a config or a layout asks of the jets that `hepml inspect` shows: samples, and a reweighting of either
kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hepml.data.layouts.event_layout import with_jets
from hepml.data.reading.layouts import Layout
from hepml.data.reading.scanning import Scan
from hepml.data.reading.sources import expand
from hepml.data.sampling.group_weights import GroupWeights
from hepml.data.sampling.reweighting import Reweighting
from hepml.data.sampling.samples import Sample, SampleMap, files_of, parse_samples
from hepml.errors import FileError


def parse_reweighting(value: Mapping[str, Any], key: str = "data.reweight") -> Reweighting | GroupWeights:
    """A reweighting by classes or by groups.

    Raises:
        ConfigError: see the two.
    """
    return GroupWeights.parse(value, key) if "groups" in value else Reweighting.parse(value, key)


def layout_in(layout: Any) -> Any:
    """The layout that a run's config has, with its jet collection, None where it has none; what is no config
    is given back as it is."""
    data = _data_of(layout)
    if data is None:
        return layout
    jets = data.get("jets")
    if data.get("layout") is None:
        return with_jets(None, None if jets is None else str(jets))
    return layout if jets is None else with_jets(layout, str(jets))


@dataclass(frozen=True)
class Asked:
    """What is asked of the jets.

    Args:
        reweighting: of training jets.
        samples: that the files may belong to.
        weights: whether event weights count.
    """

    reweighting: Reweighting | GroupWeights | None = None
    samples: tuple[Sample, ...] = ()
    weights: bool = True

    @classmethod
    def of(cls, layout: Any) -> Asked:
        """Of a name, a mapping, a `Layout`, or a YAML file, which may be a run's config.

        Raises:
            ConfigError: samples or a reweighting that are wrong in themselves.
        """
        data = _data_of(layout) or {}
        value, samples = data.get("reweight"), data.get("samples")
        if value is None and layout is not None and (not data or data.get("layout") is not None):
            value = Layout.parse(layout).reweight
        return cls(
            parse_reweighting(value) if value else None,
            parse_samples(samples) if isinstance(samples, Mapping) else (),
            data.get("weights") is not False,
        )

    def map_of(self, scanned: Scan) -> tuple[SampleMap | None, tuple[str, ...]]:
        """The samples of scanned files, and what is wrong: which files belong to none, which then keep their
        own classes.

        Raises:
            DataError: as `SampleMap`.
        """
        if not self.samples or not scanned.files:
            return None, ()
        paths = {item.source.place: item.source.path for item in scanned.files}
        own = {sample: [paths[p] for p in _places(sample) if p in paths] for sample in self.samples}
        outside = set(paths.values()).difference(*own.values())
        if outside:
            named = ", ".join(sorted(outside))
            return None, (f"in none of data.samples, so that no sample's class is shown: {named}",)
        there = [replace(sample, files=tuple(files)) for sample, files in own.items() if files]
        return SampleMap(there, scanned, [s.label for s in self.samples if s.label is not None]), ()


def _places(sample: Sample) -> list[str]:
    """Where a sample's files are; none where they are not on this machine."""
    try:
        return [source.place for source in expand(files_of([sample]))]
    except FileError:
        return []


def _data_of(layout: Any) -> Mapping[str, Any] | None:
    """What a run's config says of its data; None where this is the name of no such file."""
    if not (isinstance(layout, str) and layout.endswith((".yaml", ".yml")) and Path(layout).is_file()):
        return None
    from hepml.config import read_yaml

    content = read_yaml(Path(layout))
    data = content.get("data") if isinstance(content, Mapping) else None
    return data if isinstance(data, Mapping) else None

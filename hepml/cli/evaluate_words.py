"""What the words of `hepml evaluate` mean: samples, working points, classes."""

from __future__ import annotations

from pathlib import Path


def named_of(files: list[str], default: str) -> dict[str, list[str]]:
    """{sample: its files} from FILE and NAME=FILE words."""
    samples: dict[str, list[str]] = {}
    for word in files:
        name, equals, path = word.partition("=")
        if not equals or "/" in name or Path(word).exists():
            name, path = default, word
        samples.setdefault(name, []).append(path)
    return samples


def points_of(text: str) -> list[float]:
    from hepml.errors import ConfigError

    try:
        points = [float(word) for word in text.split(",") if word.strip()]
    except ValueError:
        points = []
    if not points or not all(0 < point <= 1 for point in points):
        raise ConfigError(
            f"'{text}' is no list of signal efficiencies",
            where="--signal-efficiency",
            mend="write for example 0.3,0.5",
        )
    return points


def classes_of(words: str | None) -> list[str | int] | None:
    """Classes by name or index, as `b` or `c,uds,g`."""
    if words is None:
        return None
    return [int(word) if word.isdigit() else word for word in (w.strip() for w in words.split(","))]

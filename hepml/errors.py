"""The errors a user sees, and the helper that finds the nearest name.

Every error that a user can mend derives from `HepmlError` and reads as one line: what is wrong, where, and
how to mend it. The command line prints that line and exits with code 2; any other exception is a defect of
ours and exits with code 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from hepml.redaction import redact


class HepmlError(Exception):
    """Something the user can mend.

    Args:
        what: what is wrong, one clause, without a full stop.
        where: the file, key path or entry in which it was found.
        mend: what to do about it.

    Examples:
        >>> try:
        ...     hepml.read_jets("no_such_file.root")
        ... except hepml.HepmlError as problem:
        ...     print(problem.what)
        no such file: no_such_file.root
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str | None = None, mend: str | None = None) -> None:
        what = redact(what)
        where, mend = (part and redact(part) for part in (where, mend))
        self.what, self.where, self.mend = what, where, mend
        text = what if where is None else f"{what} (in {where})"
        super().__init__(text if mend is None else f"{text}: {mend}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.mend)


class FileError(HepmlError):
    """A file that is missing, unreadable, truncated, or cannot be written."""


class LayoutError(HepmlError):
    """A tree or branch that the layout names and the file lacks, or a file whose layout is not recognised."""


class DataError(HepmlError):
    """Jets that cannot be used as they are: NaN, negative energies, labels that do not sum to one, one class
    only."""


class ConfigError(HepmlError):
    """A configuration key or value that is not understood."""


class ModelError(HepmlError):
    """A model that is unknown, or whose weights or inputs do not fit."""


class TrackingError(HepmlError):
    """A tracking store that cannot be used."""


class MissingExtraError(HepmlError):
    """An optional dependency that is not installed.

    Args:
        package: the module that could not be imported.
        extra: the extra of `hepml-jets` that brings it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package, self.extra = package, extra
        super().__init__(f"{package} is not installed", mend=f"pip install 'hepml-jets[{extra}]'")

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.package, self.extra)


def nearest(name: str, candidates: Iterable[str], *, most: int = 3) -> list[str]:
    """The candidates spelt most like `name`, best first, at most `most`; empty where none is close."""
    name, pool = str(name), list(dict.fromkeys(candidates))
    close = difflib.get_close_matches(name, pool, n=most, cutoff=0.55)
    if close:
        return close
    lowered = {c.lower(): c for c in pool}
    return [lowered[c] for c in difflib.get_close_matches(name.lower(), lowered, n=most, cutoff=0.5)]


def did_you_mean(name: str, candidates: Iterable[str], *, noun: str = "known") -> str:
    """A mend for an unknown name: `did you mean 'x'?`, or the list of what there is where nothing is near."""
    pool = sorted(set(candidates))
    close = nearest(name, pool)
    if close:
        return "did you mean " + " or ".join(f"'{c}'" for c in close) + "?"
    shown = ", ".join(pool[:12]) + (f", … ({len(pool)} in all)" if len(pool) > 12 else "")
    if pool:
        return f"{noun}: {shown}"
    return "none is known" if noun == "known" else f"there are no {noun}"


def _rebuild(kind: type[HepmlError], what: str, where: str | None, mend: str | None) -> HepmlError:
    error = kind.__new__(kind)
    HepmlError.__init__(error, what, where=where, mend=mend)
    return error

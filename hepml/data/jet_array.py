"""Awkward jets with a display for notebooks: a small table and drawings of the first jets, as of a
`JetBatch`."""

from __future__ import annotations

import html
import warnings
from typing import Any

import awkward as ak

from hepml.data.reading.chunk import RECORD
from hepml.errors import HepmlError


class JetArray(ak.Array):  # type: ignore[misc]
    """Jets as `hepml.read_jets` gives them: an ordinary awkward array but for its picture."""

    def _repr_html_(self) -> str:
        from hepml.data.batch import JetBatch
        from hepml.data.display import ROWS

        report = html.escape(str(self.attrs.get("report", "")))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # columns that a batch leaves out are none of a picture's
                shown = JetBatch.from_awkward(self[:ROWS])._repr_html_()
        except (HepmlError, AttributeError, KeyError, TypeError, ValueError):
            # a selection of columns, or an array that was changed: what awkward says of it
            return str(super()._repr_mimebundle_().get("text/html", ""))
        title = f"<b>{len(self):,} jets</b> {report}<br>the first of them: <b>JetBatch</b>"
        return shown.replace("<b>JetBatch</b>", title, 1)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self._repr_html_(), "text/plain": repr(self)}


ak.behavior["*", RECORD] = JetArray

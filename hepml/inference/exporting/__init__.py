"""Trained taggers as files that other programs run: ONNX and `.pt2`, their preprocessing inside."""

from hepml.inference.exporting.tagger import Form, PaddedTagger, form_of
from hepml.inference.exporting.writing import export

__all__ = ["Form", "PaddedTagger", "export", "form_of"]

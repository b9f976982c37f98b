"""Views of a `JetBatch`: dense, graph, image, sequence, tree."""

from hepml.faces import Face

_FACE = Face(
    "hepml.representations",
    {},
    (
        "efp",
        "graph",
        "image",
        "observables",
        "sequence",
        "trees",
    ),
)
__all__ = _FACE.all()
__getattr__ = _FACE.get
__dir__ = _FACE.show

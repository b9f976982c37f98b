"""Layers that systems are built from."""

from hepml.faces import Face

_FACE = Face(
    "hepml.nn",
    {},
    (
        "attention",
        "conv1d",
        "convolutions",
        "edgeconv",
        "encoder",
        "feedforward",
        "hamiltonian",
        "kernels",
        "lorentz",
        "norm",
        "pair_embedding",
        "recursive",
        "resnext",
        "symplectic",
        "whitening",
    ),
)
__all__ = _FACE.all()
__getattr__ = _FACE.get
__dir__ = _FACE.show

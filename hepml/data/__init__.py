"""Files to `JetBatch`: layouts, reader, packing, cache, loader."""

from hepml.faces import Face

_FACE = Face(
    "hepml.data",
    {
        "JetBatch": "hepml.data.batch",
        "JetDataset": "hepml.data.dataset",
        "JetLoader": "hepml.data.loader",
        "Inputs": "hepml.data.inputs",
        "DataReport": "hepml.data.reading.report",
        "read_jets": "hepml.data.reading.reader",
        "iterate_jets": "hepml.data.reading.reader",
        "inspect": "hepml.data.reading.inspection",
        "inspect_together": "hepml.data.reading.inspection",
    },
    (
        "batch",
        "dataset",
        "features",
        "inputs",
        "loader",
        "public",
        "reading",
        "sampling",
    ),
)
__all__ = _FACE.all()
__getattr__ = _FACE.get
__dir__ = _FACE.show

"""Files of scores: what `hepml predict` writes (ROOT, npz, parquet, csv, HDF5), and what groups exchange
on a common test set (npz with `labels` and one array of scores a tagger). Every kind that is written is
read."""

from hepml.evaluation.score_files.reading import ScoreSheet, read_scores
from hepml.evaluation.score_files.writing import Writer, writer

__all__ = ["ScoreSheet", "Writer", "read_scores", "writer"]

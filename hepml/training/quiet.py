"""Lightning without its remarks, so that what a run prints is about the run."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's remarks on workers, accelerators and products; its errors are still heard."""
    names = (
        "lightning",
        "lightning.pytorch",
        "lightning.fabric",
        "lightning.pytorch.utilities.rank_zero",
        "lightning.fabric.utilities.rank_zero",
    )
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        for pattern in (
            r".*does not have many workers.*",
            r".*in eval mode at the start.*",
            r".*`isinstance\(treespec, LeafSpec\)`.*",
            r".*GPU available but not used.*",
            r".*resuming from a checkpoint.*",
            r".*`lr_scheduler.step\(\)` before.*",
        ):
            warnings.filterwarnings("ignore", pattern)
        warnings.filterwarnings("ignore", module=r"lightning\..*")
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\..*|mlflow\..*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)

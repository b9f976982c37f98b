"""A chunk: the unit of work, of saving and of reproducibility.

A chunk is a pure function of its `ChunkTask`: neither the number of workers nor what ran before changes a bit
of it. It generates a few events in every pT-hat slice of one process and returns the jets that pass.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepml.generation.columns import Columns, jet_columns, jets_in, join, take
from hepml.generation.detector import simulate
from hepml.generation.events import LARGEST_SEED, start_pythia
from hepml.generation.jets import select_jets
from hepml.generation.recipes import find_recipe


@dataclass(frozen=True)
class ChunkTask:
    """Everything that a chunk depends on. `events` is how many events all its slices together shall have
    after the early veto."""

    recipe: str
    process: int
    number: int
    seed: int
    events: int
    multiple_interactions: bool


@dataclass
class Chunk:
    """What a chunk made.

    `columns` are the jets in random order, or None when there is no jet; `slice_of` [jets] the slice each
    came from; `factor` [jets] the weight its event has within the slice; `draw` [jets] a uniform number each,
    for unweighting; `events` and `cross_section` (pb) have one entry a slice.
    """

    columns: Columns | None
    slice_of: NDArray[np.int16]
    factor: NDArray[np.float64]
    draw: NDArray[np.float64]
    events: NDArray[np.int64]
    cross_section: NDArray[np.float64]


def make_chunk(task: ChunkTask) -> Chunk:
    """Generates, detects, clusters and selects: task in, jets out."""
    with quiet_stdout():
        return _make_chunk(task)


def _make_chunk(task: ChunkTask) -> Chunk:
    process = find_recipe(task.recipe).processes[task.process]
    interactions = "on" if task.multiple_interactions else "off"
    parts: list[Columns] = []
    origin: list[NDArray[np.int16]] = []
    factors: list[NDArray[np.float64]] = []
    events = np.zeros(len(process.slices), dtype=np.int64)
    cross_section = np.zeros(len(process.slices))
    source = np.random.SeedSequence(task.seed, spawn_key=(task.process, task.number))
    for number, (piece, entropy) in enumerate(
        zip(process.slices, source.spawn(len(process.slices)), strict=True)
    ):
        pythia_seed = int(entropy.generate_state(1)[0]) % LARGEST_SEED + 1
        rng = np.random.default_rng(entropy.spawn(1)[0])
        settings = (
            *process.settings,
            f"PartonLevel:MPI = {interactions}",
            f"PhaseSpace:pTHatMin = {piece.low}",
            f"PhaseSpace:pTHatMax = {piece.high}",
        )
        generator = start_pythia(settings, pythia_seed, process.parton_window, rng)
        for batch in generator.batches(max(round(piece.share * task.events), 1), process.resonance):
            events[number] += batch.events
            jets = select_jets(simulate(batch.particles, rng), batch, process.selection)
            if jets is not None:
                parts.append(jet_columns(jets, batch.pthat[jets.event], process.name))
                origin.append(np.full(len(jets.event), number, dtype=np.int16))
                factors.append(batch.weight[jets.event])
        cross_section[number] = generator.cross_section()
    if not parts:
        return Chunk(None, np.zeros(0, np.int16), np.zeros(0), np.zeros(0), events, cross_section)
    columns, slice_of, factor = join(parts), np.concatenate(origin), np.concatenate(factors)
    rng = np.random.default_rng(source.spawn(1)[0])
    order = rng.permutation(jets_in(columns))
    return Chunk(
        take(columns, order), slice_of[order], factor[order], rng.random(len(order)), events, cross_section
    )


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Sends what C++ writes to standard output (the banners of FastJet and Pythia) nowhere: standard output
    is the user's."""
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        yield
        _flush_c()
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


def _flush_c() -> None:
    """Flushes C's buffers, which Python's flush does not reach."""
    import ctypes

    try:
        ctypes.CDLL(None).fflush(None)
    except (OSError, AttributeError):
        return

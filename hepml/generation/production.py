"""From a recipe and a number of jets to a ROOT file: chunks over workers, weights over chunks, one file at
the end.

Chunks are taken in their order and there are as many as it takes to have the jets asked for, so the file
depends on the seed and not on how many workers there were or which of them was faster.
"""

from __future__ import annotations

import importlib.metadata
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepml import outputs
from hepml.errors import ConfigError, FileError, MissingExtraError, did_you_mean
from hepml.generation.chunk import Chunk, ChunkTask, make_chunk
from hepml.generation.columns import Columns, jets_in, join, take
from hepml.generation.parts import PartStore
from hepml.generation.recipes import Process, Recipe, find_recipe
from hepml.generation.writer import write_jets

Progress = Callable[[int, int], None]
LAYOUT_VERSION = 1  # chunks of another version are not used
EVENTS_PER_CHUNK = 1500
LARGEST_CHUNK = 6000
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class GenerationReport:
    """What `generate` made.

    `jets` and `events` are by process; `cross_section` (pb) is that of the jets that pass the selection;
    `jets_per_second` counts the jets made in this call, not those of chunks that an earlier call had saved.

    Examples:
        >>> import dataclasses
        >>> [field.name for field in dataclasses.fields(hepml.generation.GenerationReport)][:4]
        ['output', 'recipe', 'jets', 'events']
    """

    output: Path
    recipe: str
    jets: dict[str, int]
    events: dict[str, int]
    cross_section: dict[str, float]
    weight_range: tuple[float, float]
    chunks: int
    chunks_resumed: int
    seconds: float
    jets_per_second: float
    size_bytes: int
    record: dict[str, Any] = field(repr=False)

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {**asdict(self), "output": str(self.output), "weight_range": list(self.weight_range)}


def generate(
    recipe: str,
    jets: int,
    seed: int,
    workers: int,
    output: Path | str,
    *,
    unweighted: bool = False,
    resume: bool = True,
    progress: Progress | None = None,
    **options: Any,
) -> GenerationReport:
    """Generates `jets` jets, in equal numbers from every class of the recipe, and writes them to `output`.

    The same recipe, number, seed and options give the same jets whatever the number of workers, and whether
    or not the run was killed and started again. With more than one worker a script must protect its main
    program by `if __name__ == "__main__":`.

    Args:
        recipe: a name in `recipes()`.
        jets: how many jets in all.
        seed: not negative.
        workers: processes to use; 1 works in this process.
        output: the ROOT file; it appears under this name only when it is complete.
        unweighted: jets are drawn in proportion to their weights, so that all weights are one; takes more
            events.
        resume: take up the chunks of an earlier run that was killed.
        progress: called with (jets so far, jets in all).
        options: `multiple_interactions` (bool, default as the recipe says) and `events_per_chunk` (int).

    Raises:
        ConfigError: unknown recipe or option, or a number out of range.
        FileError: the output cannot be written, or an unfinished run with other settings is in its place.
        MissingExtraError: without the extra `generate`.

    Examples:
        >>> quick = {"multiple_interactions": False, "events_per_chunk": 100}
        >>> report = hepml.generation.generate("toptag", 4, 1, 1, "few.root", **quick)
        >>> report.jets
        {'Tbqq': 2, 'QCD': 2}
    """
    started = time.perf_counter()
    chosen, plan = find_recipe(recipe), _plan(recipe, jets, seed, workers, unweighted, options)
    versions = _versions()
    output = Path(output)
    _check_output(output)
    store = PartStore.beside(output)
    wanted = _wanted(jets, len(chosen.processes))
    with outputs.owning(store.folder):  # two runs of one output would take each other's chunks
        store.open({"layout": LAYOUT_VERSION, "versions": versions, **asdict(plan)}, resume)
        production = _Production(chosen, plan, wanted, store, progress).run(workers)
        report = _write(chosen, plan, production, output, started)
        store.discard()
    return report


def _write(
    chosen: Recipe, plan: _Plan, production: _Production, output: Path, started: float
) -> GenerationReport:
    """Puts the chunks together in a drawn order, writes the file, and reports."""
    wanted = production.wanted
    parts: list[Columns] = []
    for process, chunks, number in zip(chosen.processes, production.chunks, wanted, strict=True):
        parts.append(_assemble(process, chunks, number, plan.unweighted))
    columns = join(parts)
    order = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(len(wanted), 0))).permutation(
        jets_in(columns)
    )
    columns = take(columns, order)
    names = [process.name for process in chosen.processes]
    record = {
        **asdict(plan),
        "description": chosen.description,
        "versions": _versions(),
        "cross_section_pb": {n: _cross_section(c) for n, c in zip(names, production.chunks, strict=True)},
        "events": {
            n: int(sum(c.events.sum() for c in chunks))
            for n, chunks in zip(names, production.chunks, strict=True)
        },
        "processes": [asdict(process) for process in chosen.processes],
    }
    write_jets(output, columns, record)
    seconds = time.perf_counter() - started
    weights = columns["weight"]
    return GenerationReport(
        output=output,
        recipe=plan.recipe,
        jets=dict(zip(names, wanted, strict=True)),
        events=record["events"],
        cross_section=record["cross_section_pb"],
        weight_range=(float(weights.min()), float(weights.max())),
        chunks=sum(len(chunks) for chunks in production.chunks),
        chunks_resumed=production.resumed,
        seconds=seconds,
        jets_per_second=production.fresh_jets / seconds,
        size_bytes=output.stat().st_size,
        record=record,
    )


# ------------------------------------------------------------------------------------------------------------
# plan
@dataclass(frozen=True)
class _Plan:
    """Everything that the jets depend on."""

    recipe: str
    jets: int
    seed: int
    unweighted: bool
    multiple_interactions: bool
    events_per_chunk: int


def _plan(
    recipe: str, jets: int, seed: int, workers: int, unweighted: bool, options: dict[str, Any]
) -> _Plan:
    chosen = find_recipe(recipe)
    known = ("multiple_interactions", "events_per_chunk")
    for name in options:
        if name not in known:
            raise ConfigError(
                f"unknown option '{name}'", where="generate", mend=did_you_mean(name, known, noun="options")
            )
    classes = len(chosen.processes)
    if jets < classes:
        raise ConfigError(
            f"{jets} jets asked for", where="generate", mend=f"ask for at least {classes}, one a class"
        )
    if not 0 <= seed <= _LARGEST_SEED:
        raise ConfigError(
            f"seed {seed} out of range", where="generate", mend="choose a seed from 0 to 2^63 - 1"
        )
    if workers < 1:
        raise ConfigError(f"{workers} workers", where="generate", mend="use at least one")
    chunk = options.get("events_per_chunk") or _chunk_size(jets, classes)
    if chunk < 1:
        raise ConfigError(f"events_per_chunk = {chunk}", where="generate", mend="use at least one")
    interactions = options.get("multiple_interactions")
    return _Plan(
        recipe,
        jets,
        seed,
        unweighted,
        chosen.multiple_interactions if interactions is None else bool(interactions),
        int(chunk),
    )


def _chunk_size(jets: int, classes: int) -> int:
    """Events a chunk. A chunk of a small sample is small, so that several workers have something to do and
    little is thrown away; one of a large sample is large, since Pythia starts again for every slice."""
    usual = min(EVENTS_PER_CHUNK, max(100, 2 * jets // classes))
    return max(usual, min(LARGEST_CHUNK, jets // classes // 8))


def _wanted(jets: int, classes: int) -> list[int]:
    return [jets // classes + (number < jets % classes) for number in range(classes)]


def _check_output(output: Path) -> None:
    folder = output.parent
    if folder.is_dir() and not os.access(folder, os.W_OK):
        raise FileError("cannot write here", where=str(folder), mend="choose another output")
    if not folder.is_dir():
        raise FileError(
            "no such directory", where=str(folder), mend="make it first, or choose another output"
        )
    if output.is_dir():
        raise FileError("the output is a directory", where=str(output), mend="name a file, such as jets.root")


def _versions() -> dict[str, str]:
    versions = {"hepml": _version_of("hepml-jets") or "source"}
    for package in ("pythia8mc", "fastjet"):
        version = _version_of(package)
        if version is None:
            raise MissingExtraError(package, "generate")
        versions[package] = version
    return versions


def _version_of(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


# ------------------------------------------------------------------------------------------------------------
# production
class _Production:
    """Runs chunks until every process has its jets."""

    def __init__(
        self, recipe: Recipe, plan: _Plan, wanted: list[int], store: PartStore, progress: Progress | None
    ) -> None:
        self.recipe, self.plan, self.wanted, self.store, self.progress = recipe, plan, wanted, store, progress
        self.chunks: list[list[Chunk]] = [[] for _ in wanted]
        self.waiting: list[dict[int, Chunk]] = [{} for _ in wanted]
        self.have = [0] * len(wanted)
        self.resumed = 0
        self.fresh_jets = 0

    def run(self, workers: int) -> _Production:
        """Everything, in this process or in `workers` others."""
        self._report()
        if workers == 1:
            for process in range(len(self.wanted)):
                while not self._complete(process):
                    number = len(self.chunks[process])
                    self._accept(
                        process,
                        number,
                        self._saved(process, number) or self._make(self._task(process, number)),
                    )
            return self
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            try:
                self._run_pool(pool, workers)
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
        return self

    def _run_pool(self, pool: ProcessPoolExecutor, workers: int) -> None:
        running: dict[Future[Chunk], ChunkTask] = {}
        following = [0] * len(self.wanted)
        while not all(self._complete(process) for process in range(len(self.wanted))):
            while len(running) < workers:
                process = self._next_process(running, following)
                number = following[process]
                following[process] += 1
                saved = self._saved(process, number)
                if saved is not None:
                    self._accept(process, number, saved)
                    if all(self._complete(p) for p in range(len(self.wanted))):
                        return
                    continue
                task = self._task(process, number)
                running[pool.submit(make_chunk, task)] = task
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                task = running.pop(future)
                self._accept(task.process, task.number, self._keep(task, future.result()))

    def _next_process(self, running: dict[Future[Chunk], ChunkTask], following: list[int]) -> int:
        """The process that is furthest from its jets, counting the work under way."""

        def progress_of(process: int) -> float:
            chunks = len(self.chunks[process]) + len(self.waiting[process])
            under_way = sum(task.process == process for task in running.values())
            expected = self.have[process] / max(chunks, 1) if chunks else 0.1 * self.plan.events_per_chunk
            ready = sum(len(c.slice_of) for c in self.waiting[process].values())
            return (self.have[process] + ready + under_way * expected) / self.wanted[process]

        missing = [p for p in range(len(self.wanted)) if not self._complete(p)]
        return min(missing, key=progress_of)

    def _task(self, process: int, number: int) -> ChunkTask:
        p = self.plan
        return ChunkTask(p.recipe, process, number, p.seed, p.events_per_chunk, p.multiple_interactions)

    def _saved(self, process: int, number: int) -> Chunk | None:
        chunk = self.store.load(self.recipe.processes[process].name, number)
        self.resumed += chunk is not None
        return chunk

    def _make(self, task: ChunkTask) -> Chunk:
        return self._keep(task, make_chunk(task))

    def _keep(self, task: ChunkTask, chunk: Chunk) -> Chunk:
        self.store.save(self.recipe.processes[task.process].name, task.number, chunk)
        self.fresh_jets += len(chunk.slice_of)
        return chunk

    def _accept(self, process: int, number: int, chunk: Chunk) -> None:
        """Takes chunks in order; those that come early wait."""
        self.waiting[process][number] = chunk
        while not self._complete(process) and len(self.chunks[process]) in self.waiting[process]:
            self.chunks[process].append(self.waiting[process].pop(len(self.chunks[process])))
            self.have[process] = int(_kept(self.chunks[process], self.plan.unweighted).sum())
        self._report()

    def _complete(self, process: int) -> bool:
        return self.have[process] >= self.wanted[process]

    def _report(self) -> None:
        if self.progress is not None:
            self.progress(
                sum(min(h, w) for h, w in zip(self.have, self.wanted, strict=True)), sum(self.wanted)
            )


# ------------------------------------------------------------------------------------------------------------
# weights
def jet_weights(chunks: list[Chunk]) -> NDArray[np.float64]:
    """The cross-section in pb that each jet stands for: its slice's mean cross-section over the slice's
    events. Shape [jets]."""
    events = np.sum([chunk.events for chunk in chunks], axis=0)
    section = np.sum([chunk.cross_section * chunk.events for chunk in chunks], axis=0) / events
    origin = np.concatenate([chunk.slice_of for chunk in chunks])
    out: NDArray[np.float64] = (section / events)[origin] * np.concatenate([chunk.factor for chunk in chunks])
    return out


def _kept(chunks: list[Chunk], unweighted: bool) -> NDArray[np.bool_]:
    """Which jets of the chunks are kept: all, or as many as make their weights equal."""
    weights = jet_weights(chunks)
    if not unweighted or len(weights) == 0:
        return np.ones(len(weights), dtype=bool)
    out: NDArray[np.bool_] = np.concatenate([chunk.draw for chunk in chunks]) < weights / weights.max()
    return out


def _cross_section(chunks: list[Chunk]) -> float:
    return float(jet_weights(chunks).sum())


def _assemble(process: Process, chunks: list[Chunk], wanted: int, unweighted: bool) -> Columns:
    """The first `wanted` kept jets of a process with their weights, whose mean is one."""
    index = np.flatnonzero(_kept(chunks, unweighted))[:wanted]
    columns = take(join([chunk.columns for chunk in chunks if chunk.columns is not None]), index)
    weights = jet_weights(chunks)[index]
    weights = np.ones(len(index)) if unweighted else weights / weights.mean()
    return {**columns, "weight": weights.astype(np.float32)}

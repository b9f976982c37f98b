"""Packing jets on a dask cluster: each task packs some thousand entries of a file, and the pieces are
concatenated in the files' order. The bytes are those of packing in one process.

Client and workers must see the same folders. A scheduler may run already, or workers are started as jobs of
Slurm or HTCondor for the time of the packing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hepml.data.build import Request
from hepml.data.cache import ColumnWriter, Write
from hepml.data.reading.reader import Scan
from hepml.data.reading.report import DataReport
from hepml.data.shards import Shard, ShardReader, closed, cut
from hepml.errors import ConfigError, DataError, HepmlError

SIZE = 5  # shards of the usual size a task
_WAIT = 60  # seconds for a scheduler that was named to answer
_BATCH_SYSTEMS = ("slurm", "htcondor")


@contextmanager
def packing_on(
    where: str, jobs: int = 4, tell: Callable[[int, int], None] = lambda done, tasks: None
) -> Iterator[Write]:
    """How `open_cache` builds a cache on a cluster.

    Args:
        where: address of a scheduler (`tcp://HOST:PORT`), its scheduler file, `slurm` or `htcondor`.
        jobs: workers to start, where they are jobs.
        tell: told how many tasks are done.

    Raises:
        ConfigError: dask is not installed, no scheduler answers, the batch system has no commands here.
    """
    client, cluster = _connect(where, jobs)
    try:
        yield lambda partial, scanned, request: _pack(client, partial, scanned, request, tell)
    finally:
        client.close()
        if cluster is not None:
            cluster.close()


def _connect(where: str, jobs: int) -> tuple[Any, Any]:
    try:
        import distributed
    except ImportError as problem:
        raise _not_installed("dask") from problem
    cluster: Any = None
    client_of: Any = distributed.Client  # dask has no types
    try:
        if where in _BATCH_SYSTEMS:
            cluster = _jobs(where, jobs)
            return client_of(cluster), cluster
        if Path(where).is_file():
            return client_of(scheduler_file=where, timeout=_WAIT), None
        return client_of(where, timeout=_WAIT), None
    except HepmlError:
        raise
    except Exception as problem:
        if cluster is not None:
            cluster.close()
        message = " ".join(str(problem).split())[:160]
        raise ConfigError(
            f"no dask cluster at {where} ({type(problem).__name__}: {message})",
            where="--dask",
            mend="give tcp://HOST:PORT of a running scheduler, its scheduler file, slurm or htcondor",
        ) from problem


def _jobs(system: str, jobs: int) -> Any:
    """A cluster whose workers are jobs; queue, walltime and the like come from dask-jobqueue's own
    configuration."""
    command = {"slurm": "sbatch", "htcondor": "condor_submit"}[system]
    if shutil.which(command) is None:
        raise ConfigError(
            f"there is no {command} here", where=f"--dask {system}", mend="start it where jobs are submitted"
        )
    try:
        import dask_jobqueue
    except ImportError as problem:
        raise _not_installed("dask-jobqueue") from problem
    jobqueue: Any = dask_jobqueue
    one = {"cores": 1, "processes": 1, "memory": "3 GB", "n_workers": jobs}
    if system == "slurm":
        return jobqueue.SLURMCluster(**one)
    return jobqueue.HTCondorCluster(**one, disk="2 GB")


def _not_installed(package: str) -> ConfigError:
    return ConfigError(
        f"packing on a cluster needs {package}", where="--dask", mend="pip install 'hepml-jets[dask]'"
    )


def _pack(
    client: Any, partial: Path, scanned: Scan, request: Request, tell: Callable[[int, int], None]
) -> None:
    scanned.raise_first()
    scanned = closed(scanned)
    shards = list(cut(scanned, ShardReader(scanned, request), SIZE))
    shared = client.scatter((scanned, request), broadcast=True, hash=False)
    home, folder = os.getcwd(), partial.absolute()
    futures = [
        client.submit(_pack_shard, shared, shard, str(folder / f"shard-{i}"), home, pure=False)
        for i, shard in enumerate(shards)
    ]
    report, writer = DataReport(), ColumnWriter(partial)
    try:
        for count, future in enumerate(futures, 1):
            _append(future.result(), report, writer)
            future.release()
            tell(count, len(futures))
    finally:
        writer.close()
        client.cancel(futures)
    if not writer.about["columns"]:
        raise DataError(
            f"no jets left: {report}", mend="loosen the selection or the classes, or repair the file"
        )
    writer.finish(report, request)


def _pack_shard(shared: tuple[Scan, Request], shard: Shard, folder: str, home: str) -> dict[str, Any]:
    """A task: the columns of a shard in a folder of their own, and what there is to say of them."""
    if os.getcwd() != home:  # relative paths are the client's
        os.chdir(home)
    scanned, request = shared
    report, place = DataReport(), Path(folder)
    shutil.rmtree(place, ignore_errors=True)  # of a worker that died
    place.mkdir()
    writer = ColumnWriter(place)
    reader = ShardReader(scanned, request)
    try:
        for piece in reader.pieces(shard, report):
            writer.add(piece, request)
    finally:
        writer.close()
        reader.close()
    return {"folder": folder, "about": writer.about, "report": report}


def _append(packed: dict[str, Any], report: DataReport, writer: ColumnWriter) -> None:
    place, about = Path(packed["folder"]), packed["about"]
    report.add(packed["report"])
    for name, kind in about["columns"].items():
        with open(place / f"{name}.bin", "rb") as piece:
            out = writer.file(name, kind)
            if writer.about["columns"][name] != kind:
                raise DataError(
                    f"column '{name}' is {kind['dtype']} in some files and "
                    f"{writer.about['columns'][name]['dtype']} in others",
                    mend="pack them without --dask",
                )
            shutil.copyfileobj(piece, out, 1 << 22)
    writer.about |= {n: v for n, v in about.items() if n != "columns"}
    shutil.rmtree(place)

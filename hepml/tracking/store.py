"""Opening an MLflow store: which one, without telemetry or noise, and with a fresh sqlite file that is
created once, whole.

MLflow is imported here and nowhere else at the top of a call, because its import takes seconds.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from hepml.errors import TrackingError
from hepml.redaction import HIDDEN, lacks_secret, redact, reveal

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

DEFAULT_FILE = "mlflow.db"
# MLflow's own settings, where the user has not set them. By itself it would try 7 times for 120 s; the sink
# tries again anyhow.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_ENABLE_ASYNC_LOGGING": "false",
}


def tracking_uri(uri: str | None = None) -> str:
    """The store to use: MLFLOW_TRACKING_URI where it is set, else `uri`, else `mlflow.db` in the current
    directory.

    Paths of sqlite files are made absolute.

    Examples:
        >>> hepml.tracking.tracking_uri('http://localhost:5000')
        'http://localhost:5000'
    """
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or reveal(uri or f"sqlite:///{DEFAULT_FILE}")
    path = sqlite_path(chosen)
    if path is not None:
        return f"sqlite:///{path}"
    if "://" not in chosen:  # a folder, or a database file named without its scheme
        place = Path(chosen).expanduser().absolute()
        return f"sqlite:///{place}" if place.suffix in (".db", ".sqlite", ".sqlite3") else place.as_uri()
    return chosen


def sqlite_path(uri: str) -> Path | None:
    """The absolute path of a sqlite store, or None for another store."""
    match = re.match(r"sqlite(?:\+\w+)?:///(?P<path>[^?]+)", uri)
    return Path(match["path"]).expanduser().absolute() if match else None


def public_uri(uri: str) -> str:
    """The uri without user name and password, for files and messages."""
    return redact(uri).replace(f"//{HIDDEN}@", "//")


def authenticated(uri: str) -> str:
    """The uri as MLflow is to get it, where a secret was taken out of a saved config.

    Raises:
        TrackingError: the secret is not known, and neither are user and password from the environment.
    """
    if not lacks_secret(uri):
        return uri
    if any(os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "TOKEN")):
        return uri.replace(f"//{HIDDEN}@", "//")  # MLflow reads them by itself
    raise TrackingError(
        "the secret in tracking.uri is kept in no file",
        where=public_uri(uri),
        mend="give it again as tracking.uri=…, or in MLFLOW_TRACKING_URI, or set MLFLOW_TRACKING_USERNAME "
        "and MLFLOW_TRACKING_PASSWORD; tracking.enabled=false goes without",
    )


def reason(error: BaseException) -> str:
    """One line that says why a store failed, without passwords: MLflow's own messages repeat themselves and
    the whole address."""
    text = public_uri(str(error) or type(error).__name__).partition("\n")[0]
    refused = re.search(r"Failed to establish a new connection: (?:\[Errno -?\d+\] )?([\w ,.-]+)", text)
    if refused:
        return refused[1].strip().lower()
    if "timed out" in text.lower():
        return "no answer in time"
    return text if len(text) <= 300 else text[:299] + "…"


def prepare_environment() -> None:
    """Sets MLflow's environment variables where the user has not; to be called before MLflow is imported."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def open_store(uri: str) -> MlflowClient:
    """A client of the store; a sqlite file that does not exist yet is made first.

    Raises:
        TrackingError: the store cannot be opened.
    """
    prepare_environment()
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient
    from sqlalchemy.exc import SQLAlchemyError

    _quiet()
    path = sqlite_path(uri)
    try:
        if path is None:
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=300):
            if not path.exists() or path.stat().st_size == 0:
                _make_sqlite(path)
            return MlflowClient(tracking_uri=uri, registry_uri=uri)
    except (MlflowException, SQLAlchemyError) as error:
        first = reason(error)
        mend = f"run: mlflow db upgrade {uri}" if "out-of-date" in first else "check tracking.uri"
        raise TrackingError(
            f"the MLflow store cannot be opened: {first}", where=public_uri(uri), mend=mend
        ) from error
    except OSError as error:
        raise TrackingError(
            f"the MLflow store cannot be opened: {error}", where=public_uri(uri), mend="check tracking.uri"
        ) from error


def experiment_id(client: MlflowClient, uri: str, name: str) -> str:
    """The experiment of that name, made where there is none; several processes may ask at once.

    Raises:
        TrackingError: the experiment has been deleted in the store.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        path = sqlite_path(uri)
        artifacts = None if path is None else (path.parent / "mlruns" / _slug(name)).as_uri()
        try:
            return str(client.create_experiment(name, artifact_location=artifacts))
        except MlflowException:
            experiment = client.get_experiment_by_name(name)  # another process was faster
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"the experiment '{name}' is deleted",
            where=public_uri(uri),
            mend=f"mlflow experiments restore --experiment-id {experiment.experiment_id}, or choose another "
            "tracking.experiment",
        )
    return str(experiment.experiment_id)


def _make_sqlite(path: Path) -> None:
    """Makes a store beside its place and moves it there whole: a process killed in the middle leaves no
    half-migrated store."""
    import sqlalchemy
    from mlflow.tracking import MlflowClient

    partial = path.with_name(f".{path.name}.{os.getpid()}.{time.time_ns()}.partial")
    try:
        with _unsynchronised(sqlalchemy, partial):
            client: Any = MlflowClient(
                tracking_uri=f"sqlite:///{partial}", registry_uri=f"sqlite:///{partial}"
            )
            client.search_experiments(max_results=1)
            with contextlib.suppress(AttributeError):
                client._tracking_client.store.engine.dispose()
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        if path.exists():  # empty, left by somebody else
            path.unlink()
        try:
            os.link(
                partial, path
            )  # unlike a rename, never replaces a store that another program made meanwhile
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(partial, path)
    finally:
        for leftover in path.parent.glob(
            f".{path.name}.*.partial*"
        ):  # also those of killed processes: the lock is ours
            leftover.unlink(missing_ok=True)


@contextlib.contextmanager
def _unsynchronised(sqlalchemy: Any, path: Path) -> Iterator[None]:
    """Lets sqlite write `path` without waiting for the disk at each of the some hundred steps of the
    migration."""

    def connect(connection: Any, _: Any) -> None:
        with contextlib.suppress(Exception):
            if any(row[2] == str(path) for row in connection.execute("PRAGMA database_list")):
                connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(sqlalchemy.engine.Engine, "connect", connect)
    try:
        yield
    finally:
        sqlalchemy.event.remove(sqlalchemy.engine.Engine, "connect", connect)


def _quiet() -> None:
    for name in ("mlflow", "alembic", "mlflow.store.db.utils"):
        logger = logging.getLogger(name)
        if logger.level < logging.WARNING and os.environ.get("MLFLOW_LOGGING_LEVEL", "").upper() != "DEBUG":
            logger.setLevel(logging.WARNING)
    logging.getLogger("urllib3.connectionpool").setLevel(
        logging.ERROR
    )  # the sink itself says that a server is gone, once


def _slug(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "experiment"

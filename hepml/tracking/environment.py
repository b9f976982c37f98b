"""Where a run took place: Python, packages, processor, accelerator, batch system, and the state of the source
tree.

`capture_environment` and `capture_git` return plain JSON-able dictionaries; nothing here needs MLflow.
"""

from __future__ import annotations

import getpass
import importlib.metadata
import os
import platform
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hepml.data.reading.cores import available_cores
from hepml.redaction import redacted

# Longest diff that is kept, in bytes; a longer one is cut and marked so.
DIFF_LIMIT = 1_000_000
_BATCH_VARIABLES = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_NODELIST",
    "SLURM_NNODES",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "_CONDOR_SLOT",
    "CONDOR_ID",
)
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF")


def capture_environment() -> dict[str, Any]:
    """What this process runs on.

    Returns:
        `python`, `platform`, `host`, `user`, `command`, `processor` {name, cores, usable, memory_gib},
        `torch` {version, cuda, threads}, `accelerators` [names], `batch` {Slurm and HTCondor variables that
        are set}, `variables`, `packages` {name: version}.

    Examples:
        >>> 'python' in str(hepml.tracking.capture_environment()).lower()
        True
    """
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "user": user_name(),
        "command": list(sys.argv),
        "processor": _processor(),
        "torch": _torch(),
        "accelerators": _accelerators(),
        "batch": {name: os.environ[name] for name in _BATCH_VARIABLES if name in os.environ},
        "variables": {name: os.environ[name] for name in _THREAD_VARIABLES if name in os.environ},
        "packages": _packages(),
    }
    return dict(redacted(environment))


def capture_git(path: Path | str) -> dict[str, Any] | None:
    """The state of the source tree around `path`.

    Returns:
        `commit`, `branch`, `dirty`, `changed` [paths that differ from the commit], `untracked` [paths],
        `diff` (against the commit, cut at 1 MB with `diff_cut` true), or None where there is no git tree or
        no git.

    Examples:
        >>> from pathlib import Path
        >>> hepml.tracking.capture_git(Path("/")) is None
        True
    """
    folder = Path(path)
    folder = folder if folder.is_dir() else folder.parent
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    status = _git(folder, "status", "--porcelain=v1", "-z") or ""
    entries = [e for e in status.split("\0") if len(e) > 3 and e[2] == " "]
    changed = [e[3:] for e in entries if not e.startswith("??")]
    diff = (_git(folder, "diff", "HEAD", "--no-color", "--no-ext-diff") or "") if changed else ""
    cut = len(diff.encode()) > DIFF_LIMIT
    description = {
        "commit": commit.strip(),
        "branch": (_git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "").strip(),
        "dirty": bool(changed),
        "changed": changed,
        "untracked": [e[3:] for e in entries if e.startswith("??")],
        "diff": diff.encode()[:DIFF_LIMIT].decode(errors="ignore") if cut else diff,
        "diff_cut": cut,
    }
    return dict(redacted(description))


def capture_source() -> dict[str, Any]:
    """The state of the source tree around the working folder, as `capture_git` gives it (`commit` null where
    there is none), and under `hepml` the version of hepml that runs, with its commit where it is a
    checkout.

    Examples:
        >>> isinstance(hepml.tracking.capture_source(), dict)
        True
    """
    package = Path(__file__).resolve().parents[1]
    own = capture_git(package) or {}
    try:
        version = importlib.metadata.version("hepml-jets")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    hepml = {"version": version, "commit": own.get("commit"), "dirty": own.get("dirty")}
    return {**(capture_git(Path.cwd()) or {"commit": None}), "hepml": hepml}


def provenance_tags(environment: Mapping[str, Any] | None, git: Mapping[str, Any] | None) -> dict[str, str]:
    """The tags by which runs are found again: commit, versions, host, batch job."""
    tags: dict[str, str] = {}
    if environment:
        packages = environment.get("packages") or {}
        tags |= {
            "environment.python": str(environment.get("python", "")),
            "environment.torch": str((environment.get("torch") or {}).get("version", "")),
            "environment.hepml": str(packages.get("hepml-jets", "")),
            "environment.host": str(environment.get("host", "")),
            "environment.processor": str((environment.get("processor") or {}).get("name", "")),
            "environment.accelerators": ", ".join(environment.get("accelerators") or []),
            "mlflow.user": str(environment.get("user", "")),
        }
        tags |= {f"batch.{name}": str(value) for name, value in (environment.get("batch") or {}).items()}
    if git:
        tags |= {
            "mlflow.source.git.commit": str(git.get("commit") or ""),
            "mlflow.source.git.branch": str(git.get("branch", "")),
            "git.dirty": str(bool(git.get("dirty"))).lower() if git.get("commit") else "",
        }
    return {name: value for name, value in tags.items() if value}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        completed = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            capture_output=True,
            timeout=15,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return completed.stdout.decode(errors="replace")


def _processor() -> dict[str, Any]:
    import psutil

    usable = available_cores()
    return {
        "name": _processor_name(),
        "cores": os.cpu_count(),
        "usable": usable,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _processor_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _torch() -> dict[str, Any]:
    import torch

    return {"version": torch.__version__, "cuda": torch.version.cuda, "threads": torch.get_num_threads()}


def _accelerators() -> list[str]:
    import torch

    if not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _packages() -> dict[str, str]:
    versions: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"]
        if name:
            versions.setdefault(name, distribution.version)
    return dict(sorted(versions.items(), key=lambda item: item[0].lower()))


def user_name() -> str:
    """The name of the user, empty where the system does not know one."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a container without a passwd entry
        return ""

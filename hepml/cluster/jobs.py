"""What is handed to a batch system: jobs, the resources they ask for, and the words that set their
environment up."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hepml.errors import ConfigError, FileError, HepmlError

PLAIN = "HEPML_RUN_FOLDER"  # never handed on to a job: it is another run


class ClusterError(HepmlError):
    """A batch system that is not here, or that refuses a job."""


@dataclass(frozen=True)
class Job:
    """One command.

    Args:
        name: what people call it.
        words: after `hepml`.
        folder: where its run goes, or None for a job that is no single run.
        epochs: of that run.
    """

    name: str
    words: tuple[str, ...]
    folder: str | None = None
    epochs: int | None = None

    @property
    def line(self) -> str:
        """The command as it would be typed."""
        return shlex.join(["hepml", *self.words])


@dataclass(frozen=True)
class Surroundings:
    """What is set up around the command of a job.

    Args:
        prologue: lines of shell that run first on the node: `module load …`, `source setup.sh`.
        container: image that the command runs in, by apptainer.
        code: folder with the copy of hepml that the job runs, or None for the installed one.
        binds: folders of the node that the container sees, as apptainer's `--bind` has them.
    """

    prologue: tuple[str, ...] = ()
    container: str | None = None
    code: str | None = None
    binds: tuple[str, ...] = ()

    def command(self, words: Sequence[str], *, gpus: int = 0) -> list[str]:
        """The command line of `hepml WORDS` in these surroundings."""
        if self.container is None:
            return [sys.executable, "-u", "-m", "hepml", *words]
        options = ["--nv"] if gpus else []
        for place in self.binds:
            options += ["--bind", place]
        return ["apptainer", "exec", *options, self.container, "python3", "-u", "-m", "hepml", *words]

    def environment(self, present: Mapping[str, str]) -> dict[str, str]:
        """The environment of the command."""
        mine = {key: value for key, value in present.items() if key != PLAIN}
        mine.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        if self.code is not None:
            mine["PYTHONPATH"] = ":".join([self.code, *filter(None, [mine.get("PYTHONPATH")])])
            mine["PYTHONSAFEPATH"] = "1"  # not the checkout that the job was submitted from
        return mine


@dataclass(frozen=True)
class Resources:
    """What a job asks for.

    Args:
        minutes: time limit.
        cpus: cores a process.
        gpus: GPUs of each node.
        memory_gb: memory of each node in GB; what the batch system gives where left out.
        partition: queue (Slurm) or flavour (HTCondor); the default one where left out.
        account: who pays.
        parallel: jobs of an array at a time.
        more: further options of the batch system, as they are (`{"constraint": "a100"}`).
        nodes: machines a job.
        tasks: processes of each node that train together.
        requeues: how often a job goes on after a time limit.
        mail: where the batch system writes when a job ends or fails.
    """

    minutes: int = 480
    cpus: int = 2
    gpus: int = 0
    memory_gb: float | None = None
    partition: str | None = None
    account: str | None = None
    parallel: int = 64
    more: Mapping[str, str] = field(default_factory=dict)
    nodes: int = 1
    tasks: int = 1
    requeues: int = 3
    mail: str | None = None

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def prologue(file: Path | None, modules: Sequence[str] = (), view: str | None = None) -> tuple[str, ...]:
    """Lines of shell that set a node up.

    Args:
        file: its lines come last.
        modules: environment modules to load.
        view: an LCG release on CVMFS, as `LCG_107/x86_64-el9-gcc13-opt`.

    Raises:
        FileError: the file cannot be read.
    """
    lines = [f"module load {shlex.quote(name)}" for name in modules]
    if view is not None:
        place = view if view.startswith("/") else f"/cvmfs/sft.cern.ch/lcg/views/{view}"
        lines.append(f"source {shlex.quote(place.removesuffix('/setup.sh') + '/setup.sh')}")
    if file is not None:
        try:
            lines += file.read_text().splitlines()
        except OSError as problem:
            raise FileError(
                f"cannot read the prologue ({problem.strerror})", where=str(file), mend="see --prologue"
            ) from None
    return tuple(lines)


def binds(own: Sequence[Path], asked: Sequence[str]) -> tuple[str, ...]:
    """Folders that a container is to see, in the words of apptainer's `--bind`.

    Args:
        own: the run folders and the current folder.
        asked: by the user, as they are: `/eos`, `/data:/data:ro`.

    Raises:
        ConfigError: a folder that these words cannot name.
    """
    for place in own:
        if set(str(place)) & set(":,"):
            raise ConfigError(
                "apptainer cannot be told to show a folder with ':' or ',' in its name",
                where=str(place),
                mend="another --output, or submit from another folder",
            )
    return tuple(dict.fromkeys([*map(str, own), *asked]))


def minutes(text: str) -> int:
    """Minutes of `90`, `2h`, `01:30:00`, `1-12:00:00`.

    Raises:
        ConfigError: none of these forms.
    """
    if text.isdigit():
        return _positive(int(text), text)
    units = re.fullmatch(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?", text)
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d\d)(?::\d\d)?", text)
    match = units or clock
    days, hours, rest = (int(part or 0) for part in match.groups()) if match else (0, 0, 0)
    return _positive(1440 * days + 60 * hours + rest, text)


def tasks_per_node(devices: int, gpus: int, nodes: int) -> int:
    """Processes of each node that train together: one a GPU, or as many as `training.devices` says.

    Args:
        devices: `training.devices`, one where the config does not say.
        gpus: of each node.
        nodes: machines.

    Raises:
        ConfigError: the three contradict each other.
    """
    if gpus:
        if devices not in (1, gpus, gpus * nodes):
            raise ConfigError(
                f"training.devices={devices} and --gpus {gpus} on {nodes} node{'s' if nodes > 1 else ''}",
                where="command line",
                mend=f"leave training.devices out, which trains on all {gpus * nodes}",
            )
        return gpus
    if devices > 1 and devices % nodes:
        raise ConfigError(
            f"training.devices={devices} on {nodes} nodes", where="command line", mend="a multiple of --nodes"
        )
    return max(1, devices // nodes)


def _positive(total: int, text: str) -> int:
    if total < 1:
        raise ConfigError(f"'{text}' is no time", where="--time", mend="minutes, 2h, 01:30:00 or 1-12:00:00")
    return total

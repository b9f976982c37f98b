"""The field's public data sets: where their files are, their checksums, and a download that goes on where it
was cut off.

Checksums are the published ones of the Zenodo records, as the data sets' own loaders carry them
(particle_transformer for JetClass, EnergyFlow for quark-gluon); a file that does not match is not kept. Pooch
keeps the folder and checks the sums; the download itself is ours, because a file of 14 GB must not begin
again after a lost connection.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hepml import outputs
from hepml.errors import ConfigError, FileError, MissingExtraError, did_you_mean

Tell = Callable[[str, int, int | None], None]
_BLOCK = 1 << 16  # what came of a block that was cut off is lost
_TRIES = 5
_PAUSE = 1.0  # factor of the pauses between tries, in seconds


@dataclass(frozen=True)
class PublicData:
    """One public data set.

    Args:
        title: what it is.
        paper: arXiv id.
        base: address of the folder of its files.
        files: {name: checksum as `md5:…` or `sha256:…`}.
        size: of all files together, for people.
        use: the next command.
    """

    title: str
    paper: str
    base: str
    files: Mapping[str, str]
    size: str
    use: str


_TOPTAG = {
    "train.h5": "md5:45663819f47c13724f67eb0fd80bfa5c",
    "val.h5": "md5:dca4b7248027618f041f9baa86d360fc",
    "test.h5": "md5:13163479dee30a5fe546e4536cc3d04d",
}
_JETCLASS = {
    "JetClass_Pythia_train_100M_part0.tar": "md5:de4fd2dca2e68ab3c85d5cfd3bcc65c3",
    "JetClass_Pythia_train_100M_part1.tar": "md5:9722a359c5ef697bea0fbf79bf50f003",
    "JetClass_Pythia_train_100M_part2.tar": "md5:1e9f66cd1f915f9d10e90ae1d7761720",
    "JetClass_Pythia_train_100M_part3.tar": "md5:47348fc8985319fa4806da87500482fa",
    "JetClass_Pythia_train_100M_part4.tar": "md5:6b0ce16bd93b442a8d51914466990279",
    "JetClass_Pythia_train_100M_part5.tar": "md5:416e347512e716de51d392bee327b8e9",
    "JetClass_Pythia_train_100M_part6.tar": "md5:e9b9c1557b1b39bf0a16e4ab631ae451",
    "JetClass_Pythia_train_100M_part7.tar": "md5:5bfc6cb285ccb7680cefa9ac82ad1a2e",
    "JetClass_Pythia_train_100M_part8.tar": "md5:540c1a0d66dfad78d2b363c5740ccf86",
    "JetClass_Pythia_train_100M_part9.tar": "md5:668f40b3275167ff7104c48317c0ae2a",
    "JetClass_Pythia_val_5M.tar": "md5:7235ccb577ed85023ea3ab4d5e6160cf",
    "JetClass_Pythia_test_20M.tar": "md5:64e5156d26d101adeb43b8388207d767",
}
_QUARKGLUON = (
    "3f27a02eab06e8b83ccc9d25638021e6e24c9361341730961f9d560dee12c257",
    "648e49cd59b5353e0064e7b1a3388d9c2f4a454d3ca67afaa8d0344c836ecb35",
    "09f7b16fa7edb312c0f652bb8504de45f082c4193df65204d693155017272fe9",
    "7dc9a50bb38e9f6fc1f11db18f9bd04f72823c944851746b848dee0bba808537",
    "3e6217aad8e0502f5ce3b6371c61396dfc48a6cf4f26ee377cc7b991b1d2b543",
    "b5b7d742b2599bcbe1d7a639895bca64c28da513dc3620b0e5bbb5801f8c88fd",
    "7d31bc48c15983401e0dbe8fd5ee938c3809d9ee3c909f4adab6daf8b73c14f1",
    "cec0d7b2afa9d955543c597f9b7f3b3767812a68b2401ec870caf3a2ceb98401",
    "e984620f57abe06fc5d0b063f9f84ba54bd3e8c295d2b2419a7b1c6175079ed4",
    "6e3b69196995d6eb3b8e7af874e2b9f93d904624f7a7a73b8ff39f151e3bd189",
    "fa3d386f230b806058ff17e5bd77326ff4bf01d72aa5eb3325c1df2a8825927c",
    "acd49ab7bea8f72ecf699a9a898bccacc8730474259d68406656a5a43d407fb0",
    "2edd55b8bc30c686a0637855e1ba068586eb97041e8114d5540d96db2a7a2e17",
    "7276a8a0e573f9795a47f9d5addc10d2af903c2a0ffa5c848a720ccae93daa90",
    "2068ecfa912e94cd3ce7273b7c77af0bbd5ec57940997e7483b56f03434a6869",
    "41a732ce6321dd593214225b03fb87329607ccae768c705e3896ffecc28bfcca",
    "9d68caeb18f3ccf127b9032f52e63ee011c4381293a3a503f894e5c0741ae215",
    "086053ca611bb04d97fa0b6509b4ffb6955421b067c7b277498f0e5188879331",
    "cdc595f5fedef7db9411a9f93f2786f110073b4d17a523700f625846588b1e44",
    "d07781139320ae134ce4824bc0cefa43fd5003cd97cdf3aed90d4fb12fad8a1d",
)

DATASETS: dict[str, PublicData] = {
    "toptag": PublicData(
        "Top tagging reference data set: 1.2 M / 400 k / 400 k jets, top against QCD",
        "1902.09914",
        "https://zenodo.org/records/2603256/files/",
        _TOPTAG,
        "1.7 GB",
        "hepml convert train.h5 -o train.root, and the same for val.h5 and test.h5",
    ),
    "jetclass": PublicData(
        "JetClass: 100 M / 5 M / 20 M jets of ten classes, ROOT files in tar archives",
        "2202.03772",
        "https://zenodo.org/records/6619768/files/",
        _JETCLASS,
        "12 archives, 14 GB for 10 M jets; --only val takes 5 M",
        "hepml inspect FOLDER: the files are read as they are",
    ),
    "quarkgluon": PublicData(
        "Pythia 8 quark and gluon jets without c and b (EnergyFlow): 2 M jets in 20 files",
        "1810.05165",
        "https://zenodo.org/records/3164691/files/",
        {
            f"QG_jets{'' if i == 0 else f'_{i}'}.npz": f"sha256:{digest}"
            for i, digest in enumerate(_QUARKGLUON)
        },
        "20 files",
        "hepml convert QG_jets*.npz -o quarkgluon.root",
    ),
}


def fetch(
    name: str,
    output: Path | str,
    *,
    url: str | None = None,
    only: Sequence[str] = (),
    tell: Tell = lambda file, done, total: None,
    registry: Mapping[str, PublicData] | None = None,
) -> list[Path]:
    """Downloads a data set, or those of its files that are not there yet and whole.

    Args:
        name: `toptag`, `jetclass` or `quarkgluon`.
        output: folder for the files. A part of a file is `NAME.part`, from which the next call goes on.
        url: address of a mirror of the folder; the published one where left out.
        only: parts of file names; files that have none of them are left out.
        tell: called with (file, bytes so far, bytes in all where known).
        registry: data sets to choose from; the public ones where left out.

    Returns:
        the files.

    Raises:
        ConfigError: no such data set or file.
        FileError: the server does not give the file, or what came has another checksum.
        MissingExtraError: pooch is not installed.
    """
    known = DATASETS if registry is None else registry
    if name not in known:
        raise ConfigError(f"no public data set '{name}'", mend=did_you_mean(name, known))
    chosen = known[name]
    files = [file for file in chosen.files if not only or any(word in file for word in only)]
    if not files:
        raise ConfigError(f"no file of {name} is called like {', '.join(only)}", mend=", ".join(chosen.files))
    try:
        import pooch
    except ImportError:
        raise MissingExtraError("pooch", "data") from None
    base = (url or chosen.base).rstrip("/") + "/"
    pooch.get_logger().setLevel("WARNING")
    keeper = pooch.create(path=Path(output), base_url=base, registry=dict(chosen.files))
    return [_fetch_one(keeper, file, Path(output), tell) for file in files]


def _fetch_one(keeper: Any, file: str, output: Path, tell: Tell) -> Path:
    part = output / f"{file}.part"

    def download(address: str, temporary: str, pooch_of: Any) -> None:
        _resume(address, part, lambda done, total: tell(file, done, total))
        os.replace(part, temporary)  # checked there, and moved to its name

    try:
        with outputs.owning(output / file):
            return Path(keeper.fetch(file, downloader=download))
    except ValueError as problem:
        if "hash" not in str(problem).lower():
            raise
        raise FileError(
            "the file that came has another checksum than the published one and was not kept",
            where=keeper.get_url(file),
            mend="try again, or another --url",
        ) from None
    except OSError as problem:
        raise FileError(
            f"cannot write the file ({problem.strerror or problem})",
            where=str(output),
            mend="make room, or another --output",
        ) from None


def _resume(address: str, part: Path, tell: Callable[[int, int | None], None]) -> None:
    """Downloads to `part`, from where it ends; a lost connection is taken up again several times.

    Raises:
        FileError: the server refuses, or the connection is lost again and again.
    """
    import requests

    part.parent.mkdir(parents=True, exist_ok=True)
    failures, grown = 0, part.stat().st_size if part.exists() else 0
    while True:
        try:
            _continue(address, part, tell)
            return
        except requests.HTTPError as problem:
            code = problem.response.status_code if problem.response is not None else 0
            if 400 <= code < 500 and code not in (408, 429):
                raise FileError(f"the server answers {code}", where=address, mend="check --url") from None
            reason = f"the server answers {code}"
        except (requests.RequestException, ConnectionError, _Short) as problem:
            reason = str(problem) or type(problem).__name__
        now = part.stat().st_size if part.exists() else 0
        failures, grown = (1 if now > grown else failures + 1), now  # as long as it grows it goes on
        if failures >= _TRIES:
            raise FileError(
                f"the download was cut off ({reason[:120]})",
                where=address,
                mend="the same command goes on where it stopped",
            )
        time.sleep(min(2.0**failures, 30.0) * _PAUSE)


class _Short(Exception):
    """The connection ended before the file did."""


def _continue(address: str, part: Path, tell: Callable[[int, int | None], None]) -> None:
    import requests

    have = part.stat().st_size if part.exists() else 0
    headers = (
        {"Range": f"bytes={have}-", "Accept-Encoding": "identity"}
        if have
        else {"Accept-Encoding": "identity"}
    )
    with requests.get(address, headers=headers, stream=True, timeout=(10, 60)) as answer:
        if answer.status_code == 416:  # nothing behind what we have: the file is complete, or another one
            total = _total_of(answer.headers.get("Content-Range"))
            if total == have:
                return
            with contextlib.suppress(OSError):
                part.unlink()
            raise _Short("the part was longer than the file")
        answer.raise_for_status()
        if answer.status_code != 206:
            have = 0  # a server without ranges sends the whole file again
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length is not None else None
        with open(part, "ab" if have else "wb") as out:
            for block in answer.iter_content(_BLOCK):
                out.write(block)
                have += len(block)
                tell(have, total)
    if total is not None and have < total:
        raise _Short(f"{have:,} of {total:,} bytes came")


def _total_of(content_range: str | None) -> int | None:
    """The length in `bytes */1234`."""
    tail = (content_range or "").rpartition("/")[2]
    return int(tail) if tail.isdigit() else None

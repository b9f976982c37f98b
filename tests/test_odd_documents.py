"""Configs that no reader survives are refused in one line, at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hepml.cli.main import main
from hepml.config import load, read_yaml
from hepml.documents import parse_yaml
from hepml.errors import ConfigError

BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)
)
ODD = {
    "a list of itself": "data: &a [*a]",
    "a mapping of itself": "data: &a {train: *a}",
    "a mapping of itself by a merge": "data: &a {<<: *a}",
    "two that hold each other": "a: &a {b: &b {c: *a}}",
    "an alias bomb": BOMB,
    "an alias bomb of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 12)),
    "a staircase of aliases": "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 900)),
    "5,000 digits": "training: {seed: " + "9" * 5000 + "}",
    "5,000 hexadecimal digits": "training: {seed: 0x" + "f" * 5000 + "}",
    "5,000 digits in base 60": "training: {seed: 1" + ":59" * 5000 + "}",
    "a number of 30 digits": "training: {seed: 123456789012345678901234567890}",
    "a float beyond all bounds": "training: {learning_rate: 1e999}",
    "deep lists": "data: " + "[" * 20_000,
    "deep closed lists": "data: " + "[" * 5_000 + "]" * 5_000,
    "deep mappings": "data: " + "{a: " * 5_000,
    "deep blocks": "".join("  " * n + "a:\n" for n in range(600)),
    "a huge document": "data:\n" + "".join(f"  k{n}: {n}\n" for n in range(120_000)),
    "a date that is none": "data: 2001-99-99",
    "an object": "data: !!python/object/apply:os.system [echo]",
    "binary that is none": "data: !!binary x",
    "a key that is a list": "data: {[1]: 2}",
    "a control character": "data: \x01",
    "an anchor that is not there": "data: *nowhere",
    "an integer that is none": "data: !!int x",
    "an octal number that is none": "data: !!int 09",
    "a float that is none": "data: !!float x",
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_document_is_refused_in_one_line(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(ConfigError):
        parse_yaml(ODD[name], "odd.yaml")
    (tmp_path / "odd.yaml").write_text(ODD[name])
    assert main(["train", str(tmp_path / "odd.yaml"), "-o", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "odd.yaml" in told
    assert len(told) < 1000
    assert not (tmp_path / "run").exists()


def test_a_file_without_end_and_one_of_other_bytes_are_refused(tmp_path: Path) -> None:
    for path in (Path("/dev/zero"), tmp_path / "bytes.yaml"):
        if path.name == "bytes.yaml":
            path.write_bytes(b"\xff\xfe\x00data")
        with pytest.raises(ConfigError):
            read_yaml(path)


def test_aliases_and_merges_of_a_plain_config_are_read() -> None:
    text = "a: &a {x: 1, y: [1, 2]}\nb: *a\nc: {<<: *a, x: 3}\nd: [*a, *a]\ne: 18446744073709551615\nf: -.inf"
    read = parse_yaml(text, "x")
    assert read["b"] == {"x": 1, "y": [1, 2]}
    assert read["c"] == {"x": 3, "y": [1, 2]}
    assert read["d"] == [read["a"]] * 2
    assert (read["e"], read["f"]) == (2**64 - 1, float("-inf"))


def test_damaged_configs_are_read_or_refused(tmp_path: Path) -> None:
    whole = (Path(__file__).parents[1] / "configs" / "quickstart.yaml").read_bytes()
    draw = np.random.default_rng(4)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(int(draw.integers(1, 5))):
            data[int(draw.integers(len(data)))] = int(draw.integers(256))
        (tmp_path / "x.yaml").write_bytes(data)
        try:
            load(tmp_path / "x.yaml")
        except ConfigError as problem:
            told = str(problem)
        else:
            told = ""
        assert "\n" not in told

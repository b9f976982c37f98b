"""`hepml data`: the field's public data sets, listed and fetched; jets packed and checked."""

from __future__ import annotations

from contextlib import nullcontext
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="List and fetch public data sets; pack jets and check them.", no_args_is_help=True)


@app.command("list")
def list_command(
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """The data sets that `fetch` knows: what they are, how large, and what to do with them."""
    from hepml.data.public.fetch import DATASETS

    if json:
        typer.echo(
            dumps(
                {name: {**vars(dataset), "files": dict(dataset.files)} for name, dataset in DATASETS.items()},
                indent=2,
            )
        )
        return
    for name, dataset in DATASETS.items():
        typer.echo(f"{name:<11} {dataset.title} (arXiv:{dataset.paper}; {dataset.size})")
        typer.echo(f"{'':<11} {dataset.base}")
        typer.echo(f"{'':<11} then: {dataset.use}")


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="toptag, jetclass or quarkgluon.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder for the files; data/NAME where left out.")
    ] = None,
    url: Annotated[
        str | None, typer.Option("--url", help="Address of a mirror of the folder of files.")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", help="Only files with this in their name; may be repeated.")
    ] = None,
    extract: Annotated[
        bool, typer.Option("--extract", help="Unpack tar archives beside themselves.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Download a data set. Files that are there and whole are kept; one that was cut off goes on; checksums
    are checked."""
    from hepml.cli import console
    from hepml.data.public.fetch import DATASETS
    from hepml.data.public.fetch import fetch as download

    folder = output or Path("data") / name
    bar: console.CountingBar | None = None
    shown = ""

    def tell(file: str, done: int, total: int | None) -> None:
        nonlocal bar, shown
        if file != shown:
            if bar is not None:
                bar.__exit__()
            bar, shown = (
                console.CountingBar("MB", None if total is None else total // 1_000_000, quiet=quiet),
                file,
            )
            bar.__enter__()
            if not quiet:
                console.err().print(f"{file}" + (f", {total / 1e6:,.0f} MB" if total else ""))
        assert bar is not None
        bar.update(done // 1_000_000)

    try:
        files = download(name, folder, url=url, only=only or [], tell=tell)
    finally:
        if bar is not None:
            bar.__exit__()
    if extract:
        _extract(files)
    if json:
        typer.echo(dumps({"data": name, "files": [str(file) for file in files]}, indent=2))
        return
    for file in files:
        typer.echo(f"{file}  {file.stat().st_size / 1e6:,.0f} MB, checksum as published")
    typer.echo(f"then: {DATASETS[name].use}")


@app.command()
def pack(
    files: Annotated[list[str], typer.Argument(help="Files of jets, globs, folders.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the packed jets (data.cache).")],
    features: Annotated[
        str, typer.Option("--features", help="Feature set or names, as kinematic, full, log_pt,delta_r.")
    ] = "kinematic",
    layout: Annotated[str | None, typer.Option("--layout", help="Layout: a name or a YAML file.")] = None,
    jets: Annotated[str | None, typer.Option("--jets", help="Jet collection of event files.")] = None,
    dask: Annotated[
        str | None,
        typer.Option(
            "--dask",
            metavar="SCHEDULER|slurm|htcondor",
            help="Pack on a dask cluster: tcp://HOST:PORT, a scheduler file, or jobs of Slurm or HTCondor.",
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, help="Workers to start with --dask slurm|htcondor.")
    ] = 4,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Pack jets into memory-mapped files with checksums; a training with the same files, layout and features
    and data.cache=FOLDER then starts at once."""
    from hepml.data.dataset import JetDataset
    from hepml.data.features import FEATURE_SETS, resolve
    from hepml.data.inputs import Inputs
    from hepml.data.packing_cluster import packing_on

    names = resolve(features) if features in FEATURE_SETS else resolve(features.split(","))
    with packing_on(dask, jobs) if dask else nullcontext() as write:
        dataset = JetDataset.open(
            files, Inputs(features=names), layout=layout, jets=jets, cache=output, write=write
        )
    if json:
        typer.echo(
            dumps({"jets": len(dataset), "constituents": int(dataset.offsets[-1]), "folder": str(output)})
        )
        return
    typer.echo(f"{dataset.report}")
    typer.echo(f"packed into {output}; check it with: hepml data verify {output}")


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(help="A folder of packed jets, or of several.")],
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> int:
    """Compare packed jets with their checksums; exit code 2 where something has changed."""
    from hepml.data.cache import verify as check

    faults = check(folder)
    if json:
        typer.echo(dumps(faults, indent=2))
    else:
        for home, wrong in faults.items():
            typer.echo(f"{home}: {'; '.join(wrong) or 'whole'}")
    return 2 if any(faults.values()) else 0


@app.command("layout-from")
def layout_from(
    yaml: Annotated[Path, typer.Argument(metavar="WEAVER.yaml", help="A data YAML of weaver-core.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File for the layout; on the screen where left out.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Names of the classes of an integer label, or how many there are."),
    ] = None,
    check: Annotated[
        str | None, typer.Option("--check", metavar="FILE", help="Look for its branches in this file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")] = False,
) -> None:
    """Translate a data YAML of weaver into a layout (data.layout): tree, variables, inputs with their
    standardisation, labels, selections, weights. What cannot be translated is named with its line; nothing of
    the YAML is run."""
    from hepml.cli import console
    from hepml.data.layouts.weaver_checks import missing_branches
    from hepml.data.layouts.weaver_yaml import translate
    from hepml.data.reading.reader import scan
    from hepml.outputs import refuse_inputs, writing

    refuse_inputs(output, [str(yaml)], option="--output")
    names: list[str] | int | None = None
    if classes is not None:
        names = int(classes) if classes.isdigit() else [n.strip() for n in classes.split(",")]
    translation = translate(yaml, names)
    absent = []
    if check is not None:
        scanned = scan(check, translation.layout)
        absent = missing_branches(translation.layout, scanned.files[0].branches)
    text = translation.text(yaml.name)
    if output is not None:
        with writing(output, wait=True) as temporary:
            temporary.write_text(text)
    if json:
        lines = {
            "notes": [{"line": line, "note": sentence} for line, sentence in translation.notes],
            "untranslated": [{"line": line, "what": sentence} for line, sentence in translation.untranslated],
        }
        document = {"layout": translation.layout, **lines, "missing_branches": absent}
        typer.echo(dumps({**document, "output": None if output is None else str(output)}, indent=2))
        return
    if output is None:
        typer.echo(text, nl=False)
    err = console.err()
    for line, sentence in translation.untranslated:
        at = "" if line is None else f", line {line}"
        err.print(f"not translated{at}: {sentence}", style="yellow", markup=False, highlight=False)
    for name in absent:
        err.print(f"{check} has no branch {name}", style="yellow", markup=False, highlight=False)
    if output is not None:
        for line, sentence in translation.notes:
            at = "" if line is None else f"line {line}: "
            err.print(f"{at}{sentence}", markup=False, highlight=False)
        typer.echo(f"{output}; train with: hepml train CONFIG data.layout={output} data.train=FILES")


def _extract(files: list[Path]) -> None:
    import tarfile

    from hepml.errors import FileError

    for file in files:
        if file.suffix != ".tar":
            continue
        try:
            with tarfile.open(file) as archive:
                archive.extractall(file.parent, filter="data")
        except (tarfile.TarError, OSError) as problem:
            raise FileError(
                f"cannot unpack the archive ({problem})", where=str(file), mend="make room"
            ) from None

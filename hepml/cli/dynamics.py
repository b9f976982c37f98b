"""`hepml dynamics`: trains networks on the motion of a mechanical system and says how well they conserve
energy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def command(
    config: Annotated[
        str, typer.Argument(help="A config file (YAML), as configs/dynamics/spring.yaml.", show_default=False)
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key.sub=value]...", help="Keys of the config to set.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Run folder; runs/dynamics-NAME-TIME where left out."),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="LABEL", help="Train only this network; may be repeated."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON document.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> int:
    """Learn the law of motion of a mechanical system, and see which networks conserve its energy.

    Examples: hepml dynamics configs/dynamics/spring.yaml  ·  hepml dynamics configs/dynamics/two_body.yaml
    'seeds=[0,1,2,3,4]' -o runs/two_body
    """
    from hepml.cli import console
    from hepml.errors import ConfigError
    from hepml.training.dynamics.run import load_dynamics_config, run_dynamics

    for word in overrides or []:
        if "=" not in word:
            raise ConfigError(
                f"'{word}' is not an override", where="command line", mend="write key.sub=value"
            )
    run = load_dynamics_config(config, overrides or [], only or ())
    with _bar_class()(quiet=quiet or json) as bar:
        summary = run_dynamics(run, output, bar)
    if json:
        console.print_json(summary)
    else:
        _show(summary, run)
    return 0


def _bar_class() -> Any:
    from hepml.cli.console import CountingBar, err
    from hepml.training.dynamics.run import Progress

    class Bar(Progress):
        """A bar of steps for each network in turn, and a line when it is done."""

        def __init__(self, *, quiet: bool) -> None:
            self.quiet = quiet
            self.bar: CountingBar | None = None

        def __enter__(self) -> Bar:
            return self

        def begin(self, label: str, seed: int, steps: int) -> None:
            self._close()
            self.bar = CountingBar(f"steps of {label}", steps, quiet=self.quiet).__enter__()

        def step(self, label: str, step: int, losses: Mapping[str, float]) -> None:
            if self.bar is not None:
                self.bar.update(step)

        def end(self, label: str, seed: int, report: Mapping[str, Any]) -> None:
            self._close()
            if not self.quiet:
                err().print(
                    f"seed {seed}, {label}: test loss {report['test_loss']:.2e}, energy MSE "
                    f"{report['energy_mse']:.2e}, "
                    f"{report['seconds']:.0f} s"
                )

        def _close(self) -> None:
            if self.bar is not None:
                self.bar.__exit__()
                self.bar = None

        def __exit__(self, *problem: object) -> None:
            self._close()

    return Bar


def _show(summary: Mapping[str, Any], run: Any) -> None:
    from rich.table import Table
    from rich.text import Text

    from hepml.cli import console
    from hepml.tracking.store import public_uri, tracking_uri

    screen = console.out()
    table = Table(
        title=f"{summary['task']}: mean of {len(summary['seeds'])} seed{'s' * (len(summary['seeds']) > 1)}"
    )
    for head in (
        "network",
        "parameters",
        "train loss",
        "test loss",
        "energy MSE",
        "paper's",
        "paper's / ours",
    ):
        table.add_column(head, justify="left" if head == "network" else "right")
    for label in run.models:
        entry = summary[label]
        spread = entry["energy_mse_spread"]
        energy = f"{entry['energy_mse']:.2e}" + (f" ± {spread:.1e}" if spread is not None else "")
        if entry["diverged"]:
            energy += f" ({entry['diverged']} diverged)"
        # Our further variants are held to the paper's best, its HNN.
        known = summary["published"].get(label) or summary["published"].get("hnn") or {}
        paper = known.get("energy_mse")
        table.add_row(
            f"{label} ({entry['network']})",
            f"{entry['parameters']:,}",
            *(
                _beside(entry[key], summary["published"].get(label, {}).get(key))
                for key in ("train_loss", "test_loss")
            ),
            energy,
            f"{paper:.1e}" if paper else "-",
            f"{paper / entry['energy_mse']:.3g}" if paper and entry["energy_mse"] else "-",
        )
    screen.print()
    screen.print(table)
    if summary["paper"]:
        screen.print(Text(f"paper's, also in brackets: {summary['paper']}"))
    screen.print(Text(f"{summary['seconds']:.0f} s; plots: {Path(summary['run']) / 'plots'}"))
    screen.print(Text(f"run:    {summary['run']}"))
    if run.tracking.enabled:
        uri = public_uri(tracking_uri(run.tracking.uri))
        look = (
            f"open {uri}" if uri.startswith("http") else f"mlflow ui --backend-store-uri {shlex.quote(uri)}"
        )
        screen.print(Text(f"MLflow: {look}"))


def _beside(ours: float, published: float | None) -> str:
    """Our number, with the paper's in brackets where the paper has that very network."""
    return f"{ours:.2e}" + (f" ({published:.1e})" if published is not None else "")

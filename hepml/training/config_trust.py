"""What a config may make hepml do beyond training: names that become files, and plugins, whose code runs."""

from __future__ import annotations

import os
import sys

from hepml import paths
from hepml.config import Config
from hepml.errors import ConfigError
from hepml.models import catalogue
from hepml.training.run_description import RunConfig


def check_names(run: RunConfig, config: Config) -> None:
    """Names that become file names are names."""
    for key in ("test", "further_tests"):
        named = getattr(run.data, key)
        for name in named if isinstance(named, dict) else ():
            paths.check_name(name, config.where(("data", key)))
    for key in ("experiment", "name"):
        given = getattr(run.tracking, key)
        if given is not None and (".." in given.split("/") or not given.isprintable() or not given.strip()):
            raise ConfigError(
                f"'{given[:60]}' is no name", where=config.where(("tracking", key)), mend="leave '..' out"
            )


def import_plugins(run: RunConfig, config: Config, trust: bool) -> None:
    """Imports the plugins, which runs their code; says so before."""
    if not run.plugins:
        return
    place = config.file
    of_a_run = place is not None and place.is_file() and (place.parent / "checkpoints").is_dir()
    if of_a_run and place is not None and place.stat().st_uid != os.geteuid() and not trust:
        raise ConfigError(
            f"this run, which another user wrote, runs code of its own: {', '.join(run.plugins)}",
            where=config.where(("plugins",)),
            mend="read that code, then add --trust",
        )
    for name in run.plugins:
        print(f"plugin {name}: its code runs now", file=sys.stderr)
        catalogue.load_plugin(name)

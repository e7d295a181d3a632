"""Entry point of `lowdose`: finds sub-commands and turns errors into a message and exit code 2."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import entry_points

import click

from lowdose.errors import LowdoseError

COMMANDS = ("bench", "demo", "denoise", "devices", "evaluate", "info", "live", "models", "simulate")

EXTRAS = {"engine": "rtx"}
"""Of commands that have not the name of their extra."""


class Commands(click.Group):
    """Loads a sub-command only when it is asked for, so that `lowdose --help` stays quick."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted({*COMMANDS, *(point.name for point in entry_points(group="lowdose.commands"))})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name in COMMANDS:
            command: click.Command = getattr(importlib.import_module(f"lowdose.cli.{name}"), name)
            return command
        for point in entry_points(group="lowdose.commands", name=name):
            try:
                loaded: click.Command = point.load()
            except ModuleNotFoundError as error:
                return missing_extra(name, error.name or "a package")
            return loaded
        return None


def missing_extra(name: str, module: str) -> click.Command:
    """Stand-in for a command whose packages are not installed: says which extra brings them."""
    extra = EXTRAS.get(name, name)

    @click.command(
        name,
        short_help=f"Needs {module}: pip install 'lowdose[{extra}]'.",
        context_settings={"ignore_unknown_options": True},
    )
    @click.argument("arguments", nargs=-1)
    def command(arguments: tuple[str, ...]) -> None:
        raise LowdoseError(
            f"'lowdose {name}' needs the package {module}, which is not installed: pip install 'lowdose[{extra}]'"
        )

    return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="lowdose")
def lowdose() -> None:
    """Denoise low-dose electron microscopy: movies, frames and live streams."""


def main() -> None:
    """Run the command line. Exit codes: 0 done, 2 bad input (message on standard error), 130 Ctrl-C."""
    try:
        code = lowdose.main(prog_name="lowdose", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (LowdoseError, OSError) as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped: no unfinished output was kept.", err=True)
        sys.exit(130)
    sys.exit(code if isinstance(code, int) else 0)

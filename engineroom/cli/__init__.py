"""The command line: ``engineroom lab``, ``doctor``, ``db``, ``check``, ``grade``, ``build``."""

from __future__ import annotations

import sys

import typer

from engineroom import __version__
from engineroom.cli import author, check, db, doctor, grade, lab, progress
from engineroom.cli.console import report
from engineroom.errors import EngineRoomError

app = typer.Typer(
    help="Engine Room: a course you run on async database engines, against a real Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command("lab")(lab.lab)
app.command("doctor")(doctor.doctor)
app.command("progress")(progress.progress)
app.command("check")(check.check)
app.command("grade")(grade.grade)
app.command("build")(author.build)
app.command("verify")(author.verify)
app.command("new")(author.new)
app.add_typer(db.app, name="db")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"engineroom {__version__}")
        raise typer.Exit


@app.callback()
def _everywhere(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version."
    ),
) -> None:
    pass


def main() -> None:
    """The program ``engineroom``: trouble is one sentence and the next command, exit code 1."""
    try:
        app()
    except EngineRoomError as error:
        report(error)
        sys.exit(1)
    except BrokenPipeError:
        # The reader of our output has left (`| head`); that is no trouble.
        sys.stderr.close()
        sys.exit(0)

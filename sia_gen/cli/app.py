"""The Typer app, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from contextlib import nullcontext
from typing import Annotated, Any, NoReturn

import typer

from sia_gen.cli.corpora import calibrate, compose, inspect, verify
from sia_gen.cli.demo import demo, recipes
from sia_gen.cli.detectors import evaluate, export, fit_realnet, predict
from sia_gen.cli.hub import push_to_hub
from sia_gen.cli.models import import_adm, train_classifier, train_diffusion
from sia_gen.cli.notices import plain_notices
from sia_gen.cli.synthesis import synthesize
from sia_gen.errors import UserError, one_line
from sia_gen.io.refusals import explain_refusal
from sia_gen.runtime.out_of_memory import explain as explain_out_of_memory
from sia_gen.version import __version__

EXIT_USER = 2
# What newer versions of Typer return instead of raising KeyboardInterrupt or Abort.
INTERRUPTED = 130
# Typer exports this error but not its parent, which all errors of usage have.
UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS = (
    demo,
    recipes,
    train_diffusion,
    train_classifier,
    import_adm,
    calibrate,
    synthesize,
    verify,
    inspect,
    compose,
    push_to_hub,
    fit_realnet,
    evaluate,
    predict,
    export,
)
for command in COMMANDS:
    app.command()(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Learn from images of good parts, synthesise anomalies, and detect real ones."""
    if version:
        typer.echo(f"sia-gen {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Runs a command and turns what goes wrong into one line and an exit code.

    Raises:
        SystemExit: With that code.
        KeyboardInterrupt: If it was interrupted.
    """
    debug = os.environ.get("SIA_GEN_DEBUG") == "1"
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names of files may have letters that a terminal does not know.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with nullcontext() if debug else plain_notices():
            run(debug=debug)
    except BaseException as error:
        if "sia_gen.runtime.processes" in sys.modules:
            from sia_gen.runtime.processes import leave

            leave(failed=not isinstance(error, SystemExit) or bool(error.code))
        raise


def run(*, debug: bool) -> NoReturn:
    """Runs a command; see `main`."""
    try:
        code = app(standalone_mode=False)
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        sys.exit(code or 0)
    except UsageError as error:
        fail(error.format_message())
    except UserError as error:
        if debug:
            traceback.print_exc()
        fail(str(error))
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        line = explain(error)
        if debug or line is None:
            raise
        fail(line)


def explain(error: Exception) -> str | None:
    """The line for what is nobody's mistake: storage, memory, other processes, the Hub."""
    refusal = explain_refusal(error) if isinstance(error, OSError) else None
    line = refusal or explain_out_of_memory(error)
    # Whose errors it may be has been imported: what reads or writes on the Hub did so.
    if line is None and "sia_gen.runtime.processes" in sys.modules:
        from sia_gen.runtime.processes import explain as explain_processes

        line = explain_processes(error)
    if line is None and "huggingface_hub.errors" in sys.modules:
        from sia_gen.hub.errors import explain as explain_hub

        of_hub = explain_hub(error)
        line = None if of_hub is None else str(of_hub)
    return line


def fail(message: str) -> NoReturn:
    """Prints one line and exits as for what the user can mend."""
    print(f"error: {one_line(message)}", file=sys.stderr)
    sys.exit(EXIT_USER)

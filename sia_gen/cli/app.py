"""The Typer app, and the place where errors and warnings become lines on stderr."""

import io
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Annotated, Any, NoReturn

import typer

from sia_gen.cli.corpora import calibrate, compose, inspect, push_to_hub, verify
from sia_gen.cli.detectors import (
    evaluate,
    export,
    fit_realnet,
    import_realnet,
    predict,
    recalibrate,
)
from sia_gen.cli.models import import_adm, train_classifier, train_diffusion
from sia_gen.cli.run import demo, recipes, run
from sia_gen.cli.serving import serve
from sia_gen.cli.synthesis import synthesize
from sia_gen.errors import UserError, one_line
from sia_gen.io.refusals import explain_refusal
from sia_gen.version import __version__

EXIT_USER = 2
# Newer versions of Typer return this instead of raising KeyboardInterrupt or Abort.
INTERRUPTED = 130
# Typer exports this error but not its parent, the base of all usage errors.
UsageError: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
COMMANDS: dict[str, tuple[Callable[..., None], ...]] = {
    "Start here": (run, demo, recipes),
    "Diffusion models": (train_diffusion, train_classifier, import_adm),
    "Corpora": (calibrate, synthesize, verify, inspect, compose),
    "Detectors": (fit_realnet, import_realnet, evaluate, predict, recalibrate, export, serve),
    "Sharing": (push_to_hub,),
}
# What the announcement of long work says beside its time.
TAKES_LESS = {
    "run": "--minutes {minutes} takes less",
    "train-diffusion": "--max-minutes {minutes} or fewer --max-steps take less",
    "train-classifier": "fewer --max-steps take less",
    "calibrate": "one --perturbation alone takes less",
    "synthesize": "fewer --images or --steps take less",
    "compose": "fewer --images take less",
    "fit-realnet": "--max-minutes {minutes} or fewer --max-steps take less",
}
for panel, commands in COMMANDS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Synthesise anomalies from images of good parts, and fit detectors that find real ones."""
    from sia_gen.runtime.progress import SHORTER

    SHORTER.set(TAKES_LESS.get(context.invoked_subcommand or "", ""))
    if version:
        typer.echo(f"sia-gen {__version__}")
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Runs a command, turns known errors into one line on stderr, and exits with its code."""
    debug = os.environ.get("SIA_GEN_DEBUG") == "1"
    if isinstance(sys.stdout, io.TextIOWrapper):
        # File names may have letters that the terminal cannot show.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with nullcontext() if debug else _plain_notices():
            _run(debug)
    except BaseException as error:
        processes: Any = sys.modules.get("sia_gen.runtime.processes")
        if processes is not None:
            processes.leave(failed=not isinstance(error, SystemExit) or bool(error.code))
        raise


def _run(debug: bool) -> NoReturn:
    try:
        code = app(standalone_mode=False)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    except Exception as error:
        line = _explain(error)
        if line is None:
            raise
        if debug:
            traceback.print_exc()
        print(f"error: {one_line(line)}", file=sys.stderr)
        sys.exit(EXIT_USER)
    if code == INTERRUPTED:
        raise KeyboardInterrupt
    sys.exit(code or 0)


def _explain(error: Exception) -> str | None:
    """Returns the line for an error that the user can fix; None for a bug."""
    if isinstance(error, UsageError):
        return _explain_usage(error)
    if isinstance(error, UserError):
        return str(error)
    line = explain_refusal(error)
    # A module that was not imported cannot have raised the error.
    processes: Any = sys.modules.get("sia_gen.runtime.processes")
    if line is None and processes is not None:
        line = processes.explain(error)
    if line is None and "huggingface_hub.errors" in sys.modules:
        from sia_gen.hub.client import explain

        hub_error = explain(error)
        line = None if hub_error is None else str(hub_error)
    return line


def _explain_usage(error: Any) -> str:
    """Returns what is wrong with the arguments, and where the right ones stand."""
    message = str(error.format_message())
    problem = message if message.endswith((".", "?")) else f"{message}."
    if error.ctx is None:
        return problem
    options = [name for one in error.ctx.command.params for name in one.opts]
    # A folder of images without its option.
    data = " Give the folder of images with --data." if "--data" in options else ""
    extra = data if "extra argument" in problem else ""
    command = "sia-gen" if error.ctx.parent is None else f"sia-gen {error.ctx.info_name}"
    return f"{problem}{extra} See '{command} --help'."


@contextmanager
def _plain_notices() -> Iterator[None]:
    """Shows warnings, and errors that end threads, as lines without a source location."""
    if "RANK" in os.environ:
        # PyTorch logs a lost connection to another process with a C++ stack trace;
        # `sia_gen.runtime.processes` reports it in a line.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    shown_before = threading.excepthook
    with warnings.catch_warnings():
        # Accelerate chooses the number of threads itself, as it should.
        noise = "OMP_NUM_THREADS/MKL_NUM_THREADS unset"
        warnings.filterwarnings("ignore", noise, UserWarning, r"accelerate\.state")
        warnings.showwarning = lambda message, *_, **__: print(
            f"warning: {one_line(str(message))}", file=sys.stderr
        )
        threading.excepthook = _show_thread_error
        try:
            yield
        finally:
            threading.excepthook = shown_before


def _show_thread_error(failure: threading.ExceptHookArgs) -> None:
    error, thread = failure.exc_value, failure.thread
    # TensorBoard's threads keep their error for the main thread, which raises it.
    if isinstance(error, SystemExit) or getattr(thread, "exception", failure) is error:
        return
    name = thread.name if thread is not None else "unknown"
    reason = one_line(f"{failure.exc_type.__name__}: {error}")
    print(f"warning: the thread '{name}' failed ({reason}).", file=sys.stderr)

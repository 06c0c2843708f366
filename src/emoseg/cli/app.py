"""The program `emoseg`: prepares the process, runs a command, and turns every failure into one line.

Results go to standard output and everything else to standard error. The exit status is 0 if everything was done, 1 if
some recordings failed or a corpus has errors, and 2 if the command itself was wrong.

A command is a module of this package that holds its `typer.Typer` as ``commands``, and its name in `MODULES`. What is
heavy is imported inside the functions, so that ``--help`` loads neither numpy nor PyTorch.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from importlib import import_module
from typing import Annotated, Any, cast

import typer

from emoseg.errors import EmosegError
from emoseg.system.console import drop_output, put, show_own_warnings, tell
from emoseg.system.names import printable
from emoseg.version import VERSION

MODULES = ("analyze", "library", "tag", "train", "audit", "evaluate", "config", "corpus", "model")
"""The modules of all commands, in the order in which help lists them."""

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
for _module in MODULES:
    app.add_typer(import_module(f"emoseg.cli.{_module}").commands)

# Typer contains a copy of click whose errors it does not export; all errors of usage are of the class behind this one.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])
_INTERRUPTED, _PIPE_CLOSED, _DEFECT = 130, 141, 70


def main() -> None:
    """Run the command line and end the process with its exit status."""
    _set_up_process()
    try:
        status = _run()
    except SystemExit as ended:  # a signal that asks the process to end
        status = ended.code if isinstance(ended.code, int) else 1
    try:
        sys.stdout.flush()
    except OSError:  # the reader at the other end has gone
        drop_output()
    sys.exit(status)


def _set_up_process() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 everywhere, and a file name that is not valid text must not stop a report.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    show_own_warnings()
    logging.disable(logging.CRITICAL)  # the messages of libraries
    # A process that is asked to end raises SystemExit, so that it removes its temporary files, as after an interrupt.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), _end)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run() -> int:
    """Run the command and return its exit status."""
    try:
        status = app(prog_name="emoseg", standalone_mode=False)
        if status == _INTERRUPTED:  # what Typer returns after Ctrl-C
            tell("interrupted")
        return status if isinstance(status, int) else 0
    except _UsageError as error:
        return _usage(error)
    except EmosegError as error:
        tell(str(error))
        return 2
    except BrokenPipeError:  # such as 'emoseg library mood | head'
        drop_output()
        return _PIPE_CLOSED
    except OSError as error:  # such as no space left, or no permission to write
        name = f"{error.filename}: " if error.filename else ""
        tell(f"{name}{error.strerror or error}")
        return 2
    except MemoryError:
        tell("there is not enough memory")
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return _INTERRUPTED
    except Exception as error:  # a defect: one line for the user, the traceback on request
        if os.environ.get("EMOSEG_TRACEBACK"):
            raise
        tell(f"a defect of emoseg: {type(error).__name__}: {error} (EMOSEG_TRACEBACK=1 shows where)")
        return _DEFECT


def _usage(error: Any) -> int:
    """Print what is wrong with the command and where its help is, in one line; a bare command prints its help."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            sys.stderr.write(printable(message) + "\n")
        return 2
    command = error.ctx.command_path if error.ctx else "emoseg"
    problem = " ".join(message.split()).rstrip(".").replace("Value error, ", "")
    if type(error).__name__ == "NoSuchOption" and command == "emoseg analyze":
        problem += "; a file whose name begins with '-' goes after '--'"
    tell(f"{problem} (try '{command} --help')")
    return 2


def _print_version(wanted: bool) -> None:
    if wanted:
        put(f"emoseg {VERSION}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn the emotion of music from song-level labels, and describe the emotion of recordings over time."""

"""The ``deixis`` command: its subcommands, exit codes and error messages."""

import errno
import os
import signal
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from types import FrameType
from typing import Annotated, cast

import typer

from deixis import __version__
from deixis.cli.data_commands import data_app
from deixis.cli.evaluate import evaluate_command
from deixis.cli.point import point_command
from deixis.cli.published import import_weights_command
from deixis.cli.train import train_command
from deixis.errors import DeixisError, StorageError

ENDED = 143
_UNWRITABLE = {errno.EPIPE, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG}

# some versions of typer bundle click; in all of them, usage errors derive from the base of typer's
# public BadParameter
_UsageError = cast("type[Exception]", typer.BadParameter.__mro__[1])

app = typer.Typer(
    name="deixis",
    help="Ask about an image and get words with boxes and masks on it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    epilog="Exit codes: 0 ok, 2 usage or configuration, 3 error budget spent, 4 storage, 5 locked, "
    "6 not finite, 7 integrity, 1 a loading process failed, 143 ended.",
)
app.command("point")(point_command)
app.command("eval")(evaluate_command)
app.command("train")(train_command)
app.command("import")(import_weights_command)
app.add_typer(data_app, name="data")


def _show_version(value: bool) -> bool:
    if value:
        print(f"deixis {__version__}")
        raise typer.Exit
    return value


@app.callback()
def _root(
    *,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Ask about an image and get words with boxes and masks on it."""
    del version


def run() -> int:
    """Run ``deixis`` as on the command line and return the exit code.

    Deprecation warnings of other libraries concern developers of deixis, not its users. They are
    not shown, here and in child processes, unless ``-W`` or ``PYTHONWARNINGS`` asks for them.
    """
    if not sys.warnoptions:
        for kind in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", kind)
            # spawned processes get these options on their command line
            sys.warnoptions.append(f"ignore::{kind.__name__}")
    return main()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Errors of the caller or of the machine are one line on stderr, with an optional hint on a second
    line. Any other exception is a bug of deixis and keeps its traceback.

    Args:
        arguments: The arguments after ``deixis``; those of the process by default.
    """
    # Python refuses this outside the main thread; there the caller handles signals.
    with suppress(ValueError):
        signal.signal(signal.SIGTERM, _end)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _end)
    try:
        code = app(
            args=None if arguments is None else list(arguments),
            prog_name="deixis",
            standalone_mode=False,
        )
        sys.stdout.flush()
    except DeixisError as error:
        _drop_unwritten()
        _tell(str(error))
        return error.exit_code
    except _UsageError as error:
        _tell(_usage_message(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        _tell("ended")
        return ENDED
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        _drop_unwritten()
        if error.errno == errno.EPIPE:
            # The reader of stdout closed it, as `head` does: this is not an error.
            return ENDED
        _tell(f"cannot write: {(error.strerror or str(error)).lower()}")
        return StorageError.exit_code
    except SystemExit as ending:
        # typer ends with 1 if the reader of stdout closed it
        return ENDED if ending.code == 1 else cast("int", ending.code)
    return code if isinstance(code, int) else 0


def _end(_number: int, _frame: FrameType | None) -> None:
    # As an exception, so that partly written files are removed.
    raise SystemExit(ENDED)


def _drop_unwritten() -> None:
    """Drop buffered output that cannot be written; the interpreter would report it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _usage_message(error: BaseException) -> str:
    message = getattr(error, "message", "") or str(error)
    describe = getattr(error, "format_message", None)
    text = str(describe()) if callable(describe) else message
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "deixis")
    return f"{' '.join(text.split())}\nhint: see {path} --help"


def _tell(message: str) -> None:
    head, *rest = message.splitlines() or [""]
    lines = [f"deixis: {head}", *rest]
    for line in lines:
        shown = "".join(character if character.isprintable() else "?" for character in line)
        print(shown, file=sys.stderr)

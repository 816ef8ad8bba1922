"""Carry out one command line; every error of ours becomes a line on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from devpipe.cli.exits import EXIT_COMPLETED, EXIT_INTERRUPTED, status_of_error
from devpipe.cli.parser import Arguments, command_of, parser
from devpipe.cli.printing import complain, error_json, nowhere, say, say_json
from devpipe.cli.stops import Stops
from devpipe.errors import DevpipeError, UsageError
from devpipe.version import __version__


def dispatch(given: Sequence[str], stops: Stops, *, json: bool) -> int:
    """The exit status of these words; with --json, an error is also an object on stdout."""
    _usable_streams()
    status = _carried_out(given, stops, json=json)
    _flush()
    return status


def _carried_out(given: Sequence[str], stops: Stops, *, json: bool) -> int:
    arguments = Arguments(stops)
    try:
        parser().parse_args(given, namespace=arguments)
        return _act(arguments)
    except SystemExit as ended:  # argparse, after --help
        return int(ended.code or EXIT_COMPLETED)
    except KeyboardInterrupt:
        complain("interrupted. What was done is recorded.")
        return EXIT_INTERRUPTED
    except DevpipeError as error:
        return _refused(error, arguments, json=json)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        what = f"{where}{error.strerror or error}."
        refused = DevpipeError(what, hint="Check the path and the disk.")
        return _refused(refused, arguments, json=json)


def _act(arguments: Arguments) -> int:
    if arguments.version:
        say(f"devpipe {__version__}")
        return EXIT_COMPLETED
    if not arguments.command:
        say(parser().format_help().rstrip(), out=sys.stderr)
        raise UsageError("No command is given.", hint="Try one of the examples above.")
    return command_of(arguments.command).execute(arguments)


def _refused(error: DevpipeError, arguments: Arguments, *, json: bool) -> int:
    if json:
        say_json({"run_id": None, "outcome": None, "error": error_json(error)})
    complain(str(error), home=arguments.home)
    return status_of_error(error)


def _usable_streams() -> None:
    """A closed stream becomes one that swallows; a character that a terminal cannot show becomes a
    question mark.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # open as long as the process
        with contextlib.suppress(AttributeError):  # a test's own stream
            getattr(sys, name).reconfigure(errors="replace")


def _flush() -> None:
    """Send out what argparse printed; the interpreter would complain at its end where nobody reads
    it.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            nowhere(stream)

"""`devpipe lab`: JupyterLab on the workspace, in place of this process."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping

from devpipe.cli.parser import Arguments
from devpipe.errors import UsageError

HELP = "Open JupyterLab on the workspace's notebooks."
EXAMPLES = (
    "devpipe lab",
    "devpipe lab -- --no-browser --port 8890",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is passed on."""
    parser.add_argument(
        "passed_on", nargs="*", metavar="-- ARGUMENT", help="passed on to JupyterLab"
    )


def execute(arguments: Arguments) -> int:
    """Never comes back: the process is JupyterLab from now on."""
    place = arguments.workspace().resolve()
    try:
        import jupyterlab  # noqa: F401  # only to say what is missing
    except ImportError as error:
        raise UsageError(
            "JupyterLab is not installed.", hint='Run `pip install "devpipe-lab[lab]"`.'
        ) from error
    options = [
        f"--ServerApp.root_dir={place}",
        "--LabApp.default_url=/lab/tree/notebooks",
        *arguments.passed_on,
    ]
    environment: Mapping[str, str] = os.environ | {"DEVPIPE_HOME": str(place)}
    os.execve(sys.executable, [sys.executable, "-m", "jupyter", "lab", *options], environment)

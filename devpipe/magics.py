"""`%load_ext devpipe`: a cell's text goes through the four stages, and a line looks around.

    %%intercept dada -o sketch --seed 7
    a cat in the rain, and {my_variable}

    %devpipe check | list [pipelines|outputs|recordings] | show RUN

Magics are synchronous: the work runs in the engine's thread, the cell waits. Interrupting the cell
cancels the run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import re
import shlex
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NoReturn

from devpipe.errors import DevpipeError, UnknownName, UsageError
from devpipe.show.wording import in_words
from devpipe.text.messages import machine_language, message

if TYPE_CHECKING:
    import pandas as pd

    from devpipe.engine.engine import Engine
    from devpipe.engine.run import Run

GLANCE_S = 0.2
STOPPING_S = 10.0  # for the recording of a run that was interrupted
_VARIABLE = re.compile(r"\{(\w+)\}|\$(\w+)")
_COMMAND = re.compile(r"`devpipe ([\w-]+)[^`]*`")
_LOOKS = ("check", "list", "show")
_LISTS = ("pipelines", "outputs", "recordings")


class DevpipeMagics:
    """The two magics of one shell. The engine is the notebook's own `engine` where it has one."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self._own: Engine | None = None

    def register(self) -> None:
        """Make `%%intercept` and `%devpipe` known to the shell."""
        self.shell.register_magic_function(
            self.intercept, magic_kind="cell", magic_name="intercept"
        )
        self.shell.register_magic_function(self.devpipe, magic_kind="line", magic_name="devpipe")

    def intercept(self, line: str, cell: str) -> Run:
        """%%intercept PIPELINE [-o OUTPUT] [--seed N] [--text-seed N] [--safety LEVEL] [--set
        NAME=VALUE ...]
        """
        with _one_line_errors():
            asked = _parser().parse_args(shlex.split(line))
            parameters = dict(self._set(asked.output, setting) for setting in asked.set)
            how = {
                "pipeline": asked.pipeline,
                "output": asked.output,
                "seed": asked.seed,
                "text_seed": asked.text_seed,
            }
            how |= {
                "safety": asked.safety,
                "instruction": asked.instruction,
                "parameters": parameters,
            }
            return self._watched(self.engine.start(self._expanded(cell).strip(), **how))

    def devpipe(self, line: str) -> object:
        """%devpipe check, %devpipe list [pipelines|outputs|recordings], %devpipe show RUN"""
        with _one_line_errors():
            look, *names = shlex.split(line) or ["check"]
            if look == "check":
                from devpipe.cli.check import checked

                home = self.engine.settings.home
                with ThreadPoolExecutor(
                    1
                ) as elsewhere:  # a kernel's own thread has a running loop already
                    print(elsewhere.submit(lambda: asyncio.run(checked(home))).result())
                return None
            if look == "list":
                return self._list(names[0] if names else "pipelines")
            if look == "show" and names:
                return self.engine.recordings.find(names[0])
            raise UnknownName("look", line, _LOOKS)

    @property
    def engine(self) -> Engine:
        """The notebook's `engine`, or else our own, made once."""
        from devpipe.engine.engine import Engine

        found = self.shell.user_ns.get("engine")
        if isinstance(found, Engine):
            return found
        self._own = self._own or Engine()
        return self._own

    def _expanded(self, text: str) -> str:
        """The text with the notebook's variables in the place of {name} and $name; other braces
        stay: a text is not code.
        """
        return _VARIABLE.sub(
            lambda found: str(self.shell.user_ns.get(found[1] or found[2], found[0])), text
        )

    def _set(self, output: str, setting: str) -> tuple[str, Any]:
        from devpipe.cli.run_options import value_of

        name, equals, value = setting.partition("=")
        if not equals:
            raise UsageError(f"--set {setting!r} has no value.", hint="Write --set NAME=VALUE.")
        return name, value_of(self.engine.catalogue.output(output), name, value)

    def _watched(self, run: Run) -> Run:
        """Wait for the run; the cell says meanwhile how far it is."""
        from IPython.display import display

        language = machine_language()
        said = ""

        def show(sentence: str) -> None:
            if shown is not None:  # a plain Python has no place to show it
                shown.update({"text/plain": sentence}, raw=True)

        empty = {"text/plain": ""}
        shown = None
        try:
            shown = display(empty, raw=True, display_id=True)  # type: ignore[no-untyped-call]
            while not run.settled(GLANCE_S):
                now = _progress(run, language)
                if now != said:
                    show(now)
                    said = now
        except KeyboardInterrupt:  # wherever it comes, also while the cell is being told
            run.cancel()
            run.settled(STOPPING_S)
            raise
        seconds = f"{run.summary.duration_s:.1f}"
        show(message(f"panel.state.{run.outcome or 'failed'}", language, seconds=seconds))
        return run.wait()

    def _list(self, what: str) -> pd.DataFrame:
        import pandas as pd

        if what == "recordings":
            return self.engine.recordings.runs()
        if what not in _LISTS:
            raise UnknownName("list", what, _LISTS)
        catalogue = self.engine.catalogue
        entries: Any = catalogue.outputs if what == "outputs" else catalogue.interceptions
        rows = [
            (name, entry.title.en, entry.title.de, entry.description.en)
            for name, entry in sorted(entries.items())
        ]
        return pd.DataFrame(rows, columns=["name", "title", "titel", "description"])


def _progress(run: Run, language: str) -> str:
    """Which stage the run is in; nothing where all of them have ended."""
    for number, stage in enumerate(run.summary.stages.values(), 1):
        if not stage.outcome:
            doing = message(f"panel.doing.{stage.stage}", language)
            return message("panel.at", language, number=number, doing=doing)
    return ""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(
            f"%%intercept: {message}.", hint="Write %%intercept PIPELINE [-o OUTPUT] [--seed N]."
        )


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="%%intercept", add_help=False)
    parser.add_argument("pipeline", nargs="?", default="passthrough")
    parser.add_argument("-o", "--output", default="sketch")
    for name in ("--seed", "--text-seed", "--safety"):
        parser.add_argument(name)
    parser.add_argument("--instruction", default="")
    parser.add_argument("--set", action="append", default=[])
    return parser


@contextlib.contextmanager
def _one_line_errors() -> Any:
    """Our errors as IPython's own kind, which it prints without a traceback."""
    from IPython.core.error import UsageError as OneLine

    try:
        yield
    except DevpipeError as error:
        raise OneLine(_in_words_of_a_cell(str(error))) from error
    except ValueError as error:  # shlex: a quote that is never closed
        problem = f"The line cannot be read: {error}. Close the quote."
        raise OneLine(_in_words_of_a_cell(problem)) from error


def _in_words_of_a_cell(text: str) -> str:
    """An error in the person's language; its commands as a cell takes them."""
    return _COMMAND.sub(_command_of_a_cell, in_words("cell", text))


def _command_of_a_cell(found: re.Match[str]) -> str:
    """A command of the shell: %devpipe where that knows it, else !devpipe."""
    sign = "%" if found[1] in _LOOKS and " --" not in found[0] else "!"
    return f"`{sign}{found[0][1:]}"

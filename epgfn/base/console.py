"""How the three commands speak: one sentence per error, exit codes (docs/exit-codes.md), and progress that suits its reader.

A command reports through a `Reporter`. On a terminal that is a progress bar, in a pipe plain lines, and with
`--events` one JSON object a line, which `epgfn demo` reads to show all parties in one view.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import signal
import sys
import time
from typing import Annotated, Any, NoReturn, Protocol

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from epgfn.base.errors import EpgfnError, one_line
from epgfn.base.invisible import visible

DEBUG_VARIABLE = "EPGFN_DEBUG"
NO_COLOUR = "--no-color"
_FORCE_COLOUR = ("FORCE_COLOR", "PY_COLORS", "GITHUB_ACTIONS", "TTY_COMPATIBLE")
"""With one of these rich or typer writes to a file or a pipe as to a terminal."""
INTERRUPTED = "interrupted; nothing half-written is left, run the command again"
INTERRUPTED_CODE = 130
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
"""Signals that ask a command to end: Ctrl-C, a container's or a batch system's stop, and a terminal that is closed."""

# Wrong use of a command. Typer brings click along or has it built in, depending on its version; this is its class either way.
_WrongUse: type[Exception] = next(
    kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException"
)


def interrupt_on_signals() -> None:
    """Every one of `STOPPING` ends a command as Ctrl-C does, so that it tidies up; one that is passed over, as by nohup, still is."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)


def run_app(app: typer.Typer, name: str, arguments: list[str] | None = None) -> None:
    """Run a typer application and exit: 0 done, 1 refused or failed, 2 wrong use, 3 waiting for somebody, 130
    interrupted. Never a traceback.

    Set EPGFN_DEBUG=1 to see where an unexpected error came from.
    """
    # What is left at the end goes with the process. To look through it for cycles first takes seconds where torch and numba are loaded.
    atexit.register(gc.freeze)
    given = _without_colour(sys.argv[1:] if arguments is None else arguments)
    several = len(app.registered_commands) + len(app.registered_groups) > 1
    if several and app.registered_callback is None:  # with it the only command would have to be named
        app.callback()(_program)
    try:
        _run(app, name, given)
    except BrokenPipeError:  # the reader has seen enough, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _without_colour(arguments: list[str]) -> list[str]:
    """The arguments without `--no-color`; where it was among them, neither this program nor one that it starts prints colours. It is taken
    out before the others are read, since help and errors in the arguments have colours too."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, rest = arguments[:end], arguments[end:]
    if NO_COLOUR not in options:
        return arguments
    for forces in _FORCE_COLOUR:
        os.environ.pop(forces, None)
    os.environ["NO_COLOR"] = "1"
    return [*(option for option in options if option != NO_COLOUR), *rest]


def _tell_version(context: typer.Context, asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"{context.info_name} {version('epgfn')}")
        raise typer.Exit


_Version = Annotated[
    bool,
    typer.Option("--version", callback=_tell_version, is_eager=True, help="Show the version and exit."),
]


_NoColour = Annotated[
    bool,
    typer.Option(NO_COLOUR, help="Print no colours, as with NO_COLOR=1; anywhere among the arguments."),
]


def _program(version: _Version = False, no_color: _NoColour = False) -> None:
    """What all three programs have besides their commands."""


def _run(app: typer.Typer, name: str, arguments: list[str] | None) -> NoReturn:
    try:
        code = app(args=arguments, prog_name=name, standalone_mode=False)
    except EpgfnError as error:
        _complain(name, str(error))
        sys.exit(error.exit_code)
    except typer.Abort:
        _complain(name, INTERRUPTED)
        sys.exit(INTERRUPTED_CODE)
    except _WrongUse as error:
        wrong: Any = error
        context = getattr(wrong, "ctx", None)
        if type(error).__name__ == "NoArgsIsHelpError":
            print(wrong.format_message(), flush=True)  # the help, with its colours
            sys.exit(2)
        hint = f" (see: {context.command_path} --help)" if context is not None else ""
        _complain(name, " ".join(wrong.format_message().split()) + hint)
        sys.exit(2)
    except KeyboardInterrupt:
        _complain(name, INTERRUPTED)
        sys.exit(INTERRUPTED_CODE)
    except BrokenPipeError:
        raise
    except OSError as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        where = f" ({error.filename})" if error.filename else ""
        _complain(
            name,
            f"the system refused: {error.strerror or type(error).__name__}{where}; put that right and run again",
        )
        sys.exit(1)
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        # The text of an unexpected error may hold a data value, so only its type is shown.
        _complain(
            name,
            f"unexpected {type(error).__name__}; please report it (set {DEBUG_VARIABLE}=1 to see where, but that output may quote data)",
        )
        sys.exit(1)
    if code == INTERRUPTED_CODE:  # typer turns Ctrl-C into this code by itself
        _complain(name, INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _complain(name: str, sentence: str) -> None:
    say(f"{name}: {one_line(sentence)}", err=True)


def say(text: object = "", *, err: bool = False, end: str = "\n") -> None:
    """Print `text` for people, on standard output or, with `err`, on standard error. Names and words of others may be in it: what they hold
    to steer a terminal, or to look like another name, is shown as its code."""
    print(visible(str(text), keep="\n\t"), end=end, file=sys.stderr if err else sys.stdout, flush=True)


class Reporter(Protocol):
    """Where a command says how far it is."""

    def event(
        self,
        phase: str,
        message: str = "",
        *,
        step: int | None = None,
        steps: int | None = None,
        **fields: Any,
    ) -> None:
        """`phase` is a short stable word (such as `training`), `message` a sentence; `step` of `steps` are done."""

    def close(self) -> None:
        """No more events."""


class JsonReporter:
    """One JSON object a line on standard output."""

    def __init__(self, party: str) -> None:
        self.party = party
        self._last = 0.0

    def event(
        self,
        phase: str,
        message: str = "",
        *,
        step: int | None = None,
        steps: int | None = None,
        **fields: Any,
    ) -> None:
        now = time.monotonic()
        if step is not None and step != steps and now - self._last < 0.2:
            return
        self._last = now
        record = {
            "party": self.party,
            "phase": phase,
            "message": message,
            "step": step,
            "steps": steps,
            **fields,
        }
        print(json.dumps({key: value for key, value in record.items() if value is not None}), flush=True)

    def close(self) -> None:
        return


class TerminalReporter:
    """A progress bar while there are steps, a line for everything else; to a pipe, a line every few seconds."""

    def __init__(self, party: str) -> None:
        self.party = party
        self.console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._last = 0.0

    def event(
        self,
        phase: str,
        message: str = "",
        *,
        step: int | None = None,
        steps: int | None = None,
        **fields: Any,
    ) -> None:
        if step is None or steps is None:
            self.close()
            self.console.print(
                f"[bold]{self.party}[/] {escape(visible(message or phase))}", highlight=False, soft_wrap=True
            )
            return
        if not self.console.is_terminal:
            now = time.monotonic()
            if step == steps or now - self._last > 5.0:
                self._last = now
                text = visible(f"{self.party} {phase} {step}/{steps} {message}")
                self.console.print(text, highlight=False, markup=False, soft_wrap=True)
            return
        if self._progress is None or phase != self._phase:
            self.close()
            self._progress = Progress(
                TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}/{task.total} {task.fields[note]}"),
                TimeElapsedColumn(), TimeRemainingColumn(), console=self.console,
            )  # fmt: skip
            self._phase = phase
            self._task = self._progress.add_task(f"{self.party} {phase}", total=steps, note="")
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=step, note=escape(visible(message)))

    def close(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = self._task = None


def make_reporter(party: str, events: bool) -> Reporter:
    """The reporter for this run: JSON lines with `--events`, else for people."""
    return JsonReporter(party) if events else TerminalReporter(party)

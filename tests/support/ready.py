"""Processes of Python that begin with PyTorch, and what else takes seconds to load, already there.

Most of what a short command of this project costs is loading PyTorch. One process that has loaded it waits, and each command is a fork of
it: with memory, descriptors, signals and an end of its own, and a child of who started it, as with subprocess. In the tests
subprocess.Popen is `Commands`, which does so for `python -m` and one of our programs; `Popen` does it for scripts, too. What a fork
cannot show is how a command begins, such as the arguments that others see, or what is loaded when: tests of that have the fixture
`fresh_processes`. What is asked for and cannot be had of a fork is left to subprocess as well.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import inspect
import io
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import Any

LOADED = (
    "epgfn.demo.demo",
    "epgfn.learn.aggregate",
    "epgfn.learn.local",
    "epgfn.learn.trust",
    "epgfn.run.comparison.file",
    "epgfn.run.report",
    "epgfn_coordinator.main_loop",
    "epgfn_node.pipeline",
    "epgfn_node.training",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "pyarrow.parquet",
)
STARTING = ("PYTHON", "OMP_", "MKL_", "OPENBLAS_", "NUMBA_", "LD_", "COVERAGE")
"""What an environment says to a Python that begins: where it says something else than ours, one has to begin."""
GIVEN = {"PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"}
"""These can be given to a fork, or make no difference to it."""
TORCHRUN = "torch.distributed.run"
STARTERS = {"simulate", "demo", "bench", TORCHRUN}
"""Commands that start processes themselves get a process of their own to fork."""
WAITING = "waiting"
"""What the system calls the process of such a command's own."""
PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 15, 36
GREATEST = 1 << 20  # bytes of a request

_begin = subprocess.Popen._execute_child  # type: ignore[attr-defined]
FRESH = subprocess.Popen
_lock = threading.Lock()
_waiting: socket.socket | None = None


class Popen(FRESH):  # type: ignore[type-arg, valid-type, misc]
    """subprocess.Popen; what a fork can do is done by one."""

    programs_only = False

    def _execute_child(self, *arguments: Any) -> None:
        given = inspect.signature(_begin).bind(self, *arguments).arguments
        job = _job(given)
        if job is None or (self.programs_only and not _is_program(job["words"])):
            _begin(self, *arguments)
            return
        files = [given["p2cread"], given["c2pwrite"], given["errwrite"]]
        self.pid = _ask(job, [number if file == -1 else file for number, file in enumerate(files)])
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(given[name] for name in pipes))


class Commands(Popen):
    """Of scripts and other programs, new processes."""

    programs_only = True


def run(
    command: list[str],
    *,
    capture_output: bool = False,
    timeout: float | None = None,
    check: bool = False,
    **options: Any,
) -> Any:
    """subprocess.run by `Popen`, for scripts; without input."""
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Popen(command, **options) as process:
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
    done = subprocess.CompletedProcess(command, process.returncode, out, err)
    if check:
        done.check_returncode()
    return done


def _is_program(words: list[str]) -> bool:
    return words[0] == "-m" and (words[1].startswith("epgfn") or words[1] == TORCHRUN)


def _job(given: dict[str, Any]) -> dict[str, Any] | None:
    """What a fork is told; None where it has to be a new Python."""
    words = given["args"]
    if isinstance(words, str | bytes | os.PathLike):
        return None
    words = [os.fspath(word) for word in words]
    environment = dict(os.environ if given["env"] is None else given["env"])
    if words[1:2] == ["-u"]:
        words, environment = [words[0], *words[2:]], {**environment, "PYTHONUNBUFFERED": "1"}
    plain = (
        sys.platform == "linux"
        and len(words) > 2
        and words[0] == sys.executable
        and (words[1] in ("-m", "-c") or words[1].endswith(".py"))
        and not any(given[name] for name in ("executable", "preexec_fn", "shell", "pass_fds"))
        and all(given[name] is None for name in ("gid", "gids", "uid"))
        and given["umask"] == -1
        and given["process_group"] == -1
    )
    asked = {*os.environ, *environment}
    starting = {name for name in asked if name.startswith(STARTING)} - GIVEN
    if not plain or any(os.environ.get(name) != environment.get(name) for name in starting):
        return None
    return {
        "words": words[1:],
        "environment": environment,
        "folder": os.fspath(given["cwd"] or os.getcwd()),
        "session": bool(given["start_new_session"]),
    }


def _ask(job: dict[str, Any], files: list[int]) -> int:
    """The process that does it."""
    global _waiting
    with _lock:
        if _waiting is None:
            _waiting, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            FRESH(
                [sys.executable, __file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
            theirs.close()
        _adopting(True)
        try:
            socket.send_fds(_waiting, [json.dumps(job).encode()], files)
            return int(_waiting.recv(64))
        finally:
            _adopting(False)


def _adopting(on: bool) -> None:
    """Whether processes whose parent ends become children of this one (prctl(2)): our fork's parent ends at once."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)


def _name(name: str) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def children(pid: int) -> list[int]:
    """What this process has started and is still there (proc(5))."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found if Path(f"/proc/{child}/comm").read_text().strip() != WAITING]


def _serve(asked: socket.socket) -> dict[str, Any]:
    """Fork for each request; returns in each fork what it is to do, and never in this process."""
    while True:
        text, files, _, _ = socket.recv_fds(asked, GREATEST, 3)
        if not text:
            os._exit(0)
        heard, told = os.pipe()
        between = os.fork()
        if between == 0:
            child = os.fork()
            if child:
                os.write(told, b"%d" % child)
                os._exit(0)
            for file in (heard, told, asked.detach()):
                os.close(file)
            job: dict[str, Any] = json.loads(text)
            for number, file in enumerate(files):
                os.dup2(file, number)
            for file in files:
                os.close(file)
            return job
        os.waitpid(between, 0)  # from now on the fork is a child of who asked
        asked.send(os.read(heard, 64))
        for file in (heard, told, *files):
            os.close(file)


def _become(job: dict[str, Any], first: list[str]) -> None:
    """Be as a Python that has just begun with these words; `first`: where our own modules were found."""
    global _waiting, _lock
    _waiting, _lock = None, threading.Lock()
    words, environment = job["words"], job["environment"]
    os.chdir(job["folder"])
    if job["session"]:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    _name("python")
    here = job["folder"] if words[0] in ("-m", "-c") else os.path.dirname(os.path.abspath(words[0]))
    more = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = list(dict.fromkeys([here, *more, *first]))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed()
    if STARTERS & {*words}:
        subprocess.Popen = Popen if TORCHRUN in words else Commands  # type: ignore[misc, assignment]
        _start_own(first)
    through = bool(environment.get("PYTHONUNBUFFERED"))
    streams = [open(number, "rb" if number == 0 else "wb") for number in range(3)]  # noqa: SIM115
    sys.stdin = io.TextIOWrapper(streams[0])
    sys.stdout = io.TextIOWrapper(streams[1], line_buffering=os.isatty(1), write_through=through)
    sys.stderr = io.TextIOWrapper(streams[2], errors="backslashreplace", line_buffering=True)
    sys.__stdin__, sys.__stdout__, sys.__stderr__ = sys.stdin, sys.stdout, sys.stderr


def _start_own(first: list[str]) -> None:
    """A fork of this process waits for what this process will start."""
    global _waiting
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork():
        theirs.close()
        _waiting = ours
        return
    ours.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _name(WAITING)
    job = _serve(theirs)
    subprocess.Popen = FRESH  # type: ignore[misc]
    _do(job, first)


def _do(job: dict[str, Any], first: list[str]) -> None:
    """Be that Python, to its end; what was loaded is not taken apart then, which takes longer than many a command."""
    _become(job, first)
    code: Any = None
    try:
        _run(job)
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        raise  # Python ends by that signal
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if not isinstance(code, int | None):
        print(code, file=sys.stderr)
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def _run(job: dict[str, Any]) -> None:
    what, *words = job["words"]
    if what == "-m":
        name, *rest = words
        for loaded in (name, f"{name}.__main__"):
            sys.modules.pop(loaded, None)
        sys.argv = [name, *rest]
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    elif what == "-c":
        text, *rest = words
        sys.argv = ["-c", *rest]
        sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(text, "<string>", "exec"), sys.modules["__main__"].__dict__)  # noqa: S102
    else:
        sys.argv = [what, *words]
        runpy.run_path(what, run_name="__main__")


def _main() -> None:
    sys.modules["ready"] = sys.modules["__main__"]
    first = [*sys.path]
    for name in LOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what ends is said by the socket
    job = _serve(socket.socket(fileno=int(sys.argv[1])))
    _do(job, first)


if __name__ == "__main__":
    _main()

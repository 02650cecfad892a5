"""Promise: what is read of a run directory lies in it, as a plain file, and nobody waits for it. Somebody puts links, pipes, sockets,
devices and folders in the place of its files, other capitals into their names, or takes a signature out."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

import epgfn
from attacks import refusals
from epgfn.base.console import run_app
from epgfn.base.errors import RefusedError, UsageError
from epgfn.base.files import open_plain, read_bytes
from epgfn.cli.main import app
from run_directory import RunDirectory

LONGEST = 60
"""Seconds after which something waits for what never comes."""
RESULT = [
    "global/model.safetensors",
    "global/model.sigstore.json",
    "global/samples.parquet",
    "global/summary.json",
]
SOME = ["study.toml", "uploads/north/model.sealed", "ledger/checkpoint", "global/samples.parquet"]
"""Of each kind of reader one; of a pipe and of a link every file is tried."""
READ_BY_ALL = ["study.toml", "keys/coordinator.pem", "ledger/checkpoint", "ledger/tile/entries/000.p/12"]


class WaitsForEverError(BaseException):
    """No OSError, which a reader might take for an answer."""


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    def over(number: int, frame: FrameType | None) -> None:
        raise WaitsForEverError

    before = signal.signal(signal.SIGALRM, over)
    signal.alarm(LONGEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def pipe(path: Path, raw: bytes) -> None:
    os.mkfifo(path)


def folder(path: Path, raw: bytes) -> None:
    path.mkdir()


def bound_socket(path: Path, raw: bytes) -> None:
    short = Path("/tmp") / f"s{os.getpid()}"  # the name of a socket has 108 bytes
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(short))
    shutil.move(short, path)


def device(path: Path, raw: bytes) -> None:
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero, which never ends
    except PermissionError:
        pytest.skip("only root may make a device")


def link_outside(path: Path, raw: bytes) -> None:
    """To a file beside the directory, which holds what belongs there."""
    root = next(parent for parent in path.parents if (parent / "uploads").is_dir())
    (root.parent / "outside").write_bytes(raw)
    path.symlink_to(root.parent / "outside")


def link_beside(path: Path, raw: bytes) -> None:
    """Relative, and within the directory."""
    path.with_name(path.name + "~").write_bytes(raw)
    path.symlink_to(path.name + "~")


def link_to_itself(path: Path, raw: bytes) -> None:
    path.symlink_to(path.name)


def link_to_nothing(path: Path, raw: bytes) -> None:
    path.symlink_to("nowhere")


def in_capitals(path: Path, raw: bytes) -> None:
    path.with_name(path.name.swapcase()).write_bytes(raw)


IN_PLACE: list[Callable[[Path, bytes], None]] = [
    pipe, folder, bound_socket, device, link_outside, link_beside, link_to_itself, link_to_nothing, in_capitals,
]  # fmt: skip


@pytest.mark.parametrize("put", IN_PLACE)
def test_no_file_of_a_run_may_be_anything_else(
    run: RunDirectory, copy: Path, put: Callable[[Path, bytes], None]
) -> None:
    """Each in turn, and the refusal names it."""
    names = [name for name in run.files if "south" not in name and "west" not in name]
    for name in names if put in (pipe, link_beside) else SOME:
        path = copy / name
        raw = path.read_bytes()
        if put is in_capitals and path.name == path.name.swapcase():
            continue  # a number has none
        path.unlink()
        put(path, raw)
        found = refusals(copy)
        assert found, name
        told = " ".join(found.values())
        assert "malformed" not in told and "unexpected" not in told, (name, found)
        assert path.name in told or name in told or name.partition("/")[2] in told, (name, found)
        shutil.rmtree(copy)
        shutil.copytree(run.root, copy)


@pytest.mark.parametrize(
    "name",
    ["keys", "keys/nodes", "ledger", "ledger/tile", "ledger/tile/0", "uploads", "uploads/north", "global"],
)
def test_nor_may_a_folder_be_a_link_a_pipe_or_a_file(
    run: RunDirectory, copy: Path, tmp_path: Path, name: str
) -> None:
    path = copy / name
    moved = path.rename(tmp_path / "moved")
    for put in (lambda: path.symlink_to(moved), lambda: os.mkfifo(path), lambda: path.write_bytes(b"x")):
        put()
        found = refusals(copy)
        assert found and "malformed" not in " ".join(found.values()), found
        path.unlink()
    inside = shutil.copytree(moved, copy / "keys2" if name != "keys" else copy / "ledger2")
    path.symlink_to(os.path.relpath(inside, path.parent))
    assert refusals(copy)


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str]:
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", [str(each) for each in arguments])
    out, err = capsys.readouterr()
    return ended.value.code, out + err


@pytest.mark.parametrize(
    ("name", "put"),
    [*((name, pipe) for name in [*RESULT, *READ_BY_ALL]), ("study.toml", device), (RESULT[0], device)],
)
def test_no_command_waits_for_one_or_reads_without_end(
    run: RunDirectory,
    copy: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    put: Callable[[Path, bytes], None],
) -> None:
    (copy / name).unlink()
    put(copy / name, b"")
    for command in (
        ("exact", copy),
        ("export", copy, "--to", "csv", "--out", tmp_path / "out.csv"),
        ("ask", copy, "a -> b"),
        ("ledger", "compare", run.root, copy),
        ("inspect", copy / name),
        ("study", "check", copy / name),
    ):
        code, told = said(capsys, *command)
        assert "unexpected" not in told and code in (0, 1, 2, None), (command, told)
        if command[0] in ("inspect", "study") or (command[0] == "export" and name in RESULT[1::2]):
            assert code in (1, 2), (command, told)


def test_a_result_whose_signature_is_gone_is_nobodys(
    run: RunDirectory, copy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the signature an invented number would be taken for what it is."""
    summary = copy / "global/summary.json"
    told = json.loads(summary.read_bytes())
    told["edge_probabilities"][0][1] = 0.987
    summary.write_text(json.dumps(told))
    (copy / "global/summary.json").rename(tmp_path / "summary")
    code, said_of_it = said(capsys, "ask", copy, "a -> b")
    assert (
        code == 2 and "cannot read the summary" in said_of_it
    )  # it was signed, and may have said not to rely on the model
    (tmp_path / "summary").rename(summary)
    for gone in ("global/model.sigstore.json", "keys/coordinator.pem"):
        kept = (copy / gone).read_bytes()
        (copy / gone).unlink()
        code, said_of_it = said(capsys, "export", copy, "--to", "csv", "--out", tmp_path / "out.csv")
        assert (
            code == 1
            and "nobody vouches for its result" in said_of_it
            and not (tmp_path / "out.csv").exists()
        )
        for ask in (
            lambda: epgfn.load_run(copy).table,
            lambda: epgfn.load_run(copy).samples,
            lambda: epgfn.load_model(copy),
        ):
            with pytest.raises(RefusedError, match="nobody vouches"):
                ask()
        (copy / gone).write_bytes(kept)


def test_a_directory_that_nobody_signed_is_called_that(
    run: RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = tmp_path / "bare"
    for name in ("study.toml", "global/model.safetensors"):
        (bare / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(run.root / name, bare / name)
    code, told = said(capsys, "exact", bare)
    assert not code and f"Nothing in {bare} is signed: nobody vouches for what it says." in told


def test_a_plain_file_is_read_through_a_link_that_its_owner_made(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"study")
    (tmp_path / "link").symlink_to("real")
    assert read_bytes(tmp_path / "link", "file", 10) == b"study"
    for make in (pipe, folder):
        make(tmp_path / "none", b"")
        with pytest.raises(UsageError, match="it is not a plain file"):
            read_bytes(tmp_path / "none", "file", 10)
        with pytest.raises(OSError, match="not a plain file"):
            open_plain(tmp_path / "none")
        (tmp_path / "none").unlink() if make is pipe else (tmp_path / "none").rmdir()

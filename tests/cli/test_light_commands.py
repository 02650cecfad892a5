"""Commands that compute nothing are quick because they load nothing heavy: what each one imports, as `python -X importtime` says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from old_home import old_home
from small import SMALL_STUDY

HEAVY = {"torch", "pandas", "pyarrow", "matplotlib", "opacus", "opendp", "scipy", "networkx"}
"""What a command loads only if it trains, draws, plots or reads records."""
NOT_FOR_HELP = HEAVY | {"numpy", "grpc", "cryptography", "safetensors"}
COMMANDS = {"epgfn": "epgfn.cli.main", "epgfn-node": "epgfn_node", "epgfn-coordinator": "epgfn_coordinator"}


class Done(NamedTuple):
    """How a command ended, what it wrote, and the top-level packages it imported."""

    code: int
    out: str
    err: str
    imported: set[str]


def command(name: str, *arguments: str | Path) -> Done:
    return python("-m", COMMANDS[name], *map(str, arguments))


def python(*arguments: str) -> Done:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, timeout=300
    )
    lines = done.stderr.splitlines()
    times = [line for line in lines if line.startswith("import time:")]
    imported = {line.rsplit("|", 1)[1].strip().split(".")[0] for line in times}
    said = "\n".join(line for line in lines if not line.startswith("import time:"))
    assert "typing" in imported and "Traceback" not in said, said
    return Done(done.returncode, done.stdout, said, imported)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("epgfn", ["--help"]),
        ("epgfn", ["audit", "--help"]),
        ("epgfn", ["demo", "--help"]),
        ("epgfn", ["privacy", "--help"]),
        ("epgfn", ["bench", "--help"]),
        ("epgfn-node", ["--help"]),
        ("epgfn-node", ["inspect", "--help"]),
        ("epgfn-node", ["run", "--help"]),
        ("epgfn-coordinator", ["--help"]),
        ("epgfn-coordinator", ["serve", "--help"]),
    ],
)
def test_help_loads_nothing_that_it_does_not_show(name: str, arguments: list[str]) -> None:
    done = command(name, *arguments)
    assert done.code == 0 and "Usage" in done.out
    assert sorted(done.imported & NOT_FOR_HELP) == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("epgfn", ["demo", "--nodse", "3"]),
        ("epgfn", ["audit", "runs/first", "--cordinator-key", "3f9a"]),
        ("epgfn", ["adit"]),
        ("epgfn-node", ["train", "--sed", "3"]),
        ("epgfn-node", ["run", "--privacy-budget", "two"]),
        ("epgfn-node", ["inspekt"]),
        ("epgfn-coordinator", ["serve", "--devise", "cpu"]),
    ],
)
def test_a_mistyped_command_is_refused_before_anything_is_loaded(name: str, arguments: list[str]) -> None:
    done = command(name, *arguments)
    assert done.code == 2
    assert done.err.splitlines()[-1].startswith(f"{name}: ")
    assert sorted(done.imported & NOT_FOR_HELP) == []


def test_inspect_shows_a_trained_model_without_what_trains_it(tmp_path: Path) -> None:
    done = command("epgfn-node", "inspect", "--home", old_home(tmp_path))
    assert done.code == 0 and "score_table: 3 x 7 float32 (21 numbers)" in done.out
    assert sorted(done.imported & (HEAVY | {"numpy", "safetensors"})) == []


def test_init_of_a_node_makes_keys_and_loads_no_torch(tmp_path: Path) -> None:
    done = command("epgfn-node", "init", "--home", tmp_path / "home")
    assert done.code == 0 and (tmp_path / "home" / "keys" / "signing.key").is_file()
    assert sorted(done.imported & (HEAVY | {"numpy"})) == []


def test_status_and_invitations_of_a_coordinator_load_no_torch(tmp_path: Path) -> None:
    home = ["--home", tmp_path / "home"]
    (tmp_path / "study.toml").write_text(SMALL_STUDY)
    # Nothing listens there: no command here serves.
    ports = ["--address", "127.0.0.1:7001", "--enroll-address", "127.0.0.1:7002"]
    assert command("epgfn-coordinator", "init", *home, "--study", tmp_path / "study.toml", *ports).code == 0
    token = command("epgfn-coordinator", "token", "north", *home, "--out", tmp_path / "north.json")
    assert token.code == 0 and (tmp_path / "north.json").is_file()
    status = command("epgfn-coordinator", "status", *home)
    assert status.code == 0 and "open" in status.out
    for done in (token, status):
        assert sorted(done.imported & (HEAVY | {"numpy", "grpc"})) == []


def test_the_package_itself_loads_nothing() -> None:
    done = python("-c", "import epgfn")
    assert done.code == 0
    assert sorted(done.imported & NOT_FOR_HELP) == []


def test_training_and_aggregating_load_no_scipy_and_no_networkx() -> None:
    """Every party's process begins with these, and SciPy's statistics alone take half a second."""
    done = python("-c", "import epgfn.learn.local, epgfn.learn.aggregate")
    assert done.code == 0
    assert sorted(done.imported & HEAVY) == ["torch"]

"""`epgfn bench reading`: both read the same file, and the command prints one JSON object."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from epgfn.base.errors import UsageError
from epgfn.bench.reading import reading


def test_both_read_one_file_and_the_ratio_is_of_their_times() -> None:
    found = reading(rows=500, columns=3, rounds=1)
    assert (found["rows"], found["columns"]) == (500, 3)
    assert found["bytes"] > 500 * 3 * 10
    assert found["ratio"] == pytest.approx(found["epgfn_cpu_s"] / found["pandas_cpu_s"])


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="1 or more"):
        reading(rows=0)


def test_the_command_prints_one_json_object() -> None:
    command = [sys.executable, "-m", "epgfn", "bench", "reading", "--rows", "50", "--rounds", "1", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["columns"] == 11

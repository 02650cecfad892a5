"""The part `masked` of `epgfn bench transport`: many nodes whose sums are masked, beside as many that send their statistic with a model.

Real coordinators and nodes: `epgfn-node submit` and `epgfn-node fetch`, each in a process of its own and all at once, from an approved
model or statistic to the result that everybody has. What comes before, training above all, is not in the time.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import tomli_w

from epgfn.base.errors import EpgfnError
from epgfn.bench.transport_parties import CoordinatorProcess, cpu_seconds
from epgfn.study import Study

WAIT: Final = "600"  # seconds
_PREPARE: Final = """
import json, sys
from pathlib import Path
from epgfn.base.console import run_app
from epgfn_node.cli import NAME, app
folder, digest, said = Path(sys.argv[1]), sys.argv[2], json.loads(sys.stdin.read())
def do(*command):
    try:
        run_app(app, NAME, [str(each) for each in command])
    except SystemExit as end:
        if end.code:
            raise
for number, invitation in enumerate(said):
    home = folder / invitation["node_id"]
    file, records = home.with_suffix(".json"), home.with_suffix(".csv")
    file.write_text(json.dumps(invitation))
    file.chmod(0o600)
    rows = [((i * 7 + number) % 11 - 5, (i * i + number) % 7 - 3, (i * i * i + number) % 5 - 2) for i in range(60)]
    records.write_text("x,y,z\\n" + "\\n".join(",".join(map(str, row)) for row in rows) + "\\n")
    do("init", "--home", home)
    do("enroll", "--home", home, "--invite", file)
    do("train", "--home", home, "--data", records, "--accept-study", digest)
    do("approve", "--home", home, "--accept-statistic")
"""
"""One process for all nodes, of what is not measured."""


def masked(folder: Path, nodes: int) -> dict[str, Any]:
    """Seconds of both, and their ratio.

    Raises:
        EpgfnError: a party did not do what it should.
    """
    found = {}
    for kind in ("plain", "masked"):
        place = folder / kind
        place.mkdir()
        found[kind] = _exchange(place, _study(nodes, kind))
    (plain, plain_cpu), (seconds, cpu) = found["plain"], found["masked"]
    return {
        "nodes": nodes,
        "seconds": seconds,
        "plain_seconds": plain,
        "ratio": seconds / plain,
        "cpu_s": cpu,
        "plain_cpu_s": plain_cpu,
    }


def _study(nodes: int, kind: str) -> Study:
    values = {
        "name": "transport",
        "seed": 0,
        "roster": [f"node-{number:04d}" for number in range(nodes)],
        "space": {"kind": "dag-by-sinks", "max_parents": 2},
        "target": {"kind": "bge", "parameters": "shared"},
        "policy": {"hidden": 8},
        "training": {"steps": 1},
        "aggregation": {"steps": 1, "sums": kind, "quorum": max(3, nodes // 2 + 1)},
        "variables": [{"name": name, "centre": 0.0, "scale": 3.0} for name in "xyz"],
    }
    return Study.from_bytes(tomli_w.dumps(values).encode("utf-8"))


def _exchange(folder: Path, study: Study) -> tuple[float, float | None]:
    """Seconds from the first node's start to the last one's result, and CPU-seconds of all parties in these."""
    with CoordinatorProcess(folder, study) as coordinator:
        invitations = json.dumps([node.invitation for node in coordinator.invite(list(study.roster))])
        _run([sys.executable, "-c", _PREPARE, str(folder), study.digest], invitations)
        before, begun, used = cpu_seconds(coordinator.process.pid), time.monotonic(), _used()
        with ThreadPoolExecutor(len(study.roster)) as pool:
            list(pool.map(lambda node: _take_part(folder / node), study.roster))
        seconds, after = time.monotonic() - begun, cpu_seconds(coordinator.process.pid)
        of_nodes = _used() - used
    return seconds, None if before is None or after is None else after - before + of_nodes


def _used() -> float:
    """CPU-seconds of all processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _take_part(home: Path) -> None:
    for verb in ("submit", "fetch"):
        _run([sys.executable, "-m", "epgfn_node", verb, "--home", str(home), "--wait", WAIT])


def _run(command: list[str], said: str = "") -> None:
    done = subprocess.run(
        command,
        input=said,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EpgfnError(f"a node of the benchmark does not get on: {last}")

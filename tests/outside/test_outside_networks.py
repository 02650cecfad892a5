"""What `epgfn export --to bif` writes is a network that pgmpy reads."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import epgfn
import kinds
from outside_tools import PGMPY_PYTHON, REQUIRED
from report_run import make_run

READ = """
import json, sys, warnings
warnings.simplefilter("ignore")
from pgmpy.readwrite import BIFReader
network = BIFReader(sys.argv[1]).get_model()
assert network.check_model()
states = {name: list(network.get_cpds(name).state_names[name]) for name in network.nodes()}
tables = {name: network.get_cpds(name).get_values().ravel().tolist() for name in network.nodes()}
print(json.dumps({"edges": sorted(network.edges()), "states": states, "tables": tables}))
"""


@pytest.mark.skipif(PGMPY_PYTHON is None and not REQUIRED, reason="no pgmpy here; make outside installs it")
def test_pgmpy_reads_the_most_probable_graph(tmp_path: Path) -> None:
    study = kinds.study("categories")
    run = epgfn.load_run(make_run(tmp_path / "run", study))
    file = run.export("bif", tmp_path / "graph.bif")
    done = subprocess.run(
        [str(PGMPY_PYTHON), "-c", READ, str(file)], capture_output=True, text=True, timeout=300, check=True
    )
    found = json.loads(done.stdout.splitlines()[-1])
    (text,) = run.model.most_probable(1).rows().edges
    assert found["edges"] == sorted(edge.split("->") for edge in text.split(";") if edge)
    assert found["edges"]
    for variable in study.variables:
        assert found["states"][variable.name] == list(variable.categories or [])
        assert found["tables"][variable.name] == pytest.approx(
            [1 / len(variable.categories or [])] * len(found["tables"][variable.name])
        )

"""`epgfn` as a person types it: a whole small study, everything one can do with its run directory, and every way to get it wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import epgfn
import ready
from epgfn.cli.main import app
from epgfn.rpc.proxies import VARIABLES
from epgfn.study import Study
from networks import ConnectProxy
from parties import in_process
from small import SMALL_STUDY


def epgfn_command(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """Run the command; check its exit code, and that an error is one sentence and no traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "epgfn.cli.main", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "COLUMNS": "100"},
    )
    return as_promised(done, code)


def here(*arguments: str | Path, code: int = 0) -> tuple[str, str]:
    """The same without a process of its own, which saves seconds."""
    return as_promised(in_process(app, "epgfn", [*map(str, arguments)], {"COLUMNS": "100"}), code)


def as_promised(done: subprocess.CompletedProcess[str], code: int) -> tuple[str, str]:
    out, err = done.stdout, done.stderr
    assert done.returncode == code, err
    assert "Traceback" not in out + err
    if code:
        assert err.strip().splitlines()[-1].startswith("epgfn: ")
    return out, err


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """A finished simulation of two nodes with three variables, and what it printed. It is on one machine and needs no network: no proxy of
    the environment may be in its way."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "study.toml").write_text(SMALL_STUDY)
    for number, node in enumerate(("north", "south")):
        values = np.random.default_rng(number).normal(size=(80, 3))
        values[:, 1] += values[:, 0] - values[:, 2]
        pd.DataFrame(values, columns=["a", "b", "c"]).to_csv(folder / f"{node}.csv", index=False)
    with ConnectProxy(answers_with="403 Forbidden") as proxy, pytest.MonkeyPatch.context() as environment:
        for name in VARIABLES:
            environment.setenv(name, f"http://{proxy.address}")
        out, _ = epgfn_command(
            "simulate", folder / "study.toml", "--data", folder / "north.csv", folder / "south.csv", "--out", folder / "run", "--json"
        )  # fmt: skip
        assert proxy.connections == 0
    return folder / "run", json.loads(out)


def test_questions_in_words_are_answered_by_the_exact_posterior(run: tuple[Path, dict[str, object]]) -> None:
    edge = json.loads((run[0] / "global" / "summary.json").read_text("utf-8"))["edge_probabilities"][0][1]
    out, err = here("ask", run[0], "a -> b", "b is an ancestor of c", "-n", "5000", "--json")
    first, second = json.loads(out)["answers"]
    assert first["basis"] == second["basis"] == "exact" and not err
    assert abs(first["probability"] - edge) < 5 * first["error"]
    assert 0 < second["probability"] < 1 and second["question"] == "b is an ancestor of c"
    out, _ = here("ask", run[0], "a - b", "-n", "500")
    assert "independent graphs of the exact answer)  a - b" in out
    _, err = here("ask", run[0], "a makes b", code=2)
    assert "cannot read 'a makes b'" in err and "a is an ancestor of b" in err


def test_simulate_reports_the_truth(run: tuple[Path, dict[str, object]]) -> None:
    folder, figures = run
    assert (
        figures["run_dir"] == str(folder)
        and figures["nodes"] == 2
        and figures["variables"] == ["a", "b", "c"]
    )
    assert (
        figures["audit_ok"] is True and figures["auroc_global"] is None
    )  # no network was given to compare with
    assert figures["probabilities_from"] == "exact" and isinstance(figures["khat"], float)
    assert figures["verdict"] in ("good", "usable after weighting", "not to be relied on")
    assert float(str(figures["global_edge_mae"])) < 0.1 < float(str(figures["null_edge_mae"]))
    assert Path(str(figures["report"])).read_text().lower().startswith("<!doctype html>")
    assert not list(folder.rglob("*.key")), "a run directory holds no secret"


def test_each_party_is_a_process_of_its_own(run: tuple[Path, dict[str, object]]) -> None:
    pids = run[1]["pids"]
    assert isinstance(pids, dict) and set(pids) == {"coordinator", "north", "south"}
    assert len({*pids.values(), os.getpid()}) == 4


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_sample_writes_a_graph_a_line(run: tuple[Path, dict[str, object]], tmp_path: Path, form: str) -> None:
    file = tmp_path / f"graphs.{form}"
    epgfn_command("sample", run[0], "-n", "50", "--format", form, "--seed", "1", "--out", file)
    read = {"csv": pd.read_csv, "jsonl": lambda f: pd.read_json(f, lines=True), "parquet": pd.read_parquet}[
        form
    ]
    table = read(file)
    assert list(table.columns) == ["edges", "log_prob"] and len(table) == 50
    assert (table["log_prob"] <= 1e-6).all()
    if form != "parquet":
        printed, _ = epgfn_command("sample", run[0], "-n", "50", "--format", form, "--seed", "1")
        assert printed.encode() == file.read_bytes()


def test_exact_lists_every_graph_and_agrees_with_samples(run: tuple[Path, dict[str, object]]) -> None:
    out, _ = here("exact", run[0], "--json")
    rows = json.loads(out)["rows"]
    probability = {row["edges"]: row["probability"] for row in rows}
    assert len(probability) == len(rows) == 25
    assert sum(probability.values()) == pytest.approx(1.0, abs=1e-5)
    model = epgfn.load_model(run[0])
    edge = sum(p for edges, p in probability.items() if "a->b" in edges.split(";"))
    assert model.edge_probabilities(n=20_000)[0, 1] == pytest.approx(edge, abs=0.02)
    drawn = model.sample(200, seed=2)
    exact = np.log([probability[edges] for edges in drawn.rows()["edges"]])
    assert np.abs(drawn.log_prob - exact).mean() < 0.1


def test_audit_passes_and_a_flipped_bit_fails(run: tuple[Path, dict[str, object]]) -> None:
    out, _ = here("audit", run[0])
    assert "FAIL" not in out
    fingerprint = json.loads((run[0] / "round.sigstore.json").read_bytes())["verificationMaterial"][
        "publicKey"
    ]["hint"]
    here("audit", run[0], "--coordinator-key", fingerprint)
    here("audit", run[0], "--coordinator-key", "0" * 64, code=1)
    sealed = run[0] / "uploads" / "north" / "model.sealed"
    good = sealed.read_bytes()
    sealed.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        out, err = here("audit", run[0], code=1)
        assert "FAIL" in out and "do not rely on this run" in err
        assert json.loads(here("audit", run[0], "--json", code=1)[0])["ok"] is False
    finally:
        sealed.write_bytes(good)


def test_report_can_be_written_again(run: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    out, _ = here("report", run[0], "--out", tmp_path / "again.html")
    assert Path(out.strip()) == tmp_path / "again.html" and (tmp_path / "again.html").is_file()


def test_a_used_folder_is_not_overwritten(run: tuple[Path, dict[str, object]]) -> None:
    home = run[0].parent
    before = {path: path.stat().st_mtime_ns for path in run[0].rglob("*")}
    _, err = here(
        "simulate", home / "study.toml", "--data", home / "north.csv", home / "south.csv", "--out", run[0], code=2
    )  # fmt: skip
    assert "not empty" in err and before == {path: path.stat().st_mtime_ns for path in run[0].rglob("*")}


def test_wrong_use_is_one_sentence_and_starts_nothing(
    run: tuple[Path, dict[str, object]], tmp_path: Path
) -> None:
    study, north = run[0].parent / "study.toml", run[0].parent / "north.csv"
    bad = tmp_path / "bad.csv"
    bad.write_text(north.read_text().replace("a,b,c", "a,b,wrong-column"))
    cases: list[tuple[list[str | Path], str]] = [
        (["simulate", study, "--data", north, "--out", tmp_path / "x"], "one per node"),
        (["simulate", tmp_path / "none.toml", "--out", tmp_path / "x"], "none.toml"),
        (["simulate", study, "--data", north, bad, "--out", tmp_path / "x"], "bad.csv"),
        (["demo", "--nodes", "0", "--out", tmp_path / "x"], "--nodes"),
        (["sample", tmp_path / "nowhere"], "nowhere"),
        (["sample", run[0], "--format", "parquet"], "--out"),
        (["sample", run[0], "-n", "0"], "-n"),
        (["dance"], "dance"),
    ]
    for arguments, names in cases:
        _, err = here(*arguments, code=2)
        assert names in err, arguments
        assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists() and not (tmp_path / "x.parties").exists()


@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="asks the system for a process's children as Linux has it"
)
def test_ctrl_c_leaves_no_process_behind(run: tuple[Path, dict[str, object]], tmp_path: Path) -> None:
    home, endless = run[0].parent, tmp_path / "endless.toml"  # not over before Ctrl-C is typed
    changes = {"roster": ["north"], "training": {"steps": 100_000}}
    endless.write_bytes(Study.load(home / "study.toml").with_changes(changes).raw)
    files = ["--data", str(home / "north.csv"), "--out", str(tmp_path / "x")]
    command = [sys.executable, "-m", "epgfn.cli.main", "simulate", str(endless), *files]
    process = ready.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "training" in line:
            break
    parties = ready.children(process.pid)
    assert len(parties) == 2
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130 and "epgfn: interrupted" in err and "Traceback" not in err
    assert not [pid for pid in parties if Path(f"/proc/{pid}").exists()]


def test_without_a_command_it_shows_what_there_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "epgfn.cli.main"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 2 and "simulate" in done.stdout + done.stderr and "Traceback" not in done.stderr


def test_every_command_has_help_with_an_example() -> None:
    for command in ("demo", "simulate", "sample", "ask", "exact", "report", "export", "audit"):
        assert "Example: epgfn " + command in here(command, "--help")[0]

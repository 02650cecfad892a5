"""A study whose sites share their parameters, between real processes: consent, one upload of two parts by network and by file, the
posterior of all records together, and the audit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from epgfn.learn.exact import exact_of_table
from epgfn.learn.scores import score_table
from epgfn.run.audit.audit import audit_run
from epgfn.run.report import write_report
from epgfn.sealing.binding import STATISTIC_PAYLOAD
from epgfn.study import Study
from parties import REFUSED, WAITING, CoordinatorProcess, Node
from small import PRIVATE_STUDY, SMALL_STUDY

TARGET = '[target]\nkind = "bge"\nparameters = "shared"\n\n[policy]'
STUDY = Study.from_bytes(SMALL_STUDY.replace("[policy]", TARGET, 1).encode())
PRIVATE = Study.from_bytes(PRIVATE_STUDY.replace("[policy]", TARGET, 1).encode())


def records(folder: Path) -> dict[str, tuple[Path, np.ndarray]]:
    """Each node's file, and what is in it."""
    rng = np.random.default_rng(11)
    mix = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.3], [0.0, 0.0, 1.0]])
    made = {}
    for node, n in (("north", 80), ("south", 120)):
        x = (rng.normal(size=(n, 3)) @ mix).round(6)
        path = folder / f"{node}.csv"
        path.write_text("a,b,c\n" + "\n".join(",".join(map(str, row)) for row in x) + "\n")
        made[node] = path, x
    return made


def test_the_posterior_of_all_records_and_nothing_leaves_without_consent_of_its_own(tmp_path: Path) -> None:
    files = records(tmp_path)
    (tmp_path / "study.toml").write_bytes(STUDY.raw)
    with CoordinatorProcess(tmp_path / "home", tmp_path / "study.toml") as coordinator:
        north = Node(tmp_path / "north").join(coordinator, "north")
        told = north.ok("enroll")
        assert "the mean of each variable, and the covariance of each two" in " ".join(told.split())
        run = [
            "run",
            "--data",
            str(files["north"][0]),
            "--accept-study",
            STUDY.digest,
            "--approve-automatically",
        ]
        sentence = north.fails(WAITING, *run, "--wait", "0")
        assert "--accept-statistic" in sentence and not (north.home / "outbox").exists()
        shown = " ".join(north.ok("inspect").split())
        assert "in the same file, beside the model, a statistic of your records" in shown.lower()
        assert (
            "To let it leave: --accept-statistic" in shown and "statistic.scatter: 1 x 3 x 3 float64" in shown
        )
        north.ok("approve", "--accept-statistic")
        facts = json.loads(north.ok("inspect", "--json"))
        assert facts["statistic_accepted"] and facts["statement"]["payload_type"] == STATISTIC_PAYLOAD
        north.ok("inspect", "--dossier", str(tmp_path / "dossier"))
        dossier = json.loads((tmp_path / "dossier" / "dossier.json").read_text())
        assert "covariance of each two" in dossier["disclosure"]["can_be_computed"]
        # By file: whatever carries a sealed model carries both parts.
        north.ok("submit", "--to-file", str(tmp_path / "north.letter"))
        coordinator.command("receive", str(tmp_path / "north.letter"), "--out", str(tmp_path / "north.reply"))
        north.ok("receive", str(tmp_path / "north.reply"))
        south = Node(tmp_path / "south").join(coordinator, "south")
        south.set(accept_statistic=True)
        run = [
            "run",
            "--data",
            str(files["south"][0]),
            "--accept-study",
            STUDY.digest,
            "--approve-automatically",
        ]
        south.ok(*run, "--wait", "300")
        coordinator.command("export", "--out", str(tmp_path / "run"))
    assert audit_run(tmp_path / "run").ok
    summary = json.loads((tmp_path / "run" / "global" / "summary.json").read_text())
    x = torch.from_numpy(np.concatenate([files[node][1] for node in ("north", "south")]))
    wanted = exact_of_table(STUDY, score_table(STUDY, x, n_parties=1))
    assert wanted is not None
    edges = [p for i, row in enumerate(summary["edge_probabilities"]) for j, p in enumerate(row) if i != j]
    assert edges == pytest.approx(list(wanted.probabilities.values()), abs=1e-9)
    beside = summary["diagnostics"]["parameters"]
    assert beside["records"] == 200 and beside["own"].keys() == wanted.probabilities.keys()
    page = write_report(tmp_path / "run", out=tmp_path / "report.html").read_text()
    assert (
        "the posterior of all records together" in page
        and "If every site had coefficients of its own" in page
    )
    assert "The posterior of the pooled records. Every node" not in page


def test_under_privacy_the_released_numbers_go_along_and_cost_nothing(tmp_path: Path) -> None:
    files = records(tmp_path)
    (tmp_path / "study.toml").write_bytes(PRIVATE.raw)
    with CoordinatorProcess(tmp_path / "home", tmp_path / "study.toml") as coordinator:
        nodes = [Node(tmp_path / node).join(coordinator, node) for node in files]
        for node, (path, _) in zip(nodes, files.values(), strict=True):
            node.set(privacy_budget_epsilon=4.0)
            node.ok("train", "--data", str(path), "--accept-study", PRIVATE.digest)
            shown = " ".join(node.ok("inspect").split())
            assert "they cost no privacy beyond it" in shown and "--accept-statistic" not in shown
            assert "statistic.whitened.products: 3 int64" in shown
            node.ok("approve")
            node.ok("submit")
        nodes[0].ok("fetch", "--wait", "300")
        coordinator.command("export", "--out", str(tmp_path / "run"))
    assert audit_run(tmp_path / "run").ok
    summary = json.loads((tmp_path / "run" / "global" / "summary.json").read_text())
    assert 2 <= summary["diagnostics"]["parameters"]["records"] <= 200


def test_a_model_whose_statistic_was_exchanged_is_not_approved(tmp_path: Path) -> None:
    from epgfn.learn.policy import upload_spec
    from epgfn.learn.shared import apart, statistic_of
    from epgfn.sealing.model_file import read_model, write_model

    files = records(tmp_path)
    (tmp_path / "study.toml").write_bytes(STUDY.raw)
    with CoordinatorProcess(tmp_path / "home", tmp_path / "study.toml") as coordinator:
        node = Node(tmp_path / "north").join(coordinator, "north").train(files["north"][0], STUDY)
        path = node.home / "local" / "model.safetensors"
        tensors, _ = read_model(path.read_bytes(), upload_spec(STUDY))
        other = statistic_of(STUDY, torch.from_numpy(files["south"][1]))
        path.write_bytes(
            write_model({**apart(tensors)[0], **other}, {"study_digest": STUDY.digest, "role": "local"})
        )
        assert "are not those of the statistic" in node.fails(REFUSED, "approve", "--accept-statistic")

"""A node's copy of a run: audited as far as its files go, and what is not in it is said, not taken for checked."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import epgfn
from epgfn.base.errors import RefusedError, UsageError
from epgfn.ledger.entries import StateEntry
from epgfn.run.audit.audit import AuditReport, audit_run, require_bound
from epgfn.run.audit.conclusion import conclusion
from epgfn.run.layout import PARTICIPANT
from epgfn.run.participant import mark_of
from epgfn.study import Study
from parties import in_process
from run_directory import ROUND_ID, STUDY_TEXT, RunDirectory, make_run, opened


def copy_of(run: Path, node: str, to: Path) -> Path:
    """What a node gets of a run."""
    shutil.copytree(run, to)
    for sealed in to.glob("uploads/*/model.sealed"):
        if sealed.parent.name != node:
            sealed.unlink()
    for file in to.glob("leave-one-out/*/*"):
        if file.name != "model.sigstore.json":
            file.unlink()
    (to / PARTICIPANT).write_bytes(mark_of(node))
    return to


def failed(report: AuditReport) -> set[str]:
    return {finding.check for finding in report.findings if not finding.ok}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("run") / "run")


@pytest.fixture
def copy(run: RunDirectory, tmp_path: Path) -> Path:
    return copy_of(run.root, "north", tmp_path / "result")


def test_a_copy_passes_and_says_what_it_cannot_show(run: RunDirectory, copy: Path) -> None:
    report = audit_run(copy)
    assert report.ok, report.findings
    said = {finding.check: finding.message for finding in report.findings}
    assert "north's copy" in said["copy"] and "cannot be checked here" in said["copy"]
    assert "not in north's copy" in said["upload south"] and "copy" not in said["upload north"]
    lines = [str(line) for line in conclusion(report)]
    assert len(lines) == 10
    assert not [line for line in lines if line.startswith("Proved") and "not a byte of what" in line]
    assert "sealed models of others, which are not in north's copy" in lines[9]
    require_bound(copy, run.coordinator.public.fingerprint, [])


def test_without_its_mark_files_are_missing(run: RunDirectory, copy: Path) -> None:
    (copy / PARTICIPANT).unlink()
    assert failed(audit_run(copy)) == {"upload south"}
    with pytest.raises(RefusedError, match="upload south"):
        require_bound(copy, run.coordinator.public.fingerprint, [])


@pytest.mark.parametrize("mark", [b"", b"{}", mark_of("nobody"), mark_of("north") + b" " * 5000])
def test_a_mark_that_is_none_fails(copy: Path, mark: bytes) -> None:
    (copy / PARTICIPANT).write_bytes(mark)
    assert {"copy", "upload south"} <= failed(audit_run(copy))


def test_what_is_in_a_copy_has_to_be_right(run: RunDirectory, copy: Path) -> None:
    bundle, sealed = copy / "uploads/south/upload.sigstore.json", copy / "uploads/south/model.sealed"
    good = bundle.read_bytes()
    bundle.write_bytes((copy / "uploads/north/upload.sigstore.json").read_bytes())
    assert "upload south" in failed(audit_run(copy))
    bundle.write_bytes(good)
    sealed.write_bytes(b"something else")
    assert failed(audit_run(copy)) == {"upload south"}
    shutil.copy(run.root / "uploads/south/model.sealed", sealed)
    assert audit_run(copy).ok
    (copy / "global/summary.json").write_bytes(b"{}")
    with pytest.raises(RefusedError, match="global"):
        require_bound(copy, run.coordinator.public.fingerprint, [])
    with pytest.raises(RefusedError, match="coordinator-key"):
        require_bound(run.root, "0" * 64, [])


def test_a_copy_has_no_model_without_a_single_node(tmp_path: Path) -> None:
    text = STUDY_TEXT.replace("[aggregation]\n", "[aggregation]\nleave_one_out = true\n")
    whole = opened(tmp_path / "run", Study.from_bytes(text.encode()))
    for node in ("north", "south"):
        whole.send(node)
    whole.log(StateEntry(round_id=ROUND_ID, state="aggregating"))
    whole.aggregate("global")
    for node in ("north", "south"):
        whole.aggregate(f"leave-one-out/{node}", left_out=node)
    whole.end()
    whole.finish()
    assert audit_run(whole.root).ok
    copy = copy_of(whole.root, "north", tmp_path / "copy")
    report = audit_run(copy)
    assert report.ok, report.findings
    said = {finding.check: finding.message for finding in report.findings}
    assert (
        "not in a node's copy" in said["leave-one-out south"]
        and "models with one node left out" in said["copy"]
    )
    page = epgfn.write_report(copy, out=tmp_path / "page.html").read_text()
    assert "would tell that node" in page and "sent sealed is what they signed" in page.replace("\n", " ")
    shutil.copy(whole.root / "leave-one-out/south/summary.json", copy / "leave-one-out/south/summary.json")
    assert failed(audit_run(copy)) == {"files"}


def test_a_home_is_read_as_its_copy(run: RunDirectory, tmp_path: Path) -> None:
    from epgfn.cli.main import app

    home = tmp_path / "home"
    copy = copy_of(run.root, "south", home / "result")
    result = epgfn.load_run(home)
    assert result.path == copy and result.audit.ok and result.table.probability.between(0, 1).all()
    assert result.report() == copy / "global/report.html" and audit_run(home).ok
    assert epgfn.load_model(home).sample(3, seed=1).adjacency.shape == (3, 3, 3)
    for verb in ("audit", "report", "exact"):
        done = in_process(app, "epgfn", [verb, str(home)], {})
        assert done.returncode == 0, done.stderr
    shutil.copytree(run.root / "global", home / "global")
    for name in ("study.toml", "round.sigstore.json"):
        shutil.copy(run.root / name, home)
    (home / "trust").mkdir()
    shutil.copy(run.root / "keys/ledger.vkey", home / "trust")
    assert epgfn.load_run(home).path == copy
    shutil.rmtree(copy)
    with pytest.raises(UsageError, match="epgfn-node fetch --home"):
        epgfn.load_run(home)
    done = in_process(app, "epgfn", ["exact", str(home)], {})
    assert done.returncode == 2 and "epgfn-node fetch" in done.stderr

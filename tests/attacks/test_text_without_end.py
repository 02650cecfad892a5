"""Promise: nothing that is parsed makes its reader slow, or fall over. TOML of dots without end, JSON nested without end, all signed."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from attacks import closing, refusals
from epgfn.base.files import sha256_hex
from epgfn.sealing.bundle import sign_statement
from epgfn.sealing.statement import STUDY, make_statement
from run_directory import RunDirectory

SECONDS = 20.0
DEEP = b'{"a":' * 200_000 + b"1" + b"}" * 200_000


@pytest.mark.parametrize("hostile", [".".join(["a"] * 30_000) + " = 1\n", "x = " + "[" * 30_000])
def test_a_study_made_to_break_its_reader_is_refused_in_its_check(
    copy: Path, run: RunDirectory, hostile: str
) -> None:
    raw = hostile.encode() + run.study.raw
    (copy / "study.toml").write_bytes(raw)
    digest = sha256_hex(raw)
    statement = make_statement({"study.toml": digest}, STUDY, {"study_digest": digest, "name": "small"})
    (copy / "study.sigstore.json").write_bytes(run.sign(statement))
    started = time.process_time()
    said = refusals(copy)["study"]
    assert time.process_time() - started < SECONDS
    assert "a study holds settings, not data" in said


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("study.sigstore.json", "study"),
        ("round.sigstore.json", "round"),
        ("uploads/north/upload.sigstore.json", "upload north"),
        ("global/model.sigstore.json", "global"),
    ],
)
def test_deep_json_in_place_of_a_bundle_is_refused(copy: Path, name: str, check: str) -> None:
    (copy / name).write_bytes(DEEP)
    started = time.process_time()
    said = refusals(copy)[check]
    assert time.process_time() - started < SECONDS
    assert "malformed" not in said or "Error)" not in said, "a crash that was caught is no check"


def test_a_signed_statement_that_is_nested_without_end_is_refused(copy: Path, run: RunDirectory) -> None:
    (copy / "study.sigstore.json").write_bytes(sign_statement(DEEP[:100] + b"1", run.coordinator))
    assert "does not parse" in refusals(copy)["study"]


def test_a_summary_that_is_nested_without_end_is_refused_though_signed(tmp_path: Path) -> None:
    run = closing(tmp_path / "run")
    deep: object = 1
    for _ in range(900):
        deep = [deep]
    run.summary = {"diagnostics": deep}
    run.close()
    found = refusals(run.finish())
    # Deep, and still a summary that says nothing false: nobody reads what lies there.
    assert found == {}
    path = run.root / "global/summary.json"
    path.write_bytes(DEEP)
    assert "is not the file that the coordinator signed" in refusals(run.root)["global"]

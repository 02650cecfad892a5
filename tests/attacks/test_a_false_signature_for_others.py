"""Promise: what other people's tools verify is the published model. Somebody puts a signature for another model beside it, or one that
nothing vouches for."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import refusals
from epgfn.base.files import sha256_hex
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.model_signing import sign_model
from run_directory import RunDirectory, make_run, opened

NAMES = ("model.safetensors", "model.sig", "samples.parquet", "summary.json")


def closed(root: Path, outside_signature: bytes = b"", key: SigningKey | None = None) -> Path:
    run: RunDirectory = opened(root)
    run.signed, run.outside_signature = NAMES, outside_signature
    if key is not None:
        run.coordinator = key
    for node in ("north", "south"):
        run.send(node)
    run.close()
    return run.finish()


def test_the_true_one_passes_and_is_vouched_for(tmp_path: Path) -> None:
    report = audit_run(closed(tmp_path / "run"))
    assert report.ok and "global/model.sig" in report.vouched


@pytest.mark.parametrize("what", ["another model", "another key", "nothing"])
def test_one_that_the_coordinator_has_signed_along_must_be_of_this_model(tmp_path: Path, what: str) -> None:
    raw = (
        b"{}"
        if what == "nothing"
        else sign_model("model.safetensors", sha256_hex(b"another"), SigningKey.generate())
    )
    found = refusals(closed(tmp_path / "run", raw))
    assert "global/model.sig" in found["global"]


def test_one_that_is_changed_or_taken_away_is_missed(tmp_path: Path) -> None:
    run = closed(tmp_path / "run")
    path = run / "global/model.sig"
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b'"keyid":""', b'"keyid":"a"'))
    assert "global/model.sig" in refusals(run)["global"]
    path.unlink()
    assert "model.sig" in refusals(run)["global"]


def test_one_beside_a_model_of_before_is_surplus(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    model = sha256_hex((run.root / "global/model.safetensors").read_bytes())
    assert audit_run(run.root).ok
    (run.root / "global/model.sig").write_bytes(sign_model("model.safetensors", model, run.coordinator))
    assert "global/model.sig" in refusals(run.root)["files"]

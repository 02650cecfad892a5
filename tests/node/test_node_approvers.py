"""Who approved a model, from CSV files to the audit: by name, by two persons where the node asks for them, signed and shown."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import UPLOAD, UploadPredicate
from epgfn.sealing.statement import make_statement, parse_statement, predicate_of
from epgfn.study import Study
from parties import REFUSED, WAITING, WRONG_USE, CoordinatorProcess, Node

ADA, BEA = "Ada Lovelace, data manager", "Bea Šťastná, head of research"


@pytest.fixture(scope="module")
def coordinator(tmp_path_factory: pytest.TempPathFactory, small_study: Study) -> Iterator[CoordinatorProcess]:
    folder = tmp_path_factory.mktemp("coordinator")
    (folder / "study.toml").write_bytes(small_study.raw)
    with CoordinatorProcess(folder / "home", folder / "study.toml") as process:
        yield process


def said(node: Node) -> UploadPredicate:
    key = VerifyKey.from_pem((node.home / "keys" / "signing.pem").read_bytes())
    bundle = (node.home / "outbox" / "upload.sigstore.json").read_bytes()
    return predicate_of(parse_statement(verify_bundle(bundle, key)), UploadPredicate)


def require_crate(file: Path, into: Path) -> None:
    """A Five Safes RO-Crate: what its bag says is there is there, the run directory in it passes its audit, and persons are named."""
    with zipfile.ZipFile(file) as archive:
        archive.extractall(into)
    bag = into / "bag"
    for name in ("manifest-sha512.txt", "tagmanifest-sha512.txt"):
        for line in (bag / name).read_text().splitlines():
            digest, path = line.split("  ")
            assert hashlib.sha512((bag / path).read_bytes()).hexdigest() == digest
    assert audit_run(bag / "data" / "run").ok
    entities = {
        e["@id"]: e for e in json.loads((bag / "data" / "ro-crate-metadata.json").read_text())["@graph"]
    }
    root = entities["./"]
    assert (
        root["conformsTo"] == {"@id": "https://w3id.org/5s-crate/0.4"}
        and {"@id": "#disclosure-north"} in root["mentions"]
    )
    persons = [entities[each["@id"]] for each in entities["#disclosure-north"]["agent"]]
    assert [(p["name"], p["jobTitle"]) for p in persons] == [
        ("ADA LOVELACE", "head of nothing"),
        ("Bea Šťastná", "head of research"),
    ]
    there = {
        path.relative_to(bag / "data").as_posix()
        for path in (bag / "data" / "run").rglob("*")
        if path.is_file()
    }
    assert there == {unquote(e["@id"]) for e in entities.values() if e["@type"] == "File"}
    for entity in entities.values():
        if entity["@type"] == "File":
            assert (
                hashlib.sha256((bag / "data" / unquote(entity["@id"])).read_bytes()).hexdigest()
                == entity["sha256"]
            )
    known = set(entities) | {"https://w3id.org/ro/crate/1.2"}
    assert {each for entity in entities.values() for each in _references(entity)} <= known | TERMS


TERMS = {"https://w3id.org/shp#CheckValue", "https://w3id.org/shp#DisclosureCheck"}


def _references(entity: dict[str, Any]) -> Iterator[str]:
    for value in entity.values():
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, dict):
                yield each["@id"]


def test_two_persons_are_asked_for_and_the_audit_names_them(
    coordinator: CoordinatorProcess, small_study: Study, tmp_path: Path
) -> None:
    records = tmp_path / "records.csv"
    rows = np.random.default_rng(0).normal(size=(40, 3))
    np.savetxt(records, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    north = Node(tmp_path / "north").join(coordinator, "north").train(records, small_study)
    north.ok("approve")
    assert said(north).approval is None and "approval" not in said(north).model_dump()
    north.set(approvals=2)
    assert "fewer persons" in north.fails(WAITING, "submit")
    assert "each of whom" in north.fails(WAITING, "approve")
    run = ["run", "--data", str(records), "--approve-automatically", "--wait", "0"]
    north.fails(WAITING, *run)
    assert "another person" in north.fails(WAITING, "approve", "--as", ADA)
    assert "another person" in north.fails(WAITING, "approve", "--as", "ADA LOVELACE, head of nothing")
    assert json.loads(north.ok("inspect", "--json"))["status"] == "trained"
    north.fails(WRONG_USE, "approve", "--as", "somebody")
    north.ok("approve", "--as", BEA)
    assert said(north).approval is not None and said(north).approval.by == (
        "ADA LOVELACE, head of nothing",
        BEA,
    )
    assert f"approval: by {['ADA LOVELACE, head of nothing', BEA]}" in north.ok("inspect")
    north.ok("submit")
    assert "already" in north.fails(REFUSED, "approve", "--as", "Cy Twombly, painter")

    south = Node(tmp_path / "south").join(coordinator, "south").train(records, small_study)
    south.ok("approve")
    south.ok("approve", "--as", ADA)  # before it is sent a name can still be added
    south.ok("submit")
    south.ok("fetch", "--wait", "300")
    coordinator.command("export", "--out", str(tmp_path / "run"), "--crate", str(tmp_path / "run.zip"))
    require_crate(tmp_path / "run.zip", tmp_path / "unpacked")
    report = audit_run(tmp_path / "run")
    told = {finding.check: finding.message for finding in report.findings}
    assert report.ok and f"by ADA LOVELACE, head of nothing and by {BEA}" in told["upload north"]
    assert f"approved, as south says, by {ADA}" in told["upload south"]


def test_a_model_trained_anew_needs_both_again(
    coordinator: CoordinatorProcess, small_study: Study, tmp_path: Path
) -> None:
    records = tmp_path / "records.csv"
    rows = np.random.default_rng(1).normal(size=(40, 3))
    np.savetxt(records, rows, delimiter=",", header="a,b,c", comments="", fmt="%.9f")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_bytes(small_study.raw)
    with CoordinatorProcess(tmp_path / "study" / "home", tmp_path / "study" / "study.toml") as other:
        node = Node(tmp_path / "north").join(other, "north").train(records, small_study)
        node.set(approvals=2)
        node.fails(WAITING, "approve", "--as", ADA)
        node.ok("train", "--data", str(records), "--seed", "9")
        assert "another person" in node.fails(WAITING, "approve", "--as", BEA)
        node.ok("approve", "--as", ADA)


@pytest.mark.parametrize(
    "approval",
    [
        None,
        {"by": []},
        {"by": ["nobody"]},
        {"by": [ADA, ADA.upper()]},
        {"by": [f"\u202e{ADA}"]},
        {"by": [f" {ADA}"]},
        {"by": [ADA], "at": 1},
    ],
)
def test_a_statement_with_another_approval_is_malformed(approval: object) -> None:
    predicate = {
        "study_digest": "0" * 64, "round_id": "r", "node_id": "north", "sender_fingerprint": "0" * 64, "round_key_id": "0" * 64,
        "suite": "X25519", "payload_type": "model", "sealed_size": 1, "model_size": 1, "privacy": {"mode": "none"}, "software": {},
        "checkpoint": {"origin": "o", "size": 1, "root": "A" * 43 + "="},
    }  # fmt: skip
    make_statement({"model.sealed": "0" * 64}, UPLOAD, predicate)
    good = make_statement({"model.sealed": "0" * 64}, UPLOAD, {**predicate, "approval": {"by": [ADA, BEA]}})
    read = predicate_of(parse_statement(good), UploadPredicate)
    assert canonical_json(read.model_dump(mode="json")) in good
    with pytest.raises(RefusedError, match="does not fit its type"):
        make_statement({"model.sealed": "0" * 64}, UPLOAD, {**predicate, "approval": approval})

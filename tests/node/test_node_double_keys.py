"""`--ml-dsa`: a study whose coordinator and one node sign with ML-DSA-65 beside P-256, and a node that comes to it later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator_client import FakeNode, InProcess, make_home, reason_of, tiny_study
from epgfn.base.canonical import canonical_json
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.keys import SigningKey, VerifyKey
from epgfn.study import Study
from epgfn_node.home import NodeHome
from epgfn_node.keys import load_keys
from parties import CoordinatorProcess, Node


def test_over_real_processes(
    small_study: Study, small_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with CoordinatorProcess(tmp_path / "coordinator", small_files["study"], "--ml-dsa") as coordinator:
        nodes = {name: Node(tmp_path / name) for name in ("north", "south")}
        for name, node in nodes.items():
            invitation = coordinator.invite(name, tmp_path / f"{name}.invitation.json")
            node.ok("init", *(["--ml-dsa"] if name == "north" else []))
            node.ok("enroll", "--invite", str(invitation))
        nodes["south"].ok("rotate-key", "--ml-dsa", "--reason", "for later")
        nodes["north"].ok("rotate-key")
        for name, node in nodes.items():
            assert load_keys(NodeHome(node.home)).signing.public.is_double
            node.train(small_files[name], small_study)
            node.ok("approve")
            node.ok("submit")
        for node in nodes.values():
            node.ok("fetch", "--wait", "300")
        coordinator.command("export", "--out", str(tmp_path / "run"))
    run = tmp_path / "run"
    key = VerifyKey.from_pem((run / "keys/coordinator.pem").read_bytes())
    assert key.is_double
    report = audit_run(run, coordinator_fingerprint=key.fingerprint)
    assert report.ok, [finding for finding in report.findings if not finding.ok]
    assert "both of which have to sign" in report.findings[0].message
    # Who knows the P-256 half alone does not take the rest on trust, nor does a run pass from which the other halves are gone.
    assert not audit_run(run, coordinator_fingerprint=key.first.fingerprint).findings[0].ok
    (run / "keys/coordinator.pem").write_bytes(key.first.pem)
    for name in ("study", "round", "global/model"):
        path = run / f"{name}.sigstore.json"
        path.write_bytes(stripped(path.read_bytes()))
    failed = {finding.check for finding in audit_run(run).findings if not finding.ok}
    assert {"round", "ledger-entries", "global"} <= failed


def stripped(bundle: bytes) -> bytes:
    value = json.loads(bundle)
    del value["dsseEnvelope"]["signatures"][1:]
    return canonical_json(value)


def test_a_coordinator_takes_nothing_of_which_a_signature_is_taken_off(tmp_path: Path) -> None:
    study = tiny_study()
    home = make_home(tmp_path / "home", study)
    with InProcess(home):
        node = FakeNode.invited(home, "a")
        node.signing = SigningKey.generate(double=True)
        signing, node.signing = node.signing, Half(node.signing)  # type: ignore[assignment]
        assert reason_of(node.enroll) == "bad-signature", "proof by one half of a double key"
        node.signing = signing
        node.enroll()
        upload = node.make_upload(study)
        assert reason_of(lambda: node.begin(stripped(upload.bundle))) == "signature-missing"
        node.signing = signing.first
        weaker = node.make_upload(study, sender_fingerprint=signing.public.fingerprint)
        assert reason_of(lambda: node.begin(weaker.bundle)) == "signature-missing"
        node.send(upload)


class Half:
    """Says that it is a double key, and signs with one half."""

    def __init__(self, key: SigningKey) -> None:
        self.public, self.sign = key.public, key.first.sign

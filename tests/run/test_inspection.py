"""`epgfn inspect`: any single file is known by its content, says whose it is and what is inside, and shows no secret."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.ledger.note import NoteSigner
from epgfn.run.inspection import Inspected, inspect_file, write_for_sigstore
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.rotation import sign_rotation
from epgfn.sealing.round_key import RoundPrivateKey
from run_directory import RunDirectory, make_run

OLD_HOME = Path(__file__).parents[1] / "node/before_the_move/north"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    return make_run(tmp_path_factory.mktemp("run") / "run")


def told(path: Path, key: Path | None = None) -> tuple[str, dict[str, str]]:
    found = inspect_file(path, key)
    return found.what, dict(found.facts)


@pytest.mark.parametrize(
    ("name", "what", "fact", "value"),
    [
        ("study.toml", "A study: small", "nodes", "north, south, west"),
        ("study.sigstore.json", "A signed statement: the coordinator offers a study", "type", "urn:epgfn:study:v1"),
        ("round.sigstore.json", "A signed statement: the coordinator opens a round, with its keys", "round_id", "round-1"),
        ("uploads/north/upload.sigstore.json", "A signed statement: a node sends a sealed model", "node_id", "north"),
        ("uploads/north/model.sealed", "A sealed model: encrypted to a round's key", "suite", "ML-KEM-768+X25519"),
        ("uploads/north/receipt.tlog-proof", "A receipt: a proof that a ledger holds an entry", "entries", "7"),
        ("ledger/checkpoint", "A checkpoint: a ledger at one moment, signed", "ledger", "test/ledger"),
        ("keys/ledger.vkey", "A ledger's public key", "ledger", "test/ledger"),
        ("global/model.sigstore.json", "A signed statement: the coordinator publishes a global model", "aggregated", "north, south"),
        ("global/summary.json", "A summary of a model", "round_id", "round-1"),
        ("global/samples.parquet", "A Parquet table", "inside", "objects that were drawn"),
        ("global/model.safetensors", "A model, a global one", "tensors", "numbers: "),
    ],
)  # fmt: skip
def test_a_file_of_a_run_directory_says_what_it_is(
    run: RunDirectory, name: str, what: str, fact: str, value: str
) -> None:
    said, facts = told(run.root / name)
    assert said.startswith(what) and value in facts[fact]
    assert facts["file"].startswith(f"{(run.root / name).stat().st_size} bytes, SHA-256 ")


def test_a_sealed_models_inside_has_its_true_size(run: RunDirectory) -> None:
    _, facts = told(run.root / "uploads/north/model.sealed")
    assert facts["inside"].startswith(f"{len(run.model('local', 0.0))} bytes")


def test_signatures_are_checked_with_a_key_and_only_then(run: RunDirectory, tmp_path: Path) -> None:
    root = run.root
    for name, key in (
        ("uploads/north/upload.sigstore.json", "keys/nodes/north.pem"),
        ("global/model.sigstore.json", "keys/coordinator.pem"),
        ("ledger/checkpoint", "keys/ledger.vkey"),
        ("uploads/south/receipt.tlog-proof", "keys/ledger.vkey"),
    ):
        assert told(root / name)[1]["signature"].startswith("NOT checked")
        assert told(root / name, root / key)[1]["signature"].startswith("checked: signed by")
    assert "another kind" in told(root / "ledger/checkpoint", root / "keys/coordinator.pem")[1]["signature"]
    with pytest.raises(EpgfnError):
        told(root / "uploads/north/upload.sigstore.json", root / "keys/nodes/south.pem")
    stranger = tmp_path / "stranger.vkey"
    stranger.write_text(NoteSigner.generate("test/ledger").verifier.vkey)
    with pytest.raises(EpgfnError):
        told(root / "ledger/checkpoint", stranger)


def shown(found: Inspected) -> str:
    return "\n".join(found.lines)


def test_secrets_are_named_and_never_shown(tmp_path: Path) -> None:
    path = tmp_path / "file"
    SigningKey.generate().save(path)
    assert shown(inspect_file(path)).startswith("A private key, protected by no passphrase")
    SigningKey.generate().save(path, "a passphrase")
    assert "under a passphrase" in shown(inspect_file(path))
    NoteSigner.generate("log").save(path)
    assert "can sign another history" in shown(inspect_file(path))
    path.write_bytes(RoundPrivateKey.generate().to_bytes())
    assert "opens every upload" in shown(inspect_file(path))
    invitation = json.loads((OLD_HOME / "invitation.json").read_bytes())
    said = shown(inspect_file(OLD_HOME / "invitation.json"))
    assert said.startswith("An invitation") and invitation["token"] not in said and "not shown" in said
    assert "  for             north" in said


def test_keys_and_certificates_of_a_home(run: RunDirectory) -> None:
    assert told(run.root / "keys/nodes/north.pem")[1]["fingerprint"] == run.keys["north"].public.fingerprint
    assert told(OLD_HOME / "keys/tls.pem")[0] == "The certificate of the node north"
    assert told(OLD_HOME / "trust/ca.pem")[0] == "A certificate of a coordinator or its authority"
    what, facts = told(OLD_HOME / "receipts/entry.json")
    assert what == "A ledger entry" and facts["says"].startswith("a model of north is accepted")


@pytest.mark.parametrize(
    "raw",
    [b"", b"words", b"{", b'{"a":1}', b"PAR", b"\0" * 100, b"roster = 1", b"-----BEGIN PUBLIC KEY-----", b"{" * 100_000,
     b"\n\n\xe2\x80\x94 x y\n", b"epgfn-sealed/v1\n{}\n", b'{"dsseEnvelope":1}', b"c2sp.org/tlog-proof@v1\n\n"],
)  # fmt: skip
def test_anything_else_is_one_sentence(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(raw)
    try:
        said = shown(inspect_file(path))
    except EpgfnError as error:
        said = str(error)
    assert said and "Traceback" not in said


def test_folders_and_files_without_end_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="epgfn audit"):
        inspect_file(tmp_path)
    with pytest.raises(UsageError, match="cannot read"):
        inspect_file(tmp_path / "missing")
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(4 << 30)
    with pytest.raises(UsageError, match="too long"):
        inspect_file(path)


def test_what_a_file_holds_cannot_steer_a_terminal(run: RunDirectory, tmp_path: Path) -> None:
    path = tmp_path / "study.toml"
    path.write_bytes(
        run.study.raw.replace(b'name = "small"', b'name = "x"\ndescription = "\\u001b[2J\\u202e"')
    )
    assert all(line.isprintable() for line in inspect_file(path).lines)


def test_a_change_of_keys_is_told_with_both_keys(tmp_path: Path) -> None:
    old, new = SigningKey.generate(), SigningKey.generate()
    path, key, other = (tmp_path / name for name in ("rotation.json", "old.pem", "new.pem"))
    path.write_bytes(sign_rotation("node/north", old, new, "2030-01-31T12:00:00Z", "a key a year"))
    key.write_bytes(old.public.pem)
    other.write_bytes(new.public.pem)
    what, facts = told(path)
    assert "another signing key" in what and facts["of"] == "north" and facts["because"] == "a key a year"
    assert (facts["old key"], facts["new key"]) == (old.public.fingerprint, new.public.fingerprint)
    assert "NOT checked whether the old one" in facts["signatures"]
    assert "under the key that you gave" in told(path, key)[1]["signatures"]
    with pytest.raises(UsageError, match="not the one that is replaced"):
        told(path, other)


def test_for_sigstore_a_statement_is_written_once_for_each_key_and_nothing_else_is(
    run: RunDirectory, tmp_path: Path
) -> None:
    old, new = SigningKey.generate(), SigningKey.generate(double=True)
    change = tmp_path / "0.sigstore.json"
    change.write_bytes(sign_rotation("node/oslo", old, new, "2030-01-31T12:00:00Z", "a key a year"))
    written = write_for_sigstore(change, tmp_path / "single")
    assert written == [
        (tmp_path / "single" / f"0-{key.public.keyids[0][:16]}.sigstore.json", key.public.keyids[0])
        for key in (old, new)
    ]
    for (path, _), key in zip(written, (old, new), strict=True):
        verify_bundle(path.read_bytes(), key.public.first)
    for name in ("study.toml", "uploads/north/model.sealed", "keys/coordinator.pem"):
        with pytest.raises(UsageError, match="holds no signed statement"):
            write_for_sigstore(run.root / name, tmp_path / "none")
    assert not (tmp_path / "none").exists()

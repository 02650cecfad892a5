"""OpenSSF's own tool verifies a published model by the file that lies beside it, and refuses another model, key or signature."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from epgfn.base.files import sha256_hex
from epgfn.sealing.keys import SigningKey
from epgfn.sealing.model_signing import sign_model
from outside_tools import MODEL_SIGNING, REQUIRED

pytestmark = pytest.mark.skipif(
    MODEL_SIGNING is None and not REQUIRED,
    reason="model_signing is not installed; make outside installs it, into an environment of its own",
)


def verdict(model: Path, signature: Path, key: Path) -> bool:
    assert MODEL_SIGNING is not None, "make outside could not install model-signing"
    command = [
        MODEL_SIGNING,
        "verify",
        "key",
        str(model),
        "--signature",
        str(signature),
        "--public_key",
        str(key),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert ("succeeded" in said) is (done.returncode == 0), said
    return done.returncode == 0


def test_model_signing_verifies_the_model_and_no_other(tmp_path: Path) -> None:
    key, model = SigningKey.generate(), tmp_path / "model.safetensors"
    model.write_bytes(b"numbers" * 1000)
    (tmp_path / "model.sig").write_bytes(sign_model(model.name, sha256_hex(model.read_bytes()), key))
    for name, each in (("coordinator.pem", key), ("other.pem", SigningKey.generate())):
        (tmp_path / name).write_bytes(each.public.pem)
    assert verdict(model, tmp_path / "model.sig", tmp_path / "coordinator.pem")
    assert not verdict(model, tmp_path / "model.sig", tmp_path / "other.pem")
    model.write_bytes(b"numbers" * 999)
    assert not verdict(model, tmp_path / "model.sig", tmp_path / "coordinator.pem")
    forged = sign_model(model.name, sha256_hex(model.read_bytes()), SigningKey.generate())
    (tmp_path / "model.sig").write_bytes(forged)
    assert not verdict(model, tmp_path / "model.sig", tmp_path / "coordinator.pem")

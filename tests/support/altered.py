"""A run directory or an artifact with one thing wrong with it, and whether anybody takes it."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.run.audit.audit import audit_run
from epgfn.sealing.binding import Binding
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.envelope import open_sealed
from epgfn.sealing.model_file import read_model
from epgfn.sealing.statement import UploadPredicate, parse_statement, predicate_of
from run_directory import ROUND_ID, RunDirectory

TOKENS = [
    b'"', b"{", b"[", b"}", b"]", b"=", b"\n", b".", b",", b"\0", b"\xff", b"1e999", b"NaN", b"-1", b"true", b"null", b"\\u0000", b"9" * 24,
    b"[[", b"2030-13-01", b"'''", b"0x", b"inf", b"\xe2\x80\xae", b"1979-05-27T07:32:00Z", b"{}", b"[]", b'""', b"1.5", b"+", b"\n\n",
]  # fmt: skip


def altered(raw: bytes, chance: random.Random) -> bytes:
    """`raw` with one to eight changes: a bit, a token more, bytes less, others twice."""
    new = bytearray(raw)
    for _ in range(chance.choice([1, 1, 2, 4, 8])):
        at, what = chance.randrange(len(new) + 1), chance.random()
        if what < 0.25 and new:
            new[at % len(new)] ^= 1 << chance.randrange(8)
        elif what < 0.55:
            new[at:at] = chance.choice(TOKENS)
        elif what < 0.75:
            del new[at : at + chance.choice([1, 2, 8, 64])]
        elif what < 0.85:
            new[at : at + chance.choice([1, 4, 16])] = chance.choice(TOKENS)
        else:
            other = chance.randrange(len(new) + 1)
            new[at:at] = new[other : other + chance.choice([4, 16, 64])]
    return bytes(new)


def accepted(root: Path) -> str | None:
    """None if an audit passes; else its first complaint, which was no crash."""
    failed = [finding.message for finding in audit_run(root).findings if not finding.ok]
    for message in failed:
        assert "unexpected" not in message and "Error(" not in message and "Traceback" not in message, message
    return failed[0] if failed else None


def alter(root: Path, other: Path, chance: random.Random, copy: Path) -> str:
    """What was done to a copy of `root` that an audit then took; empty where it took none."""
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy)
    files = sorted(path for path in copy.rglob("*") if path.is_file())
    path, second = chance.choice(files), chance.choice(files)
    name, before = path.relative_to(copy).as_posix(), path.read_bytes()
    how = chance.choice(
        [
            "bytes",
            "bytes",
            "bytes",
            "bytes",
            "cut",
            "grow",
            "swap",
            "drop",
            "double",
            "other",
            "empty",
            "link",
        ]
    )
    match how:
        case "bytes":
            path.write_bytes(altered(before, chance))
        case "cut":
            path.write_bytes(before[: chance.randrange(len(before))])
        case "grow":
            path.write_bytes(before + chance.choice([b"\0", b"\n", before, chance.randbytes(100)]))
        case "swap":
            path.write_bytes(second.read_bytes())
            second.write_bytes(before)
        case "drop":
            path.unlink()
        case "double":
            (path.parent / chance.choice(["x", ".hidden", "model.sealed~", "9"])).write_bytes(before)
        case "other":
            theirs = other / name
            path.write_bytes(theirs.read_bytes() if theirs.is_file() else b"")
        case "empty":
            path.write_bytes(b"")
        case "link":
            path.unlink()
            path.symlink_to(root / name)
    same = {
        p.relative_to(copy).as_posix(): p.read_bytes()
        for p in copy.rglob("*")
        if p.is_file() and not p.is_symlink()
    }
    if same == {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}:
        return ""
    return "" if accepted(copy) else f"{how} {name}"


def artifact(run: RunDirectory, chance: random.Random) -> str:
    """The same for one sealed model and its bundle, read in the order in which a coordinator does: what it took, or nothing."""
    node = chance.choice(["north", "south"])
    sealed, bundle = run.uploads[node]
    new_sealed, new_bundle = sealed, bundle
    if chance.random() < 0.5:
        new_sealed = altered(sealed, chance)
    else:
        new_bundle = altered(bundle, chance)
    if (new_sealed, new_bundle) == (sealed, bundle):
        return ""
    key = run.keys[node].public
    try:
        if chance.random() < 0.5:  # as if nobody had signed: the seal alone has to hold
            binding = Binding(run.study.digest, ROUND_ID, node, key.fingerprint, run.round_key.key_id)
            if new_sealed != sealed:
                read_model(open_sealed(new_sealed, run.round_key, binding))
                return "an altered seal opens"
        statement = parse_statement(verify_bundle(new_bundle, key))
        predicate_of(statement, UploadPredicate)
        return (
            ""
            if statement.subjects != {"model.sealed": sha256_hex(new_sealed)}
            else "an altered artifact is verified"
        )
    except EpgfnError:
        return ""

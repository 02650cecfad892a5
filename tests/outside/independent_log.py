"""Verify a run directory's ledger from the texts of its standards alone: RFC 6962/9162 and C2SP tlog-tiles, tlog-checkpoint, signed-note,
tlog-proof and tlog-cosignature. Nothing of epgfn is imported; of other packages `cryptography`, for the signatures.

    python -I tests/outside/independent_log.py RUN_DIR       # a JSON object of what was verified and exit code 0, or why not and 1

It shares no line with `epgfn/ledger`, and works otherwise: trees are recursive, proofs are made and checked by the RFC's recursive
definitions. Auditors may take it, or write their own.
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

DASH = "— "


class Refused(Exception):
    """What does not hold."""


def require(holds: bool, what: str) -> None:
    if not holds:
        raise Refused(what)


# RFC 9162, 2.1


def leaf(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def inner(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


def half(n: int) -> int:
    """The largest power of two smaller than n."""
    return 1 << ((n - 1).bit_length() - 1)


def head(leaves: list[bytes]) -> bytes:
    """2.1.1: MTH."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = half(len(leaves))
    return inner(head(leaves[:k]), head(leaves[k:]))


def root_from_path(value: bytes, m: int, n: int, path: list[bytes]) -> bytes:
    """2.1.3: the root that a PATH leads to, by unwinding its definition from the last hash."""
    if n == 1:
        require(not path, "a proof of inclusion has hashes too many")
        return value
    require(bool(path), "a proof of inclusion has too few hashes")
    k = half(n)
    if m < k:
        return inner(root_from_path(value, m, k, path[:-1]), path[-1])
    return inner(path[-1], root_from_path(value, m - k, n - k, path[:-1]))


def consistency(m: int, leaves: list[bytes], whole: bool = True) -> list[bytes]:
    """2.1.4.1: SUBPROOF."""
    n = len(leaves)
    if m == n:
        return [] if whole else [head(leaves)]
    k = half(n)
    if m <= k:
        return [*consistency(m, leaves[:k], whole), head(leaves[k:])]
    return [*consistency(m - k, leaves[k:], False), head(leaves[:k])]


def roots_from_consistency(m: int, n: int, proof: list[bytes], old: bytes | None) -> tuple[bytes, bytes]:
    """2.1.4: both roots that a SUBPROOF leads to, by unwinding its definition; `old` while the old tree is still a whole subtree."""
    if m == n:
        if old is not None:
            require(not proof, "a proof of consistency has hashes too many")
            return old, old
        require(len(proof) == 1, "a proof of consistency has the wrong length")
        return proof[0], proof[0]
    require(bool(proof), "a proof of consistency has too few hashes")
    k = half(n)
    if m <= k:
        before, after = roots_from_consistency(m, k, proof[:-1], old)
        return before, inner(after, proof[-1])
    before, after = roots_from_consistency(m - k, n - k, proof[:-1], None)
    return inner(proof[-1], before), inner(proof[-1], after)


# C2SP signed-note, tlog-checkpoint, tlog-cosignature


def decode(text: str) -> bytes:
    raw = base64.b64decode(text, validate=True)
    require(base64.b64encode(raw).decode() == text, "base64 in another spelling")
    return raw


def read_vkey(text: str) -> tuple[str, bytes, bytes, bytes]:
    """Name, key id, type and public key."""
    name, key_id, data = text.split("+", 2)
    raw = decode(data)
    expected = hashlib.sha256(name.encode() + b"\n" + raw).digest()[:4]
    require(expected.hex() == key_id, f"the key id of {name} does not fit its key")
    return name, expected, raw[:1], raw[1:]


def read_note(note: bytes) -> tuple[str, list[tuple[str, bytes]]]:
    text, blank, tail = note.decode("utf-8").rpartition("\n\n")
    require(bool(blank) and tail.endswith("\n"), "a note without signatures")
    signatures = []
    for line in tail.removesuffix("\n").split("\n"):
        require(line.startswith(DASH), "a malformed signature line")
        name, _, encoded = line.removeprefix(DASH).partition(" ")
        signatures.append((name, decode(encoded)))
    return text + "\n", signatures


def read_checkpoint(note: bytes, vkey: str) -> tuple[str, int, bytes]:
    """Origin, size and root of a checkpoint that the log's own key has signed."""
    name, key_id, kind, public = read_vkey(vkey)
    text, signatures = read_note(note)
    ours = [raw[4:] for signer, raw in signatures if (signer, raw[:4]) == (name, key_id)]
    require(kind == b"\1" and len(ours) == 1, "the log's key has not signed the checkpoint, or not once")
    Ed25519PublicKey.from_public_bytes(public).verify(ours[0], text.encode())
    origin, size, root = text.removesuffix("\n").split("\n")[:3]
    require(origin == name and str(int(size)) == size, "the checkpoint's origin or size")
    return origin, int(size), decode(root)


def cosigned_at(note: bytes, vkey: str) -> int | None:
    """When the witness with that key has signed the checkpoint in `note`; None if it has not."""
    name, key_id, kind, public = read_vkey(vkey)
    text, signatures = read_note(note)
    for signer, raw in signatures:
        if (signer, raw[:4]) != (name, key_id):
            continue
        stamp, signature = raw[4:12], raw[12:]
        if kind == b"\4":
            message = f"cosignature/v1\ntime {int.from_bytes(stamp, 'big')}\n{text}".encode()
            Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
        else:
            require(kind == b"\6", f"{name} has a key of unknown type")
            origin, size, root = text.removesuffix("\n").split("\n")
            message = b"subtree/v1\n\0" + bytes([len(name.encode())]) + name.encode() + stamp
            message += bytes([len(origin.encode())]) + origin.encode()
            message += (0).to_bytes(8, "big") + int(size).to_bytes(8, "big") + decode(root)
            MLDSA44PublicKey.from_public_bytes(public).verify(signature, message)
        return int.from_bytes(stamp, "big")
    return None


# C2SP tlog-tiles


def tile_path(kind: str, number: int, width: int) -> str:
    groups = [f"{number % 1000:03d}"]
    while number := number // 1000:
        groups.insert(0, f"x{number % 1000:03d}")
    return f"tile/{kind}/{'/'.join(groups)}" + ("" if width == 256 else f".p/{width}")


def read_entries(ledger: Path, size: int) -> list[bytes]:
    entries: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - 256 * number)
        raw = (ledger / tile_path("entries", number, width)).read_bytes()
        while raw:
            length = int.from_bytes(raw[:2], "big")
            require(len(raw) >= 2 + length, "an entry bundle that ends within an entry")
            entries.append(raw[2 : 2 + length])
            raw = raw[2 + length :]
    require(len(entries) == size, "another number of entries than the checkpoint says")
    return entries


def check_hashes(ledger: Path, leaves: list[bytes]) -> None:
    """Every tile of hashes, of every level."""
    level, hashes = 0, leaves
    while hashes:
        for number in range(-(-len(hashes) // 256)):
            part = hashes[256 * number : 256 * number + 256]
            found = (ledger / tile_path(str(level), number, len(part))).read_bytes()
            require(found == b"".join(part), f"tile {number} of level {level}")
        full = len(hashes) // 256
        hashes = [head(hashes[256 * number : 256 * number + 256]) for number in range(full)]
        level += 1


# A run directory


def quoted(root: Path) -> list[tuple[int, bytes]]:
    """Size and root of the checkpoints that signed statements quote."""
    found = []
    for bundle in sorted(root.rglob("*.sigstore.json")):
        payload = json.loads(base64.b64decode(json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"]))
        checkpoint = payload["predicate"].get("checkpoint")
        if checkpoint is not None:
            found.append((checkpoint["size"], decode(checkpoint["root"])))
    return found


def verify_run(root: Path) -> dict[str, object]:
    """All that the ledger of the run directory at `root` proves; Refused, or what a library raises, where something does not hold."""
    vkey = (root / "keys/ledger.vkey").read_text().removesuffix("\n")
    note = (root / "ledger/checkpoint").read_bytes()
    origin, size, top = read_checkpoint(note, vkey)
    entries = read_entries(root / "ledger", size)
    leaves = [leaf(entry) for entry in entries]
    require(head(leaves) == top, "the entries do not hash to the checkpoint's root")
    check_hashes(root / "ledger", leaves)

    accepted = {}
    for index, entry in enumerate(entries):
        said = json.loads(entry)
        if said["kind"] == "accepted":
            accepted[said["node_id"], said["sealed_sha256"]] = (index, said)
    heads, uploads = {size: top}, []
    for folder in sorted((root / "uploads").iterdir()):
        digests = [
            hashlib.sha256((folder / name).read_bytes()).hexdigest()
            for name in ("model.sealed", "upload.sigstore.json")
        ]
        require((folder.name, digests[0]) in accepted, f"no entry for what {folder.name} sent")
        index, said = accepted[folder.name, digests[0]]
        require(said["bundle_sha256"] == digests[1], f"another statement of {folder.name} than was accepted")
        proof, _, its_note = (folder / "receipt.tlog-proof").read_bytes().partition(b"\n\n")
        header, place, *path = proof.decode("ascii").split("\n")
        require(header == "c2sp.org/tlog-proof@v1" and place == f"index {index}", f"receipt of {folder.name}")
        its_origin, its_size, its_root = read_checkpoint(its_note, vkey)
        require(its_origin == origin and index < its_size <= size, f"receipt of {folder.name}")
        proved = root_from_path(leaf(entries[index]), index, its_size, [decode(line) for line in path])
        require(proved == its_root, f"the receipt of {folder.name} does not prove its entry")
        require(heads.setdefault(its_size, its_root) == its_root, f"two roots of {its_size} entries")
        uploads.append(folder.name)

    for its_size, its_root in quoted(root):
        require(heads.setdefault(its_size, its_root) == its_root, f"two roots of {its_size} entries")
    pairs = [(m, n) for m in heads for n in heads if 0 < m < n]
    for m, n in pairs:
        roots = roots_from_consistency(m, n, consistency(m, leaves[:n]), heads[m])
        require(roots == (heads[m], heads[n]), f"{n} entries are not a continuation of {m}")

    witnesses = []
    for bundle in sorted((root / "witnesses").glob("*.sigstore.json")):
        node = bundle.name.removesuffix(".sigstore.json")
        payload = json.loads(base64.b64decode(json.loads(bundle.read_bytes())["dsseEnvelope"]["payload"]))
        its_vkey = payload["predicate"]["vkey"]
        require(its_vkey.startswith(f"{origin}/witness/{node}+"), f"witness key of {node}")
        require(bool(cosigned_at(note, its_vkey)), f"{node} has not cosigned")
        witnesses.append(node)
    return {
        "size": size,
        "uploads": uploads,
        "checkpoints": len(heads),
        "pairs": len(pairs),
        "witnesses": witnesses,
    }


def main() -> int:
    try:
        found = verify_run(Path(sys.argv[1]))
    except (Refused, InvalidSignature, OSError, ValueError, KeyError, TypeError) as error:
        print(json.dumps({"refused": str(error) or type(error).__name__}))
        return 1
    strangers = sorted(name for name in sys.modules if name.split(".")[0].startswith("epgfn"))
    print(json.dumps({**found, "of_epgfn": strangers}))
    return 0


if __name__ == "__main__":
    sys.exit(main())

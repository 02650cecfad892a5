"""`epgfn bench artifacts`: what sealing and the ledger cost, beside the bare cipher and against an empty process.

seal      a model file sealed to a round key and opened again, in turns with AES-256-GCM over the same bytes in one piece; CPU time
stream    much more of it through the chunks alone, from a source and to a sink that keep nothing, in a process of its own: its peak
          memory over that of a process that has loaded as much and does nothing; once sealed, and once sealed and opened again
ledger    a log of many entries on disk: one entry more and its checkpoint, and the proof that an entry is in it
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import AcceptedEntry, encode
from epgfn.ledger.log import TileLog
from epgfn.ledger.note import NoteSigner
from epgfn.ledger.proof import verify_proof
from epgfn.sealing.binding import MODEL_PAYLOAD, Binding
from epgfn.sealing.envelope import open_sealed, seal
from epgfn.sealing.round_key import RoundPrivateKey

MIB: Final = 1 << 20
_MORE: Final = 20  # entries, each with a checkpoint and a proof

_STREAM: Final = """
import os, resource, sys, threading
from pathlib import Path
from epgfn.sealing import chunked

class Zeros:
    def __init__(self, size): self.left = size
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes(size)

class Through:
    '''What is written is read by the other end at once.'''
    def __init__(self): self.size = 0
    def write(self, data): self.size += len(data)

size = int(sys.argv[1])
if size:
    sealed = Through()
    chunked.encrypt_stream(Zeros(size), sealed, bytes(32), b"")
    assert sealed.size == chunked.sealed_size(size)
if size and sys.argv[2] == "open":
    out, into = os.pipe()
    def fill():
        with os.fdopen(into, "wb") as sealed:
            chunked.encrypt_stream(Zeros(size), sealed, bytes(32), b"")
    threading.Thread(target=fill, daemon=True).start()
    opened = Through()
    with os.fdopen(out, "rb") as sealed:
        chunked.decrypt_stream(sealed, opened, bytes(32), b"")
    assert opened.size == size
told = Path("/proc/self/status")
if told.exists():  # what getrusage says is, on Linux, also of the process that started this one
    print(next(line.split()[1] for line in told.read_text().splitlines() if line.startswith("VmHWM:")))
else:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


class Setting(NamedTuple):
    """MiB that are sealed, and how often; MiB of the stream; entries of the ledger. 0 leaves a part out."""

    seal_mib: int = 64
    turns: int = 9
    stream_mib: int = 1024
    entries: int = 100_000


def artifacts(
    setting: Setting = Setting(), on_row: Callable[[dict[str, Any]], None] = lambda row: None
) -> list[dict[str, Any]]:
    """One row a part, each given to `on_row` as it is there.

    Raises:
        EpgfnError: a process did not do what it should; there is no figure then.
    """
    rows: list[dict[str, Any]] = []
    parts: list[tuple[int, Callable[[], dict[str, Any]]]] = [
        (setting.seal_mib, lambda: sealing(setting.seal_mib * MIB, setting.turns)),
        (setting.stream_mib, lambda: stream(setting.stream_mib * MIB)),
        (setting.entries, lambda: ledger(setting.entries)),
    ]
    for wanted, part in parts:
        if wanted:
            rows.append(part())
            on_row(rows[-1])
    return rows


def sealing(size: int, turns: int) -> dict[str, Any]:
    """Median CPU seconds of `turns` turns over `size` random bytes, sealing and opening, beside the cipher alone."""
    plaintext, nonce = os.urandom(size), os.urandom(12)
    bare, private = AESGCM(os.urandom(32)), RoundPrivateKey.generate()
    binding = Binding("0" * 64, "round", "node", "0" * 64, private.key_id, MODEL_PAYLOAD)
    sealed, encrypted = seal(plaintext, private.public, binding), bare.encrypt(nonce, plaintext, None)
    if open_sealed(sealed, private, binding) != plaintext:
        raise EpgfnError("what was sealed does not open as it was; this version cannot be measured")
    tasks: dict[str, Callable[[], object]] = {
        "bare_encrypt": lambda: bare.encrypt(nonce, plaintext, None),
        "seal": lambda: seal(plaintext, private.public, binding),
        "bare_decrypt": lambda: bare.decrypt(nonce, encrypted, None),
        "open": lambda: open_sealed(sealed, private, binding),
    }
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(turns):
        for name, task in tasks.items():
            begin = time.process_time()
            task()
            times[name].append(time.process_time() - begin)
    took = {name: median(each) for name, each in times.items()}
    return {
        "part": "seal",
        "bytes": size,
        **{f"{name}_cpu_s": seconds for name, seconds in took.items()},
        "seal_ratio": took["seal"] / took["bare_encrypt"],
        "open_ratio": took["open"] / took["bare_decrypt"],
    }


def stream(size: int) -> dict[str, Any]:
    """Peak memory while `size` bytes are sealed in a stream, and sealed and opened, over that of the same process with nothing to do."""
    peaks = [_peak_kib(0), _peak_kib(size), _peak_kib(size, "open")]
    return {
        "part": "stream",
        "bytes": size,
        "empty_mib": peaks[0] / 1024,
        "over_mib": (peaks[1] - peaks[0]) / 1024,
        "open_over_mib": (peaks[2] - peaks[0]) / 1024,
    }


def _peak_kib(size: int, what: str = "seal") -> int:
    done = subprocess.run(
        [sys.executable, "-c", _STREAM, str(size), what], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise EpgfnError(
            "the process that seals a stream ended with an error; run it with a smaller --stream"
        )
    return int(done.stdout)


def ledger(entries: int) -> dict[str, Any]:
    """Seconds for one entry more with its checkpoint (files are synced, as ever) and for a proof of inclusion, at `entries` entries."""
    said = [
        encode(
            AcceptedEntry(
                round_id="round",
                node_id="node",
                sealed_sha256=sha256_hex(b"%d" % number),
                bundle_sha256="0" * 64,
                size=1,
            )
        )
        for number in range(entries + _MORE)
    ]
    signer = NoteSigner.generate("bench/ledger")
    checkpoints, cpu, proofs = [], [], []
    with tempfile.TemporaryDirectory(prefix="epgfn-bench-") as folder:
        log = TileLog(Path(folder) / "ledger", signer)
        log.publish(said[:entries])
        for more in range(1, _MORE + 1):
            begin, used = time.perf_counter(), time.process_time()
            log.publish(said[: entries + more])
            cpu.append(time.process_time() - used)
            checkpoints.append(time.perf_counter() - begin)
            index = (entries * more) // (_MORE + 1)
            begin = time.perf_counter()
            proof = log.receipt(index)
            proofs.append(time.perf_counter() - begin)
            verify_proof(proof, said[index], signer.verifier)
    return {
        "part": "ledger",
        "entries": entries,
        "checkpoint_s": median(checkpoints),
        "checkpoint_s_max": max(checkpoints),
        "checkpoint_cpu_s": median(cpu),
        "proof_s": median(proofs),
        "proof_s_max": max(proofs),
    }


def shown(row: dict[str, Any]) -> str:
    """A row as one line for people."""
    if row["part"] == "seal":
        return (
            f"seal {row['bytes'] / MIB:.0f} MiB: {row['seal_ratio']:.2f} times the CPU time of bare AES-256-GCM, "
            f"open {row['open_ratio']:.2f} ({row['bare_encrypt_cpu_s']:.3f} s)"
        )
    if row["part"] == "stream":
        return (
            f"stream {row['bytes'] / MIB:.0f} MiB: {row['over_mib']:.1f} MiB over an empty process ({row['empty_mib']:.0f} MiB), "
            f"opened again {row['open_over_mib']:.1f}"
        )
    return (
        f"ledger {row['entries']:,} entries: checkpoint {1e3 * row['checkpoint_s']:.1f} ms ({1e3 * row['checkpoint_cpu_s']:.1f} CPU-ms, "
        f"{1e3 * row['checkpoint_s_max']:.1f} at most), proof of inclusion {1e3 * row['proof_s']:.2f} ms ({1e3 * row['proof_s_max']:.2f})"
    )

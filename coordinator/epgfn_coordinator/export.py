"""`export`: the run directory, everything an auditor needs and nothing secret."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from pathlib import Path

from epgfn.base.errors import EpgfnError, UsageError
from epgfn.base.files import read_bytes, sync_directory, write_atomic
from epgfn.ledger.log import export_log
from epgfn.ledger.note import NoteVerifier
from epgfn.run.layout import (
    KEYS,
    LEAVE_ONE_OUT,
    MODEL,
    MODEL_BUNDLE,
    MODEL_SIGNATURE,
    PUBLISHED,
    SAMPLES,
    SEALED,
    SUMMARY,
    TOTAL,
    RunLayout,
)
from epgfn_coordinator import places
from epgfn_coordinator.home import Home
from epgfn_coordinator.keys import LEDGER_PUBLIC
from epgfn_coordinator.round import round_state
from epgfn_coordinator.run_files import signed_by_nodes
from epgfn_coordinator.signing import round_key_of
from epgfn_coordinator.store import Store

SETTLE_TRIES, SETTLE_PAUSE = 20, 0.1  # seconds; what the serving process has committed it publishes at once


def export(home: Home, out: Path) -> str:
    """Write the run directory to `out` and return the round's state. Before it is published there is no global/ and nothing
    else that was made of the uploads.

    Built beside `out` and renamed, so `out` is whole or not RunLayout(run).

    Raises:
        UsageError: `out` exists and is not empty, or there is no coordinator in `home`.
        EpgfnError: a file cannot be read or written.
    """
    home.require()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists already and is not empty; choose another --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    store = Store(home.state)
    try:
        building.chmod(0o755)
        state = _write_settled(home, store, building)
        os.replace(building, out)
        sync_directory(out.parent)
    except OSError as error:
        raise EpgfnError(
            f"cannot write the run directory {out}: {error.strerror}; free some space or choose another --out"
        ) from None
    finally:
        store.close()
        shutil.rmtree(building, ignore_errors=True)
    return state


def _write_settled(home: Home, store: Store, run: Path) -> str:
    """Write all files at a moment when state and ledger agree; the round's state then."""
    for _ in range(SETTLE_TRIES):
        with store.transaction():  # nothing is accepted meanwhile
            checkpoint = export_log(home.ledger, RunLayout(run).ledger, _verifier(home))
            if checkpoint.size == store.entries_size():
                state = round_state(store)
                _write(home, store, run, published=state == PUBLISHED)
                return state
        shutil.rmtree(RunLayout(run).ledger)
        time.sleep(SETTLE_PAUSE)
    raise EpgfnError(
        f"the ledger in {home.ledger} is behind the state since serving was interrupted; "
        f"run epgfn-coordinator serve --home {home.shared} once, then export again"
    )


def _write(home: Home, store: Store, run: Path, *, published: bool) -> None:
    for source in (home.study, home.study_bundle, home.round_bundle):
        _copy(source, run / source.name)
    _copy(home.key(LEDGER_PUBLIC), run / KEYS / LEDGER_PUBLIC)
    write_atomic(RunLayout(run).coordinator_key, round_key_of(home).pem)
    # Of a node whose keys were revoked the newest counts: earlier ones are in the ledger.
    for row in [
        *store.rows("SELECT node_id, signing_key FROM revocations ORDER BY position"),
        *store.rows("SELECT node_id, signing_key FROM nodes"),
    ]:
        write_atomic(RunLayout(run).node_key(row["node_id"]), bytes(row["signing_key"]))
    for row in store.rows("SELECT node_id, sealed_sha256 FROM artifacts"):
        _copy(home.artifact(row["sealed_sha256"]), RunLayout(run).upload(row["node_id"]) / SEALED)
    for file in signed_by_nodes(store):
        with file.open() as signed:
            write_atomic(run / file.name, signed.read())
    for place in places.all_made(store) if published else []:
        for name in (MODEL, MODEL_BUNDLE, SAMPLES, SUMMARY):
            if name != SAMPLES or not place.startswith(LEAVE_ONE_OUT):
                _copy(home.aggregate(place) / name, run / place / name)
        if (total := home.aggregate(place) / TOTAL).exists():
            _copy(total, run / place / TOTAL)
        if (signature := home.aggregate(place) / MODEL_SIGNATURE).exists():  # models of before have none
            _copy(signature, run / place / MODEL_SIGNATURE)


def _copy(source: Path, target: Path) -> None:
    write_atomic(target, read_bytes(source, "file to export"))


def _verifier(home: Home) -> NoteVerifier:
    vkey = read_bytes(home.key(LEDGER_PUBLIC), "public key").decode("utf-8", "replace")
    return NoteVerifier.from_vkey(vkey.strip())

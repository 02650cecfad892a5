"""The node's privacy ledger: what was released about which data set, and whether there is budget for more.

One folder: `privacy-ledger.jsonl`, a line an entry, only ever longer, and the releases themselves. All of it is mode 0600. A data set
is named by an HMAC of its numbers under a key of this node, so the file says nothing about records and two nodes' files cannot be
matched.

    ledger = PrivacyLedger(folder, Budget(epsilon=8.0, delta=1e-5))
    raw = ledger.release(ledger.dataset(records), settings, claim, compute)

The budget is charged, on disk, before `compute` draws any noise. The same settings on the same data return the stored release,
since a second one would cost again; a release that was charged but never stored (a power cut) has never left, and is drawn under the
old charge. A changed file is a new data set: whoever adds a record and releases again composes by hand.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from epgfn.canonical import canonical_json
from epgfn.errors import EpgfnError, RefusedError
from epgfn.files import read_secret, sha256_hex, write_secret
from epgfn.privacy import accounting
from epgfn.privacy.checks import check_parameters
from epgfn.privacy.claims import Claim, recompute

LEDGER = "privacy-ledger.jsonl"
KEY = "privacy-ledger.key"


@dataclass(frozen=True)
class Budget:
    """All that may ever be released about one data set. Raises UsageError where out of range."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_parameters(self.epsilon, self.delta)


@dataclass(frozen=True)
class Entry:
    """One line: `event` "charged" or "stored", of a data set and settings (digests); `claim` as charged; `release` digest as stored."""

    event: str
    dataset: str
    settings: str
    claim: Claim | None
    release: str | None


class PrivacyLedger:
    """The ledger in `folder`, made if it is not there, and the operator's `budget` for each data set."""

    def __init__(self, folder: Path, budget: Budget) -> None:
        self.folder = folder
        self.budget = budget

    def dataset(self, *arrays: npt.NDArray[Any]) -> str:
        """The keyed digest of a data set: types, shapes and numbers of its arrays.

        Raises:
            EpgfnError: the key cannot be read or written.
        """
        with self._locked():
            path = self.folder / KEY
            if not path.exists():
                write_secret(path, os.urandom(32))
            mac = hmac.new(read_secret(path), digestmod=hashlib.sha256)
        for array in arrays:
            data = np.ascontiguousarray(array)
            mac.update(canonical_json([str(data.dtype.newbyteorder("<")), list(data.shape)]))
            mac.update(data.astype(data.dtype.newbyteorder("<")).tobytes())
        return mac.hexdigest()

    def release(
        self, dataset: str, settings: dict[str, Any], claim: Claim, compute: Callable[[], bytes]
    ) -> bytes:
        """The release of `settings` on `dataset`: the stored one, or a new one if the budget allows.

        Args:
            settings: everything that shapes the release; a JSON value. claim: the most it may cost, known beforehand.
            compute: draws the noise; its bytes are stored before anyone sees them.

        Raises:
            RefusedError: "budget-spent", before `compute` is called. "ledger-damaged": the file does not parse.
            EpgfnError: a file cannot be written.
        """
        named = sha256_hex(canonical_json(settings))
        with self._locked():
            mine = [e for e in self.entries() if (e.dataset, e.settings) == (dataset, named)]
            path = self.folder / f"release-{sha256_hex((dataset + named).encode())[:32]}.bin"
            if mine and mine[-1].event == "stored" and path.exists():
                raw = read_secret(path)
                if sha256_hex(raw) != mine[-1].release:
                    raise _damaged(path)
                return raw
            if not mine or mine[-1].event == "stored":  # stored and gone: what was drawn may have left
                self._require(dataset, claim)
                self._append(
                    {"event": "charged", "dataset": dataset, "settings": named, "claim": claim.to_json()}
                )
            raw = compute()
            write_secret(path, raw)
            self._append(
                {"event": "stored", "dataset": dataset, "settings": named, "release": sha256_hex(raw)}
            )
            return raw

    def spent(self, dataset: str, also: Claim | None = None) -> float:
        """epsilon at the budget's delta of all releases charged on `dataset`, and of `also` on top; infinity if delta is spent."""
        charged = [e.claim for e in self.entries() if e.dataset == dataset and e.claim is not None]
        return composed([*charged, *([also] if also else [])], self.budget.delta)

    def entries(self) -> list[Entry]:
        """All entries, oldest first.

        Raises:
            RefusedError: "ledger-damaged".
        """
        path = self.folder / LEDGER
        if not path.exists():
            return []
        raw, entries, previous = read_secret(path), [], ""
        for line in raw.splitlines():
            try:
                value = json.loads(line)
                if value["previous"] != previous:
                    raise ValueError
                claim = Claim.from_json(value["claim"]) if "claim" in value else None
                entries.append(
                    Entry(value["event"], value["dataset"], value["settings"], claim, value.get("release"))
                )
            except (ValueError, KeyError, TypeError, RefusedError):
                raise _damaged(path) from None
            previous = sha256_hex(line)
        return entries

    def _require(self, dataset: str, claim: Claim) -> None:
        if self.spent(dataset, claim) > self.budget.epsilon * (1 + 1e-9):
            raise RefusedError(
                "budget-spent",
                f"this release would take the data set beyond the operator's privacy budget (epsilon {self.budget.epsilon:g} at "
                f"delta {self.budget.delta:g}; {self.spent(dataset):.4g} is spent already); use an earlier release, ask the "
                "study for a smaller epsilon, or decide on a larger budget",
            )

    def _append(self, value: dict[str, Any]) -> None:
        path = self.folder / LEDGER
        old = read_secret(path) if path.exists() else b""
        lines = old.splitlines()
        value["previous"] = sha256_hex(lines[-1]) if lines else ""
        write_secret(path, old + canonical_json(value) + b"\n")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time: two that both see budget left must not both spend it."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.folder / ".privacy-ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EpgfnError(
                f"cannot use the folder {self.folder}: {error.strerror}; check its permissions"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def composed(claims: list[Claim], delta: float) -> float:
    """epsilon at `delta` of all the claims together, from their parameters.

    Gaussian releases compose exactly in mu. DP-SGD is not Gaussian: its epsilons and deltas are added to theirs.
    """
    gaussian = [c for c in claims if c.mode != "gradient"]
    other = [c for c in claims if c.mode == "gradient"]
    left = delta - sum(c.delta for c in other)
    epsilon = sum(recompute(c).epsilon for c in other)
    if other and not gaussian:
        return epsilon if left >= -1e-15 else float("inf")
    if not gaussian:
        return 0.0
    if left <= 0:
        return float("inf")
    parts = [part for c in gaussian for stage in c.stages for part in stage.noise]
    mu = accounting.compose(recompute(c).mu for c in gaussian)
    entries, scale = sum(part.entries for part in parts), min(part.scale for part in parts)
    return epsilon + accounting.discrete_epsilon(min(mu, 1e6), left, entries, scale)


def _damaged(path: Path) -> RefusedError:
    return RefusedError(
        "ledger-damaged",
        f"{path} is not what this node wrote; nothing is released while it is unknown what was spent: restore it from a backup",
    )

"""The node's privacy ledger: what was released about which people, and whether there is budget for more.

All releases that a ledger holds are about the same people, whatever the files: a table of next month, with one row or column more, other
units or another spelling, tells of the same people again. Only the operator can say that others are meant: a `population` is opened
under a name, with the reason why nobody is in two of them, and then has a budget of its own.

One folder for all nodes of a user's account (`account_folder`) unless the operator names another, all of it mode 0600: the entries
(`ledger_file` says how they are kept so that a lost line shows), and the releases themselves.
A data set is named by an HMAC of its numbers under a key of this ledger, so the file says nothing about records and two accounts'
files cannot be matched.

    ledger = PrivacyLedger(folder, Budget(epsilon=8.0, delta=1e-5))
    raw = ledger.release(ledger.dataset(records), settings, claim, compute)

The budget is charged, on disk, before `compute` draws any noise. The same settings on the same data return the stored release,
since a second one would cost again; a release that was charged but never stored (a power cut) has never left, and is drawn under the
old charge.

delta belongs to the population: that of its first charge holds for good, whatever a later study asks for. The budget is in the adjacency
of the releases. Where a population has releases of both kinds, it is in replace-one, the stricter: replacing
a record is removing one and adding one, so what is mu-GDP under add-remove is 2 mu-GDP under replace-one. Nothing converts the other
way, since a replace-one release takes the number of records as public.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import hmac
import math
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_secret, sha256_hex, write_secret
from epgfn.privacy import accounting
from epgfn.privacy.claims.claims import Claim, Noise, recompute
from epgfn.privacy.mechanisms.checks import check_parameters
from epgfn.privacy.spending.ledger_file import LedgerFile, damaged

_EVENTS = ("charged", "stored", "population")
ADOPTED = "adopted"
_NAMED = b"epgfn-privacy-ledger-name/v1\n"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def account_folder() -> Path:
    """Where the ledger of this user's account on this machine is: by the XDG base directories, `~/.local/share/epgfn/privacy` if nothing
    else is said. It lies in no node's home, so that a second home, a copied or a deleted one is no fresh budget.

    Raises:
        UsageError: the account has no home directory.
    """
    said = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not said.is_absolute():  # relative ones count for nothing, by the specification
        try:
            said = Path.home() / ".local" / "share"
            if not said.is_absolute():  # a HOME that is none: where this process stands decides on no budget
                raise RuntimeError
        except RuntimeError:
            raise UsageError(
                "this account has no home directory to keep its spending log in; name a folder for it as privacy_ledger in node.toml"
            ) from None
    return said / "epgfn" / "privacy"


@dataclass(frozen=True)
class Budget:
    """All that may ever be released about one population, in the adjacency that the module names. Raises UsageError where out of range."""

    epsilon: float
    delta: float

    def __post_init__(self) -> None:
        check_parameters(self.epsilon, self.delta)


@dataclass(frozen=True)
class Entry:
    """One line: `event` "charged" or "stored", of a data set and settings (digests); `claim` as charged; `release` digest as stored; of a
    charge `population`, "" where the operator has named none, and the `delta` of its budget, None in lines of before. Or `event`
    "population": one was opened."""

    event: str
    dataset: str
    settings: str
    claim: Claim | None
    release: str | None
    population: str = ""
    delta: float | None = None


class Spent(NamedTuple):
    """On one `population`, "" for all people whom nobody has told apart: `epsilon` at `delta` (None where nothing was released yet) of so
    many `releases`."""

    population: str
    epsilon: float
    delta: float | None
    releases: int


class PrivacyLedger:
    """The ledger in `folder`, made if it is not there, and the operator's `budget` for the `population` that releases are about: "" for
    all people whom nobody has told apart. `passphrase`: what its key is, or is to be, encrypted with."""

    def __init__(
        self, folder: Path, budget: Budget, population: str = "", passphrase: str | None = None
    ) -> None:
        self.folder = folder
        self.budget = budget
        self.population = population
        self._file = LedgerFile(folder, passphrase)

    def adopt(self, earlier: PrivacyLedger) -> None:
        """Count all that `earlier` holds here too: that of one home, from before an account had one ledger. Its releases are copied, so
        that they are found again, and its key is, under no passphrase; what was taken over once is not taken over again. `earlier` stays as
        it is.

        A copied home is a ledger of the same name that went on by itself: what was charged after they parted counts for each.

        Raises:
            RefusedError: "ledger-damaged", of either. EpgfnError: a file cannot be read or written.
        """
        with contextlib.suppress(OSError):
            if self.folder.samefile(earlier.folder):  # by a link: it would wait for its own lock
                return
        with self._locked(), earlier._locked():
            values = earlier._file.read()
            earlier._entries()  # whether each is an entry
            named = hmac.new(earlier._file.open_key(), _NAMED, hashlib.sha256).hexdigest()
            key = self.folder / f"adopted-{named[:32]}.key"
            if not key.exists():
                write_secret(key, earlier._file.open_key())
            known = self._taken_over(named)
            new = [value for value in values if sha256_hex(canonical_json(value)) not in known]
            if not new:
                return
            self._file.open_key()  # before anything else is there
            new = _with_charges(new, values, self._entries())
            for value in new:
                release = _release_of(earlier.folder, *_which(value))
                if value["event"] == "stored" and release.exists():
                    write_secret(self.folder / release.name, read_secret(release))
            self._file.append({"event": ADOPTED, "ledger": named, "entries": new})

    def _taken_over(self, named: str) -> set[str]:
        """Digests of the lines that were taken over from ledgers of that name. Each holds that of the line before it, and so says all
        that was before; in lines of before they are without, and follow each other."""
        known, last = set[str](), ""
        for line in self._lines():
            for entry in line["entries"] if line.get("ledger") == named else []:
                last = sha256_hex(canonical_json({"previous": last, **entry}))
                known.add(last)
        return known

    def new_population(self, name: str, because: str) -> None:
        """Open one, of people who are in no other: `because` says why, for whoever asks later.

        Raises:
            UsageError: the name is none, there is one of that name, or no reason is given.
            RefusedError: "ledger-damaged". EpgfnError: a file cannot be read or written.
        """
        if not _NAME.fullmatch(name):
            raise UsageError(
                "a population is named by lower-case letters, digits and hyphens, at most 63; choose such a name"
            )
        reason = " ".join("".join(c if c.isprintable() else " " for c in because).split())
        if len(reason) < 10:
            raise UsageError(
                'say what keeps these people apart from all others whose records were released here: --because "..."'
            )
        with self._locked():
            if any(e.event == "population" and e.population == name for e in self._entries()):
                raise UsageError(f"there is a population {name} already; choose another name")
            self._file.append({"event": "population", "population": name, "because": reason})

    def dataset(self, *arrays: npt.NDArray[Any]) -> str:
        """The keyed digest of a data set: types, shapes and numbers of its arrays.

        Raises:
            RefusedError: "ledger-damaged": the key is gone.
            EpgfnError: the key cannot be read or written.
        """
        with self._locked():
            charged = {entry.dataset for entry in self._entries()}
            for adopted in sorted(
                self.folder.glob("adopted-*.key")
            ):  # what it was charged as then, if it was
                before = _digest(read_secret(adopted), arrays)
                if before in charged:
                    return before
            key = self._file.open_key()
        return _digest(key, arrays)

    def release(
        self, dataset: str, settings: dict[str, Any], claim: Claim, compute: Callable[[], bytes]
    ) -> bytes:
        """The release of `settings` on `dataset`: the stored one, or a new one if the budget allows.

        Args:
            settings: everything that shapes the release; a JSON value. claim: the most it may cost, known beforehand.
            compute: draws the noise; its bytes are stored before anyone sees them.

        Raises:
            RefusedError: "budget-spent", before `compute` is called. "population-unknown": it was never opened. "ledger-damaged": a file
                is not as it was written.
            EpgfnError: a file cannot be read or written.
        """
        named = sha256_hex(canonical_json(settings))
        with self._locked():
            entries = self._entries()
            mine = [e for e in entries if (e.dataset, e.settings) == (dataset, named)]
            path = _release_of(self.folder, dataset, named)
            if mine and mine[-1].event == "stored" and path.exists():
                raw = read_secret(path)
                if sha256_hex(raw) != mine[-1].release:
                    raise damaged(path)
                return raw
            if not mine or mine[-1].event == "stored":  # stored and gone: what was drawn may have left
                self._require(entries, dataset, claim)
                charge: dict[str, Any] = {"event": "charged", "dataset": dataset, "settings": named}
                about = {"population": self.population} if self.population else {}
                delta = self._delta(entries, self.population)
                self._file.append({**charge, "claim": claim.to_json(), **about, "delta": delta})
            raw = compute()
            write_secret(path, raw)
            self._file.append(
                {"event": "stored", "dataset": dataset, "settings": named, "release": sha256_hex(raw)}
            )
            return raw

    def spent(self, dataset: str) -> float:
        """epsilon, at `delta(dataset)`, of all releases charged on the people whom `dataset` is of; infinity if delta is spent.

        Raises:
            RefusedError: "ledger-damaged".
        """
        entries = self.entries()
        return self._spent(entries, self._whose(entries, dataset), dataset)

    def populations(self) -> list[Spent]:
        """All people together whom nobody has told apart, and then each population, in the order in which they were opened. Errors as
        `spent`."""
        entries = self.entries()
        names = ["", *dict.fromkeys(e.population for e in entries if e.population)]
        found = []
        for name in names:
            count = sum(e.claim is not None and e.population == name for e in entries)
            epsilon = self._spent(entries, name, "") if count else 0.0
            found.append(Spent(name, epsilon, self._delta(entries, name) if count else None, count))
        return found

    def delta(self, dataset: str) -> float:
        """That of the first charge on the people whom `dataset` is of, or else the budget's. Errors as `spent`."""
        entries = self.entries()
        return self._delta(entries, self._whose(entries, dataset))

    def entries(self) -> list[Entry]:
        """All entries, oldest first; none where there is no ledger.

        Raises:
            RefusedError: "ledger-damaged".
        """
        if not self.folder.exists():
            return []
        with self._locked():
            return self._entries()

    def _entries(self) -> list[Entry]:
        entries: list[Entry] = []
        lines = self._lines()
        values = [e for line in lines for e in (line["entries"] if line["event"] == ADOPTED else [line])]
        for value in values:
            entry = _entry(value)
            if entry is None or (entry.event == "stored" and not _was_charged(entry, entries)):
                raise damaged(self._file.lines)
            entries.append(entry)
        return entries

    def _lines(self) -> list[dict[str, Any]]:
        """As they are written, each of them an event."""
        lines = self._file.read()
        for line in lines:
            whole = line.get("event") in _EVENTS
            if line.get("event") == ADOPTED:
                entries = line.get("entries")
                whole = isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)
            if not whole:
                raise damaged(self._file.lines)
        return lines

    def _whose(self, entries: list[Entry], dataset: str) -> str:
        """The population that `dataset` was last charged to, or else this ledger's."""
        charged = [e.population for e in entries if e.dataset == dataset and e.claim is not None]
        return charged[-1] if charged else self.population

    def _delta(self, entries: list[Entry], population: str) -> float:
        fixed = [e.delta for e in entries if e.population == population and e.delta is not None]
        return fixed[0] if fixed else self.budget.delta

    def _spent(self, entries: list[Entry], population: str, dataset: str, also: Claim | None = None) -> float:
        """On `population`, and on the very same `dataset` whatever population it was said to be of: those are the same people."""
        charged = [
            e.claim
            for e in entries
            if e.claim is not None and (e.population == population or e.dataset == dataset)
        ]
        delta = self._delta(entries, population)
        try:
            before = composed(charged, delta)
        except (RefusedError, ValueError, ArithmeticError):  # stored claims that no mechanism ever made
            raise damaged(self._file.lines) from None
        return before if also is None else composed([*charged, also], delta)

    def _require(self, entries: list[Entry], dataset: str, claim: Claim) -> None:
        name = self.population
        if name and not any(e.event == "population" and e.population == name for e in entries):
            raise RefusedError(
                "population-unknown",
                f"no population {name} was ever opened in {self.folder}; open it with epgfn-node privacy population new {name}, which asks "
                "what keeps its people apart from all others",
            )
        if self._spent(entries, name, dataset, claim) > self.budget.epsilon * (1 + 1e-9):
            whose = f"population {name}" if name else "the people in this node's records"
            raise RefusedError(
                "budget-spent",
                f"this release would take {whose} beyond the operator's privacy budget (epsilon {self.budget.epsilon:g} at "
                f"delta {self._delta(entries, name):g}; {self._spent(entries, name, dataset):.4g} is spent already, all files and studies "
                f"together, by every node that keeps its spending log in {self.folder}); use an earlier release, ask the study for a "
                "smaller epsilon, or decide on a larger budget; where this file is of other people than those, say so with "
                'epgfn-node privacy population new NAME --because "..."',
            )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time: two that both see budget left must not both spend it."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(self.folder / ".privacy-ledger.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise EpgfnError(
                f"cannot use the folder {self.folder}, where releases are counted: {error.strerror}; check its permissions, or name "
                "another as privacy_ledger in node.toml"
            ) from None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def composed(claims: list[Claim], delta: float) -> float:
    """epsilon at `delta` of all the claims together, from their parameters; infinity where delta does not suffice.

    Gaussian releases compose exactly in mu. DP-SGD is not Gaussian: its epsilons and deltas are added to theirs. Claims of one adjacency
    give epsilon in that one. Of both, they give it in replace-one: an add-remove mu counts 2 mu (group privacy of Gaussian DP, Dong, Roth
    & Su 2022, theorem 2.14, for two records), an add-remove (epsilon, delta) counts (2 epsilon, (1 + e^epsilon) delta).

    Raises:
        RefusedError: "claim-wrong": a claim's parameters are no mechanism's.
    """
    mixed = len({c.adjacency for c in claims}) > 1
    steps, left = 0.0, delta
    mus: list[float] = []
    parts: list[Noise] = []
    for claim in claims:
        found, twice = recompute(claim), mixed and claim.adjacency == "add-remove"
        if claim.mode == "gradient":
            steps += found.epsilon * (2 if twice else 1)
            left -= claim.delta * ((1 + math.exp(min(found.epsilon, 700.0))) if twice else 1)
        else:
            mus.append(found.mu * (2 if twice else 1))
            parts += [part for stage in claim.stages for part in stage.noise]
    if not mus:
        return steps if left >= -1e-15 else math.inf
    if left <= 0:
        return math.inf
    mu = accounting.compose(mus)
    entries, scale = sum(part.entries for part in parts), min(part.scale for part in parts)
    return steps + accounting.discrete_epsilon(min(mu, 1e6), left, entries, scale)


def _digest(key: bytes, arrays: tuple[npt.NDArray[Any], ...]) -> str:
    mac = hmac.new(key, digestmod=hashlib.sha256)
    for array in arrays:
        data = np.ascontiguousarray(array)
        mac.update(canonical_json([str(data.dtype.newbyteorder("<")), list(data.shape)]))
        mac.update(data.astype(data.dtype.newbyteorder("<")).tobytes())
    return mac.hexdigest()


def _release_of(folder: Path, dataset: str, settings: str) -> Path:
    return folder / f"release-{sha256_hex((dataset + settings).encode())[:32]}.bin"


def _which(value: dict[str, Any]) -> tuple[str, str]:
    """A line's data set and settings."""
    return str(value.get("dataset", "")), str(value.get("settings", ""))


def _with_charges(
    new: list[dict[str, Any]], values: list[dict[str, Any]], before: list[Entry]
) -> list[dict[str, Any]]:
    """The lines `new` of all `values` of a ledger, to come after the entries `before`: where two that were one have both drawn under one
    charge, that is two releases, and the second is charged as the first was."""
    last = {(e.dataset, e.settings): e.event for e in before}
    charges = {_which(value): value for value in values if value["event"] == "charged"}
    found = []
    for value in new:
        which = _which(value)
        if value["event"] == "stored" and last.get(which) != "charged":
            found.append(charges[which])
        found.append(value)
        last[which] = value["event"]
    return found


def _entry(value: dict[str, Any]) -> Entry | None:
    """A line's entry; None if it is none."""
    event, dataset, settings, release = (value.get(k) for k in ("event", "dataset", "settings", "release"))
    population, delta = value.get("population", ""), value.get("delta")
    if event not in _EVENTS or not isinstance(population, str):
        return None
    if event == "population":
        return Entry(event, "", "", None, None, population) if population else None
    if not isinstance(dataset, str) or not isinstance(settings, str):
        return None
    if event == "stored":
        return Entry(event, dataset, settings, None, release) if isinstance(release, str) else None
    if not (delta is None or (isinstance(delta, float) and 0 < delta < 1)):
        return None
    try:
        claim = Claim.from_json(value.get("claim"))
    except RefusedError:
        return None
    return Entry(event, dataset, settings, claim, None, population, delta)


def _was_charged(stored: Entry, before: list[Entry]) -> bool:
    """The last entry of the same release, before it was stored, charged for it."""
    same = [e for e in before if (e.dataset, e.settings) == (stored.dataset, stored.settings)]
    return bool(same) and same[-1].event == "charged"

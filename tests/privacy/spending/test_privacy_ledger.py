"""The privacy ledger: charged before any noise is drawn, never exceeded, and nobody loses a line of it unnoticed, whenever it is killed."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError, UsageError
from epgfn.privacy.mechanisms.moments import MomentsMechanism
from epgfn.privacy.mechanisms.release import pack, unpack
from epgfn.privacy.spending import ledger_file, spending
from epgfn.privacy.spending.ledger_file import HEAD, KEY, LINES
from epgfn.privacy.spending.spending import Budget, PrivacyLedger, account_folder

DELTA = 1e-5
X = np.random.default_rng(0).normal(size=(200, 3))
CLAIM = MomentsMechanism(3, 2.0, DELTA).planned_claim


def release(ledger: PrivacyLedger, x: np.ndarray, mechanism: MomentsMechanism, tag: int = 0) -> bytes:
    settings = {"epsilon": mechanism.epsilon, "tag": tag}
    return ledger.release(
        ledger.dataset(x), settings, mechanism.planned_claim, lambda: pack(mechanism.observe(x))
    )


def test_the_same_settings_give_the_same_release_at_no_further_cost(tmp_path: Path) -> None:
    mechanism = MomentsMechanism(3, 2.0, DELTA)
    ledger = PrivacyLedger(tmp_path / "privacy", Budget(2.0, DELTA))
    first = release(ledger, X, mechanism)
    assert release(PrivacyLedger(tmp_path / "privacy", Budget(2.0, DELTA)), X, mechanism) == first
    assert ledger.spent(ledger.dataset(X)) <= 2.0
    assert mechanism.finish(unpack(first)).claim.epsilon <= 2.0
    for path in (tmp_path / "privacy").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_spent_budget_is_refused_before_any_computation(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path, Budget(3.0, DELTA))
    release(ledger, X, MomentsMechanism(3, 2.0, DELTA))
    claim = MomentsMechanism(3, 2.5, DELTA).planned_claim
    with pytest.raises(RefusedError) as refused:
        ledger.release(ledger.dataset(X), {"epsilon": 2.5}, claim, lambda: pytest.fail("it computed"))
    assert refused.value.reason == "budget-spent"
    release(ledger, X, MomentsMechanism(3, 2.0, DELTA), tag=1)  # two of 2 are 2.9, not 4
    assert 2.0 < ledger.spent(ledger.dataset(X)) <= 3.0


CHANGED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "one value by one ulp": lambda x: np.where(
        np.arange(x.size).reshape(x.shape) == 7, np.nextafter(x, 9), x
    ),
    "one row more": lambda x: np.concatenate([x, x[:1]]),
    "rounded": lambda x: x.round(6),
    "one column less": lambda x: x[:, :2],
    "other units": lambda x: 10 * x,
    "half of the rows": lambda x: x[::2],
}


@pytest.mark.parametrize("how", CHANGED)
def test_another_file_is_of_the_same_people_unless_the_operator_says_otherwise(
    how: str, tmp_path: Path
) -> None:
    budget = Budget(2.0, DELTA)
    ledger = PrivacyLedger(tmp_path, budget)
    release(ledger, X, MomentsMechanism(3, 2.0, DELTA))
    changed = CHANGED[how](X)
    mechanism = MomentsMechanism(changed.shape[1], 2.0, DELTA)
    with pytest.raises(RefusedError) as refused:
        release(ledger, changed, mechanism, tag=1)
    assert refused.value.reason == "budget-spent" and "population new" in str(refused.value)
    assert str(tmp_path) in str(refused.value)  # the log that others spent from, too
    others = PrivacyLedger(tmp_path, budget, "ward-b")
    with pytest.raises(RefusedError) as refused:
        release(others, changed, mechanism, tag=1)
    assert refused.value.reason == "population-unknown"
    others.new_population("ward-b", "born after everybody in ward a had left")
    release(others, changed, mechanism, tag=1)
    assert 1.9 < others.spent(others.dataset(changed)) <= 2.0
    assert 1.9 < ledger.spent(ledger.dataset(X)) <= 2.0
    with pytest.raises(RefusedError, match="population ward-b"):
        release(others, changed, mechanism, tag=2)
    with pytest.raises(UsageError, match="already"):
        others.new_population("ward-b", "born after everybody in ward a had left")
    for name, because in (("Ward B", "born after everybody"), ("ward-c", " ")):
        with pytest.raises(UsageError):
            others.new_population(name, because)


def test_the_same_file_is_of_the_same_people_whatever_it_is_said_to_be_of(tmp_path: Path) -> None:
    budget = Budget(2.0, DELTA)
    release(PrivacyLedger(tmp_path, budget), X, MomentsMechanism(3, 2.0, DELTA))
    others = PrivacyLedger(tmp_path, budget, "ward-b")
    others.new_population("ward-b", "born after everybody in ward a had left")
    with pytest.raises(RefusedError) as refused:
        release(others, X, MomentsMechanism(3, 2.0, DELTA), tag=1)
    assert refused.value.reason == "budget-spent"


def test_delta_is_the_first_ones_for_good(tmp_path: Path) -> None:
    """Studies with other deltas could each look cheap at their own."""
    release(PrivacyLedger(tmp_path, Budget(4.0, 1e-5)), X, MomentsMechanism(3, 3.9, 1e-5))
    later = PrivacyLedger(tmp_path, Budget(4.0, 1e-3))
    assert later.delta(later.dataset(X[:50])) == 1e-5
    with pytest.raises(RefusedError) as refused:
        release(later, X[:50], MomentsMechanism(3, 3.0, 1e-3))
    assert refused.value.reason == "budget-spent" and "at delta 1e-05" in str(refused.value)


def test_lines_of_before_count_together(tmp_path: Path) -> None:
    """They name no population and no delta."""
    ledger = PrivacyLedger(tmp_path, Budget(8.0, DELTA))
    for tag, x in enumerate((X, X[:100])):
        release(ledger, x, MomentsMechanism(3, 2.0, DELTA), tag)
    together = ledger.spent(ledger.dataset(X))
    out, previous = [], ""
    for line in lines(tmp_path):
        value = {**json.loads(line), "previous": previous}
        value.pop("delta", None)
        out.append(canonical_json(value) + b"\n")
        previous = ledger_file.sha256_hex(canonical_json(value))
    (tmp_path / LINES).write_bytes(b"".join(out))
    ledger._file._write_head(ledger._file.open_key(), len(out), previous)
    assert PrivacyLedger(tmp_path, Budget(8.0, DELTA)).spent(ledger.dataset(X)) == together > 2.5


def of_account(folder: Path, home: Path | None = None, epsilon: float = 3.0) -> PrivacyLedger:
    """The account's ledger, as a home opens it that had one of its own before."""
    ledger = PrivacyLedger(folder, Budget(epsilon, DELTA))
    if home is not None:
        ledger.adopt(PrivacyLedger(home, Budget(epsilon, DELTA)))
    return ledger


def test_what_a_home_spent_before_counts_for_every_home_of_the_account(tmp_path: Path) -> None:
    home, account, mechanism = tmp_path / "home", tmp_path / "account", MomentsMechanism(3, 2.0, DELTA)
    before = release(PrivacyLedger(home, Budget(3.0, DELTA)), X, mechanism)
    assert release(of_account(account, home), X, mechanism) == before  # found again, and not charged
    assert release(of_account(account, home), X, mechanism) == before
    assert len(lines(account)) == 1
    other = of_account(account)
    assert other.spent(other.dataset(X + 1)) == of_account(account, home).spent("") > 1.9
    with pytest.raises(RefusedError, match="budget"):
        release(other, X + 1, MomentsMechanism(3, 2.5, DELTA))
    shutil.rmtree(home)
    assert [entry.event for entry in of_account(account).entries()] == ["charged", "stored"]


def test_what_a_home_spent_since_it_was_taken_over_counts_too(tmp_path: Path) -> None:
    """By an older version, which knows of no account."""
    home, account, mechanism = tmp_path / "home", tmp_path / "account", MomentsMechanism(3, 1.0, DELTA)
    older = PrivacyLedger(home, Budget(9.0, DELTA))
    release(older, X, mechanism)
    once = of_account(account, home).spent("")
    again = release(older, X, mechanism, tag=1)
    taken = of_account(account, home)
    assert taken.spent("") > once and release(taken, X, mechanism, tag=1) == again
    assert [len(json.loads(line)["entries"]) for line in lines(account)] == [2, 2]


def test_a_home_and_its_copy_of_before_are_counted_each_for_what_it_did_alone(tmp_path: Path) -> None:
    """Both have one key, and as many lines, and some lines are the same to the letter."""
    mechanism, account = MomentsMechanism(3, 1.0, DELTA), tmp_path / "account"
    homes = tmp_path / "a", tmp_path / "b"
    release(PrivacyLedger(homes[0], Budget(9.0, DELTA)), X, mechanism)
    shutil.copytree(*homes)
    drawn = [release(PrivacyLedger(home, Budget(9.0, DELTA)), X, mechanism, tag=1) for home in homes]
    assert drawn[0] != drawn[1]
    for home in (*homes, *homes):
        taken = of_account(account, home, 9.0)
    assert len([e for e in taken.entries() if e.event == "charged"]) == 3
    release(PrivacyLedger(homes[0], Budget(9.0, DELTA)), X, mechanism, tag=2)
    taken = of_account(account, homes[0], 9.0)
    assert release(taken, X, mechanism, tag=1) == drawn[1]  # the last that was stored
    assert len([e for e in taken.entries() if e.event == "charged"]) == 4


def test_what_a_home_and_its_copy_draw_under_one_charge_is_two_releases(tmp_path: Path) -> None:
    mechanism, account = MomentsMechanism(3, 1.0, DELTA), tmp_path / "account"
    homes = tmp_path / "a", tmp_path / "b"
    ledger = PrivacyLedger(homes[0], Budget(9.0, DELTA))
    with pytest.raises(KeyboardInterrupt):  # a power cut
        ledger.release(ledger.dataset(X), {"epsilon": 1.0, "tag": 0}, mechanism.planned_claim, interrupted)
    shutil.copytree(*homes)
    for home in homes:
        release(PrivacyLedger(home, Budget(9.0, DELTA)), X, mechanism)
        of_account(account, home, 9.0)
    events = [e.event for e in of_account(account).entries()]
    assert events == ["charged", "stored", "charged", "stored"]


def interrupted() -> bytes:
    raise KeyboardInterrupt


def test_a_file_that_another_home_released_before_is_of_the_same_people_still(tmp_path: Path) -> None:
    """It has its name under that home's key, and the home may be gone."""
    home, account, mechanism = tmp_path / "home", tmp_path / "account", MomentsMechanism(3, 2.0, DELTA)
    before = release(PrivacyLedger(home, Budget(3.0, DELTA)), X, mechanism)
    of_account(account, home)
    shutil.rmtree(home)
    assert release(of_account(account), X, mechanism) == before
    others = PrivacyLedger(account, Budget(3.0, DELTA), "ward-b")
    others.new_population("ward-b", "born after everybody in ward a had left")
    with pytest.raises(RefusedError, match="budget"):
        release(others, X, MomentsMechanism(3, 2.5, DELTA))


def test_a_link_to_the_accounts_ledger_is_no_other_one(tmp_path: Path) -> None:
    account, mechanism = tmp_path / "account", MomentsMechanism(3, 2.0, DELTA)
    release(of_account(account), X, mechanism)
    (tmp_path / "home").symlink_to(account)
    assert of_account(account, tmp_path / "home").spent("") > 1.9


def test_two_homes_of_before_are_one_budget(tmp_path: Path) -> None:
    mechanism, account = MomentsMechanism(3, 2.0, DELTA), tmp_path / "account"
    for home in ("a", "b"):
        release(PrivacyLedger(tmp_path / home, Budget(3.0, DELTA)), X, mechanism)
        taken = of_account(account, tmp_path / home, epsilon=30.0)
    both = taken.spent(taken.dataset(X))
    assert len([e for e in taken.entries() if e.claim is not None]) == 2 and 2.5 < both < 4.0
    with pytest.raises(RefusedError):
        release(of_account(account, tmp_path / "a"), X + 1, mechanism)


def test_damage_in_what_a_home_had_stops_everything(tmp_path: Path) -> None:
    home, account = tmp_path / "home", tmp_path / "account"
    release(PrivacyLedger(home, Budget(3.0, DELTA)), X, MomentsMechanism(3, 2.0, DELTA))
    (home / LINES).write_bytes(b"")
    with pytest.raises(RefusedError) as refused:
        of_account(account, home)
    assert refused.value.reason == "ledger-damaged" and str(home) in str(refused.value)
    assert not (account / LINES).exists()


def test_the_accounts_ledger_is_where_its_data_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for said, folder in (("", ".local/share"), ("relative", ".local/share"), (str(tmp_path / "x"), "x")):
        monkeypatch.setenv("XDG_DATA_HOME", said)
        assert account_folder() == tmp_path / folder / "epgfn" / "privacy"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(UsageError, match="privacy_ledger"):
        account_folder()


def test_a_release_that_was_charged_but_never_stored_is_not_charged_twice(tmp_path: Path) -> None:
    ledger = PrivacyLedger(tmp_path, Budget(2.0, DELTA))
    mechanism = MomentsMechanism(3, 2.0, DELTA)

    def power_cut() -> bytes:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ledger.release(ledger.dataset(X), {"epsilon": 2.0, "tag": 0}, mechanism.planned_claim, power_cut)
    assert ledger.spent(ledger.dataset(X)) > 1.9
    release(ledger, X, mechanism)
    stored = next(tmp_path.glob("release-*"))
    stored.unlink()  # what was stored may have left, so a new one would have to be paid for
    with pytest.raises(RefusedError, match="budget"):
        release(ledger, X, mechanism)


def test_a_data_set_has_another_name_on_each_node_and_for_each_record(tmp_path: Path) -> None:
    here, there = (PrivacyLedger(tmp_path / name, Budget(2.0, DELTA)) for name in ("a", "b"))
    assert here.dataset(X) == here.dataset(X.copy()) != there.dataset(X)
    assert len({here.dataset(x) for x in (X, X[:-1], X.T, X.astype(np.float32))}) == 4
    assert os.listdir(tmp_path / "a")


# --- what is lost or changed is noticed ---------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path: Path) -> PrivacyLedger:
    """Two releases, four lines, and a copy of the folder after the first, beside it."""
    kept = PrivacyLedger(tmp_path / "privacy", Budget(8.0, DELTA))
    for tag in range(2):
        kept.release(kept.dataset(X), {"tag": tag}, CLAIM, lambda: os.urandom(8))
        if tag == 0:
            shutil.copytree(kept.folder, tmp_path / "older")
    return kept


def lines(folder: Path) -> list[bytes]:
    return (folder / LINES).read_bytes().splitlines(keepends=True)


def cut(folder: Path, count: int) -> None:
    (folder / LINES).write_bytes(b"".join(lines(folder)[:count]))


def swap(folder: Path) -> None:
    """Two entries exchanged."""
    a, b, *rest = lines(folder)
    (folder / LINES).write_bytes(b"".join([b, a, *rest]))


def rewrite(folder: Path) -> None:
    """Half the noise in every claim, and a chain of digests that fits."""
    out, previous = [], ""
    for line in lines(folder):
        value = {**json.loads(line), "previous": previous}
        if "claim" in value:
            value["claim"]["stages"][0]["noise"][0]["scale"] *= 2
        out.append(canonical_json(value) + b"\n")
        previous = ledger_file.sha256_hex(canonical_json(value))
    (folder / LINES).write_bytes(b"".join(out))


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "last line gone": lambda folder: cut(folder, 3),
    "last two gone": lambda folder: cut(folder, 2),
    "all lines gone": lambda folder: cut(folder, 0),
    "no lines": lambda folder: (folder / LINES).unlink(),
    "an older copy of the lines": lambda folder: shutil.copy(folder.parent / "older" / LINES, folder / LINES),
    "an older copy of the head": lambda folder: shutil.copy(folder.parent / "older" / HEAD, folder / HEAD),
    "first line gone": lambda folder: (folder / LINES).write_bytes(b"".join(lines(folder)[1:])),
    "two lines exchanged": swap,
    "a rewritten claim": rewrite,
    "no head": lambda folder: (folder / HEAD).unlink(),
    "no head and no lines": lambda folder: [(folder / name).unlink() for name in (HEAD, LINES)],
    "an empty head": lambda folder: (folder / HEAD).write_bytes(b""),
    "a head of text": lambda folder: (folder / HEAD).write_bytes('{"count": "\u00e9"}'.encode("latin-1")),
    "a head that counts no line": lambda folder: (folder / HEAD).write_bytes(
        canonical_json({"count": 0, "last": "", "mac": "\u00e9"})
    ),
    "no key": lambda folder: (folder / KEY).unlink(),
    "a cut key": lambda folder: (folder / KEY).write_bytes(b""),
    "another key": lambda folder: (folder / KEY).write_bytes(os.urandom(32)),
    "nothing but releases": lambda folder: [(folder / name).unlink() for name in (HEAD, LINES, KEY)],
    "no text": lambda folder: (folder / LINES).write_bytes(b"\xff\n" * 4),
    "deep nesting": lambda folder: (folder / LINES).write_bytes((b"[" * 100_000 + b"\n") * 4),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_ledger_that_was_cut_or_changed_stops_everything(
    ledger: PrivacyLedger, damage: Callable[[Path], Any]
) -> None:
    named = ledger.dataset(X)
    damage(ledger.folder)
    for use in (
        lambda: ledger.entries(),
        lambda: ledger.spent(named),
        lambda: ledger.release(named, {"tag": 2}, CLAIM, lambda: pytest.fail("it computed")),
        lambda: ledger.release(named, {"tag": 0}, CLAIM, lambda: pytest.fail("it computed")),
    ):
        with pytest.raises(RefusedError) as refused:
            use()
        assert refused.value.reason == "ledger-damaged"
        assert str(ledger.folder) in str(refused.value) and "backup" in str(refused.value)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda claim: claim["stages"][0]["noise"].clear(),
        lambda claim: claim["stages"].clear(),
        lambda claim: claim["stages"][0].update(formula="counts"),
        lambda claim: claim["stages"][0]["noise"][0].update(scale=1e-300),
        lambda claim: claim.update(mode="gradient"),
        lambda claim: claim.update(epsilon="much"),
    ],
)
def test_a_claim_that_no_mechanism_makes_is_damage_and_never_a_crash(
    tmp_path: Path, spoil: Callable[[Any], Any]
) -> None:
    ledger = PrivacyLedger(tmp_path, Budget(8.0, DELTA))
    named, claim = ledger.dataset(X), CLAIM.to_json()
    spoil(claim)
    entry = {"event": "charged", "dataset": named, "settings": "0" * 64, "claim": claim}
    ledger_file.LedgerFile(tmp_path).append(entry)
    try:
        assert ledger.spent(named) == float("inf")  # so little noise costs everything
    except RefusedError as refused:
        assert refused.reason == "ledger-damaged"
    with pytest.raises(RefusedError):
        ledger.release(named, {"tag": 2}, CLAIM, lambda: pytest.fail("it computed"))


@pytest.mark.parametrize(
    "entry",
    [
        {"event": "refunded", "dataset": "d", "settings": "s", "claim": CLAIM.to_json()},
        {"event": "charged", "dataset": "d", "settings": "s"},
        {"event": "charged", "dataset": 1, "settings": "s", "claim": CLAIM.to_json()},
        {"event": "stored", "dataset": "d", "settings": "s", "release": "r"},  # and never charged
        {"event": "stored", "dataset": "d", "settings": "s"},
    ],
)
def test_a_line_that_is_no_entry_is_damage(tmp_path: Path, entry: dict[str, Any]) -> None:
    ledger = PrivacyLedger(tmp_path, Budget(8.0, DELTA))
    ledger_file.LedgerFile(tmp_path).append(entry)
    with pytest.raises(RefusedError) as refused:
        ledger.entries()
    assert refused.value.reason == "ledger-damaged"


# --- kills --------------------------------------------------------------------------------------------------------------


def in_a_process(work: Callable[[int], object]) -> tuple[int, int]:
    """Run `work` in a process of its own with one end of a pipe; its id and the other end."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work(writing)
        finally:
            os._exit(0)
    os.close(writing)
    return child, reading


def how_it_ended(child: int) -> int:
    """Minus the signal that ended the process, 0 if it came to its end."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_around_any_of_its_writes_it_charges_once_and_goes_on(tmp_path: Path, after: bool) -> None:
    write, number = ledger_file.write_secret, 0

    def release(folder: Path) -> bytes:
        ledger = PrivacyLedger(folder, Budget(2.0, DELTA))
        return ledger.release(ledger.dataset(X), {"tag": 0}, CLAIM, lambda: os.urandom(8))

    def dying(die_at: int) -> Callable[..., None]:
        done: Iterator[int] = iter(range(100))

        def write_or_die(path: Path, data: bytes) -> None:
            mine = next(done) == die_at
            if mine and not after:
                os.kill(os.getpid(), signal.SIGKILL)
            write(path, data)
            if mine:
                os.kill(os.getpid(), signal.SIGKILL)

        return write_or_die

    while True:
        folder = tmp_path / str(number)

        def work(_: int, number: int = number, folder: Path = folder) -> None:
            ledger_file.write_secret = spending.write_secret = dying(number)
            release(folder)

        child, reading = in_a_process(work)
        os.close(reading)
        if how_it_ended(child) == 0:
            break
        number += 1
        raw = release(folder)  # budget for one: a second charge would be refused
        assert release(folder) == raw
        ledger = PrivacyLedger(folder, Budget(2.0, DELTA))
        assert 1.9 < ledger.spent(ledger.dataset(X)) <= 2.0
        assert [entry.event for entry in ledger.entries()] == ["charged", "stored"]
    assert number == 7  # head, key; line and head of the charge; the release; line and head of it


def test_killed_at_any_moment_it_forgets_nothing_that_was_handed_out(tmp_path: Path) -> None:
    """A process that makes one release after the other, killed and started again; what it handed out, it hands out for ever."""
    ledger, handed = PrivacyLedger(tmp_path, Budget(50.0, DELTA)), {}
    named, moments = ledger.dataset(X), random.Random(0)
    cheap = MomentsMechanism(3, 0.05, DELTA).planned_claim

    def release(tag: int) -> bytes:
        return ledger.release(named, {"tag": tag}, cheap, lambda: os.urandom(8))

    def work(out: int) -> None:
        for tag in range(len(handed), 1000):
            os.write(out, release(tag))

    for _ in range(15):
        child, reading = in_a_process(work)
        time.sleep(moments.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert how_it_ended(child) == -signal.SIGKILL
        with os.fdopen(reading, "rb") as pipe:
            while raw := pipe.read(8):
                handed[len(handed)] = raw
        for tag, raw in handed.items():
            assert release(tag) == raw
    charged = [entry for entry in ledger.entries() if entry.event == "charged"]
    assert len(charged) - len(handed) in (0, 1) and handed

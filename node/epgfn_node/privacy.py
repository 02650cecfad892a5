"""Differential privacy at the node: one release from the records, and nothing else of them goes any further.

The release is charged to the operator's budget before noise is drawn, kept in the privacy ledger, and used again whenever the same
is asked of the same records. Training sees the release alone. What this module says to people is about settings, never about records,
but for refusals that `epgfn.privacy.mechanisms.checks` names as local.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_secret, remove, write_secret
from epgfn.base.passphrase import key_passphrase
from epgfn.study import Study
from epgfn.study.parameters import privacy_in_words
from epgfn.study.privacy import meaning
from epgfn_node.home import ROUNDS, NodeHome
from epgfn_node.settings import NodeSettings

if TYPE_CHECKING:
    from epgfn.privacy.claims.claims import Claim
    from epgfn.privacy.of_study.releases import Released
    from epgfn.privacy.spending.spending import PrivacyLedger
    from epgfn.study.records.table import Numbers
    from epgfn.study.records.tables import BoundedRecords

FORMAT = "epgfn-privacy-claim/v1"
_SPACE = {"max_parents": 3}
_TARGET = {"alpha_mu": 1.0, "sigma": 1.0, "sample_size": 1.0, "signal": 0.5, "branch_length": 0.1}
"""What every study had in its settings before kinds had their own: a release that was made then is still the same release."""


@dataclass(frozen=True)
class Operator:
    """What the node's operator decided: the whole budget of the people in the records, the folder of the ledger, and which people they
    are, where others were told apart."""

    budget_epsilon: float
    budget_delta: float
    ledger: Path
    population: str = ""
    earlier: Path | None = None
    """Where this home kept a ledger of its own, before its account had one: what it holds counts in `ledger` too."""
    released: frozenset[str] = frozenset()
    """The data sets, by their keyed digests, of releases that this home has models of: `ledger` has to know them."""

    def open_ledger(self) -> PrivacyLedger:
        """The ledger of releases under this budget."""
        # Here: a study without privacy needs neither.
        from epgfn.privacy.spending.ledger_file import KEY, LINES
        from epgfn.privacy.spending.spending import Budget, PrivacyLedger

        budget = Budget(self.budget_epsilon, self.budget_delta)
        ledger = PrivacyLedger(self.ledger, budget, self.population)
        if self.earlier is not None and any((self.earlier / name).exists() for name in (KEY, LINES)):
            passphrase = None if _same(self.earlier, self.ledger) else key_passphrase(self.earlier / KEY)
            ledger.adopt(PrivacyLedger(self.earlier, budget, passphrase=passphrase))
        return ledger


class Release(NamedTuple):
    """The released bytes, what they amount to, and the keyed digest of the records they are of."""

    raw: bytes
    done: Released
    dataset: str

    @property
    def claim(self) -> Claim:
        """What the node promises about it."""
        return self.done.claim


class KeptClaim(NamedTuple):
    """The claim of the model at hand, and the keyed digest of the records it was trained on."""

    claim: Claim
    dataset: str


def operator_of(
    home: NodeHome, settings: NodeSettings, study: Study, budget: float | None = None
) -> Operator:
    """The operator's decisions for `study`; `budget` goes before that of node.toml.

    Raises:
        UsageError: there is no budget.
    """
    epsilon = budget if budget is not None else settings.privacy_budget_epsilon
    if epsilon is None:
        raise UsageError(
            f"the study asks for differential privacy, and nobody has set how much may ever be spent on the people in these records: add "
            f"privacy_budget_epsilon = {study.privacy.epsilon:g} (or more, for further studies) to {home.settings}, or "
            f"--privacy-budget {study.privacy.epsilon:g}"
        )
    delta = settings.privacy_budget_delta or study.privacy.delta or 0.0
    folder, population, earlier = _ledger(home, settings)
    return Operator(epsilon, delta, folder, population, earlier, _released(home))


def _released(home: NodeHome) -> frozenset[str]:
    """Of which data sets the models in any round of this node were made with noise, by the claims beside them."""
    found = set()
    for root in (home.base, *home.base.glob(f"{ROUNDS}/*")):
        with contextlib.suppress(EpgfnError, KeyError, TypeError):
            found.add(str(parse_canonical_json(read_secret(NodeHome(root).privacy_claim))["dataset"]))
    return frozenset(found)


def _same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve()


def _ledger(home: NodeHome, settings: NodeSettings) -> tuple[Path, str, Path | None]:
    """The folder of the ledger, the population, and the folder of the one that this home had before."""
    from epgfn.privacy.spending.spending import account_folder

    return settings.privacy_ledger or account_folder(), settings.privacy_population, home.privacy


def new_population(home: NodeHome, settings: NodeSettings, name: str, because: str) -> Path:
    """Open a population in the node's spending log, which is returned; errors as `PrivacyLedger.new_population`."""
    folder, _, earlier = _ledger(home, settings)
    anybody = Operator(1.0, 1e-5, folder, earlier=earlier)  # no budget plays a part in it
    anybody.open_ledger().new_population(name, because)
    return folder


def spent_so_far(home: NodeHome, settings: NodeSettings) -> list[str]:
    """What was spent on whom by the node's spending log, a line each; errors as `PrivacyLedger.populations`."""
    folder, _, earlier = _ledger(home, settings)
    ledger = Operator(1.0, 1e-5, folder, earlier=earlier).open_ledger()  # no budget plays a part in it
    lines = [f"spending log {folder}"]
    for population, epsilon, delta, releases in ledger.populations():
        who = f"population {population}" if population else "all people whom nobody has told apart"
        spent = (
            "nothing" if delta is None else f"epsilon {epsilon:.4g} at delta {delta:g}, releases: {releases}"
        )
        lines.append(f"{who}: {spent}")
    return lines


def release(study: Study, node_id: str, data: Path, operator: Operator, report: Reporter) -> Release:
    """The release of `data` for `study`: the one made before, or a new one if the budget allows.

    Raises:
        UsageError: the records do not fit the study.
        RefusedError: "budget-spent"; "delta-too-large", "bounds-clip-most", "wrong-number": refusals that say something about the
            records and are for the operator alone.
    """
    import secrets

    import numpy as np

    from epgfn.privacy.of_study.releases import maker_of
    from epgfn.study.records.tables import bounded_of, load_table, of_persons

    maker, limit = maker_of(study, node_id), float(study.privacy.epsilon or 0)
    ledger = operator.open_ledger()
    if maker.planned_claim.epsilon > operator.budget_epsilon * (1 + 1e-9):
        raise RefusedError(
            "budget-spent",
            f"the study asks for a release of epsilon {limit:g}, which is more than the operator's whole budget of "
            f"{operator.budget_epsilon:g}; decide on a larger budget, or ask for a study with a smaller epsilon",
        )
    if operator.released - {entry.dataset for entry in ledger.entries()}:
        raise RefusedError(
            "ledger-damaged",
            f"the spending log in {operator.ledger} does not know a release that this home has a model of, and would take the budget for "
            "unspent: run under the account and with the XDG_DATA_HOME of before, restore the folder from a backup, or name the right "
            "one as privacy_ledger in node.toml",
        )
    table = load_table(data, study)
    tell_notes(table.notes, data, report)
    records = bounded_of(table, study)
    _require_fitting(study, node_id, records)
    maker.check(records)
    dataset, settings = ledger.dataset(*_named(study, records)), _settings(study, node_id, maker.name)
    if table.persons is not None:
        settings["whose"] = ledger.dataset(_whose(study, records, table.persons))
        # of others each time, and so after the data set has its name
        chance = np.random.default_rng(secrets.randbits(128))
        records = of_persons(records, table.persons, study.privacy.rows_per_person, chance)
    drawn = []

    def steps(step: int, of: int) -> None:
        report.event("releasing", "training with noise", step=step, steps=of)

    def compute() -> bytes:
        drawn.append(True)
        return maker.observe(records, steps)

    raw = ledger.release(dataset, settings, maker.planned_claim, compute)
    done = maker.finish(raw)
    report.event(
        "released",
        f"released with noise, {_plain(done.claim)}; training sees nothing else of the records"
        if drawn
        else f"the release made before on these records is used again and costs nothing, {_plain(done.claim)}",
        again=not drawn,
    )
    return Release(raw, done, dataset)


def tell_notes(notes: list[str], data: Path, report: Reporter) -> None:
    """What the file's header line shows and its owner should know."""
    for note in notes:
        report.event("records", f"{data.name}: {note}")


def keep_claim(home: NodeHome, model_sha256: str, done: Release | None) -> None:
    """Write the claim beside the model it is of; without a release there is none.

    Raises:
        EpgfnError: it cannot be written.
    """
    if done is None:
        remove(home.privacy_claim)
        return
    note = {
        "format": FORMAT,
        "model_sha256": model_sha256,
        "dataset": done.dataset,
        "claim": done.claim.to_json(),
    }
    write_secret(home.privacy_claim, canonical_json(note))


def kept_claim(home: NodeHome, study: Study, model_sha256: str) -> KeptClaim | None:
    """The claim of the model with that digest, checked as the coordinator will check it; None in a study without privacy.

    Raises:
        RefusedError: "no-claim": the claim is missing or of another model; or it does not add up.
    """
    if not study.privacy.is_private:
        return None
    from epgfn.privacy.of_study.agreement import require_claim

    try:
        note = parse_canonical_json(read_secret(home.privacy_claim))
        fits = (note["format"], note["model_sha256"]) == (FORMAT, model_sha256)
        stated, dataset = note["claim"], str(note["dataset"])
    except (EpgfnError, KeyError, TypeError):
        fits = False
    if not fits:
        raise RefusedError(
            "no-claim",
            f"{home.privacy_claim} is not the privacy claim of the model in {home.model}; train again (the release is kept, so "
            "that costs nothing)",
        )
    claim = require_claim(study, stated)
    assert claim is not None
    return KeptClaim(claim, dataset)


def in_words(study: Study, kept: KeptClaim | None, operator: Operator | None) -> str:
    """What the model's claim means and what the records have spent so far, for `inspect`."""
    if kept is None:
        return privacy_in_words(study)
    claim = kept.claim
    words = f"{claim.mode}: {meaning(claim.epsilon, claim.delta, claim.adjacency, claim.unit)}"
    if operator is None:
        return words
    ledger = operator.open_ledger()
    if not any(entry.dataset == kept.dataset for entry in ledger.entries()):
        return (
            f"{words} The spending log in {operator.ledger} does not know this release: restore it from a backup before anything else is "
            "released."
        )
    spent = ledger.spent(kept.dataset)
    return (
        f"{words} Spent so far on these people, all files and studies together: epsilon {spent:.4g} of {operator.budget_epsilon:g} at "
        f"delta {ledger.delta(kept.dataset):g}, by the spending log in {operator.ledger}."
    )


def _plain(claim: Claim) -> str:
    return f"epsilon {claim.epsilon:.4g} at delta {claim.delta:.3g} per {claim.unit}"


def _settings(study: Study, node_id: str, mechanism: str) -> dict[str, Any]:
    """All that shapes a release, and nothing else: two studies that ask for the same get the same release."""
    asked = study.privacy
    settings: dict[str, Any] = {
        "mechanism": mechanism,
        "variables": [variable.model_dump(mode="json", exclude_none=True) for variable in study.variables],
        "epsilon": asked.epsilon,
        "delta": asked.delta,
        "adjacency": asked.adjacency,
        "radius": asked.radius,
        "records": asked.records[node_id] if asked.records else None,
    }
    if asked.unit == "person":
        settings |= {"person": asked.person, "rows_per_person": asked.rows_per_person}
    if asked.mode == "gradient":  # what is released is the trained model, which the whole study shapes
        return {**settings, "study": study.digest, "node": node_id}
    if study.mechanism != "moments":
        settings["space"] = _SPACE | study.space.model_dump(mode="json", exclude_none=True)
    if asked.mode == "answers":
        settings["target"] = _TARGET | study.target.model_dump(mode="json", exclude_none=True)
    return settings


def _require_fitting(study: Study, node_id: str, records: BoundedRecords) -> None:
    """Refuse what cannot give a sound release. These refusals depend on records: docs/privacy.md lists them."""
    from epgfn.privacy.mechanisms.checks import check_delta

    n, asked = len(records.raw), study.privacy
    if asked.records is not None and n != asked.records[node_id]:
        raise RefusedError(
            "wrong-number",
            f"the study says in public that this node has {asked.records[node_id]} records, and the file holds another number; give the "
            "file the study was made for, or ask for a study with the right number",
        )
    check_delta(float(asked.delta or 0), n)


def _named(study: Study, records: BoundedRecords) -> tuple[Any, Any]:
    """Names and numbers, whatever the order of columns and rows and whatever scale a study puts them on: who rearranges a table or
    takes part in another study has the same data set."""
    import numpy as np

    order = np.argsort(np.array(study.variable_names))
    values = records.raw[:, order] + 0.0  # no negative zero
    values = values[np.lexsort(values.T[::-1])]
    names = "\n".join(sorted(study.variable_names)).encode("utf-8")
    return np.frombuffer(names, dtype=np.uint8), values


def _whose(study: Study, records: BoundedRecords, persons: Numbers) -> Numbers:
    """Which records are of one person, whatever persons are called and in whichever order they come: the kinds of records of each."""
    import numpy as np

    columns = np.argsort(np.array(study.variable_names))
    _, kind = np.unique(records.raw[:, columns] + 0.0, axis=0, return_inverse=True)
    order = np.lexsort((kind.reshape(-1), persons))
    starts = np.flatnonzero(np.diff(persons[order])) + 1
    each = sorted(part.tolist() for part in np.split(kind.reshape(-1)[order], starts))
    return np.array([value for part in each for value in (*part, -1)], dtype=np.int64)

"""`epgfn-node run`: every step in a row, each skipped if it is done. Stops before anything leaves unless told otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from epgfn.base.console import Reporter
from epgfn.base.errors import UsageError, WaitingError
from epgfn.base.passphrase import UNPROTECTED, key_passphrase
from epgfn_node.check import kept, require_nothing_loud
from epgfn_node.enroll import Connection, enroll
from epgfn_node.fetch import fetch
from epgfn_node.home import NodeHome
from epgfn_node.join import join
from epgfn_node.keys import create_keys
from epgfn_node.outbox import approve
from epgfn_node.privacy import operator_of
from epgfn_node.renew import loaded, renew_in_time
from epgfn_node.settings import NodeSettings, write_settings
from epgfn_node.study import Agreement, accept_study, load_agreement, require_accepted, require_on_roster
from epgfn_node.submit import submit
from epgfn_node.training import default_seed, forget_unfinished, require_same_records, train
from epgfn_node.training import train_along as along
from epgfn_node.trust import Invitation
from epgfn_node.withdraw import require_none_under_way


@dataclass(frozen=True)
class Plan:
    """What `run` was told: options of the command line, else node.toml. None: not given."""

    invite: Path | None = None
    data: Path | None = None
    accept_study: str | None = None
    approve_automatically: bool = False
    accept_warnings: bool = False
    accept_small_counts: bool = False
    accept_statistic: bool = False
    seed: int | None = None
    wait: float = 0.0
    patience: float = 0.0
    privacy_budget: float | None = None
    device: str = "cpu"

    def completed(self, settings: NodeSettings) -> Plan:
        """The same, with what is missing taken from node.toml."""
        return Plan(
            invite=self.invite or settings.invite,
            data=self.data or settings.data,
            accept_study=self.accept_study or settings.accept_study,
            approve_automatically=self.approve_automatically or settings.approve_automatically,
            accept_warnings=self.accept_warnings or settings.accept_warnings,
            accept_small_counts=self.accept_small_counts or settings.accept_small_counts,
            accept_statistic=self.accept_statistic or settings.accept_statistic,
            seed=self.seed if self.seed is not None else settings.seed,
            wait=self.wait,
            patience=settings.connect_wait,
            privacy_budget=self.privacy_budget,
            device=self.device,
        )


def initialise(
    home: NodeHome, data: Path | None, *, no_passphrase: bool = False, double: bool = False
) -> bool:
    """Make keys and a first node.toml; what exists stays. Whether keys were made that no passphrase protects.
    `double`: sign with ML-DSA-65 beside P-256.

    Raises:
        EpgfnError: a file cannot be written.
    """
    unprotected = False
    if not home.is_joined:
        fresh = not home.signing_key.exists()
        create_keys(home, no_passphrase=no_passphrase, double=double)
        unprotected = fresh and key_passphrase() is None
    if not home.settings.exists() and (data is not None or not home.is_joined):
        write_settings(home.settings, data)
    return unprotected


def run(home: NodeHome, plan: Plan, report: Reporter) -> None:
    """From nothing to the verified global model.

    Raises:
        UsageError: an option is missing.
        WaitingError: the study, the sending or small counts are not approved, or there is no global model yet.
        RefusedError: a check failed.
        EpgfnError: nobody answers, or a file cannot be written.
    """
    if initialise(home, plan.data):
        report.event("unprotected", UNPROTECTED)
    settings = NodeSettings.of(home)
    plan = plan.completed(settings)
    _enrol_once(home, plan, settings, report)
    connection = loaded(home, plan.invite, settings, report, plan.patience)
    connection = renew_in_time(connection, report, plan.patience)
    agreement = agree(connection, plan.accept_study, report)
    if not home.receipt.exists():
        _require_not_withdrawn(home)
        _train_once(connection, agreement, plan, settings, report)
        if not home.approved.exists() and not plan.approve_automatically:
            raise WaitingError(
                "not-approved",
                f"trained, and nothing was sent: look with epgfn-node inspect --home {home.root}, then run epgfn-node "
                f"approve --home {home.root} and this command again (or add --approve-automatically)",
            )
        if plan.approve_automatically and not (plan.accept_warnings or home.approved.exists()):
            facts = kept(home, agreement.study)
            if facts is not None:  # the model may have been trained where somebody looked
                require_nothing_loud(facts)
        if plan.approve_automatically:
            approve(
                connection,
                agreement,
                report,
                accept_small_counts=plan.accept_small_counts,
                accept_statistic=plan.accept_statistic,
            )
    submit(connection, agreement, report, plan.patience, plan.wait)
    fetch(connection, agreement, report, plan.wait, plan.patience)
    report.event("done", "done")


def _require_not_withdrawn(home: NodeHome) -> None:
    """What was withdrawn is not sent again by a command that starts by itself.

    Raises:
        WaitingError: "withdrawn" or "withdrawing".
    """
    require_none_under_way(home)
    if home.all_withdrawn() and not home.approved.exists():
        raise WaitingError(
            "withdrawn",
            f"this node's model was withdrawn, and nothing is sent again by itself; to take part after all, run epgfn-node approve --home "
            f"{home.root} (train before, if it is to be another model) and this command again, or get the result with epgfn-node fetch",
        )


def agree(connection: Connection, digest: str | None, report: Reporter) -> Agreement:
    """The verified study, once its digest is accepted; `digest` records the operator's acceptance now.

    Raises:
        RefusedError: "wrong-digest", "study-not-accepted", or a file was changed.
    """
    home = connection.home
    agreement = load_agreement(home, connection.trust)
    require_on_roster(agreement.study, connection.node_id)
    if digest is not None:
        accept_study(home, agreement.study, digest)
    require_accepted(home, agreement.study)
    report.event("study", f"study {agreement.study.name} is accepted", digest=agreement.study.digest)
    return agreement


def train_step(
    connection: Connection,
    agreement: Agreement,
    data: Path | None,
    seed: int | None,
    report: Reporter,
    settings: NodeSettings,
    budget: float | None = None,
    device: str = "cpu",
    accept_warnings: bool = True,
) -> str:
    """Train on `data`; the model's SHA-256. `budget`: of all releases on these records, before that in `settings`. Without
    `accept_warnings` records that look odd are not trained on.

    Raises:
        UsageError: no data file was named, or it does not fit the study; or no budget was set where the study needs one.
    """
    if data is None:
        raise UsageError(f"no records are named; add --data FILE, or set data in {connection.home.settings}")
    if seed is None:
        seed = default_seed(agreement.study, connection.node_id)
    home, study = connection.home, agreement.study
    operator = operator_of(home, settings, study, budget) if study.privacy.is_private else None
    return train(home, study, connection.node_id, data, seed, report, operator, device, accept_warnings)


def train_along(home: NodeHome, data: Path | None, device: str = "cpu") -> None:
    """`train_step` in the other processes of a `torchrun`: they train along and write nothing.

    Raises:
        UsageError: no data file was named, or it does not fit the study.
    """
    along(home, data or NodeSettings.of(home).data, device)


def _enrol_once(home: NodeHome, plan: Plan, settings: NodeSettings, report: Reporter) -> None:
    if home.is_enrolled:
        return
    if home.is_joined:
        node = NodeHome(home.base)
        connection = loaded(node, None, NodeSettings.of(node), report, plan.patience)
        join(connection, home.root.name, report, plan.patience)
        return
    path = plan.invite or (home.invitation if home.invitation.exists() else None)
    if path is None:
        raise UsageError(f"no invitation is named; add --invite FILE, or set invite in {home.settings}")
    enroll(home, Invitation.load(path), settings, report, plan.patience)


def _train_once(
    connection: Connection, agreement: Agreement, plan: Plan, settings: NodeSettings, report: Reporter
) -> None:
    home = connection.home
    if home.model.exists():
        if plan.data is not None:
            require_same_records(home, plan.data)
        forget_unfinished(home)  # killed between writing the model and deleting this
        report.event("trained", f"trained already: {home.model}")
        return
    train_step(
        connection,
        agreement,
        plan.data,
        plan.seed,
        report,
        settings,
        plan.privacy_budget,
        plan.device,
        plan.accept_warnings or not plan.approve_automatically,  # else somebody looks before anything is sent
    )


def require_device(name: str) -> None:
    """Refuse a device that is not there before anything is made.

    Raises:
        UsageError: it is none, or this machine has no such GPU.
    """
    if name != "cpu":
        from epgfn.gflownet.device import chosen

        chosen(name)


def require_readable(data: Path | None) -> None:
    """Refuse a data file that is not there before anything is made.

    Raises:
        UsageError: it is missing.
    """
    if data is not None and not data.is_file():
        raise UsageError(f"there is no file {data}; check the path given to --data")

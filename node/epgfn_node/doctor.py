"""`epgfn-node doctor`: the way to the coordinator, step by step, without doing anything else on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from epgfn.base.addresses import parse_address
from epgfn.base.console import Reporter
from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.rpc.diagnosis import NetworkError, Step, Target, diagnose
from epgfn.v1 import study_pb2
from epgfn_node.client import Coordinator, plain
from epgfn_node.enroll import Connection
from epgfn_node.home import NodeHome
from epgfn_node.settings import NodeSettings
from epgfn_node.trust import Invitation


@dataclass(frozen=True)
class Examined:
    """One of the coordinator's two ports, and how far a connection to it gets."""

    address: str
    purpose: str
    steps: tuple[Step, ...]
    error: EpgfnError | None

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "address": self.address,
            "for": self.purpose,
            "steps": [{"name": s.name, "passed": s.passed, "said": s.said} for s in self.steps],
            "cause": _slug(self.error),
        }

    def in_words(self) -> str:
        """For people: a line a step."""
        marks = {True: "ok", False: "NO", None: "-"}
        lines = [f"  {step.name:<11} {marks[step.passed]:<2}  {step.said}" for step in self.steps]
        return "\n".join([f"{self.address}, for {self.purpose}", *lines])


def examine(home: NodeHome, invite: Path | None, report: Reporter) -> list[Examined]:
    """The ports that this node needs next: once it is enrolled the one for nodes, before that both, by its invitation.

    Raises:
        UsageError: there is no node here, or it is not enrolled and no invitation is named; or an address is none.
        EpgfnError: a key or the certificate of this node is not as it should be.
    """
    home.require_initialised()
    settings = NodeSettings.of(home)
    if home.is_enrolled and invite is None:
        connection = Connection.load(home, settings)
        return [_asked(connection, report)]
    path = invite or settings.invite or (home.invitation if home.invitation.exists() else None)
    if path is None:
        raise UsageError("this node is not enrolled and no invitation is named; add --invite FILE")
    invitation = Invitation.load(path)
    ca = invitation.ca_pem.encode("utf-8")
    targets = [("enrolling", settings.enroll_address or invitation.enroll_address, False)]
    if main := settings.address or invitation.address:
        targets.append(("nodes", main, True))
    examined = []
    for purpose, address, for_nodes in targets:
        found = diagnose(Target(parse_address(address), ca, for_nodes=for_nodes))
        examined.append(Examined(address, purpose, found.steps, found.error))
    return examined


def require_well(examined: list[Examined]) -> None:
    """
    Raises:
        EpgfnError: a step does not pass.
    """
    for each in examined:
        if each.error is not None:
            step = next(step.name for step in each.steps if step.passed is False)
            raise EpgfnError(f"the way to {each.address} ends at {step}; what to do is said in that line")


def _asked(connection: Connection, report: Reporter) -> Examined:
    """The steps, the last of which is a question that every enrolled node may ask: how the round stands."""
    found = diagnose(connection.target)
    steps, error = found.steps, found.error
    if error is not None:
        return Examined(connection.address, "nodes", steps, error)
    refusal: EpgfnError | None = None
    try:
        with connection.open(report) as coordinator:
            said = _round(coordinator)
    except EpgfnError as failure:
        said, refusal = str(failure), failure
    steps = (*steps[:-1], replace(steps[-1], passed=refusal is None, said=said))
    return Examined(connection.address, "nodes", steps, refusal)


def _slug(error: EpgfnError | None) -> str | None:
    """The stable word of an error."""
    if isinstance(error, NetworkError):
        return error.cause
    return error.reason if isinstance(error, RefusedError) else "failed" if error else None


def _round(coordinator: Coordinator) -> str:
    answer = coordinator.call(coordinator.study.GetRound, study_pb2.GetRoundRequest())
    name = study_pb2.RoundState.Name(answer.state).removeprefix("ROUND_STATE_").lower()
    return f"the round is {name}: {plain(answer.detail)}"

"""C2SP tlog-policy: which logs and witnesses somebody trusts, and how many of the witnesses it takes.

    log <vkey> [<url>]
    witness <name> <vkey> [<url>]
    group <name> all|any|<k> <name>...
    quorum <name>|none

Source: https://c2sp.org/tlog-policy
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from epgfn.ledger.cosignature import Cosigner, cosignatures
from epgfn.ledger.errors import LedgerError
from epgfn.ledger.note import NoteVerifier, verify

MAX_LINES: Final = 1024
_NONE: Final = "none"
_SPACE: Final = re.compile(r"[ \t]+")
_FORBIDDEN: Final = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")


@dataclass
class Policy:
    """`members`: how many of which names a group takes. `quorum`: the name that must have witnessed; None: none."""

    logs: list[NoteVerifier] = field(default_factory=list)
    witnesses: dict[str, Cosigner] = field(default_factory=dict)
    members: dict[str, tuple[int, list[str]]] = field(default_factory=dict)
    quorum: str | None = None

    def check(self, note: bytes) -> str:
        """The sentence: which log and witnesses have signed the checkpoint in `note`, and that they are enough.

        Raises:
            LedgerError: no known log has, or too few witnesses.
        """
        log = self._log_of(note)
        found = cosignatures(note, self.witnesses.values())
        signed = sorted(name for name, cosigner in self.witnesses.items() if cosigner in found)
        if self.quorum is not None and not self._witnessed(self.quorum, signed):
            raise LedgerError(
                f"the policy asks for the quorum {self.quorum}; of its witnesses only these have cosigned: {', '.join(signed) or 'none'}"
            )
        asked = "no witness is asked for" if self.quorum is None else f"the quorum {self.quorum} is met"
        return (
            f"the log {log} is one of the policy's, and {asked} (cosigned: {', '.join(signed) or 'by none'})"
        )

    def _log_of(self, note: bytes) -> str:
        if not self.logs:
            return "that was named otherwise"
        for log in self.logs:
            try:
                text = verify(note, log)
            except LedgerError:
                continue
            if text.split("\n")[0] == log.name:
                return log.name
        raise LedgerError("no log of the policy has signed this checkpoint")

    def _witnessed(self, name: str, signed: Collection[str]) -> bool:
        if name in self.witnesses:
            return name in signed
        least, members = self.members[name]
        return sum(self._witnessed(member, signed) for member in members) >= least


def parse_policy(raw: bytes) -> Policy:
    """The policy in the bytes of a file.

    Raises:
        LedgerError: another form, a name that is not defined before, a key twice, no quorum; the sentence names the line.
    """
    if _FORBIDDEN.search(raw):
        raise LedgerError("the policy holds control characters")
    lines = raw.decode("utf-8", "surrogateescape").split("\n")
    if lines.pop() != "" or len(lines) > MAX_LINES:
        raise LedgerError(f"the policy does not end its last line, or has more than {MAX_LINES}")
    policy, quorums, used = Policy(), 0, set[str]()
    for number, line in enumerate(lines, start=1):
        words = _SPACE.split(line.strip(" \t"))
        if words == [""] or words[0].startswith("#"):
            continue
        reader = _READERS.get(words[0])
        try:
            if reader is None:
                raise LedgerError("begins with no word that is known")
            reader(policy, words[1:], used)
        except (LedgerError, UnicodeError) as error:
            said = str(error) if isinstance(error, LedgerError) else "holds a key whose name is not UTF-8"
            raise LedgerError(f"line {number} of the policy: {said}") from None
        quorums += words[0] == "quorum"
    if quorums != 1:
        raise LedgerError("the policy does not have exactly one line for the quorum")
    return policy


def _log(policy: Policy, words: list[str], used: set[str]) -> None:
    if len(words) not in (1, 2):
        raise LedgerError("is not: log <vkey> [<url>]")
    log = NoteVerifier.from_vkey(words[0])
    if any(other.public_key == log.public_key for other in policy.logs):
        raise LedgerError("names a log's key a second time")
    policy.logs.append(log)


def _witness(policy: Policy, words: list[str], used: set[str]) -> None:
    if len(words) not in (2, 3):
        raise LedgerError("is not: witness <name> <vkey> [<url>]")
    _require_new(policy, words[0])
    cosigner = Cosigner.from_vkey(words[1])
    if any(other.public_key == cosigner.public_key for other in policy.witnesses.values()):
        raise LedgerError("names a witness's key a second time")
    policy.witnesses[words[0]] = cosigner


def _group(policy: Policy, words: list[str], used: set[str]) -> None:
    if len(words) < 3:
        raise LedgerError("is not: group <name> all|any|<k> <name>...")
    name, least, members = words[0], words[1], words[2:]
    _require_new(policy, name)
    for member in members:
        if member not in policy.witnesses and member not in policy.members:
            raise LedgerError("has a member that no line before defines")
        if member in used:
            raise LedgerError("has a member that is in a group already")
        used.add(member)
    counts = {"all": len(members), "any": 1}
    if least not in counts and not re.fullmatch(r"[1-9][0-9]{0,5}", least):
        raise LedgerError("says neither all nor any nor how many")
    k = counts.get(least) or int(least)
    if k > len(members):
        raise LedgerError("asks for more members than it has")
    policy.members[name] = (k, members)


def _quorum(policy: Policy, words: list[str], used: set[str]) -> None:
    if len(words) != 1 or (
        words[0] != _NONE and words[0] not in policy.witnesses and words[0] not in policy.members
    ):
        raise LedgerError("is not: quorum <name>|none, with a name that a line before defines")
    policy.quorum = None if words[0] == _NONE else words[0]


def _require_new(policy: Policy, name: str) -> None:
    if name == _NONE or name in policy.witnesses or name in policy.members:
        raise LedgerError("gives a name that is taken")


_READERS: Final[dict[str, Callable[[Policy, list[str], set[str]], None]]] = {
    "log": _log,
    "witness": _witness,
    "group": _group,
    "quorum": _quorum,
}

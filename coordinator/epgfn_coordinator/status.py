"""`status`: where the round stands, for a person or a program."""

from __future__ import annotations

from typing import Any

from epgfn.base.errors import EpgfnError
from epgfn.base.files import read_bytes
from epgfn.sealing.pki import certificate_fingerprint
from epgfn.study import Study
from epgfn.study.parameters import is_masked
from epgfn_coordinator import places
from epgfn_coordinator.certificates import ends, warnings
from epgfn_coordinator.clock import Clock, spelled
from epgfn_coordinator.continuity import why_held
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.invitation import invitations, note_fact
from epgfn_coordinator.keys import LEDGER_PUBLIC, ROUND_KEY
from epgfn_coordinator.known_keys import revoked_nodes
from epgfn_coordinator.round import accepted_nodes, awaited_nodes, excluded_nodes, withdrawn_nodes
from epgfn_coordinator.rounds import all_rounds, name_of
from epgfn_coordinator.schedule import DEADLINE_FACT, deadline_of, due, expiries, grace_ends, outlook
from epgfn_coordinator.signing import round_key_of
from epgfn_coordinator.store import TROUBLE_FACT, TURN_FACT, Store
from epgfn_coordinator.sum_lists import in_words


def status(home: Home) -> dict[str, Any]:
    """State of the round, the nodes by what they have done, the ledger's size, addresses and fingerprints.

    Raises:
        UsageError: there is no coordinator in `home`.
    """
    home.require()
    study, config, store = Study.load(home.study), Config.load(home.config), Store(home.state)
    try:
        accepted, excluded = accepted_nodes(store), excluded_nodes(store)
        awaited = awaited_nodes(study, store)
        deadline, grace = deadline_of(study, store), grace_ends(study, store)
        enrolled = [row["node_id"] for row in store.rows("SELECT node_id FROM nodes ORDER BY node_id")]
        result = {
            "name": name_of(home),
            "study": study.name,
            "study_digest": study.digest,
            "round_id": store.text("round_id"),
            "state": store.text("state"),
            "detail": (in_words(study, store) if is_masked(study) else "")
            or store.text("detail")
            or f"{len(accepted)} of {len(awaited)} nodes have sent their model",
            "serving": home.is_served(),
            "next": outlook(study, store),
            "held": why_held(store, study.roster)
            or Clock(store).read(due(study, store), *expiries(study, store)).doubt
            or None,
            "trouble": store.text(TROUBLE_FACT) or None,
            "deadline": None if deadline is None else spelled(deadline),
            "extended": store.fact(DEADLINE_FACT) is not None,
            "grace_days": study.aggregation.grace_days,
            "grace_ends": None if grace is None else spelled(grace),
            "enrolled": enrolled,
            "revoked": revoked_nodes(store),
            "accepted": accepted,
            "fetched": store.fetched(),
            "missing": sorted(set(awaited) - set(accepted) - set(excluded)),
            "places": _places(study, store),
            "free_places": [node for node in study.roster if node not in awaited],
            "excluded": [f"{node} ({reason})" for node, reason in excluded.items()],
            "withdrawn": withdrawn_nodes(store),
            "quorum": study.aggregation.quorum,
            "aggregates": places.all_made(store),
            "late": places.late_nodes(store),
            "certificates": {whose: spelled(end) for whose, end in ends(home, store).items()},
            "warnings": warnings(home, store),
            "ledger_size": store.entries_size(),
        }
    finally:
        store.close()
    return {
        **result,
        "round_key": "kept" if home.key(ROUND_KEY).exists() else "destroyed",
        "address": _known(config, "public_address"),
        "enroll_address": _known(config, "public_enroll_address"),
        "coordinator_fingerprint": round_key_of(home).fingerprint,
        "ca_fingerprint": certificate_fingerprint(read_bytes(home.ca, "certificate")),
        "ledger_vkey": read_bytes(home.key(LEDGER_PUBLIC), "public key").decode("ascii").strip(),
    }


def _places(study: Study, store: Store) -> list[str]:
    """Who holds each place of an open roster that is not free, as far as is known here."""
    invited = {each["node"]: each for each in invitations(store)}
    keys = {row["node_id"]: row for row in store.rows("SELECT node_id, signing_fingerprint FROM nodes")}
    sent, found = accepted_nodes(store), []
    for node in study.added:
        note = f", {note}" if (note := store.text(note_fact(node))) else ""
        if node in keys:
            does = "model accepted" if node in sent else "no model yet"
            found.append(f"{node}: key {keys[node]['signing_fingerprint'][:16]}..., {does}{note}")
        elif node in invited:
            until = f" until {invited[node]['expires']}" if invited[node]["state"] == "open" else ""
            state = "invited" if invited[node]["state"] == "open" else f"invitation {invited[node]['state']}"
            found.append(f"{node}: {state}{until}{note}")
    return found


def overview(home: Home) -> list[dict[str, Any]]:
    """Every round of a coordinator: its name, study and state, how many have sent, and what is wrong with it.

    Raises:
        UsageError: there is no coordinator in `home`.
    """
    home.require()
    return [_in_short(each) for each in all_rounds(home)]


def _in_short(home: Home) -> dict[str, Any]:
    found: dict[str, Any] = {"name": name_of(home)}
    try:
        study, store = Study.load(home.study), Store(home.state)
    except EpgfnError as error:
        return found | {"study": None, "study_digest": None, "state": None, "trouble": str(error)}
    try:
        return found | {
            "study": study.name,
            "study_digest": study.digest,
            "round_id": store.text("round_id"),
            "state": store.text("state"),
            "accepted": len(accepted_nodes(store)),
            "roster": len(awaited_nodes(study, store)),
            "trouble": store.text(TROUBLE_FACT) or why_held(store, study.roster) or None,
            "waits_for": store.text(TURN_FACT) or None,
        }
    finally:
        store.close()


def _known(config: Config, name: str) -> str | None:
    try:
        return str(getattr(config, name))
    except EpgfnError:
        return None  # the port is chosen when serving starts

"""The part of an audit that is about a masked sum: who has agreed whose total it is, and that the model is made of it.

What cannot be shown is that the total is that of the uploads: they are sealed, and the key that opens them is gone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from epgfn.base.errors import EpgfnError
from epgfn.base.files import sha256_hex
from epgfn.ledger.entries import Entry, SumListEntry
from epgfn.masking.messages import encode_list
from epgfn.run.audit.enrolments import enrolled_at
from epgfn.run.audit.rules import Failed, given, require
from epgfn.run.layout import SUMS
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import RoundPredicate, SumPartPredicate
from epgfn.sealing.sum_part import require_part
from epgfn.study import Study

if TYPE_CHECKING:
    from torch import Tensor

NEAR: Final = 1e-6
"""Nats by which a score may differ from that of the total, beside a billionth of the largest: machines round."""


def check_signatures(
    read: Callable[[str], bytes], entries: Sequence[Entry], study: Study, manifest: RoundPredicate
) -> str:
    """A quorum of nodes has signed, each with its own key, that the total is of exactly the nodes whose uploads the ledger lists.

    Raises:
        Failed: one has not.
    """
    lists = {
        entry.step: (index, entry) for index, entry in enumerate(entries) if isinstance(entry, SumListEntry)
    }
    if "signing" not in lists:
        return "the round ended before there was a total"
    index, signed = lists["signing"]
    nodes = sorted(lists["uploads"][1].statements)
    for node, digest in signed.statements.items():
        name = f"{SUMS}/{node}.sigstore.json"
        bundle = read(name)
        require(sha256_hex(bundle) == digest, f"{name} is not the statement that the ledger lists")
        key = VerifyKey.from_pem(given(enrolled_at(list(entries), node, index), "node-keys").pem)
        expected = SumPartPredicate(
            study_digest=study.digest,
            round_id=manifest.round_id,
            node_id=node,
            sender_fingerprint=key.fingerprint,
            step="signing",
        )
        try:
            require_part(bundle, encode_list(nodes), expected, key)
        except EpgfnError as error:
            raise Failed(f"{name}: {error}") from None
    return f"{', '.join(signed.statements)} have signed that the total is of exactly {', '.join(nodes)}"


def signers(entries: Sequence[Entry]) -> list[str]:
    """Nodes that the ledger lists as having signed whose total it is."""
    return [
        node
        for entry in entries
        if isinstance(entry, SumListEntry) and entry.step == "signing"
        for node in entry.statements
    ]


def require_total(raw: bytes, study: Study, model: Mapping[str, Tensor], name: str) -> None:
    """The total `name` is one that records can have, and the model's scores are those of these records.

    Raises:
        Failed: they are not.
    """
    import torch

    from epgfn.gflownet.policies.order_potential import normalise_table, scores_of
    from epgfn.learn.masked import decode, numbers_in, pooled_of_total, sum_spec
    from epgfn.learn.policy import family_of
    from epgfn.sealing.model_file import read_model
    from epgfn.study.objects import space_of

    try:
        tensors, metadata = read_model(raw, sum_spec(study))
        pooled = pooled_of_total(study, decode(study, numbers_in(tensors)))
    except (EpgfnError, ValueError, ArithmeticError) as error:
        raise Failed(f"{name} is no total of records: {error}") from None
    require(
        (metadata["study_digest"], metadata["role"]) == (study.digest, "total"),
        f"{name} does not say that it is a total of this study",
    )
    space, scores = space_of(study), family_of(study).scores
    assert scores is not None  # the study's own check
    wanted = normalise_table(space, pooled.table)
    found = normalise_table(space, scores_of(space, model[scores]).double())
    apart = float((wanted - found).masked_fill(~space.admissible, 0.0).abs().max())
    most = NEAR + 1e-9 * float(torch.nan_to_num(wanted, neginf=0.0).abs().max())
    require(
        apart <= most, f"the scores in the model are not those of the records of which {name} is the total"
    )

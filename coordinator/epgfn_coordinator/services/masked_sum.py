"""SumService: passes on what nodes say for a masked sum."""

from __future__ import annotations

from typing import Any, Final

import grpc

from epgfn.ledger.entries import SumStep
from epgfn.v1 import sum_pb2, sum_pb2_grpc
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.masked_sum import MaskedSum
from epgfn_coordinator.services.calls import CallError, guarded

BY_NUMBER: Final[dict[sum_pb2.SumStep, SumStep]] = {
    sum_pb2.SUM_STEP_KEYS: "keys",
    sum_pb2.SUM_STEP_SHARES: "shares",
    sum_pb2.SUM_STEP_UPLOADS: "uploads",
    sum_pb2.SUM_STEP_SIGNING: "signing",
    sum_pb2.SUM_STEP_UNMASKING: "unmasking",
}
NUMBERS: Final = {step: number for number, step in BY_NUMBER.items()}


class SumServicer(sum_pb2_grpc.SumServiceServicer):
    """Translates between messages and `MaskedSum`."""

    def __init__(self, identity: Identity, masked: MaskedSum | None) -> None:
        """`masked`: None of a study whose sums are not masked."""
        self._identity, self._masked = identity, masked

    @guarded
    def GetSum(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See sum.proto."""
        self._identity.caller(context)
        masked = self._of_this_round()
        due = masked.due()
        return sum_pb2.GetSumResponse(
            due=sum_pb2.SUM_STEP_UNSPECIFIED if due is None else NUMBERS[due],
            lists=[
                sum_pb2.SumList(step=NUMBERS[each.step], entry=each.entry, receipt=each.receipt)
                for each in masked.lists()
            ],
            missing=masked.missing(),
        )

    @guarded
    def GetStatement(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See sum.proto."""
        self._identity.caller(context)
        found = self._of_this_round().statement(_step(request.step), request.node_id)
        return sum_pb2.GetStatementResponse(**found._asdict())

    @guarded
    def Send(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See sum.proto."""
        caller = self._identity.caller(context)
        self._of_this_round().send(caller, _step(request.step), request.bundle, request.payload)
        return sum_pb2.SendResponse()

    def _of_this_round(self) -> MaskedSum:
        if self._masked is None:
            raise CallError(
                grpc.StatusCode.FAILED_PRECONDITION, "no-sum", "the study of this round has no masked sum"
            )
        return self._masked


def _step(number: sum_pb2.SumStep) -> SumStep:
    step = BY_NUMBER.get(number)
    if step is None:
        raise CallError(
            grpc.StatusCode.INVALID_ARGUMENT,
            "malformed",
            "there is no such step of a masked sum; update epgfn",
        )
    return step

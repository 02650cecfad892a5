"""StudyService: the signed study, the signed round manifest, and where the round stands."""

from __future__ import annotations

from typing import Any

import grpc

from epgfn.base.files import read_bytes
from epgfn.study import Study
from epgfn.v1 import study_pb2, study_pb2_grpc
from epgfn_coordinator.home import Home
from epgfn_coordinator.identity import Identity
from epgfn_coordinator.round import Round
from epgfn_coordinator.services.calls import guarded

_STATES = {
    "open": study_pb2.ROUND_STATE_OPEN,
    "aggregating": study_pb2.ROUND_STATE_AGGREGATING,
    "published": study_pb2.ROUND_STATE_PUBLISHED,
    "waiting": study_pb2.ROUND_STATE_WAITING,
    "failed": study_pb2.ROUND_STATE_FAILED,
    "abandoned": study_pb2.ROUND_STATE_FAILED,
}


class StudyServicer(study_pb2_grpc.StudyServiceServicer):
    """Hands out what was signed, byte for byte."""

    def __init__(
        self, home: Home, study: Study, identity: Identity, current: Round, rotations: list[bytes]
    ) -> None:
        """`rotations`: see GetRoundResponse."""
        self._identity, self._round, self._rotations = identity, current, rotations
        self._name, self._digest = study.name, study.digest
        self._study = read_bytes(home.study, "study file")
        self._study_bundle = read_bytes(home.study_bundle, "study's signature")
        self._round_bundle = read_bytes(home.round_bundle, "round manifest")

    def summary(self, name: str, round_id: str) -> Any:
        """This round in a list of several."""
        return study_pb2.RoundSummary(
            name=name,
            round_id=round_id,
            study_name=self._name,
            study_digest=self._digest,
            state=_STATES[self._round.standing()[0]],
        )

    @guarded
    def GetStudy(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See study.proto."""
        self._identity.caller(context)
        return self.signed_study()

    def signed_study(self) -> Any:
        """The answer to GetStudy."""
        return study_pb2.GetStudyResponse(study=self._study, bundle=self._study_bundle)

    @guarded
    def GetRound(self, request: Any, context: grpc.ServicerContext) -> Any:
        """See study.proto."""
        self._identity.caller(context)
        return self.where_it_stands()

    def where_it_stands(self) -> Any:
        """The answer to GetRound."""
        state, detail = self._round.standing()
        extension, receipt = self._round.extension()
        return study_pb2.GetRoundResponse(
            bundle=self._round_bundle,
            state=_STATES[state],
            detail=detail,
            extension=extension,
            extension_receipt=receipt,
            rotations=self._rotations,
        )

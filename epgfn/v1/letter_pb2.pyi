from epgfn.v1 import artifact_pb2 as _artifact_pb2
from epgfn.v1 import certificate_pb2 as _certificate_pb2
from epgfn.v1 import enrollment_pb2 as _enrollment_pb2
from epgfn.v1 import ledger_pb2 as _ledger_pb2
from epgfn.v1 import result_pb2 as _result_pb2
from epgfn.v1 import study_pb2 as _study_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Letter(_message.Message):
    __slots__ = ("ledger", "enrolment", "token_signature", "submission", "withdrawal", "question", "rotation")
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SUBMISSION_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    QUESTION_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    ledger: _ledger_pb2.GetCheckpointRequest
    enrolment: _enrollment_pb2.EnrollRequest
    token_signature: bytes
    submission: _artifact_pb2.BeginRequest
    withdrawal: _artifact_pb2.WithdrawRequest
    question: _result_pb2.GetResultRequest
    rotation: _certificate_pb2.RotateKeyRequest
    def __init__(self, ledger: _Optional[_Union[_ledger_pb2.GetCheckpointRequest, _Mapping]] = ..., enrolment: _Optional[_Union[_enrollment_pb2.EnrollRequest, _Mapping]] = ..., token_signature: _Optional[bytes] = ..., submission: _Optional[_Union[_artifact_pb2.BeginRequest, _Mapping]] = ..., withdrawal: _Optional[_Union[_artifact_pb2.WithdrawRequest, _Mapping]] = ..., question: _Optional[_Union[_result_pb2.GetResultRequest, _Mapping]] = ..., rotation: _Optional[_Union[_certificate_pb2.RotateKeyRequest, _Mapping]] = ...) -> None: ...

class Reply(_message.Message):
    __slots__ = ("refusal", "ledger", "round", "enrolment", "study", "receipt", "withdrawal", "result", "rotation")
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    ROUND_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_FIELD_NUMBER: _ClassVar[int]
    STUDY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    ROTATION_FIELD_NUMBER: _ClassVar[int]
    refusal: Refusal
    ledger: _containers.RepeatedCompositeFieldContainer[KnownLedger]
    round: _study_pb2.GetRoundResponse
    enrolment: _enrollment_pb2.EnrollResponse
    study: _study_pb2.GetStudyResponse
    receipt: _artifact_pb2.CommitResponse
    withdrawal: _artifact_pb2.WithdrawResponse
    result: _result_pb2.GetResultResponse
    rotation: _certificate_pb2.RotateKeyResponse
    def __init__(self, refusal: _Optional[_Union[Refusal, _Mapping]] = ..., ledger: _Optional[_Iterable[_Union[KnownLedger, _Mapping]]] = ..., round: _Optional[_Union[_study_pb2.GetRoundResponse, _Mapping]] = ..., enrolment: _Optional[_Union[_enrollment_pb2.EnrollResponse, _Mapping]] = ..., study: _Optional[_Union[_study_pb2.GetStudyResponse, _Mapping]] = ..., receipt: _Optional[_Union[_artifact_pb2.CommitResponse, _Mapping]] = ..., withdrawal: _Optional[_Union[_artifact_pb2.WithdrawResponse, _Mapping]] = ..., result: _Optional[_Union[_result_pb2.GetResultResponse, _Mapping]] = ..., rotation: _Optional[_Union[_certificate_pb2.RotateKeyResponse, _Mapping]] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("reason", "sentence")
    REASON_FIELD_NUMBER: _ClassVar[int]
    SENTENCE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    sentence: str
    def __init__(self, reason: _Optional[str] = ..., sentence: _Optional[str] = ...) -> None: ...

class KnownLedger(_message.Message):
    __slots__ = ("known_size", "newest")
    KNOWN_SIZE_FIELD_NUMBER: _ClassVar[int]
    NEWEST_FIELD_NUMBER: _ClassVar[int]
    known_size: int
    newest: _ledger_pb2.GetCheckpointResponse
    def __init__(self, known_size: _Optional[int] = ..., newest: _Optional[_Union[_ledger_pb2.GetCheckpointResponse, _Mapping]] = ...) -> None: ...

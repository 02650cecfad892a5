from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SumStep(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUM_STEP_UNSPECIFIED: _ClassVar[SumStep]
    SUM_STEP_KEYS: _ClassVar[SumStep]
    SUM_STEP_SHARES: _ClassVar[SumStep]
    SUM_STEP_UPLOADS: _ClassVar[SumStep]
    SUM_STEP_SIGNING: _ClassVar[SumStep]
    SUM_STEP_UNMASKING: _ClassVar[SumStep]
SUM_STEP_UNSPECIFIED: SumStep
SUM_STEP_KEYS: SumStep
SUM_STEP_SHARES: SumStep
SUM_STEP_UPLOADS: SumStep
SUM_STEP_SIGNING: SumStep
SUM_STEP_UNMASKING: SumStep

class GetSumRequest(_message.Message):
    __slots__ = ("round_id",)
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    round_id: str
    def __init__(self, round_id: _Optional[str] = ...) -> None: ...

class GetSumResponse(_message.Message):
    __slots__ = ("due", "lists", "missing")
    DUE_FIELD_NUMBER: _ClassVar[int]
    LISTS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    due: SumStep
    lists: _containers.RepeatedCompositeFieldContainer[SumList]
    missing: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, due: _Optional[_Union[SumStep, str]] = ..., lists: _Optional[_Iterable[_Union[SumList, _Mapping]]] = ..., missing: _Optional[_Iterable[str]] = ...) -> None: ...

class SumList(_message.Message):
    __slots__ = ("step", "entry", "receipt")
    STEP_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    step: SumStep
    entry: bytes
    receipt: bytes
    def __init__(self, step: _Optional[_Union[SumStep, str]] = ..., entry: _Optional[bytes] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class GetStatementRequest(_message.Message):
    __slots__ = ("step", "node_id", "round_id")
    STEP_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    step: SumStep
    node_id: str
    round_id: str
    def __init__(self, step: _Optional[_Union[SumStep, str]] = ..., node_id: _Optional[str] = ..., round_id: _Optional[str] = ...) -> None: ...

class GetStatementResponse(_message.Message):
    __slots__ = ("bundle", "payload", "key_entry", "key_receipt")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    KEY_ENTRY_FIELD_NUMBER: _ClassVar[int]
    KEY_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    payload: bytes
    key_entry: bytes
    key_receipt: bytes
    def __init__(self, bundle: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., key_entry: _Optional[bytes] = ..., key_receipt: _Optional[bytes] = ...) -> None: ...

class SendRequest(_message.Message):
    __slots__ = ("step", "bundle", "payload", "round_id")
    STEP_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    step: SumStep
    bundle: bytes
    payload: bytes
    round_id: str
    def __init__(self, step: _Optional[_Union[SumStep, str]] = ..., bundle: _Optional[bytes] = ..., payload: _Optional[bytes] = ..., round_id: _Optional[str] = ...) -> None: ...

class SendResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

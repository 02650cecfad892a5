from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetResultRequest(_message.Message):
    __slots__ = ("aggregate", "round_id")
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    aggregate: int
    round_id: str
    def __init__(self, aggregate: _Optional[int] = ..., round_id: _Optional[str] = ...) -> None: ...

class GetResultResponse(_message.Message):
    __slots__ = ("bundle", "entry", "receipt", "model_size", "aggregates", "exclusion", "exclusion_receipt", "withdrawal", "withdrawal_receipt", "withdrawal_bundle")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    MODEL_SIZE_FIELD_NUMBER: _ClassVar[int]
    AGGREGATES_FIELD_NUMBER: _ClassVar[int]
    EXCLUSION_FIELD_NUMBER: _ClassVar[int]
    EXCLUSION_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_RECEIPT_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWAL_BUNDLE_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    entry: bytes
    receipt: bytes
    model_size: int
    aggregates: int
    exclusion: bytes
    exclusion_receipt: bytes
    withdrawal: bytes
    withdrawal_receipt: bytes
    withdrawal_bundle: bytes
    def __init__(self, bundle: _Optional[bytes] = ..., entry: _Optional[bytes] = ..., receipt: _Optional[bytes] = ..., model_size: _Optional[int] = ..., aggregates: _Optional[int] = ..., exclusion: _Optional[bytes] = ..., exclusion_receipt: _Optional[bytes] = ..., withdrawal: _Optional[bytes] = ..., withdrawal_receipt: _Optional[bytes] = ..., withdrawal_bundle: _Optional[bytes] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("offset", "aggregate", "round_id")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    offset: int
    aggregate: int
    round_id: str
    def __init__(self, offset: _Optional[int] = ..., aggregate: _Optional[int] = ..., round_id: _Optional[str] = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

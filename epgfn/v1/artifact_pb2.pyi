from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class BeginRequest(_message.Message):
    __slots__ = ("bundle", "round_id")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    round_id: str
    def __init__(self, bundle: _Optional[bytes] = ..., round_id: _Optional[str] = ...) -> None: ...

class BeginResponse(_message.Message):
    __slots__ = ("upload_id", "offset", "accepted")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    offset: int
    accepted: bool
    def __init__(self, upload_id: _Optional[str] = ..., offset: _Optional[int] = ..., accepted: bool = ...) -> None: ...

class UploadRequest(_message.Message):
    __slots__ = ("upload_id", "offset", "data", "crc32", "round_id")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    CRC32_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    offset: int
    data: bytes
    crc32: int
    round_id: str
    def __init__(self, upload_id: _Optional[str] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ..., crc32: _Optional[int] = ..., round_id: _Optional[str] = ...) -> None: ...

class UploadResponse(_message.Message):
    __slots__ = ("offset",)
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    offset: int
    def __init__(self, offset: _Optional[int] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ("upload_id", "round_id")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    round_id: str
    def __init__(self, upload_id: _Optional[str] = ..., round_id: _Optional[str] = ...) -> None: ...

class StatusResponse(_message.Message):
    __slots__ = ("offset", "accepted", "checking")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    CHECKING_FIELD_NUMBER: _ClassVar[int]
    offset: int
    accepted: bool
    checking: bool
    def __init__(self, offset: _Optional[int] = ..., accepted: bool = ..., checking: bool = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("upload_id", "round_id")
    UPLOAD_ID_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    upload_id: str
    round_id: str
    def __init__(self, upload_id: _Optional[str] = ..., round_id: _Optional[str] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("receipt", "entry")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    receipt: bytes
    entry: bytes
    def __init__(self, receipt: _Optional[bytes] = ..., entry: _Optional[bytes] = ...) -> None: ...

class GetAcceptedRequest(_message.Message):
    __slots__ = ("round_id",)
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    round_id: str
    def __init__(self, round_id: _Optional[str] = ...) -> None: ...

class GetAcceptedResponse(_message.Message):
    __slots__ = ("entry", "receipt")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    receipt: bytes
    def __init__(self, entry: _Optional[bytes] = ..., receipt: _Optional[bytes] = ...) -> None: ...

class WithdrawRequest(_message.Message):
    __slots__ = ("bundle", "round_id")
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    bundle: bytes
    round_id: str
    def __init__(self, bundle: _Optional[bytes] = ..., round_id: _Optional[str] = ...) -> None: ...

class WithdrawResponse(_message.Message):
    __slots__ = ("entry", "receipt")
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    entry: bytes
    receipt: bytes
    def __init__(self, entry: _Optional[bytes] = ..., receipt: _Optional[bytes] = ...) -> None: ...

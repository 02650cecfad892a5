from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetResultRequest(_message.Message):
    __slots__ = ("aggregate", "round_id", "with_files")
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    WITH_FILES_FIELD_NUMBER: _ClassVar[int]
    aggregate: int
    round_id: str
    with_files: bool
    def __init__(self, aggregate: _Optional[int] = ..., round_id: _Optional[str] = ..., with_files: bool = ...) -> None: ...

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
    __slots__ = ("offset", "aggregate", "round_id", "files_follow")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    AGGREGATE_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    FILES_FOLLOW_FIELD_NUMBER: _ClassVar[int]
    offset: int
    aggregate: int
    round_id: str
    files_follow: bool
    def __init__(self, offset: _Optional[int] = ..., aggregate: _Optional[int] = ..., round_id: _Optional[str] = ..., files_follow: bool = ...) -> None: ...

class DownloadResponse(_message.Message):
    __slots__ = ("offset", "data")
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    offset: int
    data: bytes
    def __init__(self, offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class ListFilesRequest(_message.Message):
    __slots__ = ("round_id", "kept")
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    KEPT_FIELD_NUMBER: _ClassVar[int]
    round_id: str
    kept: bool
    def __init__(self, round_id: _Optional[str] = ..., kept: bool = ...) -> None: ...

class ListFilesResponse(_message.Message):
    __slots__ = ("files",)
    FILES_FIELD_NUMBER: _ClassVar[int]
    files: _containers.RepeatedCompositeFieldContainer[RunFile]
    def __init__(self, files: _Optional[_Iterable[_Union[RunFile, _Mapping]]] = ...) -> None: ...

class RunFile(_message.Message):
    __slots__ = ("name", "size", "sha256")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    sha256: bytes
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ..., sha256: _Optional[bytes] = ...) -> None: ...

class DownloadFilesRequest(_message.Message):
    __slots__ = ("names", "offset", "round_id")
    NAMES_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    ROUND_ID_FIELD_NUMBER: _ClassVar[int]
    names: _containers.RepeatedScalarFieldContainer[str]
    offset: int
    round_id: str
    def __init__(self, names: _Optional[_Iterable[str]] = ..., offset: _Optional[int] = ..., round_id: _Optional[str] = ...) -> None: ...

class DownloadFilesResponse(_message.Message):
    __slots__ = ("file", "offset", "data")
    FILE_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    file: int
    offset: int
    data: bytes
    def __init__(self, file: _Optional[int] = ..., offset: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class EnrollRequest(_message.Message):
    __slots__ = ("token", "csr_pem", "signing_key_pem", "signing_key_proof")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CSR_PEM_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_PEM_FIELD_NUMBER: _ClassVar[int]
    SIGNING_KEY_PROOF_FIELD_NUMBER: _ClassVar[int]
    token: str
    csr_pem: bytes
    signing_key_pem: bytes
    signing_key_proof: bytes
    def __init__(self, token: _Optional[str] = ..., csr_pem: _Optional[bytes] = ..., signing_key_pem: _Optional[bytes] = ..., signing_key_proof: _Optional[bytes] = ...) -> None: ...

class EnrollResponse(_message.Message):
    __slots__ = ("node_id", "certificate_pem", "address")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_PEM_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    certificate_pem: bytes
    address: str
    def __init__(self, node_id: _Optional[str] = ..., certificate_pem: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

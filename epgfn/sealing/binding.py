"""What a sealed artifact belongs to. Both sides write it down on their own, and it opens only where they agree."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass

from epgfn.base.errors import RefusedError
from epgfn.sealing.encoding import length_prefixed

NONCE_BYTES = 16
MODEL_PAYLOAD = "application/vnd.epgfn.model+safetensors"
STATISTIC_PAYLOAD = "application/vnd.epgfn.model-and-statistic+safetensors"
"""A policy and, in the same file, a statistic of the records."""
MASKED_PAYLOAD = "application/vnd.epgfn.masked-statistic+safetensors"
"""A statistic of the records under masks, and nothing else."""

_LABEL = b"epgfn binding v1"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DIGEST_FIELDS = ("study_digest", "sender_fingerprint", "round_key_id")
_MAX_FIELD_BYTES = 255


@dataclass(frozen=True, slots=True)
class Binding:
    """The circumstances one upload is good for. It is not secret and never travels: each side takes its own.

    study_digest: SHA-256 of the study's bytes, 64 lower-case hexadecimal digits.
    round_id, node_id: 1 to 255 bytes of UTF-8.
    sender_fingerprint: fingerprint of the sender's signing key.
    round_key_id: id of the public key it is encrypted to.
    payload_type: media type of the plaintext.

    Raises:
        RefusedError: "malformed": a field is empty, too long, or a digest is not 64 hexadecimal digits.
    """

    study_digest: str
    round_id: str
    node_id: str
    sender_fingerprint: str
    round_key_id: str
    payload_type: str = MODEL_PAYLOAD

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            fits = isinstance(value, str) and 0 < len(value.encode("utf-8", "replace")) <= _MAX_FIELD_BYTES
            if not fits or (field.name in _DIGEST_FIELDS and not _DIGEST.fullmatch(value)):
                raise RefusedError(
                    "malformed",
                    f"the {field.name} of a sealed artifact is not of the expected form; check its source",
                )

    def encode(self, nonce: bytes) -> bytes:
        """A protocol label, the six fields in the order above and the artifact's own nonce, each length-prefixed.

        Raises:
            ValueError: `nonce` is not 16 bytes.
        """
        if len(nonce) != NONCE_BYTES:
            raise ValueError(f"the nonce must be {NONCE_BYTES} bytes")
        fields = [str(getattr(self, field.name)).encode("utf-8") for field in dataclasses.fields(self)]
        return length_prefixed([_LABEL, *fields, nonce])

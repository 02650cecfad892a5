"""The header of a model file, and whether the file's length and form are what it says; `epgfn.sealing.model_file` has the form.

    forms, metadata = read_header(raw)      {"score_table": ("F32", (3, 7)), ...}, {"study_digest": ..., "role": "local", ...}

Nothing here reads a number, so nothing here needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, Final

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError

FORMAT: Final = "epgfn-model/v1"
ROLES: Final = ("local", "global", "total")
MAX_HEADER_BYTES: Final = 1 << 20
METADATA: Final = "__metadata__"
ITEM_BYTES: Final = {"F64": 8, "I64": 8, "F32": 4, "I32": 4}
DTYPES: Final = {"F64": "float64", "I64": "int64", "F32": "float32", "I32": "int32"}
"""safetensors' names of dtypes, and everyone else's."""

_LENGTH_BYTES = 8
_ALIGNMENT = 8
_DIGEST = re.compile(r"[0-9a-f]{64}")

Form = tuple[str, tuple[int, ...]]  # safetensors' name of the dtype, and the shape


def read_header(raw: bytes) -> tuple[dict[str, Form], dict[str, str]]:
    """Forms of the tensors and metadata of a model file whose every byte but the tensors' own is as it must be.

    Raises:
        RefusedError: "malformed" or "bad-metadata", as `epgfn.sealing.model_file.read_model`.
    """
    forms, metadata = parse_header(raw)
    require_byte_form(raw, forms, metadata)
    return forms, metadata


def parse_header(raw: bytes) -> tuple[dict[str, Form], dict[str, str]]:
    """What the header says; `require_byte_form` has to judge the bytes.

    Raises:
        RefusedError: "malformed" or "bad-metadata".
    """
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    if len(raw) < _LENGTH_BYTES or length > min(MAX_HEADER_BYTES, len(raw) - _LENGTH_BYTES):
        raise malformed()
    header: Any = parse_canonical_json(raw[_LENGTH_BYTES : _LENGTH_BYTES + length].rstrip(b" "))
    if not isinstance(header, dict) or not isinstance(header.get(METADATA), dict):
        raise malformed()
    metadata = header.pop(METADATA)
    forms = {name: _form(entry) for name, entry in header.items()}
    require_metadata(metadata)
    return forms, metadata


def require_byte_form(raw: bytes, forms: Mapping[str, Form], metadata: Mapping[str, str]) -> None:
    """Refuse gaps, overlaps, trailing bytes or any other than the one byte form.

    Raises:
        RefusedError: "malformed".
    """
    header = write_header(forms, metadata)
    size = sum(map(_size, forms.values()))
    # The header is built again from what it says, and the lengths must add up: that leaves no byte unaccounted for.
    if not raw.startswith(header) or len(raw) != len(header) + size:
        raise malformed()


def _form(entry: Any) -> Form:
    match entry:
        # `type(n) is int` because True is an int to Python, and would be another byte form of 1.
        case {"dtype": str(dtype), "shape": list(shape)} if dtype in ITEM_BYTES and all(
            type(n) is int and 0 <= n < 1 << 48 for n in shape
        ):
            return dtype, tuple(shape)
    raise malformed()


def write_header(forms: Mapping[str, Form], metadata: Mapping[str, str]) -> bytes:
    """Length field and header of the one byte form, up to where the tensors begin."""
    header: dict[str, Any] = {METADATA: dict(metadata)}
    begin = 0
    for name in order_of(forms):
        end = begin + _size(forms[name])
        dtype, shape = forms[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = canonical_json(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise malformed()
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def order_of(forms: Mapping[str, Form]) -> list[str]:
    """Names in the order in which the tensors stand."""
    return sorted(forms, key=lambda name: (-ITEM_BYTES[forms[name][0]], name))


def _size(form: Form) -> int:
    dtype, shape = form
    return math.prod(shape) * ITEM_BYTES[dtype]


def require_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse other keys or values than a model file has.

    Raises:
        RefusedError: "bad-metadata".
    """
    fits = (
        set(metadata) == {"format", "study_digest", "role"}
        and metadata["format"] == FORMAT
        and metadata["role"] in ROLES
        and isinstance(metadata["study_digest"], str)
        and _DIGEST.fullmatch(metadata["study_digest"])
    )
    if not fits:
        raise RefusedError(
            "bad-metadata",
            f"the model file's metadata is not exactly format ({FORMAT}), study_digest and role; "
            "write the model again with this version",
        )


def malformed() -> RefusedError:
    """The refusal of anything but the one byte form."""
    return RefusedError(
        "malformed", f"the file is not a model file of format {FORMAT}; ask its sender for an undamaged copy"
    )

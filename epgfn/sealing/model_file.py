"""The model file: safetensors (https://github.com/huggingface/safetensors) with exactly one byte form.

    header length (8 bytes, little-endian) ‖ header (canonical JSON, padded with spaces to 8 bytes) ‖ tensors

Tensors stand in order of falling element size, then name, little-endian, without gaps. The metadata has exactly three
keys: format "epgfn-model/v1", study_digest, role ("local" or "global"). Nothing in a header depends on data.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import safetensors.torch
import torch
from torch import Tensor

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError

FORMAT: Final = "epgfn-model/v1"
ROLES: Final = ("local", "global")
MAX_HEADER_BYTES: Final = 1 << 20

_METADATA = "__metadata__"
_LENGTH_BYTES = 8
_ALIGNMENT = 8
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DTYPES = {"F64": torch.float64, "I64": torch.int64, "F32": torch.float32, "I32": torch.int32}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


class TensorSpec(Protocol):
    """What one tensor has to be: anything with a shape and a dtype ("float32" or `torch.float32`)."""

    @property
    def shape(self) -> Sequence[int]:
        """Length of each axis."""

    @property
    def dtype(self) -> str | torch.dtype:
        """Element type."""


def write_model(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """The file of these tensors; `metadata` is study_digest and role (format is added). Equal input, equal bytes.

    Raises:
        RefusedError: what `read_model` would refuse is not written either.
    """
    full = {"format": FORMAT, **metadata}
    _require_metadata(full)
    if _METADATA in tensors:
        raise _malformed()
    forms = {name: (_dtype_name(name, tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    return _header(forms, full) + b"".join(_raw_bytes(tensors[name]) for name in _order(forms))


def read_model(
    raw: bytes, spec: Mapping[str, TensorSpec] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a model file. With a `spec`, names, shapes and dtypes must be exactly that.

    Raises:
        RefusedError: "malformed": not safetensors, a header over 1 MiB, gaps, overlaps, trailing bytes or any other
            than the one byte form; "bad-metadata": other keys or values; "tensor-names", "tensor-shape",
            "tensor-dtype": not what `spec` says; "non-finite": NaN or infinity.
    """
    forms, metadata = _read_header(raw)
    _require_metadata(metadata)
    if spec is not None:
        _require_spec(forms, spec)
    header = _header(forms, metadata)
    size = sum(_size(form) for form in forms.values())
    # The header is built again from what it says, and the lengths must add up: that leaves no byte unaccounted for.
    if not raw.startswith(header) or len(raw) != len(header) + size:
        raise _malformed()
    try:
        tensors = safetensors.torch.load(raw)
    except Exception:
        raise _malformed() from None
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    return {name: tensors[name] for name in sorted(tensors)}, metadata


_Form = tuple[str, tuple[int, ...]]  # safetensors' name of the dtype, and the shape


def _read_header(raw: bytes) -> tuple[dict[str, _Form], dict[str, str]]:
    length = int.from_bytes(raw[:_LENGTH_BYTES], "little")
    if len(raw) < _LENGTH_BYTES or length > min(MAX_HEADER_BYTES, len(raw) - _LENGTH_BYTES):
        raise _malformed()
    header: Any = parse_canonical_json(raw[_LENGTH_BYTES : _LENGTH_BYTES + length].rstrip(b" "))
    if not isinstance(header, dict) or not isinstance(header.get(_METADATA), dict):
        raise _malformed()
    metadata = header.pop(_METADATA)
    return {name: _form(entry) for name, entry in header.items()}, metadata


def _form(entry: Any) -> _Form:
    match entry:
        # `type(n) is int` because True is an int to Python, and would be another byte form of 1.
        case {"dtype": str(dtype), "shape": list(shape)} if dtype in _DTYPES and all(
            type(n) is int and 0 <= n < 1 << 48 for n in shape
        ):
            return dtype, tuple(shape)
    raise _malformed()


def _header(forms: Mapping[str, _Form], metadata: Mapping[str, str]) -> bytes:
    """Length field and header of the one byte form, up to where the tensors begin."""
    header: dict[str, Any] = {_METADATA: dict(metadata)}
    begin = 0
    for name in _order(forms):
        end = begin + _size(forms[name])
        dtype, shape = forms[name]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
        begin = end
    text = canonical_json(header)
    text += b" " * (-len(text) % _ALIGNMENT)
    if len(text) > MAX_HEADER_BYTES:
        raise _malformed()
    return len(text).to_bytes(_LENGTH_BYTES, "little") + text


def _order(forms: Mapping[str, _Form]) -> list[str]:
    return sorted(forms, key=lambda name: (-_DTYPES[forms[name][0]].itemsize, name))


def _size(form: _Form) -> int:
    dtype, shape = form
    return math.prod(shape) * _DTYPES[dtype].itemsize


def _raw_bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _dtype_name(name: str, dtype: torch.dtype) -> str:
    if dtype not in _NAMES:
        raise RefusedError(
            "tensor-dtype", f"the tensor {name!r} has a dtype that a model file does not hold; use float32"
        )
    return _NAMES[dtype]


def _require_metadata(metadata: Mapping[str, Any]) -> None:
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


def _require_spec(forms: Mapping[str, _Form], spec: Mapping[str, TensorSpec]) -> None:
    if set(forms) != set(spec):
        missing, extra = len(set(spec) - set(forms)), len(set(forms) - set(spec))
        raise RefusedError(
            "tensor-names",
            f"the model file does not hold the study's tensors ({missing} missing, {extra} too many); "
            "train with the accepted study",
        )
    for name, expected in spec.items():
        dtype, shape = forms[name]
        if shape != tuple(expected.shape):
            raise RefusedError(
                "tensor-shape",
                f"the tensor {name!r} has not the study's shape {tuple(expected.shape)}; "
                "train with the accepted study",
            )
        wanted = str(expected.dtype).removeprefix("torch.")
        if str(_DTYPES[dtype]).removeprefix("torch.") != wanted:
            raise RefusedError(
                "tensor-dtype",
                f"the tensor {name!r} has not the study's dtype {wanted}; train with the accepted study",
            )


def _require_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise RefusedError(
            "non-finite",
            f"the tensor {name!r} holds NaN or infinity; train again with a smaller learning rate",
        )


def _malformed() -> RefusedError:
    return RefusedError(
        "malformed", f"the file is not a model file of format {FORMAT}; ask its sender for an undamaged copy"
    )

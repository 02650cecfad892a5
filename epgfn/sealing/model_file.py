"""The model file: safetensors (https://github.com/huggingface/safetensors) with exactly one byte form.

    header length (8 bytes, little-endian) ‖ header (canonical JSON, padded with spaces to 8 bytes) ‖ tensors

Tensors stand in order of falling element size, then name, little-endian, without gaps. The metadata has exactly three
keys: format "epgfn-model/v1", study_digest, role ("local", "global", or of a masked sum "total"). Nothing in a header depends on data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import safetensors.torch
import torch
from torch import Tensor

from epgfn.base.errors import RefusedError
from epgfn.sealing.model_header import (
    DTYPES,
    FORMAT,
    METADATA,
    Form,
    malformed,
    order_of,
    parse_header,
    require_byte_form,
    require_metadata,
    write_header,
)

_NAMES = {name: short for short, name in DTYPES.items()}


class TensorSpec(Protocol):
    """What one tensor has to be: anything with a shape and a dtype ("float32" or `torch.float32`), and perhaps `older`, the dtype that
    it had in files of before."""

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
    require_metadata(full)
    if METADATA in tensors:
        raise malformed()
    forms = {name: (_dtype_name(name, tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    return write_header(forms, full) + b"".join(_raw_bytes(tensors[name]) for name in order_of(forms))


def read_model(
    raw: bytes, spec: Mapping[str, TensorSpec] | None = None
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a model file. With a `spec`, names, shapes and dtypes must be exactly that.

    Raises:
        RefusedError: "malformed": not safetensors, a header over 1 MiB, gaps, overlaps, trailing bytes or any other
            than the one byte form; "bad-metadata": other keys or values; "tensor-names", "tensor-shape",
            "tensor-dtype": not what `spec` says; "non-finite": NaN or infinity.
    """
    forms, metadata = parse_header(raw)
    if spec is not None:
        _require_spec(forms, spec)
    require_byte_form(raw, forms, metadata)
    try:
        tensors = safetensors.torch.load(raw)
    except Exception:
        raise malformed() from None
    for name, tensor in tensors.items():
        _require_finite(name, tensor)
    return {name: tensors[name] for name in sorted(tensors)}, metadata


def _raw_bytes(tensor: Tensor) -> bytes:
    array = tensor.detach().cpu().contiguous().numpy()
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _dtype_name(name: str, dtype: torch.dtype) -> str:
    name_of = str(dtype).removeprefix("torch.")
    if name_of not in _NAMES:
        raise RefusedError(
            "tensor-dtype", f"the tensor {name!r} has a dtype that a model file does not hold; use float32"
        )
    return _NAMES[name_of]


def _require_spec(forms: Mapping[str, Form], spec: Mapping[str, TensorSpec]) -> None:
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
                f"the tensor {name!r} does not have the study's shape {tuple(expected.shape)}; "
                "train with the accepted study",
            )
        wanted = str(expected.dtype).removeprefix("torch.")
        if DTYPES[dtype] not in (wanted, getattr(expected, "older", "")):
            raise RefusedError(
                "tensor-dtype",
                f"the tensor {name!r} does not have the study's dtype {wanted}; train with the accepted study",
            )


def _require_finite(name: str, tensor: Tensor) -> None:
    if not bool(torch.isfinite(tensor).all()):
        raise RefusedError(
            "non-finite",
            f"the tensor {name!r} holds NaN or infinity; train again with a smaller learning rate",
        )

"""Model files: what was written is read back bit by bit, and a file can hold nothing but the study's tensors."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from epgfn.base.canonical import canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.model_file import read_model, write_model
from epgfn.sealing.model_header import FORMAT, MAX_HEADER_BYTES


class Spec(NamedTuple):
    shape: tuple[int, ...]
    dtype: str | torch.dtype = "float32"


METADATA = {"study_digest": "a" * 64, "role": "local"}
TENSORS = {
    "table.logits": torch.linspace(-3, 3, 12).reshape(3, 4),
    "net.weight": torch.ones(2, 5),
    "net.bias": torch.zeros(5),
    "log_z": torch.tensor(1.5),
    "order": torch.arange(3),
}
SPEC = {name: Spec(tuple(tensor.shape), tensor.dtype) for name, tensor in TENSORS.items()}
RAW = write_model(TENSORS, METADATA)


def reason(raw: bytes, spec: dict[str, Spec] | None = None) -> str:
    with pytest.raises(RefusedError) as caught:
        read_model(raw, spec)
    return caught.value.reason


def header_of(raw: bytes) -> dict[str, Any]:
    size = int.from_bytes(raw[:8], "little")
    value: dict[str, Any] = json.loads(raw[8 : 8 + size])
    return value


def with_header(header: Any, data: bytes | None = None) -> bytes:
    text = header if isinstance(header, bytes) else canonical_json(header)
    text += b" " * (-len(text) % 8)
    body = RAW[8 + int.from_bytes(RAW[:8], "little") :] if data is None else data
    return len(text).to_bytes(8, "little") + text + body


def test_tensors_come_back_bit_by_bit() -> None:
    tensors, metadata = read_model(RAW, SPEC)
    assert metadata == {"format": FORMAT, **METADATA}
    assert set(tensors) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype and torch.equal(tensors[name], tensor)


def test_any_safetensors_reader_can_read_the_file() -> None:
    read = safetensors.torch.load(RAW)
    assert all(torch.equal(read[name], TENSORS[name]) for name in TENSORS)


def test_equal_tensors_give_equal_bytes_in_whatever_order_they_come() -> None:
    backwards = dict(reversed(TENSORS.items()))
    strided = backwards | {"table.logits": TENSORS["table.logits"].T.contiguous().T}
    assert write_model(strided, dict(reversed(METADATA.items()))) == RAW


def test_nothing_of_the_training_graph_is_needed() -> None:
    raw = write_model({"w": torch.nn.Parameter(torch.ones(2))}, METADATA)
    assert torch.equal(read_model(raw)[0]["w"], torch.ones(2))


shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
dtypes = st.sampled_from([torch.float32, torch.float64, torch.int64, torch.int32])


@given(
    forms=st.dictionaries(
        st.text(st.characters(codec="utf-8"), max_size=5), st.tuples(shapes, dtypes), max_size=5
    )
)
@settings(max_examples=100)
def test_every_set_of_tensors_survives(forms: dict[str, tuple[tuple[int, ...], torch.dtype]]) -> None:
    tensors = {name: torch.full(shape, 3, dtype=dtype) for name, (shape, dtype) in forms.items()}
    spec = {name: Spec(shape, str(dtype).removeprefix("torch.")) for name, (shape, dtype) in forms.items()}
    read, _ = read_model(write_model(tensors, METADATA), spec)
    assert set(read) == set(tensors)
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_model_that_is_not_finite_is_refused_by_writer_and_reader(value: float) -> None:
    broken = torch.ones(3)
    broken[1] = value
    with pytest.raises(RefusedError) as caught:
        write_model({"w": broken}, METADATA)
    assert caught.value.reason == "non-finite"
    raw = bytearray(write_model({"w": torch.ones(3)}, METADATA))
    raw[-12:] = broken.numpy().tobytes()
    assert reason(bytes(raw)) == "non-finite"


def changed(**specs: Spec | None) -> dict[str, Spec]:
    merged: dict[str, Spec | None] = {**SPEC, **specs}
    return {name: spec for name, spec in merged.items() if spec is not None}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (changed(order=None), "tensor-names"),
        (changed(extra=Spec((1,))), "tensor-names"),
        (changed(order=None, extra=Spec((3,), "int64")), "tensor-names"),
        (changed(log_z=Spec((1,))), "tensor-shape"),
        (changed(**{"table.logits": Spec((4, 3))}), "tensor-shape"),
        (changed(**{"table.logits": Spec((12,))}), "tensor-shape"),
        (changed(order=Spec((3,), "int32")), "tensor-dtype"),
        (changed(log_z=Spec((), torch.float64)), "tensor-dtype"),
    ],
)
def test_other_tensors_than_the_studys_are_refused(spec: dict[str, Spec], expected: str) -> None:
    assert reason(RAW, spec) == expected


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"study_digest": "a" * 64},
        METADATA | {"role": "admin"},
        METADATA | {"study_digest": "short"},
        METADATA | {"format": "pt"},
        METADATA | {"records": "440"},
    ],
)
def test_other_metadata_is_refused_by_writer_and_reader(metadata: dict[str, str]) -> None:
    with pytest.raises(RefusedError) as caught:
        write_model(TENSORS, metadata)
    assert caught.value.reason == "bad-metadata"
    header = header_of(RAW)
    header["__metadata__"] = metadata if "format" in metadata else {"format": FORMAT, **metadata}
    assert reason(with_header(header)) == "bad-metadata"


@given(tail=st.binary(min_size=1, max_size=30), kept=st.integers(0, len(RAW) - 1))
@settings(max_examples=100)
def test_missing_and_trailing_bytes_are_refused(tail: bytes, kept: int) -> None:
    assert reason(RAW + tail) == "malformed"
    assert reason(RAW[:kept]) == "malformed"


def test_only_the_one_header_is_taken() -> None:
    header = header_of(RAW)
    size = int.from_bytes(RAW[:8], "little")
    text, body = RAW[8 : 8 + size], RAW[8 + size :]

    def entry(name: str, **change: Any) -> bytes:
        return with_header(header | {name: header[name] | change})

    others = {
        "wrong order of keys": with_header(json.dumps(header).encode()),
        "more padding": (size + 8).to_bytes(8, "little") + text + b" " * 8 + body,
        "no padding": len(text.rstrip()).to_bytes(8, "little") + text.rstrip() + body,
        "other padding": RAW[:8] + text.rstrip() + b"\n" * (size - len(text.rstrip())) + body,
        "no metadata": with_header({name: e for name, e in header.items() if name != "__metadata__"}),
        "metadata of another type": with_header(header | {"__metadata__": [1]}),
        "an array": with_header([header]),
        "gap": entry("log_z", data_offsets=[100, 104]),
        "overlap": entry("net.bias", data_offsets=header["log_z"]["data_offsets"]),
        "unknown dtype": entry("log_z", dtype="F8_E4M3"),
        "dtype of another size": entry("log_z", dtype="F64"),
        "negative shape": entry("net.bias", shape=[-5]),
        "shape of floats": entry("net.bias", shape=[5.0]),
        "shape of booleans": entry("log_z", shape=[True]),
        "huge shape": entry("net.bias", shape=[1 << 40]),
        "one axis too many": entry("net.bias", shape=[5, 2]),
        "unknown field": entry("net.bias", scale=1),
        "missing field": with_header(header | {"net.bias": {"dtype": "F32", "shape": [5]}}),
        "twice the same name": with_header(
            text.rstrip()[:-1] + b',"log_z":' + canonical_json(header["log_z"]) + b"}"
        ),
        "header length beyond the file": (1 << 62).to_bytes(8, "little") + RAW[8:],
        "header length of nothing": bytes(8) + RAW[8:],
        "header too large": with_header(b'"' + b"x" * MAX_HEADER_BYTES + b'"'),
        "empty": b"",
        "a pickle": b"\x80\x04N.",
    }
    for what, raw in others.items():
        assert raw != RAW
        assert reason(raw) == "malformed", what


def test_tensors_stand_in_one_order_only() -> None:
    raw = write_model({"a": torch.zeros(2), "b": torch.ones(2)}, METADATA)
    header, body = header_of(raw), raw[-16:]
    header["a"], header["b"] = header["b"], header["a"]
    assert set(safetensors.torch.load(with_header(header, body))) == {"a", "b"}  # valid to others
    assert reason(with_header(header, body)) == "malformed"


def test_a_file_of_the_reference_writer_is_not_our_form() -> None:
    # Its bytes depend on the version and on chance (order of the metadata), so a digest would mean nothing.
    assert reason(safetensors.torch.save(TENSORS)) == "malformed"


@pytest.mark.parametrize(
    "tensor", [torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.complex64)]
)
def test_a_dtype_outside_the_format_is_not_written(tensor: Tensor) -> None:
    with pytest.raises(RefusedError) as caught:
        write_model({"w": tensor}, METADATA)
    assert caught.value.reason == "tensor-dtype"


def test_the_name_of_the_metadata_is_taken() -> None:
    with pytest.raises(RefusedError):
        write_model({"__metadata__": torch.ones(1)}, METADATA)


def test_errors_quote_no_value_of_a_tensor() -> None:
    with pytest.raises(RefusedError) as caught:
        write_model({"w": torch.tensor([12345.5, float("nan")])}, METADATA)
    assert "12345" not in str(caught.value)

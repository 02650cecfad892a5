"""What a model file must hold, by study alone."""

from __future__ import annotations

from typing import NamedTuple


class TensorSpec(NamedTuple):
    """Shape and dtype (`float32`, or `float64` for scores) of one tensor, and the dtype that files of before have, if that is another."""

    shape: tuple[int, ...]
    dtype: str
    older: str = ""

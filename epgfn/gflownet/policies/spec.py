"""What a model file must hold, by study alone."""

from __future__ import annotations

from typing import NamedTuple


class TensorSpec(NamedTuple):
    """Shape and dtype (`float32`) of one tensor."""

    shape: tuple[int, ...]
    dtype: str

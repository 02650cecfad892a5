"""Loops over numbers that are compiled on their first call, and kept compiled for the next process where a folder can be written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` of numpy arrays and numbers, without Python: other threads go on meanwhile."""
    try:
        return cast(Function, njit(function, cache=True, nogil=True))
    except RuntimeError:  # neither beside the source nor in the user's cache can anything be written
        return cast(Function, njit(function, nogil=True))

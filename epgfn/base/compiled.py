"""Loops over numbers that are compiled on their first call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """`function` of numpy arrays and numbers, without Python: other threads go on meanwhile.

    What is compiled is not kept for the next process: numba keeps it pickled, and no pickle is read here. Some seconds each time.
    """
    return cast(Function, njit(function, nogil=True))

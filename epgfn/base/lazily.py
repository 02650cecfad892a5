"""Modules that are imported when something of theirs is first used: those with compiled loops, whose compiler takes a second to load."""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Lazy:
    """Stands for the module of that name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self._name), name)

"""JSON with exactly one byte form, for everything that is signed or hashed.

The form: one line of UTF-8, keys sorted, no space, no NaN or infinity, nothing escaped that need not be. A
reader writes again what it has read and compares, so two different byte strings never mean the same thing.
"""

from __future__ import annotations

import json
from typing import Any, Final

from epgfn.base.errors import RefusedError

MAX_DEPTH: Final = 64
"""Lists and objects within one another: far more than anything signed here has, far less than any parser or writer can take."""


def canonical_json(obj: Any) -> bytes:
    """The canonical bytes of a JSON value; two equal values give the same bytes.

    Raises:
        ValueError: NaN, infinity, text that is not valid Unicode, or nested more than `MAX_DEPTH` deep.
        TypeError: something in `obj` is no JSON value (keys must be text).
    """
    _require_text_keys(obj)
    text = json.dumps(obj, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8")


def parse_canonical_json(raw: bytes) -> Any:
    """The value that `raw` is the canonical form of.

    Raises:
        RefusedError: "malformed": not JSON, a key given twice, NaN or infinity, nested more than `MAX_DEPTH` deep, or not the
            canonical form.
    """
    try:
        value = json.loads(raw.decode("utf-8"))
        same = canonical_json(value) == raw  # a key given twice, among others, does not come out twice
    except (ValueError, TypeError, RecursionError):
        # The cause may quote what it read, so it is not chained.
        raise RefusedError(
            "malformed", "the JSON text does not parse; ask its sender for an undamaged copy"
        ) from None
    if not same:
        raise RefusedError(
            "malformed",
            "the JSON text is not in canonical form (sorted keys, no spaces); ask its sender for the original",
        )
    return value


def parse_json(raw: bytes) -> Any:
    """A JSON value in whatever form others write it, but no key twice: of two, one reader takes the first and another the last.

    Raises:
        ValueError: it is no JSON, or says a key twice; nothing of it is quoted.
    """
    try:
        return json.loads(raw, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("not JSON, or a key is there twice") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _require_text_keys(obj: Any, left: int = MAX_DEPTH) -> None:
    # json.dumps would turn 1 and True into text without a word, and two keys could become one.
    if left < 0:
        raise ValueError("nested too deeply")
    if isinstance(obj, dict):
        for key, value in obj.items():
            if not isinstance(key, str):
                raise TypeError("every key of a JSON object must be text")
            _require_text_keys(value, left - 1)
    elif isinstance(obj, list | tuple):
        for value in obj:
            _require_text_keys(value, left - 1)

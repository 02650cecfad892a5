"""How the pages of a Parquet file are compressed, read from its footer without the library: a footer that somebody has made up can end the
library's process, or have it blow a kilobyte up to gigabytes.

The footer is FileMetaData in Thrift's compact protocol (https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md):
row_groups (4), of each columns (1), of each meta_data (3), of which codec (4).
"""

from __future__ import annotations

from typing import Any, Final

UNCOMPRESSED: Final = 0
SNAPPY: Final = 1
_MAGIC: Final = b"PAR1"
_MAX_DEPTH: Final = 16
_ROW_GROUPS, _COLUMNS, _META_DATA, _CODEC = 4, 1, 3, 4


def codecs(raw: bytes) -> set[int]:
    """The numbers of all compressions that a Parquet file's columns name.

    Raises:
        ValueError: it is no such file, or a column names none.
    """
    length = int.from_bytes(raw[-8:-4], "little")
    if raw[:4] != _MAGIC or raw[-4:] != _MAGIC or not 0 < length <= len(raw) - 12:
        raise ValueError("no table")
    footer = _Compact(raw[-8 - length : -8])
    try:
        groups = footer.struct()[_ROW_GROUPS]
        found = {column[_META_DATA][_CODEC] for group in groups for column in group[_COLUMNS]}
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError("no table") from None
    if not all(isinstance(codec, int) for codec in found):
        raise ValueError("no table")
    return found


class _Compact:
    """A reader of Thrift's compact protocol: structures as dictionaries by field number. IndexError where it ends too early."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """The fields up to the end of a structure.

        Raises:
            ValueError: nested too deeply, or of a type that there is not.
        """
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 15
            fields[number] = kind == 1 if kind in (1, 2) else self._value(kind, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("no table")
        match kind:
            case 1 | 2 | 3:  # true and false in lists, and bytes
                return self._byte()
            case 4 | 5 | 6:
                return self._signed()
            case 7:
                return self._bytes(8)
            case 8:
                return self._bytes(self._unsigned())
            case 9 | 10:
                return self._list(depth)
            case 12:
                return self.struct(depth)
        raise ValueError("no table")  # maps are in no Parquet footer

    def _list(self, depth: int) -> list[Any]:
        head = self._byte()
        count = head >> 4 if head >> 4 < 15 else self._unsigned()
        if count > len(self._raw) - self._at:  # each takes a byte at least
            raise ValueError("no table")
        return [self._value(head & 15, depth + 1) for _ in range(count)]

    def _byte(self) -> int:
        self._at += 1
        return self._raw[self._at - 1]

    def _bytes(self, count: int) -> bytes:
        if count > len(self._raw) - self._at:
            raise ValueError("no table")
        self._at += count
        return self._raw[self._at - count : self._at]

    def _unsigned(self) -> int:
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
            shift += 7
            if shift > 63:
                raise ValueError("no table")

    def _signed(self) -> int:
        value = self._unsigned()
        return (value >> 1) ^ -(value & 1)

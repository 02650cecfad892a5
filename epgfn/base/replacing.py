"""Several files of one directory replaced together: after a kill at any moment it has all of the old ones, or all of the new ones.

The new ones are written to a folder beside them, whose rename is the moment that counts. Whoever opens the directory next moves what is
still there, which needs no secret.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from epgfn.base import failpoints
from epgfn.base.errors import EpgfnError
from epgfn.base.files import sync_directory, write_secret

_BUILDING: Final = ".keys-building"
_WHOLE: Final = ".keys-replacing"


def replace_together(root: Path, files: Mapping[Path, bytes]) -> None:
    """Replace each of `files`, paths below `root`, by its new bytes, mode 0600. Hold the directory's lock.

    Raises:
        EpgfnError: a file cannot be written; nothing was changed, or all will be by `finish_replacing`.
    """
    finish_replacing(root)
    building = root / _BUILDING
    try:
        shutil.rmtree(building, ignore_errors=True)  # of a process that was killed before it counted
        building.mkdir(mode=0o700)
        for path, raw in files.items():
            new = building / path.relative_to(root)
            new.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_secret(new, raw)
        for folder in (building, *(path for path in building.rglob("*") if path.is_dir())):
            sync_directory(folder)
        failpoints.at("rename", root / _WHOLE)
        os.rename(building, root / _WHOLE)
        sync_directory(root)
        failpoints.at("renamed", root / _WHOLE)
    except OSError as error:
        raise EpgfnError(
            f"cannot write in {root}: {error.strerror or 'input/output error'}; nothing was changed, free some space and run it again"
        ) from None
    finish_replacing(root)


def finish_replacing(root: Path) -> None:
    """Do what is left of a replacement that counts, if anything is.

    Raises:
        EpgfnError: a file cannot be moved.
    """
    whole = root / _WHOLE
    if not whole.is_dir():
        return
    try:
        for new in sorted(path for path in whole.rglob("*") if path.is_file()):
            place = root / new.relative_to(whole)
            failpoints.at("rename", place)
            with contextlib.suppress(FileNotFoundError):  # another process does the same
                os.replace(new, place)
            failpoints.at("renamed", place)
            sync_directory(place.parent)
        shutil.rmtree(whole, ignore_errors=True)
        sync_directory(root)
    except OSError as error:
        raise EpgfnError(
            f"cannot finish what was begun in {whole}: {error.strerror}; check the folder's permissions"
        ) from None

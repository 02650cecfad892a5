"""Kinds of somebody else's: a package with an entry point of the group `epgfn.kinds`, named as the kind, whose object is a `Kind`.

Such code trains on records and decides what a study's objects mean. So it is loaded only where the study, which all parties accept by its
digest, names package and exact version, and where its operator installed just that.
"""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from epgfn.study.kinds.base import Kind

GROUP = "epgfn.kinds"
_REQUIREMENT = re.compile(r"([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)==([A-Za-z0-9][A-Za-z0-9.!+_-]*)")


def named(package: str) -> tuple[str, str]:
    """Name and version in `package`.

    Raises:
        ValueError: it is not of the form NAME==VERSION.
    """
    found = _REQUIREMENT.fullmatch(package)
    if found is None:
        raise ValueError(
            f'space.package is {package!r}; name the package with its exact version, as in package = "epgfn-ring==1.0"'
        )
    return found[1], found[2]


@lru_cache
def foreign_kind(kind: str, package: str) -> Kind:
    """The kind of that name, from exactly that `package`.

    Raises:
        ValueError: it is not installed, not in that version, has no such kind, or is of no use.
    """
    name, version = named(package)
    found = _installed(name, version)
    points = [point for point in found.entry_points if point.group == GROUP and point.name == kind]
    if len(points) != 1:
        raise ValueError(
            f"package {name} {version} has no kind '{kind}' (entry point group {GROUP}); correct space.kind or space.package"
        )
    try:
        loaded = points[0].load()
    except Exception as error:  # somebody else's code: whatever it raises, the study cannot be read
        raise ValueError(
            f"kind '{kind}' of package {name} {version} cannot be loaded ({type(error).__name__}); ask those who made it"
        ) from None
    if not isinstance(loaded, Kind) or loaded.name != kind:
        raise ValueError(
            f"what package {name} {version} offers as kind '{kind}' is no epgfn.study.kinds.Kind of that name; ask those who made it"
        )
    return loaded


def _installed(name: str, version: str) -> Distribution:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise ValueError(
            f"the study runs code of package {name} {version}, which is not installed here; find out what it does, and if you agree "
            f"install exactly {name}=={version}"
        ) from None
    if found.version != version:
        raise ValueError(
            f"the study runs code of package {name} {version}, and installed here is {found.version}; install exactly {name}=={version}"
        )
    return found

"""in-toto Statement v1 in canonical JSON: which files (by SHA-256) and what is claimed of them.

    {"_type":"https://in-toto.io/Statement/v1","predicate":{…},"predicateType":"urn:epgfn:upload:v1",
     "subject":[{"digest":{"sha256":"…"},"name":"model.sealed"}]}

Subjects are sorted by name. The predicate must fit the model of its type in `predicates.py`; both hold when a
statement is made and when one is read, so nothing malformed is ever signed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, ValidationError

from epgfn.base.canonical import canonical_json, parse_canonical_json
from epgfn.base.errors import RefusedError
from epgfn.sealing.predicates import (
    GLOBAL,
    PREDICATES,
    ROUND,
    STUDY,
    UPLOAD,
    AggregatedUpload,
    CheckpointRef,
    GlobalPredicate,
    Predicate,
    RoundPredicate,
    StudyPredicate,
    UploadPredicate,
)

__all__ = [
    "GLOBAL",
    "ROUND",
    "STUDY",
    "UPLOAD",
    "AggregatedUpload",
    "CheckpointRef",
    "GlobalPredicate",
    "Predicate",
    "RoundPredicate",
    "Statement",
    "StudyPredicate",
    "UploadPredicate",
    "make_statement",
    "parse_statement",
    "predicate_of",
]

TYPE: Final = "https://in-toto.io/Statement/v1"
MAX_BYTES: Final = 1 << 20

_SHA256 = re.compile(r"[0-9a-f]{64}")
_MAX_SUBJECTS = 1024
_MAX_NAME = 255

P = TypeVar("P", bound=BaseModel)


class Statement(NamedTuple):
    """A statement that was read: name → SHA-256 in hexadecimal of each subject, and the predicate as plain JSON."""

    subjects: dict[str, str]
    predicate_type: str
    predicate: dict[str, Any]


def make_statement(
    subjects: Mapping[str, str], predicate_type: str, predicate: Mapping[str, Any] | Predicate
) -> bytes:
    """The canonical bytes of a statement, ready to sign.

    Raises:
        RefusedError: "malformed": no subject, a digest that is none, an unknown predicate type, or a predicate that
            does not fit its type.
    """
    plain = predicate.model_dump(mode="json") if isinstance(predicate, BaseModel) else dict(predicate)
    payload = canonical_json(
        {
            "_type": TYPE,
            "subject": [{"name": name, "digest": {"sha256": subjects[name]}} for name in sorted(subjects)],
            "predicateType": predicate_type,
            "predicate": plain,
        }
    )
    parse_statement(payload)
    return payload


def parse_statement(payload: bytes) -> Statement:
    """Read the payload of a bundle that was verified.

    Raises:
        RefusedError: "malformed": any other than the canonical form, another `_type`, an unknown predicate type, a
            field missing or too many, or a value of the wrong form.
    """
    if len(payload) > MAX_BYTES:
        raise _malformed("is larger than 1 MiB")
    value = parse_canonical_json(payload)
    if not isinstance(value, dict) or set(value) != {"_type", "subject", "predicateType", "predicate"}:
        raise _malformed("does not have exactly the four fields of an in-toto statement")
    if value["_type"] != TYPE:
        raise _malformed(f"is not of type {TYPE}")
    if not isinstance(value["predicateType"], str) or not isinstance(value["predicate"], dict):
        raise _malformed("has no predicate")
    statement = Statement(_subjects(value["subject"]), value["predicateType"], value["predicate"])
    model = PREDICATES.get(statement.predicate_type)
    if model is None:
        raise _malformed("has a predicate type that this version does not know")
    _validated(statement, model)
    return statement


def predicate_of(statement: Statement, model: type[P]) -> P:
    """The predicate as the `model` the caller expects, such as `UploadPredicate`.

    Raises:
        RefusedError: "malformed": the statement is of another predicate type.
    """
    if PREDICATES.get(statement.predicate_type) is not model:
        raise _malformed(f"is not of the expected kind ({model.__name__})")
    return _validated(statement, model)


def _subjects(value: Any) -> dict[str, str]:
    if not isinstance(value, list) or not 0 < len(value) <= _MAX_SUBJECTS:
        raise _malformed("names no subject")
    result: dict[str, str] = {}
    for item in value:
        match item:
            case {"name": str(name), "digest": {"sha256": str(digest), **others}, **more} if (
                not others and not more and 0 < len(name) <= _MAX_NAME and _SHA256.fullmatch(digest)
            ):
                result[name] = digest
            case _:
                raise _malformed("has a subject that is not a name and one SHA-256 digest")
    if len(result) != len(value) or list(result) != sorted(result):
        raise _malformed("does not list its subjects once each, sorted by name")
    return result


def _validated(statement: Statement, model: type[P]) -> P:
    try:
        return model.model_validate_json(canonical_json(statement.predicate))
    except ValidationError as error:
        # Only the place: the value may be anything.
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "its fields do not fit each other"
        if first["type"] == "extra_forbidden":  # its name is the sender's own text
            place = "a field that does not belong there"
    raise _malformed(f"has a predicate that does not fit its type ({place})")


def _malformed(what: str) -> RefusedError:
    return RefusedError(
        "malformed", f"the statement {what}; ask its sender to sign it again with this version"
    )

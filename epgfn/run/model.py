"""The model in a run directory, or in a file of its own."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from safetensors import SafetensorError
from safetensors.torch import load

from epgfn.base.canonical import parse_json
from epgfn.base.errors import RefusedError, UsageError
from epgfn.learn.model import Model
from epgfn.learn.policy import largest_bytes
from epgfn.learn.trust import Basis
from epgfn.run import layout
from epgfn.run.lacking import took_part
from epgfn.run.layout import RunLayout
from epgfn.run.participant import run_directory
from epgfn.run.published import NO_SUMMARY, read_signed, signed, signed_summary
from epgfn.run.summary import SAMPLES_FROM
from epgfn.sealing.model_header import MAX_HEADER_BYTES
from epgfn.study import Study
from epgfn.study.lacks import cautious


def load_model(path: Path | str, study: Study | Path | str | None = None) -> Model:
    """The model at `path`: a run directory (with `study.toml` and `global/model.safetensors`), the home of a node that has fetched one, or
    a model file.

    A model file needs its `study`, as an object or a path, unless `study.toml` lies beside it or one directory up.

    A file that names a study in its metadata, as all that parties exchange do, must name this one: tensors alone would
    also fit a study whose variables stand in another order. Of a run directory it has to be the file that the coordinator signed, where it
    is signed; whose key that is and all else `epgfn audit` checks.

    Raises:
        UsageError: a file is missing or is no model file.
        RefusedError: the file holds no policy of the study, names another one, or is not the one that was signed.
    """
    path = run_directory(Path(path))
    file = RunLayout(path).model if path.is_dir() else path
    if study is None:
        study = _study_beside(file)
    if not isinstance(study, Study):
        study = Study.load(study)
    # Numbers may be wider in other people's files; beyond that nothing is a policy of the study.
    limit = 2 * largest_bytes(study) + MAX_HEADER_BYTES + 8
    raw = read_signed(file, "model file", limit, signed(path) if path.is_dir() else None)
    if len(raw) > limit:
        raise RefusedError("malformed", f"{file} is larger than any model of its study")
    try:
        tensors = load(raw)
    except (SafetensorError, ValueError, KeyError):
        raise UsageError(
            f"{file} is not a safetensors model file; give the run directory or its global/model.safetensors"
        ) from None
    if _study_named(raw) not in (None, study.digest):
        raise RefusedError(
            "wrong-study",
            f"{file} was made for another study than the one at hand, whose digest is {study.digest}; use its own study.toml",
        )
    return Model(study, tensors)


def drawn_from(run_dir: Path) -> tuple[Basis, str | None]:
    """What objects of a run's global model are to be drawn from, as its signed summary has it, and the verdict of the model's own; `None`
    where there is no summary, or an earlier version did not sign it.

    Raises:
        UsageError: the summary is none. RefusedError: it is not the one that the coordinator signed with this model.
    """
    summary, path = signed_summary(run_dir), RunLayout(run_dir).summary
    if summary is None:
        return "samples", None
    try:
        trust = summary["diagnostics"].get("trust") or {}
        verdict, basis = trust.get("verdict"), summary.get(SAMPLES_FROM, "samples")
        if basis not in get_args(Basis):
            raise ValueError(basis)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(NO_SUMMARY.format(path)) from None
    study = Study.load(RunLayout(run_dir).study)
    return basis, None if verdict is None else cautious(study, str(verdict), took_part(study, summary))


def _study_named(raw: bytes) -> str | None:
    """The study's digest in the metadata of a safetensors file that was read; None if there is none."""
    length = int.from_bytes(raw[:8], "little")
    metadata = parse_json(raw[8 : 8 + length]).get("__metadata__", {})
    digest: str | None = metadata.get("study_digest")
    return digest


def _study_beside(file: Path) -> Path:
    for folder in (file.parent, file.parent.parent):
        if (folder / layout.STUDY).is_file():
            return folder / layout.STUDY
    raise UsageError(
        f"no {layout.STUDY} lies beside {file} or one directory up; name the study it was trained for"
    )

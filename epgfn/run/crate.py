"""A run directory as a Five Safes RO-Crate: one ZIP file of a BagIt bag, with who checked and approved what in terms that archives read.

    bag/{bagit.txt, bag-info.txt, manifest-sha512.txt, tagmanifest-sha512.txt}
    bag/data/ro-crate-metadata.json
    bag/data/run/…                    the run directory as it is: `epgfn audit bag/data/run`

After https://w3id.org/5s-crate/0.4 and RO-Crate 1.2. docs/formats/run-directory.md says where it departs from the profile. Nothing in the
metadata is signed: what counts are the signed files that it describes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import uuid
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from epgfn.base.errors import EpgfnError, RefusedError, UsageError
from epgfn.base.files import read_bytes
from epgfn.run.audit.aggregates import live, published
from epgfn.run.audit.audit import MAX_SMALL_BYTES, About, audit_run
from epgfn.run.layout import SEALED, STUDY, UPLOAD_BUNDLE, UPLOADS, RunLayout
from epgfn.sealing.bundle import verify_bundle
from epgfn.sealing.keys import VerifyKey
from epgfn.sealing.predicates import UploadPredicate
from epgfn.sealing.statement import parse_statement, predicate_of

PROFILE: Final = "https://w3id.org/5s-crate/0.4"
RO_CRATE: Final = "https://w3id.org/ro/crate/1.2"
METADATA: Final = "ro-crate-metadata.json"
BAG, RUN = "bag", "run"
_COMPLETED: Final = "http://schema.org/CompletedActionStatus"
_SHP: Final = "https://w3id.org/shp#"
_TYPES: Final = {
    ".json": "application/json",
    ".toml": "application/toml",
    ".pem": "application/x-pem-file",
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html",
    ".png": "image/png",
}

Entity = dict[str, Any]


def pack(run_dir: Path, out: Path) -> None:
    """Write the crate of the run directory `run_dir` to the file `out`, whole or not at all.

    Raises:
        UsageError: `out` is there already.
        RefusedError: "audit": the run directory does not pass its audit.
        EpgfnError: it cannot be read or written.
    """
    if out.exists():
        raise UsageError(f"{out} exists already; choose another name for the crate")
    report = audit_run(run_dir)
    if not report.ok or report.about is None:
        raise RefusedError(
            "audit",
            f"{run_dir} does not pass its audit, so it is not packed; look with: epgfn audit {run_dir}",
        )
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    files = sorted(path.relative_to(run_dir).as_posix() for path in run_dir.rglob("*") if path.is_file())
    metadata = metadata_of(run_dir, report.about, files, now)
    building = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        _write(building, run_dir, files, metadata, report.about, now)
        os.replace(building, out)
    except OSError as error:
        raise EpgfnError(
            f"cannot write {out}: {error.strerror}; free some space or choose another name"
        ) from None
    finally:
        with contextlib.suppress(OSError):
            building.unlink()


def metadata_of(run_dir: Path, about: About, files: list[str], now: str) -> Entity:
    """The JSON-LD of an audited run directory's crate."""
    study, manifest = about.study, about.manifest
    project, coordinator, run, audit = "#study", "#coordinator", "#round", "#audit"
    approvals, people = _approvals(run_dir, about)
    results = [f"{RUN}/{path}" for path in files if path.startswith("global/")]
    nodes: list[Entity] = [
        {"@id": f"#node-{node}", "@type": "Organization", "name": f"node {node}"}
        for node in sorted(study.roster)
    ]
    mentioned = [run, audit, *(entity["@id"] for entity in approvals)]
    graph: list[Entity] = [
        {"@id": METADATA, "@type": "CreativeWork", "about": {"@id": "./"}, "conformsTo": {"@id": RO_CRATE}},
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"Federated study {study.name}, round {manifest.round_id}",
            "description": "The run directory of a federated Bayesian study: signed study, sealed models of the nodes, transparency log, "
            "and, where the round has one, the common result. Checked by: epgfn audit run",
            "conformsTo": {"@id": PROFILE},
            "datePublished": now,
            "license": {"@id": "#conditions"},
            "publisher": {"@id": coordinator},
            "identifier": study.digest,
            "hasPart": [{"@id": f"{RUN}/"}],
            "mainEntity": {"@id": f"{RUN}/{STUDY}"},
            "mentions": [{"@id": each} for each in mentioned],
            "sourceOrganization": {"@id": project},
        },
        {"@id": PROFILE, "@type": "Profile", "name": "Five Safes RO-Crate profile"},
        {
            "@id": "#conditions",
            "@type": "CreativeWork",
            "name": "Conditions of the study",
            "description": "What the institutions that take part have agreed on; this file grants no right.",
        },
        {"@id": project, "@type": "Project", "name": study.name, "identifier": study.digest, "member": [{"@id": n["@id"]} for n in nodes]},
        *nodes,
        {"@id": coordinator, "@type": "Organization", "name": f"coordinator, key {about.coordinator}", "memberOf": {"@id": project}},
        {"@id": "#epgfn", "@type": "SoftwareApplication", "name": "epgfn", "provider": {"@id": coordinator}},
        {
            "@id": run,
            "@type": "CreateAction",
            "name": f"Round {manifest.round_id}",
            "actionStatus": _COMPLETED if published(about.entries) else "http://schema.org/FailedActionStatus",
            "agent": {"@id": coordinator},
            "instrument": [{"@id": f"{RUN}/{STUDY}"}, {"@id": "#epgfn"}],
            "object": [{"@id": f"{RUN}/{UPLOADS}/{node}/{SEALED}"} for node in _sent(about)],
            "result": [{"@id": each} for each in results],
        },
        {
            "@id": audit,
            "@type": "AssessAction",
            "additionalType": {"@id": f"{_SHP}CheckValue"},
            "name": "Signatures, ledger and result checked by epgfn audit: passed",
            "endTime": now,
            "object": {"@id": "./"},
            "instrument": {"@id": "#epgfn"},
            "agent": {"@id": "#epgfn"},
            "actionStatus": _COMPLETED,
        },
        *approvals,
        *people,
        {"@id": f"{RUN}/", "@type": "Dataset", "name": "Run directory", "hasPart": [{"@id": quote(f"{RUN}/{path}")} for path in files]},
        *(_file(run_dir, path) for path in files),
    ]  # fmt: skip
    return {"@context": f"{RO_CRATE}/context", "@graph": graph}


def _sent(about: About) -> list[str]:
    return sorted(entry.node_id for entry in live(about.entries).values())


def _approvals(run_dir: Path, about: About) -> tuple[list[Entity], list[Entity]]:
    """One disclosure check for each model that counts, by whom its node names, and these persons."""
    checks: list[Entity] = []
    people: dict[str, Entity] = {}
    for node in _sent(about):
        folder = RunLayout(run_dir).upload(node)
        key = VerifyKey.from_pem(read_bytes(RunLayout(run_dir).node_key(node), "node's key", MAX_SMALL_BYTES))
        bundle = read_bytes(folder / UPLOAD_BUNDLE, "node's statement", MAX_SMALL_BYTES)
        said = predicate_of(parse_statement(verify_bundle(bundle, key)), UploadPredicate)
        agents = []
        for k, approver in enumerate(said.approval.by if said.approval else ()):
            name, _, role = approver.partition(", ")
            person = f"#approver-{node}-{k + 1}"
            people[person] = {
                "@id": person,
                "@type": "Person",
                "name": name,
                "jobTitle": role,
                "affiliation": {"@id": f"#node-{node}"},
            }
            agents.append(person)
        checks.append(
            {
                "@id": f"#disclosure-{node}",
                "@type": "AssessAction",
                "additionalType": {"@id": f"{_SHP}DisclosureCheck"},
                "name": f"Release of the model of {node}: approved, as its signed statement says"
                + ("" if agents else "; nobody is named"),
                "object": [{"@id": f"{RUN}/{UPLOADS}/{node}/{SEALED}"}, {"@id": f"{RUN}/{UPLOADS}/{node}/{UPLOAD_BUNDLE}"}],
                "agent": [{"@id": each} for each in agents or [f"#node-{node}"]],
                "actionStatus": _COMPLETED,
            }
        )  # fmt: skip
    return checks, list(people.values())


def _file(run_dir: Path, path: str) -> Entity:
    entity: Entity = {
        "@id": quote(f"{RUN}/{path}"),
        "@type": "File",
        "name": path,
        "contentSize": str((run_dir / path).stat().st_size),
        "sha256": _digest(run_dir / path, "sha256"),
    }
    kind = _TYPES.get(Path(path).suffix)
    return entity | ({"encodingFormat": kind} if kind else {})


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, algorithm).hexdigest()


def _write(target: Path, run_dir: Path, files: list[str], metadata: Entity, about: About, now: str) -> None:
    described = (json.dumps(metadata, indent=2, ensure_ascii=False) + "\n").encode("utf-8")
    sums = {f"data/{METADATA}": hashlib.sha512(described).hexdigest()}
    sums |= {f"data/{RUN}/{path}": _digest(run_dir / path, "sha512") for path in files}
    size = len(described) + sum((run_dir / path).stat().st_size for path in files)
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"urn:epgfn:{about.study.digest}:{about.manifest.round_id}")
    tags = {
        "bagit.txt": "BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": f"External-Identifier: urn:uuid:{name}\nBagging-Date: {now[:10]}\nPayload-Oxum: {size}.{len(sums)}\n"
        f"BagIt-Profile-Identifier: https://w3id.org/ro/bagit/profile\n",
        "manifest-sha512.txt": "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items())),
    }
    tags["tagmanifest-sha512.txt"] = "".join(
        f"{hashlib.sha512(text.encode('utf-8')).hexdigest()}  {tag}\n" for tag, text in sorted(tags.items())
    )
    with zipfile.ZipFile(target, "x", zipfile.ZIP_DEFLATED) as archive:
        for tag, text in tags.items():
            archive.writestr(f"{BAG}/{tag}", text)
        archive.writestr(f"{BAG}/data/{METADATA}", described)
        for path in files:
            archive.write(run_dir / path, f"{BAG}/data/{RUN}/{path}")

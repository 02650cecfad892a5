"""Options that several commands of `epgfn-node` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Home = Annotated[Path, typer.Option("--home", help="This node's directory.")]
Data = Annotated[Path | None, typer.Option("--data", help="Your records, CSV or Parquet. They never leave.")]
Events = Annotated[bool, typer.Option("--events", help="Print progress as one JSON object per line.")]
Accept = Annotated[
    str | None,
    typer.Option("--accept-study", metavar="DIGEST", help="Digest of the study you have read and accept."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, max=(1 << 31) - 1, help="Seed of the training.")]
SmallCounts = Annotated[
    bool,
    typer.Option(
        "--accept-small-counts",
        help="Let a model of categories leave that tells counts below ten; asked once for a study.",
    ),
]
Statistic = Annotated[
    bool,
    typer.Option(
        "--accept-statistic",
        help="Let a statistic of the records leave beside the model, where all sites share their parameters; asked once for a study.",
    ),
]
Budget = Annotated[
    float | None,
    typer.Option(
        "--privacy-budget",
        metavar="EPSILON",
        help="The most that all releases on these records together may spend, under differential privacy.",
    ),
]
Device = Annotated[
    str, typer.Option("--device", help="Where to train: cpu, cuda, or a particular GPU such as cuda:1.")
]
ToFile = Annotated[
    Path | None,
    typer.Option(
        "--to-file",
        metavar="LETTER",
        help="Where there is no network: write a letter to be carried to the coordinator, and connect to nobody.",
    ),
]
SentEarlier = Annotated[
    str | None,
    typer.Option(
        "--sent-earlier",
        metavar="SHA256",
        help="Digest of what this node sent under keys that were revoked since.",
    ),
]
MlDsa = Annotated[
    bool,
    typer.Option(
        "--ml-dsa",
        help="Sign with ML-DSA-65 too, beside P-256, so that neither alone is enough; Sigstore's tools then need epgfn inspect --sigstore.",
    ),
]
DEFAULT_HOME = Path("node-home")

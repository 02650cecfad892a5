"""Options that several commands of `epgfn-coordinator` have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[Path, typer.Option("--home", help="Directory of this coordinator.")]
DEFAULT_HOME = Path("coordinator-home")
StudyOption = Annotated[
    str | None,
    typer.Option(
        "--study",
        metavar="NAME",
        help="Which round, where the home holds several; `epgfn-coordinator rounds` lists them.",
    ),
]
MlDsa = Annotated[
    bool,
    typer.Option(
        "--ml-dsa",
        help="Sign with ML-DSA-65 too, beside P-256, so that neither alone is enough; Sigstore's tools then need epgfn inspect --sigstore.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object for programs.")]

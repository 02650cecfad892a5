"""ArviZ's InferenceData in netCDF: each edge or marginal of objects that are drawn as published, as 0 or 1."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from epgfn.run.exports.options import Options

if TYPE_CHECKING:
    from epgfn.run.result import RunResult

MOST_DRAWS = 4000
"""As many as say all that chance lets them; each is V x V bytes."""


def arviz_file(run: RunResult, options: Options) -> bytes:
    """What `RunResult.to_inference_data` gives, in four chains.

    Raises:
        UsageError: ArviZ, which is optional, is not installed.
    """
    found = run.to_inference_data(min(options.draws, MOST_DRAWS), options.seed)
    found.posterior.attrs.update(study=run.study.name, study_digest=run.study.digest)
    if run.caveat:
        found.posterior.attrs.update(caveat=run.caveat)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "draws.nc"
        found.to_netcdf(str(path))
        return path.read_bytes()

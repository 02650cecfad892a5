"""Tools that we did not write. A test that needs one is skipped where it is not there, unless `make outside` asks for all of them: then it
fails."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

REQUIRED: Final = os.environ.get("EPGFN_OUTSIDE") == "required"
"""Whether a tool that is missing is a failure."""
_OWN: Final = Path(__file__).parents[2] / ".venv-model-signing" / "bin" / "model_signing"
_PGMPY: Final = Path(__file__).parents[2] / ".venv-pgmpy" / "bin" / "python"
PGMPY_PYTHON: Final = os.environ.get("EPGFN_PGMPY_PYTHON") or (str(_PGMPY) if _PGMPY.exists() else None)
"""A Python that has pgmpy, in an environment of its own, as it brings much that nothing else here needs."""
MODEL_SIGNING: Final = os.environ.get("EPGFN_MODEL_SIGNING") or (
    str(_OWN) if _OWN.exists() else shutil.which("model_signing")
)
"""OpenSSF's command, in an environment of its own, which `make outside` makes: it brings other versions of what we use."""

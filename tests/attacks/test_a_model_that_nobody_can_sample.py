"""Promise: what passes the audit is a model. The coordinator signs numbers that `epgfn sample` refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from attacks import closing, refusal
from epgfn.base.errors import RefusedError
from epgfn.run.model import load_model


@pytest.mark.parametrize("value", [3e38, 1.0], ids=["weights of 3e38", "a variable as its own parent"])
def test_a_signed_model_that_sampling_refuses_is_refused_with_the_same_words(
    tmp_path: Path, value: float
) -> None:
    run = closing(tmp_path / "run")
    run.made = run.model("global", value)
    run.close()
    root = run.finish()
    with pytest.raises(RefusedError) as refused:
        load_model(root)
    assert refusal(root) == ("global", str(refused.value))

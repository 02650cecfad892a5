"""Promise: the coordinator does not choose the seed. It trains with several and signs the result that it likes best."""

from __future__ import annotations

from pathlib import Path

from attacks import closing, refusal


def test_a_global_model_of_another_seed_than_the_studys_is_refused(tmp_path: Path) -> None:
    run = closing(tmp_path / "run")
    run.close(seed=run.study.seed + 1)
    check, said = refusal(run.finish())
    assert check == "global" and "wrong seed (it is not the study's)" in said

"""Every kind of epgfn keeps what epgfn asks of a kind; and reading a study is light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from epgfn.base.errors import UsageError
from epgfn.study import Study
from epgfn.study.kinds import KINDS
from epgfn.testing import check_kind
from kinds import TEXTS

MULTISET = Path(__file__).parents[2] / "examples" / "multiset" / "study.toml"


@pytest.mark.usefixtures("seeded_noise")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_goes_from_file_to_report_with_privacy_and_planning(kind: str, tmp_path: Path) -> None:
    check_kind(KINDS[kind], tmp_path)


def test_reading_a_study_does_not_import_torch() -> None:
    code = f"import sys; from epgfn.study import Study; Study.load({str(MULTISET)!r}).caution; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def test_a_setting_of_another_target_is_refused() -> None:
    text = TEXTS["multiset"].replace("signal = 0.4", "signal = 0.4\nsigma = 2.0", 1)
    with pytest.raises(UsageError, match=r"target\.sigma has no meaning for target 'items'"):
        Study.from_bytes(text.encode())


def test_numbers_out_of_range_name_their_table() -> None:
    text = TEXTS["multiset"].replace("size = 4", "size = 0", 1)
    with pytest.raises(UsageError, match=r"space\.size"):
        Study.from_bytes(text.encode())

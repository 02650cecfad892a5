"""What is read out of MrBayes' files of trees, and that listed columns name the same splits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from epgfn.bench.scripts.unrooted_trees import keys, nexus, of_equal_branches, sides, study_of, supports
from epgfn.study.records.alignments import Alignment

CODES = torch.tensor([[1, 2, 15], [1, 2, 4], [8, 2, 4], [8, 1, 4], [8, 1, 5]], dtype=torch.uint8)
ALIGNMENT = Alignment(tuple("abcde"), CODES)


def test_inner_branches_of_a_tree_are_what_stands_between_brackets() -> None:
    assert sides("(2:1.0e-02,(4:.1,(5:2.0e-02,3:1):1.5):.3,1:0.1);") == {0b11100, 0b10100}
    assert sides("((10,2),3,(1,4));") == {0b1000000010, 0b1001}


def test_supports_are_shares_after_the_burn_in(tmp_path: Path) -> None:
    lines = [
        f"   tree gen.{i} = [&U] {tree};" for i, tree in enumerate(["(1,3,2)"] + ["((1,2),3,(4,5))"] * 3)
    ]
    path = tmp_path / "out.run1.t"
    path.write_text("#NEXUS\nbegin trees;\n" + "\n".join(lines) + "\nend;\n")
    assert supports(path, 1 << 4) == pytest.approx({0b00011: 1.0, 0b00111: 1.0})


def test_equal_branches_answer_the_same_questions() -> None:
    study = study_of(ALIGNMENT, hky=False)
    names = keys(study)
    assert names["{a, b}"] == 0b00011 and names["{d, e}"] == 0b00111 and len(names) == 10
    found = of_equal_branches(study, ALIGNMENT)
    assert found.keys() == names.keys() and sum(found.values()) == pytest.approx(2)  # inner branches
    assert "t0 ACN\n" in nexus(ALIGNMENT) and "t4 TAR\n" in nexus(ALIGNMENT)

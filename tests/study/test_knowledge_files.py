"""bnlearn's lists and pgmpy's `ExpertKnowledge`: there and back, and what is wrong with a list is said."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from epgfn.base.console import run_app
from epgfn.base.errors import UsageError
from epgfn.cli.main import app
from epgfn.study import Study
from epgfn.study.knowledge import knowledge_of
from epgfn.study.knowledge_files import (
    expert_settings,
    forbidden_edges,
    in_toml,
    prior_of_expert,
    prior_of_lists,
    read_edges,
    required_edges,
    write_edges,
)

NAMES = ("age", "sex", "bmi", "hba1c, %")
_VARIABLES = ", ".join(f'{{name = "{name}", centre = 0, scale = 1}}' for name in NAMES)


def study(prior: str) -> Study:
    return Study.from_bytes(f'name = "t"\nroster = ["a"]\nvariables = [{_VARIABLES}]\n{prior}'.encode())


@settings(max_examples=60, deadline=None)
@given(
    st.sets(
        st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda e: e[0] != e[1]), max_size=11
    )
)
def test_lists_of_edges_become_a_prior_that_says_the_same(forbidden: set[tuple[str, str]]) -> None:
    made = prior_of_lists(NAMES, [], forbidden)
    assert set(forbidden_edges(study(in_toml(made)))) == forbidden
    assert len(made.get("forbidden", ())) <= len(forbidden)
    back = SimpleNamespace(**expert_settings(study(in_toml(made))))
    assert prior_of_expert(NAMES, back) == made


def test_all_edges_of_a_variable_are_said_once() -> None:
    made = prior_of_lists(NAMES, [("age", "bmi")], [(name, "age") for name in NAMES if name != "age"])
    assert made == {"forbidden": [["*", "age"]], "required": [["age", "bmi"]]}


def test_what_pgmpy_knows_more_of() -> None:
    """A temporal order, and a search space outside which there is no edge."""
    expert = SimpleNamespace(
        forbidden_edges=None,
        required_edges={("age", "bmi")},
        temporal_order=[["sex", "age"], {"bmi"}],
        search_space={("age", "bmi"), ("sex", "bmi"), ("bmi", "hba1c, %")},
    )
    found = knowledge_of(study(in_toml(prior_of_expert(NAMES, expert))))
    assert found is not None and found.required == {(0, 2)}
    allowed = {(i, j) for i in range(4) for j in range(4) if i != j} - set(found.barred)
    assert allowed == {(0, 2), (1, 2), (2, 3)}


def test_files_as_r_writes_them(tmp_path: Path) -> None:
    path = tmp_path / "black.csv"
    path.write_text('"","from","to"\n"1","age","hba1c, %"\n"2","bmi","age"\n\n', encoding="utf-8-sig")
    assert read_edges(path) == [("age", "hba1c, %"), ("bmi", "age")]
    write_edges(path, [("age", "hba1c, %")])
    assert path.read_text() == 'from,to\nage,"hba1c, %"\n'
    assert read_edges(path) == [("age", "hba1c, %")]


@pytest.mark.parametrize(
    ("text", "why"), [("a,b\n1,2\n", "no columns"), ("from,to\nage\n", "row 2"), ("", "no columns")]
)
def test_what_is_no_list_is_refused(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=why):
        read_edges(path)
    with pytest.raises(UsageError, match="did you mean 'age'"):
        prior_of_lists(NAMES, [("aeg", "sex")], [])


def test_the_command_reads_lists_and_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, white, black = (tmp_path / name for name in ("study.toml", "white.csv", "black.csv"))
    path.write_bytes(study('[prior]\ntiers = [["age", "sex"], ["bmi"]]\nrequired = [["age", "bmi"]]').raw)

    def said(*more: object) -> str:
        with pytest.raises(SystemExit) as ended:
            run_app(app, "epgfn", ["study", "knowledge", str(path), *map(str, more)])
        assert ended.value.code in (0, None)
        return capsys.readouterr().out

    assert "required: age -> bmi\nruled out: bmi -> age\nruled out: bmi -> sex\n" in said()
    assert said("--to-whitelist", white, "--to-blacklist", black) == f"{white}: 1 edge\n{black}: 2 edges\n"
    printed = said("--whitelist", white, "--blacklist", black)
    again = study(printed)
    assert required_edges(again) == [("age", "bmi")]
    assert forbidden_edges(again) == [("bmi", "age"), ("bmi", "sex")]

"""Promise: a reader of a study, an invitation or a report knows which name is meant. Somebody has two variables, categories, taxa, arms or
nodes that people cannot tell apart, or one whose name holds what nobody sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from epgfn.base.console import run_app
from epgfn.base.errors import UsageError
from epgfn.cli.main import app
from epgfn.sealing.predicates import Approval, person_of
from epgfn.study import Study
from epgfn.study.check import check_study
from epgfn.study.new import require_new
from epgfn_coordinator.home import Config, Home
from epgfn_coordinator.initialise import initialise
from epgfn_node.home import NodeHome
from epgfn_node.study import accept_study
from small import SMALL_STUDY

CYRILLIC_A = "\u0430"


def study(**changes: object) -> Study:
    return Study.from_bytes(SMALL_STUDY.encode()).with_changes(changes)


def named(*names: str) -> Study:
    return study(variables=[{"name": name, "centre": 0.0, "scale": 1.0} for name in names])


def of_categories(*values: str) -> Study:
    two = [{"name": name, "categories": list(values)} for name in ("x", "y", "z")]
    return study(variables=two, target={"kind": "bdeu"})


def with_arms(*arms: str) -> Study:
    return study(design={"column": "arm", "sets": {arm: ["a"] for arm in arms}})


def taxa(*names: str) -> Study:
    text = f'name = "t"\nroster = ["a", "b"]\nvariables = [{", ".join(f"{{name = {chr(34)}{n}{chr(34)}}}" for n in names)}]\n'
    return Study.from_bytes(f'{text}[space]\nkind = "phylogeny"\n'.encode())


REFUSED = {
    "variables, Cyrillic a": (named("age", f"{CYRILLIC_A}ge", "c"), "looks the same as variable 'age'", "U+0430"),
    "variables, filler": (named("age", "age\u3164", "c"), "U+3164", "which nobody sees; take it out"),
    "variables, selector": (named("age", "age\ufe0f", "c"), "U+FE0F", "take it out"),
    "variables, spaces": (named("LDL mg", "LDL  mg", "c"), "looks the same as variable 'LDL mg'", "give one of them a name"),
    "variables, micro": (named("\u00b5g", "\u03bcg", "c"), "looks the same", "U+03BC"),
    "one hidden": (named("age\u115f", "b", "c"), "U+115F", "take it out"),
    "categories": (of_categories("no", f"n{chr(0x43E)}"), "category 'no'", "U+043E"),
    "hidden category": (of_categories("no", "yes\u2800"), "U+2800", "take it out"),
    "taxa": (taxa("cat", "c\u0430t", "dog", "emu"), "looks the same as variable 'cat'", "U+0430"),
    "arms": (with_arms("placebo", "pl\u0430cebo"), "looks the same as arm 'placebo'", "U+0430"),
    "nodes": (study(roster=["alice", "a1ice"]), "node ids 'alice' and 'a1ice'", "rename one of them"),
    "nodes, rn": (study(roster=["burn", "bum"]), "node ids 'burn' and 'bum'", "invitations"),
    "name": (study(name="trial\u3164"), "U+3164", "take it out"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_new_is_begun_with_it_by_anybody(name: str, tmp_path: Path) -> None:
    made, *words = REFUSED[name]
    with pytest.raises(UsageError) as refused:
        require_new(made)
    assert all(word in str(refused.value) for word in words), refused.value
    listed = " ".join(map(str, check_study(made.raw).mistakes))
    assert all(word in listed for word in words), listed
    with pytest.raises(UsageError):  # a coordinator that means well
        initialise(
            Home(tmp_path / "coordinator"), made, Config("127.0.0.1:0", "127.0.0.1:0", ()), no_passphrase=True
        )
    home = NodeHome(tmp_path / "node")
    home.root.mkdir()
    with pytest.raises(UsageError):  # a node, whatever its coordinator means
        accept_study(home, made, made.digest)


def test_two_forms_of_one_accent_are_one_name() -> None:
    with pytest.raises(UsageError, match="listed twice"):
        named("\u00e9t\u00e9", "e\u0301te\u0301", "c")


def test_a_node_id_in_other_letters_is_told_by_its_code() -> None:
    with pytest.raises(
        UsageError, match=r"holds U\+0430 \(Cyrillic small letter a\): use the lower-case letters a to z"
    ):
        study(roster=["north", f"{CYRILLIC_A}lice"])


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (
            named("age", "AGE", "c"),
            ("'age' and 'AGE'", "differ only in capitals or in signs that look alike"),
        ),
        (named("x1", "xl", "c"), ("'x1' and 'xl'",)),
        (named(f"{CYRILLIC_A}ge", "b", "c"), ("written with U+0430", "looks like a Latin letter")),
    ],
)
def test_what_a_reader_may_tell_apart_is_told_and_allowed(
    made: Study, words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    require_new(made)
    assert all(word in made.resemblance for word in words), made.resemblance
    (tmp_path / "study.toml").write_bytes(made.raw)
    with pytest.raises(SystemExit) as ended:
        run_app(app, "epgfn", ["study", "check", str(tmp_path / "study.toml")])
    assert not ended.value.code and made.resemblance in capsys.readouterr().out


@pytest.mark.parametrize(
    "names",
    [
        ("\u00e2ge", "\u00e9tat", "na\u00efvet\u00e9"),
        ("\u03b1", "\u03c1", "p"),
        ("TNF-\u03b1", "TNF-\u03b2", "\u0394H"),
        ("\u5e74\u9f62", "\u6027\u522b", "\u845b\U000e0100\u57ce"),
        ("\u0432\u043e\u0437\u0440\u0430\u0441\u0442", "\u0440\u043e\u0441\u0442", "\u0432\u0435\u0441"),
        ("\u0627\u0644\u0639\u0645\u0631", "\u05d2\u05d9\u05dc", "\ub098\uc774"),
    ],
)
def test_names_in_any_script_are_names(names: tuple[str, ...]) -> None:
    made = named(*names)
    require_new(made)
    assert made.resemblance == ""


def test_what_was_begun_before_still_reads() -> None:
    made = named("age", f"{CYRILLIC_A}ge", "c")
    assert Study.from_bytes(made.raw).digest == made.digest


def test_one_person_is_not_two_approvers() -> None:
    assert person_of("Ada Lovelace, data manager") == person_of(f"Ad{CYRILLIC_A} Lovelace, head")
    with pytest.raises(ValueError, match="named twice"):
        Approval(by=("Ada Lovelace, data manager", f"Ad{CYRILLIC_A} Lovelace, head"))
    with pytest.raises(ValueError, match="not a name and a role"):
        Approval(by=("Ada\u3164 Lovelace, data manager",))

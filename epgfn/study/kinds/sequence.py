"""Sequences of up to `max_length` letters, the categories of the one variable.

With probability `signal` a record shows a letter of the sequence, earlier places more often, else any alike (`epgfn.targets.letters`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from epgfn.study.columns import ONE_CATEGORY
from epgfn.study.kinds.base import (
    DRAWN,
    SUMMED,
    Kind,
    Questions,
    SpaceSettings,
    TargetKind,
    TargetSettings,
)
from epgfn.study.kinds.likelihood import Likelihood, listed

if TYPE_CHECKING:
    from epgfn.study import Study

MAX_LETTERS = 62


class SequenceSettings(SpaceSettings):
    """`max_length`: the most letters a sequence has."""

    kind: Literal["sequence"]
    max_length: Annotated[int, Field(ge=1, le=1000)]


class LettersSettings(TargetSettings):
    """`signal`: how much of a record the object explains."""

    kind: Literal["letters"]
    signal: Annotated[float, Field(gt=0, lt=1)] = 0.5


def _letters(study: Study, space: Any) -> Likelihood:
    from epgfn.targets.letters import letter_probability

    signal, alphabet = study.target.signal, space.n_letters
    return listed(lambda state: letter_probability(state.letters, alphabet, signal), alphabet)


_WIDE = {"batch": 256, "learning_rate": 1e-2, "temperature": 1.0, "exploration": 0.1}


@dataclass(frozen=True)
class Sequence(Kind):
    """See the module."""

    def space(self, study: Study) -> Any:
        from epgfn.gflownet.spaces import make_space

        return make_space("sequence", n_letters=len(study.categories), max_length=study.space.max_length)

    def count(self, study: Study) -> float:
        letters = len(study.categories)
        return sum(int(letters**length) for length in range(study.space.max_length + 1))

    def written(self, study: Study, state: Any) -> list[str]:
        """ "ABBA", with spaces where letters have longer names."""
        letters = study.categories
        between = "" if all(len(letter) == 1 for letter in letters) else " "
        return [between.join(letters[a - 1] for a in row if a) for row in state.letters.tolist()]

    def questions(self, study: Study, state: Any) -> Questions:
        """Which letter stands where, and how long is it at least?"""
        import torch

        letters, places = study.categories, range(1, study.space.max_length + 1)
        names = [f"{place}. letter is {letter}" for place in places for letter in letters]
        names += [f"length >= {place}" for place in places]
        shown = state.letters[:, :, None] == torch.arange(1, len(letters) + 1)
        return Questions(names, torch.cat([shown.flatten(1), state.letters > 0], 1))

    def in_words(self, study: Study) -> str:
        return f"sequences of at most {study.space.max_length} letters"

    def check(self, study: Study) -> None:
        if len(study.categories) > MAX_LETTERS:
            raise ValueError(f"a sequence is made of at most {MAX_LETTERS} letters")
        if any(" " in letter for letter in study.categories):
            raise ValueError("a letter of a sequence holds no space, so that no two sequences read alike")

    def panels(self, study: Study) -> dict[str, str]:
        """One a place, and one for the length."""
        places = range(1, study.space.max_length + 1)
        return {
            **{f"{place}. letter is ": f"letter {place}" for place in places},
            "length >= ": "length",
        }

    def planned(self, study: Study) -> dict[str, Any]:
        return {"categories": len(study.categories), **super().planned(study)}


SEQUENCE = Sequence(
    "sequence",
    SequenceSettings,
    (
        TargetKind(
            "letters",
            LettersSettings,
            ONE_CATEGORY,
            "a record shows one letter, drawn from the sequence, from its earlier places more often, or from anywhere",
            DRAWN,
            SUMMED,
            _letters,
            planned=("signal",),
        ),
    ),
    ("mlp",),
    "sequences",
    "letter",
    may_stop_anywhere=True,
    training={**_WIDE, "steps": 1500},
    aggregation={**_WIDE, "objective": "aggregating", "steps": 1000},
    components="letters",
    example=(
        """
variables = [{name = "letter", categories = ["A", "B", "C"]}]
[space]
kind = "sequence"
max_length = 3
""",
    ),
)

"""A study promises only what a mechanism can keep; everything else is refused when it is read, with the way out."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import NormalDist

import pytest

from epgfn.base.errors import UsageError
from epgfn.privacy.accounting import gdp_mu
from epgfn.study import Study
from epgfn.study.privacy import meaning, most_recognised
from small import PRIVATE_STUDY, SMALL_STUDY


def test_a_private_study_says_what_its_nodes_must_promise() -> None:
    study = Study.from_bytes(PRIVATE_STUDY.encode())
    assert (study.privacy.mode, study.privacy.adjacency) == ("statistic", "add-remove")
    assert (study.privacy.epsilon, study.privacy.delta) == (4.0, 1e-5)
    words = study.privacy.in_words()
    assert "epsilon 4" in words and "delta 1e-05" in words and "record" in words and "54.6" in words


def test_the_private_example_is_the_open_one_with_bounds_and_a_promise() -> None:
    folder = Path(__file__).parents[2] / "examples" / "sachs"
    plain, private = (Study.load(folder / f"{name}.toml") for name in ("study", "study-private"))
    assert private.privacy.is_private and not plain.privacy.is_private
    changed = {"name", "privacy", "variables"}
    assert plain.model_dump(exclude=changed) == private.model_dump(exclude=changed)
    without = [v.model_copy(update={"lower": None, "upper": None}) for v in private.variables]
    assert without == plain.variables


def test_no_privacy_is_said_plainly_and_written_as_before() -> None:
    study = Study.from_bytes(SMALL_STUDY.encode())
    assert "can read the subposterior" in study.privacy.in_words()
    assert study.privacy.model_dump(mode="json") == {"mode": "none"}


@pytest.mark.parametrize(
    ("old", "new", "names"),
    [
        ("epsilon = 4.0", "epsilon = 0.0", "epsilon"),
        ("epsilon = 4.0", "epsilon = 100.0", "epsilon"),
        ("epsilon = 4.0\n", "", "needs epsilon and delta"),
        ("delta = 1e-5", "delta = 0.5", "delta"),
        ('mode = "statistic"', 'mode = "none"', "protects nothing"),
        ('mode = "statistic"', 'mode = "answers"', "use mode = 'statistic'"),
        ('mode = "statistic"', 'mode = "gradient"', "use mode = 'statistic'"),
        ("lower = -6.0\n", "", "variable 'b': privacy needs public bounds: set lower and upper"),
        ("lower = -6.0", 'lower = -6.0\ntransform = "log"', "logarithm"),
        ("delta = 1e-5", 'delta = 1e-5\nadjacency = "replace-one"', "numbers of records are public"),
        ("delta = 1e-5", "delta = 1e-5\nrecords = {north = 9, south = 9}", "secret"),
        ("delta = 1e-5", 'delta = 1e-5\nadjacency = "replace-one"\nrecords = {north = 9}', "every node"),
        (
            "delta = 1e-5",
            'delta = 1e-5\nadjacency = "replace-one"\nrecords = {north = 9, south = 100000}',
            "below one over",
        ),
    ],
)
def test_a_promise_that_cannot_be_kept_is_refused_when_the_study_is_read(
    old: str, new: str, names: str
) -> None:
    assert old in PRIVATE_STUDY
    with pytest.raises(UsageError) as caught:
        Study.from_bytes(PRIVATE_STUDY.replace(old, new, 1).encode(), source="mine.toml")
    message = str(caught.value)
    assert names in message and "mine.toml" in message and "\n" not in message


def test_adjacency_replace_one_states_public_numbers_of_records() -> None:
    changed = 'delta = 1e-5\nadjacency = "replace-one"\nrecords = {north = 60, south = 60}'
    study = Study.from_bytes(PRIVATE_STUDY.replace("delta = 1e-5", changed).encode())
    assert study.privacy.records == {"north": 60, "south": 60}
    assert "which of two sets of values one record has" in study.privacy.in_words()


@pytest.mark.parametrize("epsilon", [0.1, 1.0, 2.0, 4.0, 8.0])
def test_no_test_recognises_more_than_is_said_and_one_reaches_it(epsilon: float) -> None:
    """Gaussian noise stays below, by the closed form of its trade-off; randomised response, with delta an answer in clear, reaches it."""
    delta, normal = 1e-5, NormalDist()
    for f in (0.001, 0.01, 0.3):
        said = most_recognised(epsilon, delta, f)
        mu = gdp_mu(epsilon, delta)
        assert normal.cdf(mu + normal.inv_cdf(f)) <= said
    lie = (1 - delta) / (
        1 + math.exp(epsilon)
    )  # an answer that is wrong so often, and in clear with probability delta
    assert most_recognised(epsilon, delta, lie) == pytest.approx(1 - lie, abs=1e-12)


def test_what_is_said_is_rounded_up_and_of_one_unit() -> None:
    words = meaning(1.0, 1e-6, "add-remove", "record")
    assert "at most 2.8 of 100 that are, if 1 of 100 that are not may be taken for members" in words
    other = meaning(1.0, 1e-6, "replace-one", "site")
    assert (
        "which of two sets of values one site has" in other and "how many sites there are is public" in other
    )
    assert "at most 100 of 100" in meaning(30.0, 1e-6, "add-remove", "record")

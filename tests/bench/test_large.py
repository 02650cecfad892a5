"""What `epgfn bench large` measures, on networks small enough to know."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from epgfn.base.errors import UsageError
from epgfn.bench.instances.networks import read_bif
from epgfn.bench.large import large

RAIN = """network unknown {
}
variable wet {
  type discrete [ 2 ] { no, yes };
}
variable rain {
  type discrete [ 3 ] { none, some, much };
}
variable cloud {
  type discrete [ 2 ] { no, yes };
}
probability ( wet | rain, cloud ) {
  (none, no) 1.0, 0.0;
  (some, no) 0.5, 0.5;
  (much, no) 0.0, 1.0;
  (none, yes) 0.9, 0.1;
  (some, yes) 0.25, 0.75;
  (much, yes) 0.0, 1.0;
}
probability ( rain ) {
  table 0.5, 0.3, 0.2;
}
probability ( cloud | rain ) {
  (none) 0.6, 0.4;
  (some) 0.1, 0.9;
  (much) 0.0, 1.0;
}
"""


def test_records_are_drawn_as_the_file_says(tmp_path: Path) -> None:
    path = tmp_path / "rain.bif.gz"
    path.write_bytes(gzip.compress(RAIN.encode()))
    network = read_bif(path)
    assert network.names == ("wet", "rain", "cloud")
    assert network.categories[1] == ("none", "some", "much")
    assert network.parents == ((1, 2), (), (1,))
    x = network.draw(40_000, np.random.default_rng(0))
    some_cloud = x[(x[:, 1] == 1) & (x[:, 2] == 1)]
    assert len(some_cloud) / len(x) == pytest.approx(0.3 * 0.9, abs=0.01)
    assert some_cloud[:, 0].mean() == pytest.approx(0.75, abs=0.02)
    assert not x[(x[:, 1] == 0) & (x[:, 2] == 0), 0].any()


@pytest.mark.parametrize(
    "text",
    [
        "",
        RAIN.replace("(some) 0.1, 0.9;", ""),
        RAIN.replace("rain, cloud", "rain, snow"),
        RAIN.replace("0.25, 0.75", "0.25, a"),
    ],
    ids=["nothing", "a configuration is missing", "an unknown parent", "no number"],
)
def test_other_files_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "rain.bif"
    path.write_text(text)
    with pytest.raises(UsageError, match="no network in the Bayesian Interchange Format"):
        read_bif(path)


def test_a_small_study_is_delivered_as_long_chains_have_it(tmp_path: Path) -> None:
    path = tmp_path / "rain.bif"
    path.write_text(RAIN)
    (row,) = large([path], nodes=1, records=300, max_parents=2)
    assert (row["case"], row["variables"], row["nodes"], row["records"]) == ("rain", 3, 1, 300)
    assert row["max_error"] < 0.03 and row["reference_apart"] < 0.03


def test_no_case_is_refused() -> None:
    with pytest.raises(UsageError, match="name a network"):
        large()

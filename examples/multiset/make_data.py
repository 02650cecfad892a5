"""Make the three files of this example: what three gauges saw come out of one mixture of eight grains, or of the dust around it.

    python examples/multiset/make_data.py

The same files come out every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from epgfn.study import Study

MIXTURE = {"quartz": 3, "feldspar": 2, "mica": 2, "garnet": 1}
RECORDS = {"gauge-1": 120, "gauge-2": 80, "gauge-3": 160}


def main() -> None:
    folder, draw = Path(__file__).parent, np.random.default_rng(5)
    study = Study.load(folder / "study.toml")
    kinds, signal = study.variables[0].categories or [], study.target.signal
    shares = np.array([MIXTURE.get(kind, 0) for kind in kinds]) / sum(MIXTURE.values())
    for gauge, count in RECORDS.items():
        seen = draw.choice(kinds, count, p=(1 - signal) / len(kinds) + signal * shares)
        pd.DataFrame({"grain": seen}).to_csv(folder / f"{gauge}.csv", index=False)


if __name__ == "__main__":
    main()

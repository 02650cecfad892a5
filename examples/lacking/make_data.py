"""Make the three files of this example: made-up patients of three hospitals, drawn from one linear network. The rural hospital sees nobody
again after five years, and so has no hba1c_5y and no egfr_5y.

    age -> pressure <- bmi <- activity      bmi -> glucose -> hba1c_5y      age, pressure -> egfr_5y

    python examples/lacking/make_data.py

The same files come out every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

PATIENTS = {"city": 700, "county": 240, "rural": 110}
AFTER_FIVE_YEARS = ["hba1c_5y", "egfr_5y"]


def main() -> None:
    folder, draw = Path(__file__).parent, np.random.default_rng(7)
    for hospital, count in PATIENTS.items():
        age = draw.normal(56, 11, count)
        activity = draw.normal(150, 60, count)
        bmi = 27 - 0.03 * (activity - 150) + draw.normal(0, 3.5, count)
        pressure = 130 + 0.5 * (age - 56) + 1.3 * (bmi - 27) + draw.normal(0, 11, count)
        glucose = 100 + 1.8 * (bmi - 27) + draw.normal(0, 13, count)
        table = pd.DataFrame(
            {"age": age, "activity": activity, "bmi": bmi, "pressure": pressure, "glucose": glucose}
        )
        table["hba1c_5y"] = 5.7 + 0.022 * (glucose - 100) + draw.normal(0, 0.4, count)
        table["egfr_5y"] = 82 - 0.7 * (age - 56) - 0.25 * (pressure - 130) + draw.normal(0, 9, count)
        if hospital == "rural":
            table = table.drop(columns=AFTER_FIVE_YEARS)
        table.round(2).to_csv(folder / f"{hospital}.csv", index=False)


if __name__ == "__main__":
    main()

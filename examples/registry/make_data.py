"""Make the four files of this example: made-up patients of four hospitals, with categories and numbers, some cells blank.

    sex, age_band -> smoking      sex, age_band -> bmi      age_band, bmi -> pressure      bmi -> hba1c      smoking, pressure -> event_3y

How strongly bmi leads to hba1c is another in women than in men (so sex leads to hba1c, too). All differs somewhat between hospitals.

    python examples/registry/make_data.py

The same files come out every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

PATIENTS = {"university": 900, "city": 420, "county": 180, "island": 90}
BANDS = ["under 50", "50 to 64", "65 and over"]
SMOKING = ["never", "former", "current"]
BLANK = {"smoking": 0.03, "bmi": 0.06, "hba1c": 0.08}
"""Shares of cells that are blank, for no reason that has to do with any value."""


def main() -> None:
    folder, draw = Path(__file__).parent, np.random.default_rng(11)
    for hospital, count in PATIENTS.items():
        here = draw.normal(1.0, 0.1)  # of this hospital: how strongly things follow from each other
        sex = draw.integers(0, 2, count)
        age = draw.choice(3, count, p=[0.3, 0.4, 0.3])
        odds = np.stack([np.full(count, 1.2), 0.3 + 0.5 * age, 0.7 + 0.6 * sex - 0.5 * age], axis=1)
        smoking = (odds + draw.gumbel(size=(count, 3))).argmax(1)
        bmi = 26 + 0.9 * sex + np.array([0.0, 1.6, 1.0])[age] + draw.normal(0, 4, count)
        pressure = 126 + 8 * age + here * 1.1 * (bmi - 27) + draw.normal(0, 13, count)
        slope = np.where(sex == 0, 0.06, 0.1)
        hba1c = 5.7 + here * slope * (bmi - 27) + draw.normal(0, 0.5, count)
        risk = (
            0.12
            + 0.1 * (smoking == 2)
            + 0.04 * (smoking == 1)
            + here * 0.005 * np.clip(pressure - 130, -20, 60)
        )
        event = draw.random(count) < np.clip(risk, 0.01, 0.9)
        table = pd.DataFrame(
            {
                "sex": np.array(["f", "m"])[sex],
                "age_band": np.array(BANDS)[age],
                "smoking": np.array(SMOKING)[smoking],
                "bmi": bmi.round(1),
                "pressure": pressure.round(),
                "hba1c": hba1c.round(1),
                "event_3y": np.where(event, "yes", "no"),
            }
        )
        for column, share in BLANK.items():
            table.loc[draw.random(count) < share, column] = None
        table.to_csv(folder / f"{hospital}.csv", index=False)


if __name__ == "__main__":
    main()

"""Make the three files of this example: made-up patients of three clinics, drawn from one Bayesian network.

    season -> infection -> cough <- smoker        infection -> fever

    python examples/categories/make_data.py

The same files come out every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

PATIENTS = {"harbour": 150, "hill": 220, "market": 180}


def main() -> None:
    folder, draw = Path(__file__).parent, np.random.default_rng(3)
    for clinic, count in PATIENTS.items():
        season = draw.choice(["winter", "spring", "summer", "autumn"], count)
        smoker = draw.choice(["no", "former", "yes"], count, p=[0.6, 0.2, 0.2])
        infected = draw.random(count) < np.where(season == "winter", 0.6, 0.25)
        cough = draw.random(count) < 0.1 + 0.5 * infected + 0.3 * (smoker == "yes")
        heat = 2.2 * infected + draw.normal(0, 1, count)
        fever = np.select([heat > 2.5, heat > 1.2], ["high", "mild"], "none")
        yes = np.array(["no", "yes"])
        table = pd.DataFrame(
            {
                "season": season,
                "smoker": smoker,
                "infection": yes[infected.astype(int)],
                "cough": yes[cough.astype(int)],
                "fever": fever,
            }
        )
        table.to_csv(folder / f"{clinic}.csv", index=False)


if __name__ == "__main__":
    main()

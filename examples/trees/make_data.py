"""Make the three alignments of this example: sites of six strains that evolve along one tree, different sites at each lab.

    python examples/trees/make_data.py

The same files come out every time.
"""

from __future__ import annotations

from pathlib import Path

import torch

from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.study import Study
from epgfn.targets.jc69 import simulate

BRANCH_LENGTH = 0.1
SITES = {"leiden": 40, "lisbon": 30, "lund": 50}
# (((s1, s2), s3), ((s4, s5), s6)): each join puts the subtree of the second strain's slot into that of the first.
JOINS = [(0, 1), (0, 2), (3, 4), (3, 5), (0, 3)]


def main() -> None:
    folder = Path(__file__).parent
    study = Study.load(folder / "study.toml")
    space = Phylogeny(len(study.variables))
    tree = space.initial(1)
    for left, right in JOINS:
        tree = space.step(tree, space.number[left, right][None])
    generator = torch.Generator().manual_seed(1)
    for lab, sites in SITES.items():
        codes = simulate(space, tree, sites, BRANCH_LENGTH, generator)
        rows = ["".join("ACGT"[int(code).bit_length() - 1] for code in row) for row in codes]
        text = "".join(f">{strain}\n{row}\n" for strain, row in zip(study.variable_names, rows, strict=True))
        (folder / f"{lab}.fasta").write_text(text)


if __name__ == "__main__":
    main()

"""Unrooted trees of the first taxa of an alignment: the posterior of all of them listed, a trained model's, and what MrBayes finds.

python -m epgfn.bench.scripts.unrooted_trees FASTA TAXA [--sites N] [--hky] [--equal] [--train]

Behind docs/accuracy.md. Model and priors are the same on both sides: Jukes and Cantor, or with --hky that of Hasegawa, Kishino and Yano
with the numbers below and four gamma categories; exponential branch lengths of mean .1; every topology as probable as any other.
MrBayes (`mb`, 3.2.7, the Debian package mrbayes) makes two runs of a million generations with four chains each; without it on the PATH its
columns stay empty.
Beyond 8 taxa nothing is listed, and what a trained model says are shares among its samples. --equal:
also what all branches equal to .1 say. --train: also what a study trained on all sites as one node says.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from epgfn.gflownet.measure.distances import exact_distribution
from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.learn.local import train_local
from epgfn.learn.model import Model, terminating_distribution
from epgfn.learn.target import target_of
from epgfn.study import Study
from epgfn.study.objects import marginals, space_of
from epgfn.study.records.alignments import Alignment, read_fasta
from epgfn.targets.jc69 import Jc69

KAPPA, FREQUENCIES, SHAPE = 4.0, (0.3, 0.2, 0.25, 0.25), 0.5
LISTED, DRAWN = 8, 20_000
"""Taxa up to which all topologies are listed; samples of a trained model beyond."""
SHOWN = 0.005
"""Splits less probable on all sides are left out."""
Splits = dict[str, float]


def main(path: Path, taxa: int, sites: int | None, hky: bool, equal: bool, train: bool) -> None:
    """Print a table of the splits."""
    torch.set_num_threads(1)
    whole = read_fasta(path)
    alignment = Alignment(whole.taxa[:taxa], whole.codes[:taxa, :sites])
    study = study_of(alignment, hky)
    columns: dict[str, Splits] = {}
    begun = time.process_time()
    if taxa <= LISTED:
        state = space_of(study).trees()
        mass = exact_distribution(target_of(study, alignment.codes.T).log_reward(state))
        columns["listed"] = marginals(study, state, mass)
        spent = time.process_time() - begun
        print(f"{len(mass):,} trees of {alignment.codes.shape[1]:,} sites: {spent:.0f} CPU-seconds")
    if equal:
        columns["all branches .1"] = of_equal_branches(study, alignment)
    if train:
        begun = time.process_time()
        result = train_local(study, alignment.codes.T.numpy(), seed=1)
        print(f"trained in {time.process_time() - begun:.0f} CPU-seconds: {result.trust}", flush=True)
        model = Model(study, result.tensors)
        if taxa <= LISTED:
            columns["trained"] = marginals(study, *terminating_distribution(model))
        else:
            columns["trained"] = model.marginals(DRAWN, seed=1)
    for number, run in enumerate(of_mrbayes(alignment, hky), start=1):
        columns[f"MrBayes, run {number}"] = {split: run.get(key, 0.0) for split, key in keys(study).items()}
    print(f"| Split | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for split in next(iter(columns.values())):
        row = [column[split] for column in columns.values()]
        if max(row) >= SHOWN:
            print(f"| {split} | {' | '.join(f'{share:.4f}' for share in row)} |")


def study_of(alignment: Alignment, hky: bool) -> Study:
    """One node with all sites, everything else as a study has it by itself."""
    target = (
        f'kind = "hky"\nkappa = {KAPPA}\nfrequencies = {list(FREQUENCIES)}\ngamma_shape = {SHAPE}'
        if hky
        else 'branch_lengths = "own"'
    )
    names = ", ".join(f'{{name = "{name}"}}' for name in alignment.taxa)
    head = f'name = "trees"\nroster = ["one"]\nvariables = [{names}]\n'
    return Study.from_bytes(f'{head}[space]\nkind = "phylogeny"\n[target]\n{target}\n'.encode())


def of_equal_branches(study: Study, alignment: Alignment) -> Splits:
    """What rooted trees with all branches equal to .1 say of the same splits."""
    taxa = len(alignment.taxa)
    space = Phylogeny(taxa)
    state = space.trees()
    mass = exact_distribution(Jc69(space, alignment.codes, 0.1).log_likelihood(state))
    found = {}
    for split, key in keys(study).items():
        rest = (1 << taxa) - 1 - key
        found[split] = float(mass[((state.nodes == key) | (state.nodes == rest)).any(1)].sum())
    return found


def keys(study: Study) -> dict[str, int]:
    """Of each split, the mask of the side without the last taxon."""
    names = study.variable_names
    found = {}
    for split in marginals(study, space_of(study).initial(1)):
        side = sum(1 << names.index(name) for name in split[1:-1].split(", "))
        found[split] = (1 << len(names)) - 1 - side if side >> (len(names) - 1) else side
    return found


def of_mrbayes(alignment: Alignment, hky: bool) -> list[dict[int, float]]:
    """Split supports of each of the two runs, by the masks of the sides without the last taxon, after a quarter of burn-in."""
    program = shutil.which("mb")
    if program is None:
        return []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "data.nex").write_text(nexus(alignment))
        (folder / "run.nex").write_text(commands(hky))
        subprocess.run(
            [program, "run.nex"], cwd=folder, check=True, capture_output=True, stdin=subprocess.DEVNULL
        )
        last = 1 << (len(alignment.taxa) - 1)
        return [supports(folder / f"out.run{run}.t", last) for run in (1, 2)]


def nexus(alignment: Alignment) -> str:
    """The alignment as MrBayes reads it, taxa by number."""
    letters = np.array(list("-ACMGRSVTWYHKDBN"))
    rows = "".join(f"t{i} {''.join(letters[row])}\n" for i, row in enumerate(alignment.codes.numpy()))
    taxa, sites = alignment.codes.shape
    head = (
        f"#NEXUS\nbegin data;\ndimensions ntax={taxa} nchar={sites};\nformat datatype=dna missing=? gap=-;\n"
    )
    return f"{head}matrix\n{rows};\nend;\n"


def commands(hky: bool) -> str:
    """What MrBayes is to do."""
    fixed = (
        f"statefreqpr=fixed({','.join(map(str, FREQUENCIES))}) tratiopr=fixed({KAPPA}) shapepr=fixed({SHAPE})"
    )
    model = "lset nst=2 rates=gamma ngammacat=4;" if hky else "lset nst=1 rates=equal;"
    prior = fixed if hky else "statefreqpr=fixed(equal)"
    return f"""begin mrbayes;
set autoclose=yes nowarn=yes seed=1 swapseed=1;
execute data.nex;
{model}
prset {prior} brlenspr=Unconstrained:Exponential(10.0);
mcmc ngen=1000000 nruns=2 nchains=4 samplefreq=100 printfreq=1000000 filename=out;
end;
"""


def supports(path: Path, last: int) -> dict[int, float]:
    """Shares of the sampled trees of one run, a Nexus file whose taxa are numbered in their order."""
    trees = [line.split("[&U]", 1)[1] for line in path.read_text().splitlines() if "[&U]" in line]
    trees = trees[len(trees) // 4 :]
    found: dict[int, float] = {}
    for tree in trees:
        for side in sides(tree):
            key = side if not side & last else 2 * last - 1 - side
            found[key] = found.get(key, 0.0) + 1 / len(trees)
    return found


def sides(newick: str) -> set[int]:
    """The masks of what stands between each pair of brackets, of taxa numbered from 1, but for the outermost."""
    found: set[int] = set()
    below: list[int] = []
    number = ""
    in_length = False
    for c in newick:
        if c == ":":
            in_length = True
        elif c in "(),;":
            if number:
                below[-1] |= 1 << (int(number) - 1)
            number, in_length = "", False
            if c == "(":
                below.append(0)
            elif c == ")" and len(below) > 1:
                inner = below.pop()
                below[-1] |= inner
                found.add(inner)
        elif c.isdigit() and not in_length:
            number += c
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fasta", type=Path)
    parser.add_argument("taxa", type=int)
    parser.add_argument("--sites", type=int)
    for name in ("hky", "equal", "train"):
        parser.add_argument(f"--{name}", action="store_true")
    given = parser.parse_args()
    main(given.fasta, given.taxa, given.sites, given.hky, given.equal, given.train)

"""Rooted trees of more than twelve taxa with equal branches: each node's model, and their product, against Markov chains.

python -m epgfn.bench.scripts.many_taxa FASTA [--nodes 3] [--seed 1] [--chains 2]
python -m epgfn.bench.scripts.many_taxa --simulate TAXA --sites N [--nodes 1]

Behind docs/policies.md. Sites are dealt to nodes in turn. Chains on a node's sites, and on all sites together, run with as many seeds as
--chains says; each row says how far they are from each other before it says how far a model is from the first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from epgfn.gflownet.measure.tree_chains import run
from epgfn.gflownet.sampling.random_walk import finished_at_random
from epgfn.gflownet.spaces.phylogeny import Phylogeny
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_local
from epgfn.learn.model import Model
from epgfn.study import Study
from epgfn.study.kinds.phylogeny import called
from epgfn.study.records.alignments import Alignment, read_fasta
from epgfn.targets.jc69 import simulate
from epgfn.targets.jc69_moves import Jc69Moves

BRANCH = 0.1
DRAWN = 20_000
SHOWN = 0.01
"""Clades that are less probable on both sides are not counted."""


def main(alignment: Alignment, nodes: int, seed: int, chains: int) -> None:
    """Print what each model says of itself, and how far it is from chains."""
    torch.set_num_threads(1)
    study, codes = study_of(alignment.taxa, nodes), alignment.codes
    models: dict[str, dict[str, Tensor]] = {}
    for number, node in enumerate(study.roster):
        part = codes[:, number::nodes].contiguous()
        begun = time.process_time()
        local = train_local(study, part.T.numpy(), seed=seed)
        spent, models[node] = time.process_time() - begun, local.tensors
        print(f"{node}: {part.shape[1]} sites, {spent:.0f} CPU-s, {local.trust}", flush=True)
        print(f"  its own samples: {against(study, local.tensors, part, chains)}", flush=True)
    begun = time.process_time()
    joint = train_global(study, models, seed=seed)
    print(f"global: {time.process_time() - begun:.0f} CPU-s, {joint.diagnostics['trust']}", flush=True)
    references = chains_on(study, codes, chains)
    print(f"  published ({joint.judged.basis}): {told(joint.judged.probabilities, references)}")
    print(f"  its own samples: {told(Model(study, joint.tensors).marginals(DRAWN, seed), references)}")


def against(study: Study, tensors: Mapping[str, Tensor], codes: Tensor, chains: int) -> str:
    return told(Model(study, tensors).marginals(DRAWN, 1), chains_on(study, codes, chains))


def chains_on(study: Study, codes: Tensor, chains: int) -> list[dict[str, float]]:
    """Clade probabilities by each of so many runs."""
    found = []
    for seed in range(1, chains + 1):
        clades = run(Jc69Moves(codes, BRANCH), seed).clades
        found.append(dict(zip(called(study, list(clades)), clades.values(), strict=True)))
    return found


def told(found: Mapping[str, float], references: list[dict[str, float]]) -> str:
    first, *others = references
    between = "; ".join("{:.4f}, {:.4f}".format(*difference(first, other)) for other in others)
    mean, largest = difference(found, first)
    return f"mean {mean:.4f}, largest {largest:.4f} from chains, which differ by {between or 'nobody knows'}"


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> tuple[float, float]:
    """Mean and largest over clades that either side gives `SHOWN`."""
    rows = [(one.get(name, 0.0), other.get(name, 0.0)) for name in {**one, **other}]
    apart = [abs(a - b) for a, b in rows if max(a, b) >= SHOWN]
    return sum(apart) / max(1, len(apart)), max(apart, default=0.0)


def study_of(taxa: Sequence[str], nodes: int) -> Study:
    """Everything as a study has it by itself."""
    names = ", ".join(f'{{name = "{name}"}}' for name in taxa)
    roster = ", ".join(f'"node-{number}"' for number in range(nodes))
    text = f'name = "taxa"\nroster = [{roster}]\nvariables = [{names}]\n[space]\nkind = "phylogeny"\n'
    return Study.from_bytes(f"{text}[target]\nbranch_length = {BRANCH}\n".encode())


def simulated(taxa: int, sites: int, seed: int) -> Alignment:
    """Sites along one random tree."""
    space, generator = Phylogeny(taxa), torch.Generator().manual_seed(seed)
    tree = finished_at_random(space, 1, generator)
    return Alignment(tuple(f"t{i}" for i in range(taxa)), simulate(space, tree, sites, BRANCH, generator))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fasta", type=Path, nargs="?")
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--chains", type=int, default=2)
    parser.add_argument("--simulate", type=int)
    parser.add_argument("--sites", type=int, default=200)
    args = parser.parse_args()
    if args.fasta is None and args.simulate is None:
        parser.error("give an alignment, or --simulate TAXA")
    given = simulated(args.simulate, args.sites, args.seed) if args.fasta is None else read_fasta(args.fasta)
    main(given, args.nodes, args.seed, args.chains)

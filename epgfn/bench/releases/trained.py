"""The same with networks: a GFlowNet trained on each node's release, and one on the product of the nodes' models."""

from __future__ import annotations

from torch import Tensor

from epgfn.bench.releases.dags import Train
from epgfn.gflownet.measure.distances import exact_distribution, l1
from epgfn.gflownet.measure.sweep import terminating_mass
from epgfn.gflownet.policies import make_policy
from epgfn.gflownet.spaces.parent_index import modular_score
from epgfn.learn.aggregate import train_global
from epgfn.learn.local import train_on_moments, train_on_target
from epgfn.privacy.mechanisms.moments import MomentsRelease
from epgfn.privacy.of_study.releases import Released
from epgfn.study import Study
from epgfn.study.objects import space_of

STEPS = 600
VARIABLES = 5


def study_of(nodes: int) -> Study:
    """Five variables, BGe, as a study of so many nodes would have it."""
    names = ", ".join(f'"n{number}"' for number in range(nodes))
    variables = ", ".join(f'{{ name = "x{number}", centre = 0, scale = 1 }}' for number in range(VARIABLES))
    text = f"""
name = "five"
roster = [{names}]
seed = 1
variables = [{variables}]

[target]
kind = "bge"

[space]
max_parents = {VARIABLES - 1}

[training]
steps = {STEPS}
batch = 256
learning_rate = 3e-3
temperature = 2.0

[aggregation]
steps = {STEPS}
batch = 256
learning_rate = 3e-3
"""
    return Study.from_bytes(text.encode())


def of_study(study: Study, done: list[Released], exact: Tensor, seed: int) -> float:
    """For `studies.release`: the exact L1 of the model of one node, or of the global one of several."""
    models = {}
    for number, (name, each) in enumerate(zip(study.roster, done, strict=True)):
        if each.target is None:
            raise ValueError("these releases are something to train on")
        models[name] = train_on_target(study, each.target, seed=1000 * seed + number).tensors
    final = train_global(study, models, seed=seed).tensors if len(models) > 1 else models[study.roster[0]]
    space = space_of(study)
    state, mass = terminating_mass(space, make_policy(space, [final]))
    if study.target_kind.is_modular:
        exact = modular_score(exact, state.adjacency, space.max_parents)
    return l1(mass, exact_distribution(exact))


def trainer(nodes: int) -> Train:
    """For `dags.moments`: the exact L1 of the model of one node, or of the global one of several."""
    study = study_of(nodes)
    space = space_of(study)

    def train(releases: list[MomentsRelease], exact: Tensor, seed: int) -> float:
        models = {
            name: train_on_moments(study, release.moments, seed=1000 * seed + number).tensors
            for number, (name, release) in enumerate(zip(study.roster, releases, strict=True))
        }
        final = train_global(study, models, seed=seed).tensors if nodes > 1 else models[study.roster[0]]
        state, mass = terminating_mass(space, make_policy(space, [final]))
        return l1(mass, exact_distribution(modular_score(exact, state.adjacency, space.max_parents)))

    return train

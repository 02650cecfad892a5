# mypy: ignore-errors
"""torchgfn on DAGs edge by edge: R = exp(-edges), MLP 256 x 256, TB, uniform p_B, Adam 1e-3 (log Z 1e-1), one thread. Tried with 2.4.1.

PYTHON torchgfn_dag.py VARIABLES BATCH SEED        see `blocks` for what it reads and says

The policy is the library's: whether to add an edge or to stop, and which edge. Its network reads the adjacency matrix and gives V * V + 1
numbers, as ours does; to add one is worth the sum over absent edges, so that trajectories are about as long as with one softmax over all.
The package's own modules for graphs give V * (V - 1) numbers, which does not fit its environment.
"""

import sys

import torch
from blocks import JUDGED, blocks, say
from gfn.actions import GraphActions, GraphActionType
from gfn.estimators import DiscreteGraphPolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym.bayesian_structure import BayesianStructure
from gfn.samplers import Sampler
from gfn.utils.modules import MLP
from tensordict import TensorDict


class Network(torch.nn.Module):
    """Logits of actions from adjacency; none of its own where `uniform`."""

    def __init__(self, n: int, uniform: bool) -> None:
        super().__init__()
        self.n, self.uniform = n, uniform
        self.input_dim = n * n
        if not uniform:
            self.net = MLP(input_dim=n * n, output_dim=n * n + 1, hidden_dim=256, n_hidden_layers=2)

    def forward(self, graphs):
        n, size = self.n, len(graphs)
        said = torch.zeros(size, n * n + 1)
        if not self.uniform:
            adjacency = torch.zeros(size, n, n)
            source, target = graphs.edge_index
            adjacency[graphs.batch[source], source % n, target % n] = 1
            said = self.net(adjacency.flatten(1))
        kind = torch.full((size, 3), -torch.inf)
        kind[:, GraphActionType.ADD_EDGE] = 0.0
        if not self.uniform:
            open_to = (1 - adjacency - torch.eye(n)).flatten(1) > 0
            kind[:, GraphActionType.ADD_EDGE] = said[:, :-1].masked_fill(~open_to, -torch.inf).logsumexp(1)
            kind[:, GraphActionType.EXIT] = said[:, -1]
        return TensorDict(
            {
                GraphActions.ACTION_TYPE_KEY: kind,
                GraphActions.NODE_CLASS_KEY: torch.zeros(size, n),
                GraphActions.NODE_INDEX_KEY: torch.zeros(size, n),
                GraphActions.EDGE_CLASS_KEY: torch.zeros(size, 1),
                GraphActions.EDGE_INDEX_KEY: said[:, :-1].clone(),
            },
            batch_size=size,
        )


def edges(states) -> torch.Tensor:
    """Minus how many there are, the log-reward."""
    return -torch.tensor([float(graph.edge_index.shape[1]) for graph in states.data.flat])


def main(variables: int, batch: int, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env = BayesianStructure(n_nodes=variables, state_evaluator=edges, device="cpu")
    forward = DiscreteGraphPolicyEstimator(module=Network(variables, uniform=False))
    backward = DiscreteGraphPolicyEstimator(module=Network(variables, uniform=True), is_backward=True)
    model = TBGFlowNet(pf=forward, pb=backward, init_logZ=0.0)
    groups = [
        {"params": model.pf_pb_parameters(), "lr": 1e-3},
        {"params": model.logz_parameters(), "lr": 1e-1},
    ]
    optimiser = torch.optim.Adam(groups)
    sampler = Sampler(estimator=forward)
    for steps in blocks():
        for _ in range(steps):
            drawn = sampler.sample_trajectories(
                env, n=batch, save_logprobs=False, save_estimator_outputs=False
            )
            optimiser.zero_grad()
            loss = model.loss_from_trajectories(env, drawn, recalculate_all_logprobs=True)
            loss.backward()
            optimiser.step()
    with torch.no_grad():
        drawn = sampler.sample_trajectories(env, n=JUDGED, save_logprobs=False, save_estimator_outputs=False)
        loss = float(model.loss_from_trajectories(env, drawn, recalculate_all_logprobs=True))
    say(l1=None, loss=loss)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

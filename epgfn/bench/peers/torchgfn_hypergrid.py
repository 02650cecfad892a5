# mypy: ignore-errors
"""torchgfn on a hypergrid: MLP 256 x 256, TB, uniform p_B, Adam 1e-3 (log Z 1e-1), one thread. Tried with torchgfn 2.4.1.

PYTHON torchgfn_hypergrid.py DIMENSIONS SIDE BATCH SEED        see `blocks` for what it reads and says
"""

import sys

import torch
from blocks import JUDGED, MOST_LISTED, blocks, say
from exact_grid import l1, positions
from gfn.estimators import DiscretePolicyEstimator
from gfn.gflownet import TBGFlowNet
from gfn.gym import HyperGrid
from gfn.preprocessors import KHotPreprocessor
from gfn.samplers import Sampler
from gfn.utils.modules import MLP, DiscreteUniform


def main(dimensions: int, side: int, batch: int, seed: int) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    env = HyperGrid(
        ndim=dimensions,
        height=side,
        reward_fn_str="original",
        reward_fn_kwargs={"R0": 0.1, "R1": 0.5, "R2": 2.0},
        device=torch.device("cpu"),
        calculate_partition=False,
        store_all_states=False,
        debug=False,
    )
    one_hot = KHotPreprocessor(height=side, ndim=dimensions)
    net = MLP(input_dim=one_hot.output_dim, output_dim=env.n_actions, hidden_dim=256, n_hidden_layers=2)
    forward = DiscretePolicyEstimator(net, env.n_actions, preprocessor=one_hot, is_backward=False)
    uniform = DiscreteUniform(output_dim=env.n_actions - 1)
    backward = DiscretePolicyEstimator(uniform, env.n_actions, preprocessor=one_hot, is_backward=True)
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
    distance = None
    with torch.no_grad():
        drawn = sampler.sample_trajectories(env, n=JUDGED, save_logprobs=False, save_estimator_outputs=False)
        loss = float(model.loss_from_trajectories(env, drawn, recalculate_all_logprobs=True))
        if side**dimensions <= MOST_LISTED:
            states = env.States(torch.as_tensor(positions(dimensions, side)))
            probabilities = forward.to_probability_distribution(states, forward(states)).probs
            distance = l1(probabilities.double().numpy(), dimensions, side)
    say(l1=distance, loss=loss)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

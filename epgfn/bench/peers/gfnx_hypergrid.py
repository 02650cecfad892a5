# mypy: ignore-errors
"""gfnx on a hypergrid: MLP 256 x 256, TB, uniform p_B, Adam 1e-3 (log Z 1e-1), one thread. Tried with gfnx 0.0.1, jax 0.7.1.

PYTHON gfnx_hypergrid.py DIMENSIONS SIDE BATCH SEED            see `blocks` for what it reads and says

All steps of a block run inside one compiled loop, and compiling is not in what a block costs.
"""

import os
import sys

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import equinox as eqx
import gfnx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from blocks import JUDGED, MOST_LISTED, blocks, say
from exact_grid import l1, positions
from gfnx.environment import HypergridEnvState
from gfnx.reward.hypergrid import GeneralHypergridRewardModule
from gfnx.utils import forward_rollout, mask_logits


def main(dimensions: int, side: int, batch: int, seed: int) -> None:
    reward = GeneralHypergridRewardModule(R0=0.1, R1=0.5, R2=2.0)
    env = gfnx.environment.HypergridEnvironment(reward, dim=dimensions, side=side)
    settings = env.init(jax.random.PRNGKey(1))
    n_features, n_ways = env.observation_space.shape[0], env.backward_action_space.n
    net = eqx.nn.MLP(n_features, env.action_space.n, 256, 2, key=jax.random.PRNGKey(seed))
    weights, shape = eqx.partition(net, eqx.is_array)
    trained = {"net": weights, "log_z": jnp.array(0.0)}
    labels = {"net": jax.tree.map(lambda _: "net", weights), "log_z": "log_z"}
    optimiser = optax.multi_transform({"net": optax.adam(1e-3), "log_z": optax.adam(1e-1)}, labels)

    def over_time(function, *trees):
        return jax.vmap(function, in_axes=(1,) * len(trees) + (None,), out_axes=1)(*trees, settings)

    def logits(weights, obs):
        return jax.vmap(eqx.combine(weights, shape))(obs)

    def loss_of(trained, drawn):
        net = eqx.combine(trained["net"], shape)
        forbidden = over_time(env.get_invalid_mask, drawn.state)
        log_p = jax.nn.log_softmax(mask_logits(jax.vmap(jax.vmap(net))(drawn.obs), forbidden), -1)
        log_pf = jnp.take_along_axis(log_p, drawn.action[..., None], -1)[..., 0]
        log_pf = jnp.where(drawn.pad, 0.0, log_pf).sum(1)
        before = jax.tree.map(lambda x: x[:, :-1], drawn.state)
        after = jax.tree.map(lambda x: x[:, 1:], drawn.state)
        way = over_time(env.get_backward_action, before, drawn.action[:, :-1], after)
        closed = over_time(env.get_invalid_backward_mask, after)
        log_b = jax.nn.log_softmax(mask_logits(jnp.zeros((*way.shape, n_ways)), closed), -1)
        log_pb = jnp.take_along_axis(log_b, way[..., None], -1)[..., 0]
        gained = jnp.where(drawn.pad[:, :-1], 0.0, log_pb + drawn.log_gfn_reward[:, :-1]).sum(1)
        return jnp.square(trained["log_z"] + log_pf - gained).mean()

    def draw(weights, key, n):
        drawn, _ = forward_rollout(
            rng_key=key,
            num_envs=n,
            policy_fn=lambda key, obs, weights: (logits(weights, obs), {}),
            policy_params=weights,
            env=env,
            env_params=settings,
        )
        return drawn

    def step(_, carry):
        trained, memory, key = carry
        key, drawing = jax.random.split(key)
        gradient = jax.grad(loss_of)(trained, draw(trained["net"], drawing, batch))
        change, memory = optimiser.update(gradient, memory, trained)
        return optax.apply_updates(trained, change), memory, key

    train = jax.jit(lambda carry, steps: jax.lax.fori_loop(0, steps, step, carry))
    carry = (trained, optimiser.init(trained), jax.random.PRNGKey(100 + seed))
    train = train.lower(carry, 1).compile()
    for steps in blocks():
        carry = jax.block_until_ready(train(carry, steps))
    trained = carry[0]
    loss = float(
        jax.jit(lambda t, key: loss_of(t, draw(t["net"], key, JUDGED)))(trained, jax.random.PRNGKey(7))
    )
    distance = None
    if side**dimensions <= MOST_LISTED:
        grid = positions(dimensions, side)
        no = jnp.zeros(len(grid), bool)
        first = jnp.array(grid.sum(1) == 0)
        states = HypergridEnvState(state=jnp.array(grid), is_terminal=no, is_initial=first, is_pad=no)
        masked = mask_logits(
            logits(trained["net"], env.get_obs(states, settings)), env.get_invalid_mask(states, settings)
        )
        distance = l1(np.asarray(jax.nn.softmax(masked, -1), dtype=np.float64), dimensions, side)
    say(l1=distance, loss=loss)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))

"""Roll a policy out in the simulator's world, in a process where callbacks cannot wait on themselves: OUT.npz."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import get_task
from langevin.experiments.oracle import simulator_world
from langevin.policies.base import Policy

SEEDS, ROLLOUTS, HORIZON = 2, 5, 12


class Pull(Policy):
    """Pulls to a point; one a seed."""

    point: jax.Array

    def start(self, batch_size):
        return None

    def act(self, observations, memory, *, key):
        return jnp.clip(3 * (self.point - observations[:, :2]), -1, 1), None


def main(out: str) -> None:
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    task = get_task("pointmaze/umaze")
    starts = make_simulator(task, ROLLOUTS).reset(np.random.default_rng(0))
    starts[:, 2:] = 1.5
    starts[0, :2] = task.maze.goal + 0.3
    world, points = simulator_world(task), jnp.array([[-1.0, 1.0], [5.0, 0.0]])

    def imagine(point):
        return world.imagine(Pull(point), jnp.asarray(starts), HORIZON, key=jax.random.key(0))

    found = eqx.filter_jit(eqx.filter_vmap(imagine))(points)
    fields = ("observations", "actions", "rewards", "terminations")
    np.savez(out, starts=starts, points=points, **{name: getattr(found, name) for name in fields})


if __name__ == "__main__":
    main(sys.argv[1])

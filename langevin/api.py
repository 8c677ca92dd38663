"""Langevin from Python: train on a dataset, and act with what was trained."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32
from numpy.typing import ArrayLike

from langevin.errors import UsageError
from langevin.experiments.runs import RunRequest, load_run, one_seed, run
from langevin.policies.base import Policy, heeds_rewards
from langevin.progress import AbstractProgress
from langevin.training.algorithms.registry import TransferName, find_algorithm


def train(
    algorithm: str,
    dataset: str,
    out: str | Path,
    *,
    base: str | None = None,
    target_dataset: str | None = None,
    transfer: TransferName | None = None,
    preset: str = "cpu",
    seeds: int = 3,
    steps: int | None = None,
    episodes: int = 100,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
    progress: AbstractProgress | None = None,
) -> dict[str, Any]:
    """What `langevin train` does: train seeds 0, 1, … and return the run's summary.

    `dataset` is an id or a path, `out` the run folder, `base` the learner an add-on stands on;
    `target_dataset` is of the system that the policy is for, where `dataset` is a source's: for `off_dynamics`, or for
    a learner with `transfer`, "finetune" (on the source, then on the target) or "dara" (on both at once). `steps` are
    gradient steps of the policy (default: the preset's); `settings` changes single settings, with dots for nested
    ones (``{"learner.alpha": 1.0}``). `episodes` are evaluation episodes a seed; a system without a simulator is not
    evaluated, and the summary's scores are None. With `resume` a run in the folder goes on.

    **Raises:** `UsageError` for arguments or data that cannot be used, `LangevinError` when every seed diverged.
    """
    find_algorithm(algorithm, transfer)
    for name, value in (("seeds", seeds), ("episodes", episodes), ("steps", steps)):
        if value is not None and value < 1:
            raise UsageError(f"{name} must be at least 1, got {value}")
    overrides = dict(settings or {}) | ({} if steps is None else {"steps": steps})
    request = RunRequest(
        algorithm, dataset, Path(out), base, preset, tuple(range(seeds)), episodes, overrides, resume,
        target_dataset, transfer,
    )  # fmt: skip
    return run(request, progress=progress)


def load_policy(
    run_folder: str | Path, seed: int = 0, contexts: Mapping[str, float] | None = None
) -> "Controller":
    """The policy of a finished run, for one of its seeds by place, ready to act on NumPy arrays.

    `contexts` tells a planner other numbers than its own, so that it need not be trained again for a system between
    the two it learned from (``{"dynamics": 0.5}``).

    **Raises:** `UsageError` when the folder holds no finished run or not that many seeds, or its policy is told no such
    contexts, `LangevinError` when a checkpoint is damaged.
    """
    loaded = load_run(Path(run_folder))
    if not 0 <= seed < len(loaded.config.seeds):
        raise UsageError(f"seed must be 0 to {len(loaded.config.seeds) - 1}, got {seed}")
    policies = loaded.told(contexts) if contexts else loaded.policies
    return Controller(one_seed(policies, seed), loaded.system.observation_size)


class Controller:
    """A trained policy in a control loop: observations in, actions inside their bounds out, in the data's units."""

    def __init__(self, policy: Policy, observation_size: int, seed: int = 0):
        self._policy, self._observation_size, self._seed = policy, observation_size, seed
        self.reset()

    def reset(self) -> None:
        """Forget the episode so far: call it before each new one. A policy without memory forgets nothing."""
        self._memory: Any = None
        self._batch_shape: tuple[int, ...] | None = None
        self._steps = 0

    def act(self, observations: ArrayLike) -> Float32[np.ndarray, "*batch action"]:
        """Actions for one observation, or for a batch of systems in step with one another.

        **Raises:** `UsageError` for a wrong shape, NaN or infinite values, or another batch than at the last step.
        """
        array = np.asarray(observations, np.float32)
        if array.ndim not in (1, 2) or array.shape[-1] != self._observation_size:
            raise UsageError(
                f"observations must have shape ({self._observation_size},) or (batch, {self._observation_size}), "
                f"got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise UsageError(f"observations must be finite, got {array}")
        rows = jnp.asarray(array.reshape(-1, self._observation_size))
        if self._batch_shape is None:
            self._batch_shape, self._memory = array.shape, self._policy.start(len(rows))
        if array.shape != self._batch_shape:
            raise UsageError(
                f"observations have shape {array.shape}, at the episode's start {self._batch_shape}; call reset() "
                "before a new episode"
            )
        key = jax.random.fold_in(jax.random.key(self._seed), self._steps)
        actions, self._memory = _act(self._policy, rows, self._memory, key)
        self._steps += 1
        return np.asarray(actions, np.float32).reshape(*array.shape[:-1], -1)

    def observe(self, rewards: ArrayLike | float) -> None:
        """Tell the policy what its last actions earned: one reward, or one for each system of the batch.

        A policy that was commanded a return (`decision_transformer`) or that reads past rewards
        (`trajectory_transformer`) wants it after each step; for any other it does nothing and costs nothing.

        **Raises:** `UsageError` before the episode's first action, and for a wrong shape, NaN or infinite values.
        """
        if self._batch_shape is None:
            raise UsageError("rewards are earned by actions; call act() before observe()")
        array = np.asarray(rewards, np.float32)
        if array.shape != self._batch_shape[:-1]:
            raise UsageError(f"rewards must have shape {self._batch_shape[:-1]}, got {array.shape}")
        if not np.isfinite(array).all():
            raise UsageError(f"rewards must be finite, got {array}")
        if heeds_rewards(self._policy):
            self._memory = _observe(self._policy, self._memory, jnp.asarray(array.reshape(-1)))


@eqx.filter_jit
def _act(policy: Policy, observations: Any, memory: Any, key: Any) -> tuple[Any, Any]:
    return policy.act(observations, memory, key=key)


@eqx.filter_jit
def _observe(policy: Policy, memory: Any, rewards: Any) -> Any:
    return policy.observe(memory, rewards)

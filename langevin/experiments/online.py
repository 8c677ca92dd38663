"""SAC in the simulator: behaviour policies, and the replay buffers that they leave.

Many environments are stepped at once, on the host; the updates of one round are one compiled program.
"""

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from langevin.data.normalize import GaussianNormalizer
from langevin.data.sampling import Transitions
from langevin.envs.locomotion import LocomotionSimulator
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task
from langevin.errors import LangevinError, UsageError
from langevin.evaluation.episodes import run_episodes
from langevin.policies.base import SystemSpec
from langevin.policies.gaussian import GaussianPolicy
from langevin.policies.sac import SAC, SACState
from langevin.progress import AbstractProgress, SilentProgress
from langevin.training.files import atomic_folder, atomic_write, sync

EVALUATION_SEED = 1_000_003
EVALUATION_EPISODES = 10
MEDIUM_SHARE = 1 / 3
"""Of the expert reference's return: D4RL's *medium*."""


def medium_return(task: Task) -> float:
    """What the mode of a robot's policy must return to be *medium*."""
    return MEDIUM_SHARE * task.expert_score


@dataclass(frozen=True)
class OnlineTraining:
    """How SAC learns in a simulator. The same numbers and seed give the same policy on one machine."""

    steps: int = 2_000_000
    """Environment steps, of all copies together."""
    seed: int = 0
    copies: int = 16
    """Environments stepped side by side."""
    steps_a_round: int = 4
    """Steps of every copy between two rounds of updates."""
    updates_a_step: float = 0.5
    """Gradient steps for each environment step."""
    random_steps: int = 10_000
    """Steps with uniform actions before learning begins (SAC, appendix D)."""
    batch_size: int = 256
    capacity: int = 1_000_000
    """Transitions kept, the oldest forgotten first."""
    evaluate_every: int = 20_000
    """Environment steps between two evaluations of the mode."""
    learner: SAC = SAC()

    def __post_init__(self):
        if min(self.steps, self.copies, self.steps_a_round, self.batch_size, self.capacity) < 1:
            raise UsageError("steps, copies, steps_a_round, batch_size and capacity must be at least 1")
        if self.updates_a_round < 1:
            raise UsageError(
                f"updates_a_step of {self.updates_a_step} gives no update a round of {self.steps_of_a_round} steps"
            )

    @property
    def steps_of_a_round(self) -> int:
        return self.copies * self.steps_a_round

    @property
    def updates_a_round(self) -> int:
        return int(self.steps_of_a_round * self.updates_a_step)


class Replay:
    """The last `capacity` transitions, in the order in which they were made: (steps, copies) flattened."""

    def __init__(self, capacity: int, observation_size: int, action_size: int):
        self.capacity, self.written = capacity, 0
        self.observations = np.zeros((capacity, observation_size), np.float32)
        self.next_observations = np.zeros((capacity, observation_size), np.float32)
        self.actions = np.zeros((capacity, action_size), np.float32)
        self.rewards = np.zeros(capacity, np.float32)
        self.terminations = np.zeros(capacity, np.float32)
        self.truncations = np.zeros(capacity, np.float32)

    FIELDS = ("observations", "actions", "rewards", "terminations", "truncations", "next_observations")

    @property
    def size(self) -> int:
        return min(self.written, self.capacity)

    def add(self, **rows: np.ndarray) -> None:
        """Write one row a copy."""
        count = len(rows["rewards"])
        at = (self.written + np.arange(count)) % self.capacity
        for name in self.FIELDS:
            getattr(self, name)[at] = rows[name]
        self.written += count

    def sample(self, rng: np.random.Generator, batches: int, batch_size: int) -> Transitions:
        """Batches on the leading axis, rows uniform with replacement."""
        rows = rng.integers(0, self.size, (batches, batch_size))
        return Transitions(
            *(jnp.asarray(getattr(self, name)[rows]) for name in self.FIELDS if name != "truncations")
        )


@eqx.filter_jit
def _learn(learner: SAC, state: SACState, batches: Transitions, key: Array) -> tuple[SACState, Any]:
    """One update a batch."""
    arrays, rest = eqx.partition(state, eqx.is_array)

    def one(arrays, inputs):
        batch, key = inputs
        new, metrics = learner.update(eqx.combine(arrays, rest), batch, step=jnp.int32(0), key=key)
        return eqx.filter(new, eqx.is_array), metrics

    arrays, metrics = jax.lax.scan(one, arrays, (batches, jax.random.split(key, batches.rewards.shape[0])))
    return eqx.combine(arrays, rest), jax.tree.map(jnp.mean, metrics)


@eqx.filter_jit
def _act(policy: GaussianPolicy, observations: Float[Array, "batch observation"], key: Array):
    return policy.act(observations, None, key=key)[0]


class OnlineRun:
    """One training, resumable: learner, replay buffer, simulator and random numbers are all in a checkpoint."""

    def __init__(self, settings: OnlineTraining, task: Task, folder: Path):
        simulator = make_simulator(task, settings.copies, threads=1)
        if not isinstance(simulator, LocomotionSimulator):
            raise UsageError(f"behaviour policies are trained for robots; {task.id} has a recipe of its own")
        self.settings, self.task, self.folder, self.simulator = settings, task, folder, simulator
        self.replay = Replay(settings.capacity, task.observation_size, task.action_size)
        self.rng = np.random.default_rng(settings.seed)
        self.key = jax.random.key(settings.seed)
        unit = GaussianNormalizer(jnp.zeros(task.observation_size), jnp.ones(task.observation_size))
        spec = SystemSpec(
            task.observation_size,
            task.action_size,
            jnp.asarray(task.action_low),
            jnp.asarray(task.action_high),
            unit,
        )
        self.state = settings.learner.init(spec, key=jax.random.fold_in(self.key, 2**31))
        self.clocks = np.zeros(settings.copies, np.int64)
        self.steps, self.log = 0, []
        simulator.reset(self.rng)

    @property
    def updates(self) -> int:
        """Gradient steps so far."""
        rounds = max(self.steps - self.settings.random_steps, 0) // self.settings.steps_of_a_round
        return rounds * self.settings.updates_a_round

    @property
    def policy(self) -> GaussianPolicy:
        return self.settings.learner.policy(self.state)

    def round(self) -> dict[str, float]:
        """A few steps of every copy, then the updates they owe; the last metrics."""
        settings, rng = self.settings, self.rng
        key = jax.random.fold_in(self.key, self.steps)
        observations = self.simulator.observe()
        for step in range(settings.steps_a_round):
            if self.steps < settings.random_steps:
                shape = settings.copies, self.task.action_size
                actions = rng.uniform(self.task.action_low, self.task.action_high, shape).astype(np.float32)
            else:
                actions = np.asarray(
                    _act(self.policy, jnp.asarray(observations), jax.random.fold_in(key, step))
                )
            after, rewards, terminations = self.simulator.step(actions)
            self.clocks += 1
            truncations = (self.clocks >= self.task.max_steps) & ~terminations
            self.replay.add(
                observations=observations, actions=actions, rewards=rewards, terminations=terminations,
                truncations=truncations, next_observations=after,
            )  # fmt: skip
            ended = terminations | truncations
            if ended.any():
                self.simulator.reset_rows(ended, rng)
                self.clocks[ended] = 0
            observations = self.simulator.observe()
            self.steps += settings.copies
        if self.steps < settings.random_steps:
            return {}
        batches = self.replay.sample(rng, settings.updates_a_round, settings.batch_size)
        self.state, metrics = _learn(
            settings.learner, self.state, batches, jax.random.fold_in(key, -1 % 2**31)
        )
        return {name: float(value) for name, value in metrics.items()}

    def evaluate(self) -> dict[str, float]:
        """Return of the mode over a few episodes."""
        mode = GaussianPolicy(self.state.actor, self.state.normalizer, deterministic=True)
        stacked = jax.tree.map(lambda leaf: leaf[None] if eqx.is_array(leaf) else leaf, mode)
        found = run_episodes(stacked, self.task, seeds=1, episodes=EVALUATION_EPISODES, seed=EVALUATION_SEED)
        return {"return": float(found.returns.mean()), "length": float(found.lengths.mean())}

    def save(self) -> None:
        """Write a checkpoint beside the last one, then put it in its place."""
        meta = {
            "settings": _table(self.settings), "task": self.task.id, "steps": self.steps, "log": self.log,
            "rng": self.rng.bit_generator.state, "clocks": self.clocks.tolist(), "written": self.replay.written,
        }  # fmt: skip

        def fill(folder: Path) -> None:
            with open(folder / "state.eqx", "wb") as file:
                eqx.tree_serialise_leaves(file, self.state)
                sync(file)
            arrays = {name: getattr(self.replay, name)[: self.replay.size] for name in Replay.FIELDS}
            with open(folder / "replay.npz", "wb") as file:
                np.savez(file, simulator=self.simulator.save(), **arrays)
                sync(file)
            with open(folder / "progress.json", "w") as file:
                json.dump(meta, file)
                sync(file)

        old = sorted(self.folder.glob("checkpoint-*"))
        target = self.folder / f"checkpoint-{self.steps:010d}"
        if not target.exists():
            atomic_folder(target, fill)
            for path in old:
                shutil.rmtree(path)

    def load(self) -> bool:
        """Go on from the newest checkpoint; False when there is none."""
        found = sorted(self.folder.glob("checkpoint-*"))
        if not found:
            return False
        meta = json.loads((found[-1] / "progress.json").read_text())
        asked = json.loads(json.dumps(_table(self.settings))) | {"steps": meta["settings"]["steps"]}
        if (
            meta["task"] != self.task.id or meta["settings"] != asked
        ):  # a longer training begins as a shorter one
            raise UsageError(
                f"{self.folder} holds a training of {meta['task']} with {meta['settings']}; "
                "resume it with its own settings, or choose another folder"
            )
        self.state = eqx.tree_deserialise_leaves(found[-1] / "state.eqx", self.state)
        with np.load(found[-1] / "replay.npz", allow_pickle=False) as arrays:
            for name in Replay.FIELDS:
                getattr(self.replay, name)[: len(arrays[name])] = arrays[name]
            self.simulator.load(arrays["simulator"])
        self.steps, self.log, self.replay.written = meta["steps"], meta["log"], meta["written"]
        self.rng.bit_generator.state = meta["rng"]
        self.clocks = np.array(meta["clocks"])
        return True


def train_online(
    settings: OnlineTraining,
    task: Task,
    folder: Path,
    *,
    resume: bool = False,
    checkpoint_steps: int = 200_000,
    progress: AbstractProgress | None = None,
    on_evaluation: Callable[[OnlineRun, dict[str, float]], bool] = lambda run, row: False,
) -> OnlineRun:
    """Train until `settings.steps`, or until `on_evaluation(run, row)` says that it is enough.

    log.jsonl gets a row an evaluation. **Raises:** `UsageError` when the folder holds a training and `resume` is
    False; `LangevinError` when the losses are no longer numbers.
    """
    run = OnlineRun(settings, task, folder)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("checkpoint-*")) and not resume:
        raise UsageError(f"{folder} already holds a training; pass --resume to go on with it")
    run.load()
    with (progress or SilentProgress()).track(settings.steps, f"SAC in {task.id}") as advance:
        advance(run.steps)
        while run.steps < settings.steps:
            before = run.steps
            metrics = run.round()
            if not all(np.isfinite(value) for value in metrics.values()):
                raise LangevinError(
                    f"SAC diverged at step {run.steps}; the last checkpoint in {folder} is whole"
                )
            advance(run.steps - before)
            if run.steps // settings.evaluate_every > before // settings.evaluate_every:
                row = {"steps": run.steps, **run.evaluate(), **metrics}
                run.log.append(row)
                atomic_write(folder / "log.jsonl", "".join(json.dumps(entry) + "\n" for entry in run.log))
                if on_evaluation(run, row):
                    break
            if run.steps // checkpoint_steps > before // checkpoint_steps:
                run.save()
    run.save()
    return run


def train_replay(
    settings: OnlineTraining, task: Task, progress: AbstractProgress, enough: float = math.inf
) -> dict[str, np.ndarray]:
    """Train until an evaluation of the mode returns `enough`, or for `settings.steps`, with nothing saved, and give the
    replay buffer as streams: one environment's rows after another's, with the rows at which a stream ends.

    The updates equal those of `train_online` with the same settings; evaluations take no random number of theirs.
    **Raises:** `LangevinError` when the steps are over before enough is returned.
    """
    run, found = OnlineRun(settings, task, Path()), -math.inf
    with progress.track(settings.steps, f"SAC in {task.id}") as advance:
        while run.steps < settings.steps and found < enough:
            before = run.steps
            run.round()
            if enough < math.inf and run.steps // settings.evaluate_every > before // settings.evaluate_every:
                found = run.evaluate()["return"]
                advance(run.steps - before, f"returns {found:,.0f}, ends at {enough:,.0f}")
            else:
                advance(run.steps - before)
    if found < enough < math.inf:
        raise LangevinError(
            f"SAC in {task.id} returned {found:,.0f} after {settings.steps:,} steps, and its replay buffer ends at "
            f"{enough:,.0f}; try another --seed, or say with --transitions how long the buffer is to be"
        )
    copies, rows = settings.copies, min(run.steps, settings.steps) // settings.copies
    streams = {}
    for name in Replay.FIELDS:
        kept = getattr(run.replay, name)[: rows * copies]
        streams[name] = kept.reshape(rows, copies, *kept.shape[1:]).swapaxes(0, 1).reshape(kept.shape)
    return streams | {"stream_ends": rows * np.arange(1, copies + 1)}


def _table(settings: OnlineTraining) -> dict[str, Any]:
    """The settings as JSON holds them."""
    flat = {
        field.name: getattr(settings, field.name) for field in fields(settings) if field.name != "learner"
    }
    learner = {field.name: getattr(settings.learner, field.name) for field in fields(settings.learner)}
    return flat | {"learner": learner}

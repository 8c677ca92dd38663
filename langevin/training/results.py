"""What a training run leaves behind, in memory and read back from its folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from langevin.errors import UsageError
from langevin.training.checkpoint import Checkpoints, Progress, load_state, read_progress
from langevin.training.programs import StagePrograms
from langevin.training.stage import Stage


@dataclass(frozen=True)
class TrainingResult:
    """The finished stages of a run."""

    states: dict[str, PyTree]
    """Stage name -> finished state; every array has the seeds on its leading axis, in the order of
    `seeds`."""
    seeds: tuple[int, ...]
    stopped: dict[int, dict[str, Any]]
    """Seeds that diverged and keep their last good state: seed -> {"stage", "step", "reason"}."""
    seconds: float
    """Wall time, summed over all the pieces of a resumed run."""
    updates_per_second: float
    """Updates a second, one update advancing all seeds; each stage's first chunk, which waits for the
    compiler, is left out unless there is no other."""

    @classmethod
    def of(cls, states: dict[str, PyTree], progress: Progress) -> "TrainingResult":
        """The result of a run whose progress says it is finished."""
        return cls(
            states=states,
            seeds=tuple(progress.plan["seeds"]),
            stopped={int(seed): how for seed, how in progress.stopped.items()},
            seconds=progress.seconds,
            updates_per_second=progress.updates_per_second,
        )

    def policies(self, stages: Sequence[Stage]) -> PyTree:
        """The policies of the last stage that has one, stacked over seeds."""
        for index, stage in reversed(list(enumerate(stages))):
            if stage.policy is not None:
                earlier = {before.name: self.states[before.name] for before in stages[:index]}
                programs = StagePrograms(stage, index, None, earlier, self.seeds)
                return programs.policies(self.states[stage.name])
        raise UsageError(f"none of the stages {[stage.name for stage in stages]} makes a policy")


def load_results(
    folder: str | Path, stages: Sequence[Stage], data_like: PyTree, seeds: Sequence[int]
) -> TrainingResult:
    """The result of a finished run, from its folder and the shapes of its data (arrays or ShapeDtypeStructs).

    Raises UsageError when the run is not finished or was made with other seeds, LangevinError when a
    checkpoint is damaged or its shapes differ.
    """
    checkpoints = Checkpoints(folder)
    newest = checkpoints.newest()
    found = None if newest is None else read_progress(newest)
    if found is None or not found.over:
        raise UsageError(f"the run in {folder} is not finished; finish it with --resume")
    if found.plan["seeds"] != list(seeds):
        raise UsageError(f"the run in {folder} has seeds {found.plan['seeds']}, not {list(seeds)}")
    is_array = lambda leaf: isinstance(leaf, np.ndarray | jax.Array)
    shape = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array(leaf) else leaf
    data_like = jax.tree.map(shape, data_like)
    states: dict[str, PyTree] = {}
    for index, stage in enumerate(stages):
        like = StagePrograms(stage, index, data_like, dict(states), seeds).finished_like()
        states[stage.name] = load_state(checkpoints.finished(index, stage.name), like)
    return TrainingResult.of(states, found)

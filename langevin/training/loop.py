"""The training loop: stages in order, all seeds at once, in compiled chunks, resumable at any moment.

A run's numbers depend on its plan (seeds, stages, chunk lengths) alone, never on when it was saved or
stopped: chunks end at fixed steps, keys are derived from seed and step, and a checkpoint holds everything
else.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from langevin.errors import UsageError
from langevin.progress import AbstractProgress, SilentProgress
from langevin.training.metrics import MetricsWriter
from langevin.training.programs import StagePrograms, seed_keys
from langevin.training.record import RunRecord
from langevin.training.results import TrainingResult
from langevin.training.stage import Stage

Evaluate = Callable[[PyTree, str, int], list[dict[str, float]]]
"""``evaluate(policies, stage, step) -> [{"evaluation/return": …}, …]``: policies stacked over seeds in, one
dict a seed out. It must depend on its arguments only, so that a resumed run repeats it."""


def train(
    stages: Sequence[Stage],
    data: PyTree,
    seeds: Sequence[int],
    folder: str | Path | None = None,
    *,
    chunk_steps: int = 1000,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    resume: bool = False,
    checkpoint_seconds: float = 60.0,
    progress: AbstractProgress | None = None,
    writers: Sequence[MetricsWriter] = (),
    report: Callable[[str], None] = warnings.warn,
) -> TrainingResult:
    """Run `stages` one after another for all `seeds` at once, and return the finished states.

    With a `folder`, metrics go to ``metrics.jsonl`` and states to ``checkpoints/`` (every
    `checkpoint_seconds`, at the end of the chunk then running, and at the end of each stage); without one,
    nothing is written. A chunk of at most `chunk_steps` updates runs without leaving the device; it ends
    early at an epoch's end and where an evaluation is due, and each distinct length is compiled once, so take
    multiples of one another. `evaluate` is called every `evaluate_every` updates of a stage that has a
    policy, and at its end (None: only then). `report` takes the sentence that says which seed stopped and
    what to do.

    Raises UsageError when the folder already holds a run and `resume` is False, or holds a run of another
    plan; LangevinError when every seed diverged or the disk refuses.
    """
    names = [stage.name for stage in stages]
    if not names or len(set(names)) != len(names):
        raise UsageError(f"a run needs stages with names that differ from one another, got {names}")
    if chunk_steps < 1 or (evaluate_every is not None and evaluate_every < 1):
        raise UsageError(
            f"chunk_steps and evaluate_every must be 1 or more, got {chunk_steps}, {evaluate_every}"
        )
    seed_keys(seeds)
    plan = {
        "seeds": list(seeds),
        "stages": [[stage.name, stage.steps, stage.epoch_steps] for stage in stages],
        "chunk_steps": chunk_steps,
        "evaluate_every": evaluate_every if evaluate else None,
    }
    data = jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray) else leaf, data)
    record = RunRecord(plan, folder, resume, checkpoint_seconds, writers, report)
    try:
        states: dict[str, PyTree] = {}
        for index, stage in enumerate(stages):
            programs = StagePrograms(stage, index, data, dict(states), seeds)
            if record.has_finished(index):
                states[stage.name] = record.load_finished(index, stage.name, programs.finished_like())
            else:
                states[stage.name] = _run_stage(
                    stage, index, programs, record, evaluate, progress or SilentProgress()
                )
        return TrainingResult.of(states, record.progress)
    finally:
        record.close()


def _run_stage(
    stage: Stage,
    index: int,
    programs: StagePrograms,
    record: RunRecord,
    evaluate: Evaluate | None,
    progress: AbstractProgress,
) -> PyTree:
    """Train one stage from its beginning, or from where the record stands, and return its finished state."""
    record.require_survivors()
    state, step = record.load_partial(index, programs) or (programs.init(), 0)
    evaluate = evaluate if stage.policy else None
    every = record.progress.plan["evaluate_every"] if evaluate else None
    epoch = stage.epoch_steps if stage.begin_epoch else None
    with progress.track(stage.steps, stage.name) as advance:
        advance(step)
        while step < stage.steps:
            running = programs.running(state, record.alive)
            if epoch and step % epoch == 0 and running.any():
                state, alive, metrics = programs.begin_epoch(state, record.alive, step)
                record.metrics(metrics, running, alive, stage.name, step)
                running = programs.running(state, alive)
            if not running.any():
                break
            length = _chunk_length(step, stage.steps, record.progress.plan["chunk_steps"], epoch, every)
            with record.clock(stage.name, length):
                state, alive, metrics = programs.advance(state, record.alive, step, length)
            step += length
            record.metrics(metrics, running, alive, stage.name, step)
            if evaluate and every and step % every == 0 and step < stage.steps:
                record.scores(evaluate(programs.policies(state), stage.name, step), stage.name, step)
            if record.save_is_due():
                record.save(stage.name, index, step, state, finished=False)
            advance(length)
    if not record.alive.any():
        record.save(stage.name, index, step, state, finished=False)
    record.require_survivors()
    state = programs.finish(state)
    if evaluate:
        record.scores(evaluate(programs.policies(state), stage.name, step), stage.name, step)
    record.save(stage.name, index, step, state, finished=True)
    return state


def _chunk_length(step: int, end: int, *strides: int | None) -> int:
    """Updates until the next multiple of any stride, or the end."""
    return min(end - step, *(stride - step % stride for stride in strides if stride))

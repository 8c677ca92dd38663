"""What is known of a run outside the device, and what of it is on the disk."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, PyTree

from langevin.errors import DivergedError, UsageError
from langevin.training.checkpoint import Checkpoints, Progress, load_state, read_progress
from langevin.training.metrics import JsonLines, MetricsWriter
from langevin.training.programs import StagePrograms


class RunRecord:
    """One run's progress, living seeds, metrics and checkpoints. Without a folder nothing is written."""

    def __init__(
        self,
        plan: dict[str, Any],
        folder: str | Path | None,
        resume: bool,
        checkpoint_seconds: float,
        writers: Sequence[MetricsWriter],
        report: Callable[[str], None],
    ):
        self.progress = Progress(stage="", stage_index=-1, step=0, finished=True, plan=plan)
        self._checkpoints: Checkpoints | None = None
        self._lines: JsonLines | None = None
        self._newest: Path | None = None
        if folder is not None:
            self._open(Path(folder), resume)
        self._writers = [*writers, *([self._lines] if self._lines else [])]
        self._report, self._checkpoint_seconds = report, checkpoint_seconds
        self._seeds: list[int] = plan["seeds"]
        self.alive = np.array([str(seed) not in self.progress.stopped for seed in self._seeds])
        self._speed = _Speed()
        self._earlier_seconds = self.progress.seconds
        self._began = self._saved = time.monotonic()

    def _open(self, folder: Path, resume: bool) -> None:
        """Take up the run in the folder, or begin one."""
        self._checkpoints, plan = Checkpoints(folder), self.progress.plan
        self._newest, lines = self._checkpoints.newest(), folder / "metrics.jsonl"
        if not resume and (self._newest is not None or lines.exists()):
            raise UsageError(f"{folder} already holds a run; go on with --resume, or choose another folder")
        if self._newest is not None:
            self.progress = read_progress(self._newest)
            for name, value in plan.items():
                if self.progress.plan.get(name) != value:
                    raise UsageError(
                        f"the run in {folder} has {name} {self.progress.plan.get(name)}, not {value}; "
                        "resume it with its own settings, or choose another folder"
                    )
        if not self.progress.over:
            self._lines = JsonLines(lines, keep_bytes=self.progress.metrics_bytes)

    def has_finished(self, index: int) -> bool:
        """Whether the stage's finished state is on the disk."""
        reached = self.progress
        return index < reached.stage_index or (index == reached.stage_index and reached.finished)

    def load_finished(self, index: int, name: str, like: PyTree) -> PyTree:
        """A finished stage's state."""
        assert self._checkpoints is not None
        return load_state(self._checkpoints.finished(index, name), like)

    def load_partial(self, index: int, programs: StagePrograms) -> tuple[PyTree, int] | None:
        """The state and step to go on from, when the run was stopped inside this stage."""
        if self._newest is None or index != self.progress.stage_index:
            return None
        return load_state(self._newest, programs.like()), self.progress.step

    def require_survivors(self) -> None:
        """Raise when no seed is left to train."""
        if not self.alive.any():
            how = "; ".join(f"seed {seed}: {stop['reason']}" for seed, stop in self.progress.stopped.items())
            raise DivergedError(
                f"every seed diverged ({how}); lower the learning rate or check the data's scale, "
                "then start anew"
            )

    def metrics(
        self,
        metrics: dict[str, np.ndarray],
        running: Bool[np.ndarray, "seeds"],
        alive: Bool[np.ndarray, "seeds"],
        stage: str,
        step: int,
    ) -> None:
        """Write the metrics of the seeds that ran and are still alive; note those that diverged."""
        for place in np.flatnonzero(self.alive & ~alive):
            broken = [name for name, values in metrics.items() if not np.isfinite(values[place])]
            self._note_stop(self._seeds[place], ", ".join(broken) or "a parameter", stage, step)
        self.alive = alive
        for place in np.flatnonzero(running & alive) if metrics else ():
            means = {name: float(values[place]) for name, values in metrics.items()}
            self._write(stage, step, self._seeds[place], means)

    def _note_stop(self, seed: int, broken: str, stage: str, step: int) -> None:
        reason = f"{broken} is not finite"
        stop = {str(seed): {"stage": stage, "step": step, "reason": reason}}
        self.progress = replace(self.progress, stopped=self.progress.stopped | stop)
        self._write(stage, step, seed, {"event": "stopped", "reason": reason})
        self._report(
            f"seed {seed} stopped in stage {stage} by step {step}: {reason}; it keeps its last good state, "
            "the others go on. Lower the learning rate or check the data's scale, then train this seed again"
        )

    def scores(self, scores: list[dict[str, float]], stage: str, step: int) -> None:
        """Write an evaluation, without the seeds that never came this far."""
        for seed, alive, score in zip(self._seeds, self.alive, scores, strict=True):
            if alive:
                self._write(stage, step, seed, score)

    def _write(self, stage: str, step: int, seed: int, values: dict[str, Any]) -> None:
        where = {"stage": stage, "step": step, "seed": seed, "seconds": round(self._seconds(), 3)}
        for writer in self._writers:
            writer.write(where | values)

    def _seconds(self) -> float:
        return self._earlier_seconds + time.monotonic() - self._began

    @contextmanager
    def clock(self, stage: str, length: int) -> Iterator[None]:
        """Time a chunk."""
        start = time.monotonic()
        yield
        self._speed.add((stage, length), length, time.monotonic() - start)

    def save_is_due(self) -> bool:
        """Whether the last checkpoint is old enough for another."""
        return time.monotonic() - self._saved >= self._checkpoint_seconds

    def save(self, stage: str, index: int, step: int, state: PyTree, *, finished: bool) -> None:
        """Save metrics and state; metrics first, so the checkpoint counts bytes that are on the disk."""
        for writer in self._writers:
            writer.flush()
        self.progress = replace(
            self.progress,
            stage=stage,
            stage_index=index,
            step=step,
            finished=finished,
            seconds=self._seconds(),
            updates_per_second=self._speed.per_second or self.progress.updates_per_second,
            metrics_bytes=self._lines.size if self._lines else 0,
        )
        if self._checkpoints is not None:
            self._checkpoints.save(self.progress, state)
        self._saved = time.monotonic()

    def close(self) -> None:
        """Let go of the metrics file; writers that were handed in stay open."""
        if self._lines is not None:
            self._lines.close()


class _Speed:
    """Updates a second; a program's first chunk, which waits for the compiler, counts only if there is no
    other."""

    def __init__(self):
        self._seen: set = set()
        self._first, self._later = np.zeros(2), np.zeros(2)

    def add(self, program: Any, updates: int, seconds: float) -> None:
        totals = self._later if program in self._seen else self._first
        totals += (updates, seconds)
        self._seen.add(program)

    @property
    def per_second(self) -> float:
        updates, seconds = self._later if self._later.any() else self._first
        return float(updates / seconds) if seconds else 0.0

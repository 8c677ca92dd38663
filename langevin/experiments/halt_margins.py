"""Whether the end of the data is drawn where the walls are: what halting sees and what it costs, margin by margin.

    python -m langevin.experiments.halt_margins runs/dydiff-gain

The folder is one that `langevin.experiments.dydiff_gain` filled with the variants `ensemble+halt` and `oracle`. The
policies of the first, which learnt in the ensemble, are rolled out in it with nothing halted: a rollout that goes into
a wall before it has left the data is a mistake that a learner lives off. Those of the second are rolled out in the
simulator: what is halted of them is what a learner is kept from.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Bool, Float
from rich.console import Console

from langevin.errors import UsageError, require_at_least
from langevin.experiments.dydiff_gain import Gain, Setup, reopened
from langevin.experiments.runs import EVALUATION_SEED, one_seed
from langevin.imagination.halting import fit_halt
from langevin.policies.base import Policy
from langevin.progress import BarProgress
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write


@dataclass(frozen=True)
class HaltMargins:
    """Roll out, count, write halt_margins.json and halt_margins.md, and print."""

    folder: tyro.conf.Positional[Path]
    """Of the gain experiment."""
    learner: str = "ensemble+halt"
    """The variant whose policies learnt in the ensemble."""
    margins: tuple[float, ...] = (2.0, 3.0, 4.0, 5.0)
    """How far the data reach, in 99th percentiles of a held-out state's distance to the nearest one."""
    rollouts: int = 96
    """Rollouts a seed, from states of the data."""

    def run(self) -> list[dict[str, float]]:
        """One row a margin."""
        require_at_least(1, rollouts=self.rollouts)
        for variant in (self.learner, "oracle"):
            if not (self.folder / variant / "summary.json").is_file():
                raise UsageError(
                    f"{self.folder} holds no finished {variant}; run langevin.experiments.dydiff_gain with --variants "
                    f"base oracle {self.learner.partition('+')[0]}+halt first"
                )
        gain = reopened(self.folder, "oracle")
        setup = gain.setup(BarProgress())
        if setup.task.maze is None:
            raise UsageError(f"{setup.task.id} has no walls; name a point maze's dataset")
        imagined = self.rolled_out(gain, setup, self.learner, "ensemble")
        driven = self.rolled_out(gain, setup, "oracle", "oracle")
        rows = [margin_row(margin, setup, imagined, driven) for margin in self.margins]
        atomic_write(self.folder / "halt_margins.json", json.dumps(rows, indent=1) + "\n")
        atomic_write(self.folder / "halt_margins.md", table(rows))
        Console().print(table(rows), markup=False, highlight=False)
        return rows

    def rolled_out(
        self, gain: Gain, setup: Setup, learner: str, world: str
    ) -> Float[Array, "rollouts horizon observation"]:
        """States of every seed's policy of one variant in the world of another."""
        stage, trained = gain.trained(learner, setup, BarProgress())
        policies: Policy = trained.policies([stage])
        observations = setup.data.transitions.observations
        rows = np.random.default_rng(EVALUATION_SEED).choice(len(observations), self.rollouts)
        horizon: int = setup.config.horizon
        found: list[Any] = [
            setup.world(world)
            .imagine(one_seed(policies, seed), observations[rows], horizon, key=jax.random.key(seed))
            .observations
            for seed in range(gain.seeds)
        ]
        return jnp.concatenate(found)


def margin_row(
    margin: float,
    setup: Setup,
    imagined: Float[Array, "rollouts horizon observation"],
    driven: Float[Array, "rollouts horizon observation"],
) -> dict[str, float]:
    """What halting at a margin sees of the imagined rollouts, and takes of the driven ones."""
    assert setup.task.maze is not None
    halt = fit_halt(setup.data.transitions, margin, setup.config.patience)
    in_wall = ~setup.task.maze.legal(imagined[:, 1:, :2])
    return {
        "margin": margin,
        "through_a_wall": share(in_wall),
        "unseen": share(in_wall & not_yet(halt.left(imagined))),
        "oracle_halted": share(halt.left(driven)),
    }


def share(happens: Bool[Array, "rollouts transitions"]) -> float:
    """Rollouts in which it happens at all."""
    return float(happens.any(axis=1).mean())


def not_yet(left: Bool[Array, "rollouts transitions"]) -> Bool[Array, "rollouts transitions"]:
    """Before the first departure."""
    return jnp.cumsum(left, axis=1) == 0


def table(rows: list[dict[str, float]]) -> str:
    """Markdown, a row a margin."""
    lines = [
        "| margin | through a wall | through a wall, unseen | the oracle's halted |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in rows:
        shares = (f"{row[name]:.0%}" for name in ("through_a_wall", "unseen", "oracle_halted"))
        lines.append(f"| {row['margin']:g} | {' | '.join(shares)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    enable_compile_cache()
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # the oracle's callback must not wait on itself
    tyro.cli(HaltMargins, description=__doc__).run()

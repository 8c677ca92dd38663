"""Which network denoises trajectories best for the seconds it is given: the U-Net or the mixer.

    taskset -c 0 python -m langevin.experiments.trajectory_networks --dataset pointmaze/umaze-200k-v0

Both are trained with the same batches, noise and learning rate (constant after its ramp, the averaged weights are what
is measured), in chunks that alternate. Seconds are those that the processor worked for this program, so that other work
beside it counts little; keep the program on one core, as above. Held-out windows are the last tenth of the data.
"""

import dataclasses
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jaxtyping import Array, Float, PRNGKeyArray
from rich.console import Console

from langevin.data.sampling import Windows, sample_windows, windows_of
from langevin.data.sources import open_dataset
from langevin.diffusion.samplers import Sampler
from langevin.diffusion.schedules import KarrasSchedule
from langevin.errors import UsageError, require_at_least
from langevin.evaluation.fidelity import position_errors
from langevin.imagination.refinement import Refinement
from langevin.imagination.trajectory_model import (
    NetworkName,
    TrajectoryModelState,
    TrajectoryModelTraining,
)
from langevin.progress import BarProgress
from langevin.training.algorithms.registry import load_settings
from langevin.training.compile_cache import enable_compile_cache
from langevin.training.files import atomic_write

Row = dict[str, Any]
NAMES: dict[NetworkName, str] = {"unet": "U-Net", "mixer": "mixer"}
SAMPLER = Sampler("heun", KarrasSchedule(steps=8, highest=10.0))
"""What refines the held-out windows: 15 network calls, whatever the presets take."""
CHUNK = 25
"""Updates between two looks at the clock."""
HELD_OUT = 0.1
LOSS_DRAWS = 16
"""Noise levels drawn for each held-out window."""


@dataclass(frozen=True)
class TrajectoryNetworks:
    """Train each network for a number of processor seconds and measure it on the way."""

    dataset: str
    """Dataset id or path, of a maze."""
    seconds: tuple[float, ...] = (15.0, 30.0, 60.0, 120.0)
    """Processor seconds of training after which to measure."""
    networks: tuple[NetworkName, ...] = ("unet", "mixer")
    """Which to compare."""
    seed: int = 0
    """Of weights, batches and noise."""
    windows: int = 128
    """Held-out windows measured."""
    out: Path = Path("runs/trajectory-networks")
    """Where trajectory_networks.json goes."""

    def run(self) -> list[Row]:
        """Train, measure, print the table and write it as JSON."""
        require_at_least(1, seconds=min(self.seconds), windows=self.windows)
        config = load_settings("dydiff", "td3bc", "cpu", self.dataset, {})
        training, held_out = split_windows(windows_of(open_dataset(self.dataset), config.horizon))
        racers = [Racer(name, config.world_model, training, self.seed) for name in self.networks]
        rows: list[Row] = []
        progress = BarProgress()
        self.out.mkdir(parents=True, exist_ok=True)
        with progress.track(len(self.seconds), "budgets") as advance_bar:
            for mark in sorted(self.seconds):
                while running := [racer for racer in racers if racer.seconds < mark]:
                    for racer in running:
                        racer.chunk()
                for racer in racers:
                    found = measure(racer.training, racer.state, held_out, SAMPLER, self.windows)
                    rows.append({"network": racer.name, "mark": mark, **racer.record(), **found})
                report = {"settings": dataclasses.asdict(self), "rows": rows}
                atomic_write(
                    self.out / "trajectory_networks.json", json.dumps(report, indent=1, default=str) + "\n"
                )
                advance_bar(1)
        Console(width=120).print(table(rows), markup=False, highlight=False)
        return rows


def split_windows(windows: Windows) -> tuple[Windows, Windows]:
    """Windows to train on and, of the last tenth, windows held out; they share no row.

    Raises UsageError for too few windows.
    """
    starts = np.asarray(windows.starts)
    boundary = starts[min(int((1 - HELD_OUT) * starts.size), starts.size - 1)]
    before = starts + windows.horizon <= boundary
    if not before.any():
        raise UsageError(
            f"{starts.size} windows are too few to hold a tenth of them out; take a longer dataset"
        )

    def chosen(rows: np.ndarray) -> Windows:
        own = windows.starts[rows], windows.lengths[rows]
        return eqx.tree_at(lambda w: (w.starts, w.lengths), windows, own)

    return chosen(np.flatnonzero(before)), chosen(np.flatnonzero(starts >= boundary))


class Racer:
    """One network in training, and the processor seconds it has had; compiling is not among them."""

    def __init__(self, name: NetworkName, training: TrajectoryModelTraining, windows: Windows, seed: int):
        self.name: NetworkName = name
        self.windows, self.key = windows, jax.random.key(seed)
        self.training = dataclasses.replace(training, network=name)
        self.start()
        self.chunk()  # compiles
        self.start()

    def start(self) -> None:
        """From fresh weights, with the clock at 0."""
        self.updates, self.seconds = 0, 0.0
        self.state = self.training.init(self.windows, key=self.key)

    def chunk(self) -> None:
        """CHUNK updates more."""
        before = time.process_time()
        first = jnp.int32(self.updates)
        self.state = jax.block_until_ready(
            advance(self.training, self.state, self.windows, first, key=self.key)
        )
        self.seconds += time.process_time() - before
        self.updates += CHUNK

    def record(self) -> Row:
        """What it cost until now."""
        parameters = eqx.filter(self.state.diffusion.network, eqx.is_inexact_array)
        size = sum(leaf.size for leaf in jax.tree.leaves(parameters))
        return {"parameters": size, "updates": self.updates, "seconds": self.seconds}


@eqx.filter_jit
def advance(
    training: TrajectoryModelTraining, state: TrajectoryModelState, windows: Windows, first: Array,
    *, key: PRNGKeyArray,
) -> TrajectoryModelState:  # fmt: skip
    """CHUNK updates, counted from `first`."""
    arrays, rest = eqx.partition(state, eqx.is_array)

    def update(arrays, step):
        state = eqx.combine(arrays, rest)
        state, _ = training.update(state, windows, step=step, key=jax.random.fold_in(key, step))
        return eqx.filter(state, eqx.is_array), None

    arrays, _ = jax.lax.scan(update, arrays, first + jnp.arange(CHUNK))
    return eqx.combine(arrays, rest)


def measure(
    training: TrajectoryModelTraining,
    state: TrajectoryModelState,
    held_out: Windows,
    sampler: Sampler,
    windows: int,
) -> Row:
    """Denoising loss of the averaged weights on held-out windows, and the position error of their refined states.

    The error, in maze cells, is against the logged states of the same windows, over all rows after the first; its
    half-width is of a 95% interval over windows.
    """
    loss, refined, true = examine(training, state, held_out, sampler, windows)
    errors = position_errors(refined, true)[:, 1:]
    return {
        "loss": float(loss),
        "error": float(errors.mean()),
        "half_width": float(1.96 * errors.mean(axis=1).std() / np.sqrt(windows)),
        "last_error": float(errors[:, -1].mean()),
    }


@eqx.filter_jit
def examine(
    training: TrajectoryModelTraining,
    state: TrajectoryModelState,
    held_out: Windows,
    sampler: Sampler,
    windows: int,
) -> tuple[
    Float[Array, ""], Float[Array, "windows horizon observation"], Float[Array, "windows horizon observation"]
]:
    """Held-out loss, refined states and logged states: always of the same windows, with the same noise."""
    batch_key, loss_key, sample_key = jax.random.split(jax.random.key(0), 3)
    batch = sample_windows(held_out, windows, key=batch_key)
    network, model = state.diffusion.average, training.finish(state)
    losses = jax.lax.map(
        lambda key: training.loss(network, state, batch, key=key), jax.random.split(loss_key, LOSS_DRAWS)
    )

    def refine(observations, actions, key):
        return model.refine(observations, actions, Refinement(sampler), 1.0, key=key)

    keys = jax.random.split(sample_key, windows)
    refined = jax.vmap(refine)(batch.observations, batch.actions, keys)
    return losses.mean(), refined, batch.observations


def table(rows: list[Row]) -> str:
    """Markdown: a line a measurement."""
    lines = [
        "| seconds | network | parameters | updates | held-out loss | error | at the last step |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        lines.append(
            f"| {row['mark']:g} | {NAMES[row['network']]} | {row['parameters'] / 1e6:.2f}M | {row['updates']:,} | "
            f"{row['loss']:.3f} | {row['error']:.3f} ± {row['half_width']:.3f} | {row['last_error']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    enable_compile_cache()
    tyro.cli(TrajectoryNetworks, description=__doc__).run()

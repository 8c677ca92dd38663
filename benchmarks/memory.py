"""Memory of a long world-model run, epoch by epoch: what JAX holds, and what the process has of the system.

python benchmarks/memory.py dydiff --epochs 200
python benchmarks/memory.py adept --epochs 200 --set epoch_steps=100

The run is a real one, with its checkpoints, its metrics and its synthetic buffer as the preset has them; the world
models before it are trained for a few updates alone, and the data are noise.
"""

import argparse
import gc
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np

from langevin.commands.train import parse_setting
from langevin.envs.tasks import get_task
from langevin.evaluation.speed import machine
from langevin.evaluation.workloads import DATASET, TASK, noise
from langevin.progress import AbstractProgress, Advance
from langevin.training.algorithms.registry import ALGORITHMS, label_of, load_settings
from langevin.training.algorithms.system import System
from langevin.training.loop import train

MEGABYTE = 2**20
MODELS = {
    "dydiff": {"dynamics_steps": 50, "reward_steps": 50, "inverse_steps": 50, "world_model_steps": 50},
    "adept": {"behaviour_steps": 50, "world_model_steps": 50},
}


class MemoryByChunk(AbstractProgress):
    """Looks at the memory each time a chunk of the stage "policy" reports that it is done."""

    def __init__(self) -> None:
        self.held: list[float] = []
        self.resident: list[float] = []

    @contextmanager
    def track(self, total: int, label: str) -> Iterator[Advance]:
        def advance(amount: int = 1, note: str = "") -> None:
            if label == "policy" and amount:
                gc.collect()
                self.held.append(sum(array.nbytes for array in jax.live_arrays()) / MEGABYTE)
                self.resident.append(resident() / MEGABYTE)

        yield advance


def resident() -> int:
    """Bytes of the process that are in memory (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """Print a Markdown table and, last, everything as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", choices=list(MODELS))
    parser.add_argument("--base", help="the learner it stands on (default: its own)")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument(
        "--set", nargs="*", default=[], help="KEY=VALUE: change one setting of the cpu preset"
    )
    options = parser.parse_args()
    task = get_task(TASK)
    system = System(task, task.observation_size, task.action_size, task.action_low, task.action_high)
    asked = MODELS[options.name] | dict(map(parse_setting, options.set))
    epoch = load_settings(options.name, options.base, "cpu", DATASET, asked).epoch_steps
    config = load_settings(
        options.name, options.base, "cpu", DATASET, asked | {"steps": options.epochs * epoch}
    )
    algorithm, memory = ALGORITHMS[options.name], MemoryByChunk()
    data = algorithm.prepare(config, noise(task.observation_size, task.action_size))
    with tempfile.TemporaryDirectory() as folder:
        train(
            algorithm.stages(config, system), data, [0], folder, chunk_steps=epoch, checkpoint_seconds=10.0,
            progress=memory,
        )  # fmt: skip
    print(f"{label_of(options.name, options.base)}, {epoch} gradient steps an epoch")
    print("| epoch | JAX's arrays, MB | process, MB |\n| ---: | ---: | ---: |")
    for place in sorted({int(place) for place in np.geomspace(1, options.epochs, 10)}):
        print(f"| {place} | {memory.held[place - 1]:.1f} | {memory.resident[place - 1]:,.0f} |")
    print(json.dumps({"machine": machine(), "held": memory.held, "resident": memory.resident}))


if __name__ == "__main__":
    main()

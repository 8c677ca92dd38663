"""Closed-loop environment steps per second: ours in batches beside one gymnasium environment, in the same run.

    python benchmarks/stepping.py

Actions are drawn uniformly, or come from the package's medium policy, 2 x 256 units in NumPy; fallen robots are reset.
The ratio is to gymnasium's single environment under the same kind of actions.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from langevin.envs.behaviour_policies import read_behaviour, shipped_behaviours
from langevin.envs.robot_datasets import Act, actor_of
from langevin.envs.stepping import make_simulator
from langevin.envs.tasks import Task, get_task

ROBOTS = {"hopper": "Hopper-v5", "walker2d": "Walker2d-v5", "halfcheetah": "HalfCheetah-v5"}


@dataclass(frozen=True)
class Stepping:
    """Measure every robot at several batch sizes."""

    batch_sizes: tuple[int, ...] = (1, 16, 256, 1024)
    seconds: float = 3.0
    """For each measurement."""
    policies: Path | None = None
    """Folder with ROBOT-medium.npz, in place of the package's own."""
    json: bool = False

    def run(self) -> dict[str, Any]:
        threadpool_limits(1, "blas")  # as collecting does: products that spin take the simulation's cores
        results: dict[str, Any] = {}
        for name, gymnasium_id in ROBOTS.items():
            task = get_task(name)
            for kind, act in behaviours(task, self.policies).items():
                alone = gymnasium_speed(gymnasium_id, act, self.seconds)
                ours = {size: batch_speed(task, size, act, self.seconds) for size in self.batch_sizes}
                results[f"{name}, {kind}"] = {"gymnasium": alone, **{str(size): ours[size] for size in ours}}
        if self.json:
            print(json.dumps(results))
            return results
        table = Table("robot, actions", "gymnasium, 1", *(f"ours, {size}" for size in self.batch_sizes))
        for name, row in results.items():
            cells = [
                f"{row[str(size)]:,.0f} ({row[str(size)] / row['gymnasium']:.1f}x)"
                for size in self.batch_sizes
            ]
            table.add_row(name, f"{row['gymnasium']:,.0f}", *cells)
        Console().print(table)
        return results


def behaviours(task: Task, folder: Path | None) -> dict[str, Act]:
    """Uniform actions, and the medium policy where there is one."""
    found = {"uniform": actor_of(task, "random")}
    files = {task.id: folder / f"{task.id}-medium.npz"} if folder else {}
    shipped = shipped_behaviours().get((task.id, "medium"))
    file = files.get(task.id, shipped)
    if file is not None and file.is_file():
        found["medium"] = read_behaviour(file).act
    return found


def batch_speed(task: Task, size: int, act: Act, seconds: float) -> float:
    simulator, rng = make_simulator(task, size), np.random.default_rng(0)
    observations = simulator.reset(rng)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        _, _, ended = simulator.step(act(observations, rng))
        if ended.any():
            simulator.reset_rows(ended, rng)
        observations = simulator.observe()
        steps += size
    return steps / (time.perf_counter() - began)


def gymnasium_speed(gymnasium_id: str, act: Act, seconds: float) -> float:
    env, rng = gymnasium.make(gymnasium_id), np.random.default_rng(0)
    observation, _ = env.reset(seed=0)
    began, steps = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        observation, _, ended, out_of_time, _ = env.step(act(observation[None], rng)[0])
        if ended or out_of_time:
            observation, _ = env.reset()
        steps += 1
    return steps / (time.perf_counter() - began)


if __name__ == "__main__":
    tyro.cli(Stepping).run()

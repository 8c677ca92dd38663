"""The behaviour policies that come with the package: small files of weights, acting in NumPy.

Each was trained by `langevin data train-behaviour`; its file holds the weights as float16 and, as JSON, where they come
from: task, seed, steps, the returns measured.
"""

import importlib.resources
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from jaxtyping import Float, Float32

from langevin.envs.tasks import Task
from langevin.errors import LangevinError, UsageError
from langevin.training.files import atomic_write

LOG_STD_BOUNDS = (-20.0, 2.0)
LEVELS = ("medium", "expert")


@dataclass(frozen=True)
class BehaviourPolicy:
    """A squashed Gaussian policy with ReLU layers: weights (in, out) and biases; the last gives mean and log std."""

    weights: tuple[Float[np.ndarray, "_ _"], ...]
    biases: tuple[Float[np.ndarray, " _"], ...]
    origin: dict[str, Any]

    def act(
        self,
        observations: Float[np.ndarray, "batch observation"],
        rng: np.random.Generator,
        mode: bool = False,
    ) -> Float32[np.ndarray, "batch action"]:
        """Samples, as the policies of D4RL act, or the mode; actions in [-1, 1]."""
        hidden = np.asarray(observations, np.float32)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            hidden = np.maximum(hidden @ weight + bias, 0)
        mean, log_std = np.split(hidden @ self.weights[-1] + self.biases[-1], 2, axis=-1)
        if mode:
            return np.tanh(mean)
        noise = rng.standard_normal(mean.shape, np.float32)
        return np.tanh(mean + np.exp(np.clip(log_std, *LOG_STD_BOUNDS)) * noise)


def save_behaviour(path: Path, policy: BehaviourPolicy) -> None:
    """Write the policy as float16, beside the old file first."""

    buffer = io.BytesIO()
    layers = zip(policy.weights, policy.biases, strict=True)
    arrays: dict[str, np.ndarray] = {
        name: np.asarray(array, np.float16)
        for index, (weight, bias) in enumerate(layers)
        for name, array in ((f"weight_{index}", weight), (f"bias_{index}", bias))
    }
    arrays["origin"] = np.array(json.dumps(policy.origin))
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    atomic_write(path, buffer.getvalue())


def read_behaviour(path: Path) -> BehaviourPolicy:
    """Read a policy. **Raises:** `LangevinError` when the file is not one of `save_behaviour`'s."""
    try:
        with np.load(path, allow_pickle=False) as file:
            layers = sum(name.startswith("weight_") for name in file)
            weights = tuple(file[f"weight_{index}"].astype(np.float32) for index in range(layers))
            biases = tuple(file[f"bias_{index}"].astype(np.float32) for index in range(layers))
            origin = json.loads(str(file["origin"]))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise LangevinError(
            f"behaviour policy {path} cannot be read ({error}); train or fetch it again"
        ) from error
    if not weights:
        raise LangevinError(f"behaviour policy {path} holds no layers; train or fetch it again")
    return BehaviourPolicy(weights, biases, origin)


def shipped_behaviours() -> dict[tuple[str, str], Path]:
    """(robot, level) -> file, for the policies that came with the package."""
    folder = importlib.resources.files("langevin.envs") / "policies"
    found = {}
    for path in sorted(Path(str(folder)).glob("*.npz")):
        robot, _, level = path.stem.rpartition("-")
        found[robot, level] = path
    return found


def behaviour_of(task: Task, level: str) -> BehaviourPolicy:
    """The shipped policy of a robot. **Raises:** `UsageError` when there is none, and says how to train it."""
    assert task.robot is not None
    path = shipped_behaviours().get((task.robot.name, level))
    if path is None:
        raise UsageError(
            f"no {level} policy of {task.robot.name} came with this package; "
            f"`langevin data train-behaviour {task.robot.name}` trains one"
        )
    return read_behaviour(path)

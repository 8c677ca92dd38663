"""Langevin: offline reinforcement learning with diffusion models, as planners and as world models.

The names below are all that one's own data need; they are imported on first use, so that `import langevin` is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from langevin.api import Controller, load_policy, train
    from langevin.data.sources import open_dataset
    from langevin.data.sources.minari import save_dataset
    from langevin.data.trajectories import Trajectories
    from langevin.errors import DatasetError, LangevinError, UsageError

_HOMES = {
    "Controller": "langevin.api",
    "DatasetError": "langevin.errors",
    "LangevinError": "langevin.errors",
    "Trajectories": "langevin.data.trajectories",
    "UsageError": "langevin.errors",
    "load_policy": "langevin.api",
    "open_dataset": "langevin.data.sources",
    "save_dataset": "langevin.data.sources.minari",
    "train": "langevin.api",
}

__all__ = [
    "Controller",
    "DatasetError",
    "LangevinError",
    "Trajectories",
    "UsageError",
    "load_policy",
    "open_dataset",
    "save_dataset",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'langevin' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)

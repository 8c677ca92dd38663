"""The smallest run of every algorithm, as arguments of the command line."""

import os
from pathlib import Path

ID = "pointmaze/umaze-v0"
SMALL = ["learner.width=8", "learner.depth=1", "batch_size=16"]
SETTINGS = {
    "bc": ["steps=20", *SMALL],
    "td3bc": ["steps=20", *SMALL],
    "iql": ["steps=20", "rewards.return_range=100.0", *SMALL],
    "dydiff": [
        *SMALL, "steps=20", "epoch_steps=10", "dynamics_steps=10", "reward_steps=10", "inverse_steps=10",
        "world_model_steps=10", "rollouts=4", "horizon=16", "capacity=100", "dynamics.width=8", "dynamics.depth=1",
        "dynamics.members=2", "dynamics.elites=1", "reward.width=8", "reward.depth=1", "inverse.width=8",
        "inverse.depth=1", "world_model.width=8", "world_model.multipliers=[1]", "world_model.batch_size=4",
        "schedule.steps=2", "strength=1.0", "final_actions=inverse",
    ],
    "adept": [
        *SMALL, "steps=20", "epoch_steps=10", "world_model_steps=10", "behaviour_steps=10", "rollouts=4",
        "rollout_steps=3", "capacity=100", "refit_steps=2", "refit_batch_size=8", "world_model.width=8",
        "world_model.depth=1", "world_model.diffusion_steps=2", "world_model.batch_size=8", "behaviour.width=8",
        "behaviour.depth=1",
    ],
    "diffuser": [
        "steps=10", "planner.width=8", "planner.multipliers=[1]", "planner.horizon=16", "planner.shortest=4",
        "planner.batch_size=4", "schedule.steps=2",
    ],
    "hierarchical_diffuser": [
        "steps=20", "arrivals=1", "planner.jump=5", "planner.high.horizon=4", "planner.high.shortest=1",
        *(f"planner.{level}.{setting}" for level in ("high", "low")
          for setting in ("width=8", "multipliers=[1]", "batch_size=4", "chain.steps=3")),
        "sampling.method=ancestral", "sampling.steps=3",
    ],
}  # fmt: skip
UNSHARED = {
    "mtdiff": [
        *SMALL, "steps=10", "world_model_steps=10", "synthesis_steps=2", "synthesis_batch=2", "horizon=8",
        "world_model.width=8", "world_model.multipliers=[1]", "world_model.batch_size=4", "schedule.steps=2",
    ],
}  # fmt: skip
"""Of runs that a single test makes for itself."""
EPISODES = 20
"""As many as an evaluation during training runs, so that one program serves both."""
SEEDS = {
    "bc": 2,
    "td3bc": 1,
    "iql": 2,
    "dydiff": 2,
    "adept": 1,
    "diffuser": 1,
    "hierarchical_diffuser": 1,
}


def train_arguments(algorithm: str, out: Path) -> list[str]:
    seeds = SEEDS.get(algorithm, 1)
    words = f"train {algorithm} --dataset {ID} --seeds {seeds} --episodes {EPISODES}".split()
    return [
        *words,
        "--out",
        str(out),
        *(word for setting in (SETTINGS | UNSHARED)[algorithm] for word in ("--set", setting)),
    ]


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }

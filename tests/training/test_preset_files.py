"""The package's own preset files hold all that they set."""

import importlib.resources
import tomllib

import pytest

from langevin.training.algorithms.registry import ALGORITHMS, LEARNERS, load_settings
from langevin.training.presets import to_table

LEARNERS_AND_WORLD_MODELS = (
    *LEARNERS, "rvs", "decision_transformer", "trajectory_transformer", "mopo", "combo", "morel", "mppi",
    "dydiff", "single_step", "adept", "synther", "mtdiff", "policy_guided",
)  # fmt: skip
WITHOUT_EFFECT = ("rewards.shift", "best_share", "renoised.", "world_model.mixer.", "churn.")
"""Settings of what a preset leaves out: unscaled rewards, all episodes, another refinement, network, no churn."""


def numbers(table, above=""):
    """The numbers of nested tables, by their dotted names."""
    found = {}
    for name, value in table.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{above}{name}.")
        elif isinstance(value, list | int | float) and not isinstance(value, bool):
            found[above + name] = value
    return found


@pytest.mark.parametrize("preset", ["cpu", "paper"])
@pytest.mark.parametrize("name", LEARNERS_AND_WORLD_MODELS)
def test_every_number_of_a_preset_stands_in_its_file(name, preset):
    """None of them is a default somewhere in the code, where nobody would look for its source."""
    file = importlib.resources.files("langevin.training") / "presets" / f"{name}.toml"
    general = {key: value for key, value in tomllib.loads(file.read_text())[preset].items() if "/" not in key}
    settings = numbers(to_table(load_settings(name, None, preset, "my-logs", {})))
    hidden = [key for key in settings if key not in numbers(general) and not key.startswith(WITHOUT_EFFECT)]
    if ALGORITHMS[name].takes_base:
        hidden = [key for key in hidden if key != "steps" and not key.startswith(("learner.", "rewards."))]
    assert hidden == []

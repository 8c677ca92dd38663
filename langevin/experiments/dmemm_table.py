"""DMEMM, what is left of it without each of its parts, and sweeps of its weights: its Table 3 and Fig. 1.

    python -m langevin.experiments.dmemm_table --datasets pointmaze/umaze-v0 hopper/medium-v0 --steps 2000

Every variant has the same network, chain, updates and seeds; the one without any part is Diffuser. A run that is
finished is kept and one that was stopped goes on.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from langevin.errors import UsageError, nearest
from langevin.experiments.learner_table import table
from langevin.experiments.runs import RunRequest, run
from langevin.progress import BarProgress
from langevin.training.algorithms.registry import load_settings
from langevin.training.files import atomic_write
from langevin.training.run_folder import read_summary

PARTS: dict[str, dict[str, Any]] = {
    "return weights": {"planner.return_weights": False},
    "L_tr": {"planner.transition_weight": 0.0},
    "L_rd": {"planner.reward_weight": 0.0},
    "transition guidance": {"guidance.transition_weight": 0.0},
    "reward guidance": {"guidance.reward_weight": 0.0},
}
"""What can be left out, and the settings that do."""
EVERY_PART = {key: value for settings in PARTS.values() for key, value in settings.items()}
VARIANTS: dict[str, dict[str, Any]] = {
    "Diffuser": EVERY_PART,
    "DMEMM": {},
    "without value": {"candidates": 1, "value_guidance.scale": 0.0},
    **{f"without {part}": settings for part, settings in PARTS.items()},
}


@dataclass(frozen=True)
class DMEMMTable:
    """Train what is missing and write dmemm.md and dmemm.json."""

    datasets: tuple[str, ...] = ("pointmaze/umaze-v0",)
    """Dataset ids."""
    variants: tuple[str, ...] | None = None
    """Which to train, in order; the sweeps come after them. None: all that differ from DMEMM on every dataset."""
    preset: str = "cpu"
    """Of the settings that the variants share."""
    steps: int | None = None
    """Gradient steps of each; None: the preset's."""
    seeds: int = 3
    """Seeds of each: 0, 1, …"""
    episodes: int = 50
    """Evaluation episodes a seed."""
    transition_weights: tuple[float, ...] = ()
    """lambda_tr to try besides the preset's."""
    reward_weights: tuple[float, ...] = ()
    """lambda_rd to try besides the preset's."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: change one setting of every variant, as in `langevin train`."""
    out: Path = Path("runs/dmemm")
    """One run folder a cell."""

    def columns(self) -> dict[str, dict[str, Any]]:
        """Name of each column -> its settings."""
        sweeps = {
            f"lambda_{short} {value:g}": {f"planner.{long}_weight": value}
            for short, long, values in (
                ("tr", "transition", self.transition_weights), ("rd", "reward", self.reward_weights),
            ) for value in values
        }  # fmt: skip
        if self.variants is not None:
            return {name: VARIANTS[name] for name in self.variants} | sweeps
        kept = (name for name in VARIANTS if name == "DMEMM" or not self.same_on(VARIANTS[name]))
        return {name: VARIANTS[name] for name in kept} | sweeps

    def run(self) -> dict[str, dict[str, Any]]:
        """The summaries, by variant and dataset."""
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for an interval needs a spread; got {self.seeds}")
        for name in self.variants or ():
            if name not in VARIANTS:
                raise UsageError(f"--variants {name} is none of them; {nearest(name, VARIANTS)}")
        self.require_differences()
        self.out.mkdir(parents=True, exist_ok=True)
        cells: dict[str, dict[str, Any]] = {}
        for dataset in self.datasets:
            for name, settings in self.columns().items():
                cells.setdefault(name, {})[dataset] = self.cell(name, settings, dataset)
                atomic_write(self.out / "dmemm.json", json.dumps(cells, indent=1) + "\n")
                atomic_write(self.out / "dmemm.md", table(cells, self.datasets))
        return cells

    def require_differences(self) -> None:
        """Raises UsageError for a variant that changes nothing on a dataset: it would be DMEMM trained twice."""
        for name, settings in self.columns().items():
            if name != "DMEMM" and (dataset := self.same_on(settings)):
                raise UsageError(
                    f"{name} is DMEMM itself on {dataset} at the {self.preset} preset; leave it out by --variants, or "
                    "set what it takes away, as in --set guidance.scale=0.001"
                )

    def same_on(self, settings: dict[str, Any]) -> str | None:
        """The first dataset on which these settings change nothing."""
        for dataset in self.datasets:
            whole = load_settings("dmemm", None, self.preset, dataset, self.shared())
            changed = load_settings("dmemm", None, self.preset, dataset, self.shared() | settings)
            of_guidance = bool(settings) and all(key.startswith("guidance.") for key in settings)
            if changed == whole or (of_guidance and not whole.guidance.scale):
                return dataset
        return None

    def shared(self) -> dict[str, Any]:
        """What is set for every variant."""
        from langevin.commands.train import parse_setting

        return dict(map(parse_setting, self.set))

    def cell(self, name: str, settings: dict[str, Any], dataset: str) -> dict[str, Any]:
        """The summary of one run, trained if it is not there."""
        folder = self.out / name.replace(" ", "-") / dataset
        if (folder / "summary.json").is_file():
            return read_summary(folder)
        steps = {} if self.steps is None else {"steps": self.steps}
        request = RunRequest(
            "dmemm", dataset, folder, preset=self.preset, seeds=tuple(range(self.seeds)), episodes=self.episodes,
            overrides=self.shared() | settings | steps, resume=folder.exists(),
        )  # fmt: skip
        return run(request, progress=BarProgress())


if __name__ == "__main__":
    tyro.cli(DMEMMTable, description=__doc__).run()

"""`langevin train ALGORITHM`: train several seeds at once, evaluate them, leave a run folder."""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from langevin.errors import UsageError
from langevin.experiments.runs import RunRequest, run
from langevin.progress import BarProgress
from langevin.report.table import print_results
from langevin.training.algorithms.registry import TransferName, find_algorithm


@dataclass(frozen=True)
class Train:
    """Train a controller from logged data, several seeds in one program, and evaluate it.

    Examples:
    langevin train td3bc --dataset pointmaze/umaze-v0
    langevin train dydiff --dataset pointmaze/umaze-v0 --base td3bc --seeds 5 --steps 100000
    langevin train synther --dataset pointmaze/umaze-v0 --base iql
    langevin train diffuser --dataset pointmaze/medium-v0 --out runs/planner
    langevin train cql --dataset hopper/medium-expert-v0 --target-dataset hopper/leg_size/target-v0 --dara
    langevin train off_dynamics --dataset hopper/medium-expert-v0 --target-dataset hopper/leg_size/target-v0
    langevin train bcq --dataset hopper/medium-expert-v0 --finetune-on hopper/leg_size/target-v0
    langevin train adept --dataset hopper/medium-v0 --base iql
    langevin train dydiff --dataset pointmaze/umaze-v0 --set strength=0.25 --set learner.alpha=1.0
    """

    algorithm: tyro.conf.Positional[str]
    """A learner: bc, td3bc, sac, cql, iql, bcq, bear, diffusion_ql. Conditioned on outcomes: rvs, decision_transformer,
    trajectory_transformer. Model-based: mopo, combo, morel, mppi. Add-ons to a learner: dydiff, adept, synther, mtdiff,
    policy_guided, single_step. Planners: diffuser, decision_diffuser, veteran, hierarchical_diffuser, hdmi, dmemm,
    off_dynamics."""
    dataset: str
    """Dataset id, or the path of a Minari dataset (see langevin data list)."""
    target_dataset: str | None = None
    """Data of the system that the policy is for, with --dara or off_dynamics; --dataset is then the source's."""
    dara: bool = False
    """Learn from source and target at once, the source's rewards less what the target would not allow."""
    finetune_on: str | None = None
    """A dataset of the system that the policy is for: learn from --dataset first, then from it."""
    base: str | None = None
    """The learner an add-on such as dydiff stands on (default td3bc; iql for adept)."""
    preset: str = "cpu"
    """Which settings to start from: cpu (minutes on two cores) or paper."""
    seeds: int = 3
    """Number of seeds: 0, 1, …"""
    steps: int | None = None
    """Gradient steps of the policy (default: the preset's)."""
    episodes: int = 100
    """Evaluation episodes a seed at the end."""
    out: Path | None = None
    """Run folder (default: runs/<algorithm>-<dataset>)."""
    resume: bool = False
    """Go on with the run in the folder; it ends as if it had never stopped."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """KEY=VALUE: change one setting (dots reach nested ones); may be given several times."""
    json: bool = False
    """Print the summary as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Train, evaluate, and print where the run folder is."""
        transfer, target = self.transfer()
        find_algorithm(self.algorithm, transfer)
        for name, least in (("seeds", 1), ("episodes", 1), ("steps", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} must be at least {least}, got {value}")
        overrides = dict(map(parse_setting, self.set))
        if self.steps is not None:
            overrides["steps"] = self.steps
        request = RunRequest(
            algorithm=self.algorithm,
            dataset=self.dataset,
            out=self.out or default_folder(self.algorithm, self.base or transfer, target or self.dataset),
            base=self.base,
            target_dataset=target,
            transfer=transfer,
            preset=self.preset,
            seeds=tuple(range(self.seeds)),
            episodes=self.episodes,
            overrides=overrides,
            resume=self.resume,
        )
        summary = run(request, progress=BarProgress())
        if self.json:
            print(json.dumps(summary))
        else:
            console = Console()
            if summary["normalized_score"] is None:
                console.print(
                    f"Not scored: {self.dataset} was logged from a system without a simulator here."
                )
            else:
                print_results([summary], console)
            console.print(f"The run is in {request.out}", highlight=False)
        return summary

    def transfer(self) -> tuple[TransferName | None, str | None]:
        """How to learn from two datasets, and the second of them."""
        if self.dara and self.finetune_on:
            raise UsageError("--dara and --finetune-on are two ways to use a target's data; choose one")
        if find_algorithm(self.algorithm).takes_target and not (self.dara or self.finetune_on):
            return None, self.target_dataset
        if self.dara != (self.target_dataset is not None):
            raise UsageError(
                "--dara and --target-dataset go together; give both, or --finetune-on to learn from one after the other"
            )
        if self.finetune_on:
            return "finetune", self.finetune_on
        return ("dara", self.target_dataset) if self.dara else (None, None)


def default_folder(algorithm: str, base: str | None, dataset: str) -> Path:
    """Where a run goes when nobody says."""
    words = [algorithm, *([base] if base else []), dataset.strip("/").replace("/", "-").replace(":", "-")]
    return Path("runs") / "-".join(words)


def parse_setting(text: str) -> tuple[str, Any]:
    """ "learner.alpha=1.0" as a key and a TOML value; a bare word is a string.

    Raises UsageError where there is no "=".
    """
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--set takes KEY=VALUE, got {text!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value

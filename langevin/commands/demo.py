"""`langevin demo`: the main job, small, from nothing to a page of results."""

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from langevin.envs.tasks import task_of_dataset
from langevin.errors import UsageError
from langevin.experiments.demo import demo
from langevin.progress import BarProgress
from langevin.report.table import print_results


@dataclass(frozen=True)
class Demo:
    """Make data in the simulator, train BC, TD3+BC, TD3+BC with DyDiff and a diffusion planner, and compare them.

    Example:
    langevin demo

    Takes about a quarter of an hour on two cores and needs no network; two runs train side by side. Everything goes
    into one folder; run again, it goes on where it was stopped.
    """

    out: Path = Path("runs/demo")
    """Where runs and report.html go."""
    dataset: str = "pointmaze/umaze-v0"
    """Which maze's data."""
    episodes: int = 100
    """Evaluation episodes a seed."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Train, evaluate, write the page and say where it is."""
        if self.episodes < 1:
            raise UsageError(f"--episodes must be at least 1, got {self.episodes}")
        task_of_dataset(self.dataset)
        console, started = Console(stderr=self.json), time.monotonic()

        def say(words: str) -> None:
            console.print(f"[{time.monotonic() - started:5.0f} s] {words}", markup=False, highlight=False)

        result = demo(self.dataset, self.out, self.episodes, BarProgress(), say)
        print_results(result["summaries"], console)
        for sentence in result["verdict"]:
            console.print(f"• {sentence}", highlight=False)
        say(f"the report is in {result['report']}")
        if self.json:
            print(json.dumps(result))
        return result

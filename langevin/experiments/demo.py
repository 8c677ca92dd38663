"""The demo: the main job, small, from nothing to a page of results."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from langevin.data.sources import open_dataset
from langevin.data.sources.minari import list_datasets, save_dataset
from langevin.data.trajectories import Trajectories
from langevin.envs.collect import make_dataset
from langevin.experiments.fidelity import fidelity_report, save_fidelity
from langevin.experiments.pictures import draw_run, drawn
from langevin.experiments.runs import RunRequest, load_run, one_seed, run
from langevin.experiments.side_by_side import side_by_side
from langevin.progress import AbstractProgress
from langevin.report.page import write_report
from langevin.training.run_folder import read_summary

TRANSITIONS = 1_000_000
LEARNER: dict[str, Any] = {"steps": 30_000, "learner.width": 128}
"""Of TD3+BC, with and without DyDiff: half the published width takes twice the steps in a quarter of an hour."""
LONGEST_FIRST = ("dydiff", "diffuser", "td3bc", "bc")
"""So that neither core waits long for the other at the end."""
FIDELITY_ROLLOUTS = 64
FIDELITY_STRENGTHS = (0.0, 1.0)
"""Both ends of the knob, beside the preset's own."""

Say = Callable[[str], None]


def requests(dataset: str, out: Path, episodes: int) -> list[RunRequest]:
    """What is compared, at the cpu preset: three seeds of each, two of the planner, the slowest."""

    def request(algorithm: str, base: str | None = None, seeds: int = 3, **overrides: Any) -> RunRequest:
        folder = out / algorithm
        return RunRequest(
            algorithm, dataset, folder, base, "cpu", tuple(range(seeds)), episodes, overrides,
            resume=folder.exists(),
        )  # fmt: skip

    return [
        request("bc"),
        request("td3bc", **LEARNER),
        request("dydiff", "td3bc", **LEARNER),
        request("diffuser", seeds=2),
    ]


def demo(dataset: str, out: Path, episodes: int, progress: AbstractProgress, say: Say) -> dict[str, Any]:
    """Data, four runs, their pictures, the world model's fidelity and the page; returns summaries and paths.

    A finished run in `out` is kept, and drawn where it was stopped before its pictures; others go on where they were.
    """
    trajectories = demo_data(dataset, progress, say)
    folders = [request.out for request in requests(dataset, out, episodes)]
    missing = []
    for request in requests(dataset, out, episodes):
        if finished(request.out) and drawn(request.out):
            say(f"{read_summary(request.out)['label']}: already in {request.out}")
        else:
            missing.append(request)

    def train(request: RunRequest, progress: AbstractProgress) -> None:
        if not finished(request.out):
            say(f"training {request.algorithm}, {len(request.seeds)} seeds")
            run(request, trajectories, progress)
            say(f"trained {request.algorithm}")
        draw_run(request.out, episodes=episodes, progress=progress)  # as many as were scored: one program

    longest_first = sorted(missing, key=lambda request: LONGEST_FIRST.index(request.algorithm))
    side_by_side(
        {request.algorithm: partial(train, request) for request in longest_first}, progress,
        stopping=lambda: say("stopping: a run ends when what it now computes is done, which can take a minute"),
    )  # fmt: skip
    say("measuring how far the world model can be trusted")
    fidelity = demo_fidelity(out / "dydiff", trajectories, progress)
    page = write_report(folders, out / "report.html", title="Langevin demo", progress=progress)
    summaries = [read_summary(folder) for folder in folders]
    return {"summaries": summaries, "verdict": fidelity["verdict"], "report": str(page)}


def finished(folder: Path) -> bool:
    """Whether a run has its scores."""
    return (folder / "summary.json").is_file()


def demo_data(dataset: str, progress: AbstractProgress, say: Say) -> Trajectories:
    """The dataset from disk, or made by its recipe and kept there."""
    if dataset not in list_datasets():
        say(f"making {dataset}: {TRANSITIONS:,} transitions in the simulator")
        save_dataset(make_dataset(dataset, TRANSITIONS, seed=0, progress=progress), dataset)
    return open_dataset(dataset)


def demo_fidelity(folder: Path, trajectories: Trajectories, progress: AbstractProgress) -> dict[str, Any]:
    """The fidelity report of the first seed's models."""
    loaded = load_run(folder)
    report = fidelity_report(
        folder, loaded, one_seed(loaded.result.states, 0), trajectories,
        rollouts=FIDELITY_ROLLOUTS, strengths=FIDELITY_STRENGTHS, progress=progress,
    )  # fmt: skip
    save_fidelity(folder, report)
    return report

"""Every learner on every dataset at one budget: the table that the published orders are read against.

    python -m langevin.experiments.learner_table --learners bc td3bc iql --datasets hopper/medium-v0 --steps 100000
    python -m langevin.experiments.learner_table --learners cql bcq mopo --datasets hopper/medium-v0 --steps None

With `--steps None` each learner has its preset's budget, and the table a line a learner that says it.

A run that is finished is kept and one that was stopped goes on. The table is of all that is finished in the folder, so
that it can grow over days; with `--known learners.json` it has the cells of that file as well, and grows over machines;
with `--published published.json` what others report stands below each of its lines.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import tyro

from langevin.errors import UsageError
from langevin.experiments.runs import RunRequest, run
from langevin.progress import BarProgress
from langevin.report.learner_scores import Cells, Published, learner_scores
from langevin.report.style import save_png
from langevin.training.algorithms.registry import find_algorithm
from langevin.training.files import atomic_write
from langevin.training.run_folder import read_summary

ROBOTS = ("hopper", "halfcheetah", "walker2d")
LEVELS = ("random", "medium", "medium-replay", "medium-expert")
MAZES = ("pointmaze/umaze-v0", "pointmaze/medium-v0", "pointmaze/large-v0")
DATASETS = (*(f"{robot}/{level}-v0" for robot in ROBOTS for level in LEVELS), *MAZES)
TEN_PERCENT = "bc-10%"
LEARNERS = ("bc", TEN_PERCENT, "td3bc", "iql", "cql", "sac")


@dataclass(frozen=True)
class LearnerTable:
    """Train what is missing and write learners.md, learners.json and learners.png."""

    learners: tuple[str, ...] = LEARNERS
    """Algorithms; bc-10% clones the best tenth of the episodes."""
    datasets: tuple[str, ...] = DATASETS
    """Dataset ids."""
    steps: int | None = 100_000
    """Gradient steps of each; None: its preset's."""
    seeds: int = 3
    """Seeds of each: 0, 1, …"""
    episodes: int = 50
    """Evaluation episodes a seed."""
    set: tuple[str, ...] = ()
    """KEY=VALUE: change one setting of every learner named, as in `langevin train`."""
    out: Path = Path("runs/learners")
    """One run folder a cell."""
    known: Path | None = None
    """A learners.json of cells measured before; they are not trained again."""
    published: Path | None = None
    """JSON of what others report: {"scores": {learner: {dataset: [mean, standard deviation]}}}."""

    def run(self) -> dict[str, dict[str, Any]]:
        """The summaries, by learner and dataset."""
        if self.seeds < 2:
            raise UsageError(f"--seeds must be at least 2, for an interval needs a spread; got {self.seeds}")
        if not (self.learners and self.datasets):
            raise UsageError(
                "a table needs learners and datasets; name some, or leave the option out for all"
            )
        for learner in self.learners:
            find_algorithm(algorithm_of(learner))
        known, published = known_cells(self.known), published_scores(self.published)
        self.out.mkdir(parents=True, exist_ok=True)
        for dataset in self.datasets:
            for learner in self.learners:
                if dataset in known.get(learner, {}):
                    self.require_budget(known[learner][dataset], f"{self.known} holds {learner} on {dataset}")
                else:
                    self.fill(learner, dataset)
                self.write(known, published)
        return self.write(known, published)

    def write(self, known: Cells, published: Published) -> dict[str, dict[str, Any]]:
        """What was known and all that is finished in the folder, as JSON, as a table and as a picture."""
        cells = together(known, finished(self.out))
        rows = in_order({dataset for column in cells.values() for dataset in column}, DATASETS)
        atomic_write(self.out / "learners.json", json.dumps(cells, indent=1) + "\n")
        words = by_learner(cells, rows) if self.steps is None else table(cells, rows, published)
        atomic_write(self.out / "learners.md", words)
        save_png(learner_scores(cells, rows, published), self.out / "learners.png")
        return cells

    def fill(self, learner: str, dataset: str) -> None:
        """Train and evaluate one cell, if it is not there.

        Raises UsageError where the folder holds it at another budget: a table has one.
        """
        from langevin.commands.train import parse_setting

        folder = self.out / learner / dataset
        if (folder / "summary.json").is_file():
            self.require_budget(read_summary(folder), f"{folder} holds a run")
            return
        steps = {} if self.steps is None else {"steps": self.steps}
        overrides: dict[str, Any] = steps | dict(map(parse_setting, self.set))
        if learner == TEN_PERCENT:
            overrides["best_share"] = 0.1
        request = RunRequest(
            algorithm_of(learner), dataset, folder, seeds=tuple(range(self.seeds)), episodes=self.episodes,
            overrides=overrides, resume=folder.exists(),
        )  # fmt: skip
        run(request, progress=BarProgress())

    def require_budget(self, held: Mapping[str, Any], where: str) -> None:
        """Raises UsageError where a cell was measured at another budget."""
        budget = {"steps": self.steps, "seeds": list(range(self.seeds)), "episodes": self.episodes}
        for name, asked in budget.items():
            if asked is not None and held[name] != asked:
                raise UsageError(
                    f"{where} of {name} {held[name]}, and {asked} were asked for; "
                    "choose another --out for another budget, or leave out --known"
                )


def known_cells(path: Path | None) -> dict[str, dict[str, Any]]:
    """The summaries of an earlier learners.json, by learner and dataset. Raises UsageError where it is not one."""
    return {} if path is None else read_json(path, "--known", "a learners.json")


def published_scores(path: Path | None) -> Published:
    """Mean and standard deviation by learner and dataset. Raises UsageError where the file does not hold that."""
    if path is None:
        return {}
    found, wanted = read_json(path, "--published", "a file of published scores"), "[mean, standard deviation]"
    columns = found.get("scores") if isinstance(found, dict) else None
    if not isinstance(columns, dict) or not all(isinstance(column, dict) for column in columns.values()):
        raise UsageError(f'--published {path} must hold {{"scores": {{learner: {{dataset: {wanted}}}}}}}')
    for learner, column in columns.items():
        for dataset, entry in column.items():
            if not is_pair(entry):
                raise UsageError(
                    f"--published {path}: {learner} on {dataset} is {entry!r}, and must be {wanted}"
                )
    return columns


def is_pair(entry: Any) -> bool:
    """Whether something read from JSON is a list of two numbers."""
    return (
        isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, int | float) for part in entry)
    )


def read_json(path: Path, option: str, wanted: str) -> Any:
    """What a file named on the command line holds. Raises UsageError where it cannot be read."""
    try:
        return json.loads(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{option} {path} cannot be read ({error.strerror}); name {wanted}") from error
    except ValueError as error:
        raise UsageError(f"{option} {path} is not valid JSON ({error}); name {wanted}") from error


def together(*tables: Cells) -> dict[str, dict[str, Any]]:
    """The cells of all tables, the later ones' where two have the same."""
    cells: dict[str, dict[str, Any]] = {}
    for table in tables:
        for learner, column in table.items():
            cells.setdefault(learner, {}).update(column)
    return {learner: cells[learner] for learner in in_order(cells, LEARNERS)}


def finished(folder: Path) -> dict[str, dict[str, Any]]:
    """The summaries under a table's folder, by learner and dataset, in the order of the table's defaults."""
    cells: dict[str, dict[str, Any]] = {}
    for path in sorted(folder.rglob("summary.json")):
        learner, *dataset = path.parent.relative_to(folder).parts
        cells.setdefault(learner, {})["/".join(dataset)] = read_summary(path.parent)
    return cells


def in_order(names: Iterable[str], first: tuple[str, ...]) -> list[str]:
    """Those of `first` in their order, then the others in alphabetical order."""
    return sorted(names, key=lambda name: (first.index(name) if name in first else len(first), name))


def algorithm_of(learner: str) -> str:
    """The algorithm behind a column's name."""
    return "bc" if learner == TEN_PERCENT else learner


def table(cells: Cells, datasets: Iterable[str], published: Published = MappingProxyType({})) -> str:
    """Interquartile means of normalised scores with their intervals, a row a dataset, the published ones below it."""
    lines = [f"| dataset | {' | '.join(cells)} |", "| --- |" + " ---: |" * len(cells)]
    for dataset in datasets:
        words = [score(cells[learner].get(dataset)) for learner in cells]
        lines.append(f"| {dataset} | {' | '.join(words)} |")
        others = [published.get(learner, {}).get(dataset) for learner in cells]
        if any(others):
            words = ["" if entry is None else f"{entry[0]:.1f} ± {entry[1]:.1f}" for entry in others]
            lines.append(f"| *published* | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def by_learner(cells: Cells, datasets: Iterable[str]) -> str:
    """The same scores, a row a learner, with the gradient steps of each: for learners at budgets of their own."""
    datasets = tuple(datasets)
    lines = [
        f"| learner | gradient steps | {' | '.join(datasets)} |",
        "| --- |" + " ---: |" * (len(datasets) + 1),
    ]
    for learner, column in cells.items():
        steps = ", ".join(f"{count:,}" for count in sorted({cell["steps"] for cell in column.values()}))
        words = [score(column.get(dataset)) for dataset in datasets]
        lines.append(f"| {learner} | {steps} | {' | '.join(words)} |")
    return "\n".join(lines) + "\n"


def score(summary: Mapping[str, Any] | None) -> str:
    """ "44.1 [43.0, 45.2]", or nothing where there is no run."""
    if summary is None:
        return ""
    block = summary["normalized_score"]
    return f"{block['iqm']:.1f} [{block['ci95'][0]:.1f}, {block['ci95'][1]:.1f}]"


if __name__ == "__main__":
    tyro.cli(LearnerTable, description=__doc__).run()

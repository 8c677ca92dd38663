"""The page of `langevin data check`: what a careful person would look at before training, in pictures."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from langevin.data.checks import Finding, constant_columns, repeated_transitions, shares_at_bounds
from langevin.data.endings import at_time_limit, rows_into_resets
from langevin.data.trajectories import Trajectories
from langevin.envs.tasks import Task
from langevin.report.data_figures import histogram, histogram_sparks, positions_in_maze, saturation
from langevin.report.html import panels, section
from langevin.report.page import assemble_page, require_place
from langevin.report.table import number
from langevin.training.files import atomic_write


def write_check_page(
    data: Trajectories, task: Task | None, findings: Sequence[Finding], out: Path, name: str
) -> Path:
    """Write the page about the dataset called `name` and return its path.

    A page that stood there is replaced only by a whole new one.

    **Raises:** `UsageError` when `out` cannot be a file; `LangevinError` when the disk refuses.
    """
    require_place(out)
    atomic_write(out, build_check_page(data, task, findings, name))
    return out


def build_check_page(data: Trajectories, task: Task | None, findings: Sequence[Finding], name: str) -> str:
    """The page as text: findings, returns and lengths, coverage, actions, ends of episodes."""
    chapters = [
        ("findings", "Findings", _findings(findings)),
        ("episodes", "Returns and lengths", _episodes(data, task)),
        ("coverage", "Where the data have been", _coverage(data, task)),
        ("actions", "Actions", _actions(data)),
        ("ends", "How episodes end", _ends(data, task)),
    ]
    return assemble_page("data check", name, _lede(data, findings), _facts(data, task), chapters)


def _lede(data: Trajectories, findings: Sequence[Finding]) -> str:
    warnings = sum(finding.level == "warning" for finding in findings)
    size = f"{data.transitions:,} transitions in {data.episodes:,} episode{_s(data.episodes)}"
    if not warnings:
        return f"{size}: well formed, and <b>nothing found</b> that deserves a second look."
    verb = "s" if warnings == 1 else ""
    return f"{size}: well formed, and <b>{warnings} thing{_s(warnings)}</b> deserve{verb} a look before training."


def _facts(data: Trajectories, task: Task | None) -> str:
    returns = data.episode_returns()
    bounds = zip(data.action_low.tolist(), data.action_high.tolist(), strict=True)
    spans = list(dict.fromkeys(f"{number(low)} to {number(high)}" for low, high in bounds))
    span = spans[0] if len(spans) == 1 else "each with bounds of its own"
    repeated = int(repeated_transitions(data).sum())
    constant = [
        name
        for field, values in (("observations", data.observations), ("actions", data.actions))
        for name in np.array(_dimensions(data, field))[constant_columns(values)]
    ]
    rows: dict[str, Any] = {
        "Task": task.id if task else "none known here: trained on, not scored",
        "Observation": f"{data.observation_size} number{_s(data.observation_size)}",
        "Action": f"{data.action_size} number{_s(data.action_size)}, {span}",
        "Return": f"mean {number(float(returns.mean()))}, {number(float(returns.min()))} to "
        f"{number(float(returns.max()))}",
        "Score": f"mean {number(float(np.mean(task.normalized_score(returns))))}" if task else "",
        "Repeated": f"{repeated:,} transitions equal an earlier one ({repeated / data.transitions:.2%})",
        "Constant": " · ".join(constant) or "no dimension",
        "Recipe": _flat(data.metadata.get("recipe")),
        "Notes": " · ".join(data.metadata.get("notes", ())),
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(str(value))}</dd>" for name, value in rows.items() if value)
    return f'<dl class="facts">{items}</dl>'


def _findings(findings: Sequence[Finding]) -> str:
    """Warnings first."""
    rows = "".join(
        f'<tr><td><span class="mark {finding.level}">{finding.level}</span></td>'
        f"<th>{escape(finding.field.replace('_', ' '))}</th><td>{escape(finding.message)}</td></tr>"
        for finding in sorted(findings, key=lambda finding: finding.level != "warning")
    )
    head = "<thead><tr><th>Level</th><th>Field</th><th>What was found</th></tr></thead>"
    return f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>'


def _episodes(data: Trajectories, task: Task | None) -> str:
    references = {"random": task.random_score, "expert": task.expert_score} if task else {}
    limit = {"time limit": float(task.max_steps)} if task else {}
    return panels(
        [
            (histogram(data.episode_returns(), "return of an episode", references), "histogram of returns"),
            (histogram(data.episode_lengths(), "steps of an episode", limit), "histogram of lengths"),
        ],
        "episodes",
    )


def _coverage(data: Trajectories, task: Task | None) -> str:
    maze = ""
    if task and task.maze:
        picture = positions_in_maze(task.maze, data.observations[:, :2])
        legal = task.maze.legal(data.observations[:, :2]).mean()
        maze = panels([(picture, "positions in the maze")], "maze") + (
            f'<p class="note">{legal:.2%} of the positions lie in free cells; the star is the goal.</p>'
        )
    sparks = histogram_sparks(data.observations, _dimensions(data, "observations"))
    return maze + section("Each dimension of the observation", sparks)


def _actions(data: Trajectories) -> str:
    low, high = shares_at_bounds(data)
    names = _dimensions(data, "actions")
    words = (
        "<p>Actions at their bounds are the hardest for a policy that squashes a Gaussian between them: its density "
        "is infinite there.</p>"
    )
    drawn = panels([(saturation(low, high, names), "share of actions at their bounds")], "saturation")
    return words + drawn + section("Each dimension of the action", histogram_sparks(data.actions, names))


def _ends(data: Trajectories, task: Task | None) -> str:
    last = data.episode_ends - 1
    terminated = data.terminations[last]
    still = (data.next_observations[last] == data.observations[last]).all(axis=1)
    limit = at_time_limit(data, task.max_steps if task else None)
    rows = {
        "terminated by the system": terminated.sum(),
        "truncated by the clock or the log": (~terminated).sum(),
        "terminated exactly at the time limit": limit.sum(),
        "successor repeats the observation": still.sum(),
        "successor looks like a reset": rows_into_resets(data).size,
        "a single step long": (data.episode_lengths() == 1).sum(),
    }
    body = "".join(
        f'<tr><th>{name}</th><td class="number">{count:,}</td><td class="number">{count / data.episodes:.1%}</td></tr>'
        for name, count in rows.items()
    )
    head = (
        '<thead><tr><th>Episodes</th><th class="number">Number</th><th class="number">Share</th></tr></thead>'
    )
    return f'<div class="wide"><table>{head}<tbody>{body}</tbody></table></div>'


def _dimensions(data: Trajectories, field: str) -> list[str]:
    """Names of the dimensions: the columns they were imported from, else numbers."""
    size = getattr(data, field).shape[1]
    recipe = data.metadata.get("recipe") or {}
    columns = recipe.get("columns", {}).get(field, [])
    return (
        columns if len(columns) == size else [f"{field.removesuffix('s')} {place}" for place in range(size)]
    )


def _flat(value: Any) -> str:
    """A table as "name value" pairs, nested ones too."""
    if isinstance(value, dict):
        return ", ".join(f"{name.replace('_', ' ')} {_flat(entry)}" for name, entry in value.items())
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _s(count: int) -> str:
    return "" if count == 1 else "s"

"""How far any world model can be trusted: table, figures and words of the `worlds` rows of fidelity.json."""

from collections.abc import Sequence
from html import escape

import numpy as np
from matplotlib.figure import Figure

from langevin.report.curves import PANEL
from langevin.report.fidelity import draw_error_by_step, policy_words
from langevin.report.html import legend, panels
from langevin.report.style import SeriesStyle, new_figure, series_style, style_axes
from langevin.report.table import DASH, number

EXACT, USABLE = 0.1, 0.5
"""Standard deviations of the data: an imagined state this near the true one may be trusted, or is of use."""
UNDER = {"data": "Under the data's own actions", "drawn": "Under the actions that it drew"}
HONEST = (0.8, 0.98)
"""Coverage of 90% intervals between these is what chance leaves of a model that knows how sure it is."""
EXPLANATION = (
    "The simulator replays the actions of each rollout from the same start. <i>Error</i>: root mean square over "
    "dimensions in standard deviations of the data, while the simulator&rsquo;s episode lasts. <i>Reward</i>: mean "
    "absolute error, and the spread of true rewards. <i>Ends</i>: share of transitions on which both agree whether the "
    "episode ends, and by how many steps its length is missed. <i>Known</i>: imagined states that lie where data are."
)
COVERAGE = " <i>Coverage</i>: how often the model&rsquo;s own 90% interval holds the truth."
DRAWS = (
    " This model answers no actions: it drew those that are replayed. <i>Each transition</i>: the simulator is put "
    "into the state that a single transition starts in."
)


def worlds_section(rows: Sequence[dict], identity: str) -> str:
    """Words, error by step and the table."""
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in world_verdict(rows))
    styles = model_styles(rows)
    policies = list(dict.fromkeys(row["policy"] for row in rows if len(row["error_by_step"]) > 2))
    figures = [(world_error_panel(rows, policy), f"error by step, {policy}") for policy in policies]
    drawing = f"{legend(styles)}{panels(figures, f'worlds-{identity}')}" if figures else ""
    explained = EXPLANATION + (COVERAGE if has_coverage(rows) else "")
    explained += DRAWS if any(row["policy"] == "drawn" for row in rows) else ""
    return f'<div class="verdict">{words}</div><p>{explained}</p>{drawing}{html_worlds_table(rows)}'


def has_coverage(rows: Sequence[dict]) -> bool:
    """Whether any model was sampled often enough to have intervals."""
    return any(row["coverage"] for row in rows)


def model_styles(rows: Sequence[dict]) -> dict[str, SeriesStyle]:
    """A style for each model, the same in every panel."""
    return {
        name: series_style(place) for place, name in enumerate(dict.fromkeys(row["model"] for row in rows))
    }


def world_error_panel(rows: Sequence[dict], policy: str) -> Figure:
    """Error by step of every model under one policy."""
    figure = new_figure(*PANEL)
    ax = figure.subplots()
    style_axes(ax, xlabel="step of the rollout", ylabel="error (std of the data)", title=policy_words(policy))
    curves = [{**row, "label": row["model"]} for row in rows if row["policy"] == policy]
    draw_error_by_step(ax, curves, model_styles(rows))
    errors = np.concatenate([row["error_by_step"][1:] for row in rows])
    positive = errors[errors > 0]
    if len(positive):
        ax.set_ylim(positive.min() / 1.6, positive.max() * 1.8)
    return figure


def html_worlds_table(rows: Sequence[dict]) -> str:
    """A row for each policy and model."""
    steps = sorted({step for row in rows for step in row["error"]}, key=int)
    coverage = [f"Coverage at {steps[0]}", f"at {steps[-1]}"] if has_coverage(rows) else []
    titles = [*(f"Error at {step}" for step in steps), *coverage, "Reward", "Ends", "Known", "Legal"]
    head = "".join(f'<th scope="col" class="number">{title}</th>' for title in titles)
    body = []
    for policy in dict.fromkeys(row["policy"] for row in rows):
        words = escape(policy_words(policy))
        body.append(f'<tr class="group"><th colspan="{len(titles) + 1}" scope="colgroup">{words}</th></tr>')
        body += [_row(row, steps, bool(coverage)) for row in rows if row["policy"] == policy]
    return (
        f'<div class="wide"><table class="fidelity"><thead><tr><th scope="col">World model</th>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def _row(row: dict, steps: Sequence[str], covered: bool) -> str:
    coverage, last = row["coverage"] or {}, max(row["error"], key=int)
    cells = [
        *(number(row["error"].get(step), 3) for step in steps),
        *([_percent(coverage.get(steps[0])), _percent(coverage.get(last))] if covered else []),
        f"{number(row['reward_error'], 3)} of {number(row['reward_spread'], 3)}",
        f"{100 * row['end_accuracy']:.1f}%, {row['end_error']:.1f} steps",
        _percent(row["known"]), _percent(row["legal"]),
    ]  # fmt: skip
    return f'<tr><th scope="row">{escape(row["model"])}</th>' + "".join(
        f'<td class="number">{cell}</td>' for cell in cells
    ) + "</tr>"  # fmt: skip


def _percent(share: float | int | None) -> str:
    return DASH if share is None else f"{100 * share:.0f}%"


def world_verdict(rows: Sequence[dict]) -> list[str]:
    """In words, for each policy and model: how long it may be trusted, and whether it knows how sure it is."""
    return [_sentence(row) for row in rows]


def _sentence(row: dict) -> str:
    near = lambda limit: [int(step) for step, error in row["error"].items() if error < limit]
    exact, usable = near(EXACT), near(USABLE)
    if exact:
        reach = f"right to a tenth of a standard deviation up to step {max(exact)}"
    elif usable:
        reach = f"within half a standard deviation up to step {max(usable)}, and no nearer"
    else:
        reach = "wrong from its first step"
    doubt = f"{_doubt(row['coverage'])}; " if row["coverage"] else ""
    reward = row["reward_error"] / row["reward_spread"] if row["reward_spread"] > 0 else None
    words = (
        f"its rewards are off by {reward:.0%} of their spread"
        if reward is not None
        else "rewards do not vary here"
    )
    under = UNDER.get(row["policy"], f"Under the {row['policy']} policy")
    return (
        f"{under}, {row['model']}: {reach}; {doubt}"
        f"{words}; it misses an episode's length by {row['end_error']:.1f} steps."
    )


def _doubt(coverage: dict) -> str:
    last, (low, high) = max(coverage, key=int), HONEST
    covered = coverage[last]
    sure = (
        "surer than it should be"
        if covered < low
        else "less sure than it could be"
        if covered > high
        else "honest"
    )
    return f"at step {last} its 90% interval holds {covered:.0%} of the truth ({sure})"

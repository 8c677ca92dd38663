"""The chapter on how far a world model can be trusted, from fidelity.json."""

from collections import Counter
from collections.abc import Sequence
from html import escape

from langevin.report.fidelity import (
    ENSEMBLE,
    Fidelity,
    curve_styles,
    distinct_rows,
    error_panel,
    groups_of,
    policies_of,
    policy_words,
    refinement_style,
    trade_off_panel,
)
from langevin.report.html import legend, panels
from langevin.report.table import DASH, number
from langevin.report.world_fidelity import worlds_section

ALL_ROWS_SHOWN = 24
BAND = "the 95% interval of the mean over start states, of one trained model"


def fidelity_chapter(report: Fidelity, identity: str) -> str:
    """Verdict in words, errors by horizon, the trade-off along the conditioning strength, the table.

    `identity` tells the drawings of several reports on one page apart.
    """
    rows, curves = distinct_rows(report.get("rows", [])), report.get("curves", [])
    sentences = "".join(f"<p>{escape(str(sentence))}</p>" for sentence in report.get("verdict", []))
    parts = [f'<div class="verdict">{sentences}</div>' if sentences else ""]
    if not rows and not curves:
        return "".join([*parts, worlds_section(report["worlds"], identity) if report.get("worlds") else ""])
    parts.append(
        "<p>The simulator replays the actions of each rollout from the same start. <i>Error</i> is the "
        "distance between imagined and true position, in maze cells; <i>legal</i> is the share of rollouts "
        "with no state inside a wall. One without the other says little: a model that ignores the actions "
        "is legal and wrong.</p>"
    )
    if any(row.get("halted") for row in rows):
        parts.append(
            "<p><i>Halted</i> rollouts are held where they leave the data: what lies beyond, no model knows, and a "
            "learner that imagines is told that the trajectory ends there.</p>"
        )
    if curves:
        parts.append(_errors(report, identity))
    if rows:
        parts += [_trade_off(rows, identity), _tables(rows, shown_strength(rows, report.get("strength")))]
    if report.get("worlds"):
        parts.append(f"<h3>State, reward, end and doubt</h3>{worlds_section(report['worlds'], identity)}")
    return "".join(parts)


def _errors(report: Fidelity, identity: str) -> str:
    curves = report["curves"]
    figures = [(error_panel(report, policy), f"error by step, {policy}") for policy in policies_of(curves)]
    note = "Error on a logarithmic axis."
    if any(curve.get("low") is not None for curve in curves):
        note += f" Bands show {escape(str(report.get('band', BAND)))}."
    drawing = panels(figures, f"error-{identity}")
    return f'{legend(curve_styles(curves))}{drawing}<p class="note">{note}</p>'


def _trade_off(rows: Sequence[dict], identity: str) -> str:
    figures = [
        (trade_off_panel(rows, data, policy), f"legal share against error, {policy}")
        for data, policy in groups_of(rows)
    ]
    drawing = panels(figures, f"trade-{identity}")
    if not drawing:
        return ""
    refinements = sorted({row["refinement"] for row in rows if row["model"] != "ensemble"})
    labels = {"ensemble": ENSEMBLE} | {f"refined, k = {k}": refinement_style(k) for k in refinements}
    return (
        "<h3>Along the conditioning strength</h3><p>Each line follows the strength with which the refined "
        "rollouts are held to their actions; the larger the mark, the stronger. The upper left corner is "
        f"best: accurate, and out of the walls.</p>{legend(labels)}{drawing}"
    )


def _tables(rows: Sequence[dict], strength: float | int | None) -> str:
    note = "Bold: the best of its group."
    if any("error_half_width" in row for row in rows):
        note += f" &plusmn;: {BAND}."
    if strength is None:
        return f'{html_fidelity_table(rows)}<p class="note">{note}</p>'
    shown = [row for row in rows if row["model"] == "ensemble" or row.get("strength") == strength]
    return (
        f'{html_fidelity_table(shown)}<p class="note">Refined rollouts at conditioning strength '
        f"{strength:g}. {note}</p><details><summary>All {len(rows)} rows, every strength</summary>"
        f"{html_fidelity_table(rows)}</details>"
    )


def html_fidelity_table(rows: Sequence[dict]) -> str:
    """Errors by horizon and legal share, grouped by data and policy; the best of each group is bold."""
    horizons = sorted({step for row in rows for step in row["error"]}, key=int)
    head = '<th scope="col">World model</th><th scope="col" class="number">Strength</th>'
    head += "".join(f'<th scope="col" class="number">Error at {step}</th>' for step in horizons)
    head += '<th scope="col" class="share">Legal</th><th scope="col" class="number rollouts">Rollouts</th>'
    body = []
    for data, policy in groups_of(rows):
        group = [row for row in rows if (str(row.get("data", "")), row["policy"]) == (data, policy)]
        words = escape(policy_words(policy)) + (f", {escape(data)} data" if data else "")
        body.append(f'<tr class="group"><th colspan="{len(horizons) + 4}" scope="colgroup">{words}</th></tr>')
        best = {
            step: min((r["error"][step] for r in group if step in r["error"]), default=None)
            for step in horizons
        }
        most_legal = max(row["legal"] for row in group)
        body += [_fidelity_row(row, horizons, best, most_legal) for row in group]
    return (
        f'<div class="wide"><table class="fidelity"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def shown_strength(rows: Sequence[dict], own: float | int | None = None) -> float | int | None:
    """The strength whose rows the first table shows; None when the rows are few enough to show all.

    It is the run's `own`, or if that is not known the one with the most rows (the larger of equals).
    """
    refined = [row for row in rows if row["model"] != "ensemble" and row.get("strength") is not None]
    counts = Counter(row["strength"] for row in refined)
    if len(rows) <= ALL_ROWS_SHOWN or len(counts) < 2:
        return None
    return own if own in counts else max(counts, key=lambda strength: (counts[strength], strength))


def _fidelity_row(
    row: dict, horizons: Sequence[str], best: dict[str, float | int | None], most_legal: float | int
) -> str:
    ensemble = row["model"] == "ensemble"
    name = "ensemble" if ensemble else f"{escape(row['model'])}, k = {row['refinement']}"
    name += ", halted" if row.get("halted") else ""
    strength = row.get("strength")
    cells = [f'<th scope="row">{name}</th>']
    cells.append(f'<td class="number">{DASH if ensemble or strength is None else f"{strength:g}"}</td>')
    for step in horizons:
        error = row["error"].get(step)
        text = _bold(number(error, 3), error is not None and error == best[step])
        half_width = row.get("error_half_width", {}).get(step)
        spread = f" <small>&plusmn; {number(half_width, 3)}</small>" if half_width is not None else ""
        cells.append(f'<td class="number">{text}{spread}</td>')
    percent = 100 * row["legal"]
    bar = f'<span class="bar" aria-hidden="true"><i style="width:{percent:.1f}%"></i></span>'
    cells.append(f'<td class="share">{bar}{_bold(f"{percent:.0f}%", row["legal"] == most_legal)}</td>')
    cells.append(f'<td class="number rollouts">{row.get("rollouts", DASH)}</td>')
    return f"<tr>{''.join(cells)}</tr>"


def _bold(text: str, bold: bool) -> str:
    return f"<b>{text}</b>" if bold else text

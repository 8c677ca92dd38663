"""The table of results: for the terminal (rich) and for the page (HTML)."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from langevin.report.html import swatch
from langevin.report.style import SeriesStyle, series_style

Summary = Mapping[str, Any]
SMALL_SCALE_PRESETS = ("cpu", "smoke")
STRIP_WIDTH, STRIP_HEIGHT = 220, 26
TEXT_STRIP = 20
WIDE = 118
DASH, MINUS, TIMES = "\N{EN DASH}", "\N{MINUS SIGN}", "\N{MULTIPLICATION SIGN}"


def print_results(summaries: Sequence[Summary], console: Console) -> None:
    """Print the results in the width the console has, a table for each dataset."""
    groups: dict[str, list[Summary]] = {}
    for summary in summaries:
        groups.setdefault(str(summary["dataset"]), []).append(summary)
    for dataset, group in groups.items():
        console.print(results_table(group, title=dataset if len(groups) > 1 else None, width=console.width))
    console.print(_caption(summaries), style="dim", highlight=False, markup=False)


def results_table(summaries: Sequence[Summary], *, title: str | None = None, width: int = 80) -> Table:
    """Several summary.json of one dataset as a terminal table: one row a run, in the order given.

    The strip draws each seed as a dot, the 95% interval as a line and the interquartile mean as a diamond,
    from random (0) to expert (100). Below `WIDE` characters mean, return, speed and time are left out.
    """
    wide = width >= WIDE
    span = score_span(summaries)
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("algorithm", overflow="fold")
    table.add_column("score", justify="right", style="bold", no_wrap=True)
    table.add_column("scale", no_wrap=True, style="dim")
    table.add_column("95% interval", justify="right", no_wrap=True)
    table.add_column(_text_axis(span), no_wrap=True, style="cyan")
    table.add_column("seeds", justify="right", no_wrap=True)
    for name in ("mean", "return", "updates/s", "time") if wide else ():
        table.add_column(name, justify="right", no_wrap=True)
    for summary in summaries:
        scores = summary["normalized_score"]
        cells: list[Text | str] = [
            Text(label_of(summary)),
            number(scores["iqm"]),
            "small" if is_small_scale(summary) else "",
            interval(scores["ci95"]).replace("[", r"\["),
            text_strip(scores, span),
            seeds_and_episodes(summary),
        ]
        if wide:
            cells += [number(scores["mean"]), number(summary["return"]["mean"])]
            cells += [rate(summary.get("updates_per_second")), duration(summary.get("wall_seconds"))]
        table.add_row(*cells)
    return table


def html_results_table(
    summaries: Sequence[Summary],
    styles: Sequence[SeriesStyle] | None = None,
    span: tuple[float, float] | None = None,
) -> str:
    """The same table as HTML; on a narrow screen each row becomes a card. `span` is the strips' axis."""
    styles = styles or [series_style(index) for index in range(len(summaries))]
    span = span or score_span(summaries)
    names = ("Score", "95% interval", "", "Mean", "Return", f"Seeds {TIMES} episodes", "Updates/s", "Time")
    kinds = ["number" if name else "strip" for name in names]
    header = '<th scope="col">Algorithm</th>'
    for name, kind in zip(names, kinds, strict=True):
        header += f'<th scope="col" class="{kind}">{name or _html_axis(span)}</th>'
    body = ""
    for summary, style in zip(summaries, styles, strict=True):
        scores = summary["normalized_score"]
        cells = (
            f"<div><b>{number(scores['iqm'])}</b>{small_scale_mark(summary)}</div>",
            interval(scores["ci95"]),
            html_strip(scores, span, style),
            number(scores["mean"]),
            number(summary["return"]["mean"]),
            seeds_and_episodes(summary),
            rate(summary.get("updates_per_second")),
            duration(summary.get("wall_seconds")),
        )
        body += f'<tr><th scope="row">{swatch(style)}{escape(label_of(summary))}</th>'
        for cell, name, kind in zip(cells, names, kinds, strict=True):
            body += f'<td class="{kind}" data-name="{name}">{cell}</td>'
        body += "</tr>"
    return f'<table class="results"><thead><tr>{header}</tr></thead><tbody>{body}</tbody></table>'


def label_of(summary: Summary) -> str:
    """The name shown in tables: `label`, or the algorithm's id."""
    return str(summary.get("label") or summary["algorithm"])


def is_small_scale(summary: Summary) -> bool:
    """Whether a run was made at a preset far below the papers' scale."""
    return summary.get("preset") in SMALL_SCALE_PRESETS


def small_scale_mark(summary: Summary) -> str:
    """A word beside the number, for a run that is not at the papers' scale."""
    if not is_small_scale(summary):
        return ""
    preset = escape(str(summary["preset"]))
    return f'<span class="mark" title="{preset} preset, far below the papers\' scale">small scale</span>'


def number(value: float | int | None, digits: int = 1) -> str:
    """A number for a table, with a true minus sign; a dash for nothing."""
    if value is None:
        return DASH
    text = f"{value:,.{digits}f}"
    return "0." + "0" * digits if float(text.replace(",", "")) == 0 else text.replace("-", MINUS)


def interval(bounds: Sequence[float | int | None]) -> str:
    """`[low, high]`, or that one seed has none."""
    low, high = bounds
    return "one seed: none" if low is None or high is None else f"[{number(low)}, {number(high)}]"


def seeds_and_episodes(summary: Summary) -> str:
    """`3 x 50`: trained seeds times the evaluation episodes of each."""
    seeds = len(summary["normalized_score"]["per_seed"])
    episodes = summary.get("episodes")
    return f"{seeds} {TIMES} {episodes}" if episodes is not None else str(seeds)


def rate(value: float | int | None) -> str:
    """Updates a second: three significant digits at most."""
    if value is None:
        return DASH
    return number(value, 0) if value >= 100 else number(value, 1)


def duration(seconds: float | int | None) -> str:
    """Wall time in the two largest units."""
    if seconds is None:
        return DASH
    if round(seconds) < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def score_span(summaries: Sequence[Summary]) -> tuple[float, float]:
    """The axis shared by all strips: at least random (0) to expert (100), and every seed, with a margin."""
    scores = [score for summary in summaries for score in summary["normalized_score"]["per_seed"]]
    low, high = min(0.0, *scores), max(100.0, *scores)
    margin = 0.03 * (high - low)
    return low - margin, high + margin


def text_strip(scores: Mapping[str, Any], span: tuple[float, float], width: int = TEXT_STRIP) -> str:
    """Seeds, interval and interquartile mean on a line of `width` characters."""
    cells = [" "] * width

    def place(value: float | int) -> int:
        return min(width - 1, max(0, int((value - span[0]) / (span[1] - span[0]) * width)))

    for reference in (0.0, 100.0):
        cells[place(reference)] = "┊"
    low, high = scores["ci95"]
    if low is not None and high is not None:
        for cell in range(place(low), place(high) + 1):
            cells[cell] = "─"
    for score in scores["per_seed"]:
        cells[place(score)] = "•"
    cells[place(scores["iqm"])] = "◆"
    return "".join(cells)


def html_strip(scores: Mapping[str, Any], span: tuple[float, float], style: SeriesStyle) -> str:
    """The strip as a drawing: hollow dots for seeds, a bar for the interval, a diamond for the score."""
    middle, ink = STRIP_HEIGHT / 2, f"var(--{style.color_name})"
    parts = [
        f'<line class="guide" x1="{_x(mark, span)}" x2="{_x(mark, span)}" y1="0" y2="{STRIP_HEIGHT}"/>'
        f'<text x="{_x(mark, span) + 3}" y="7">{mark}</text>'
        for mark in (0, 100)
    ]
    low, high = scores["ci95"]
    words = f"interquartile mean {number(scores['iqm'])}, 95% interval {interval(scores['ci95'])}, seeds "
    words += ", ".join(number(score) for score in scores["per_seed"])
    if low is not None and high is not None:
        parts.append(
            f'<line x1="{_x(low, span)}" x2="{_x(high, span)}" y1="{middle}" y2="{middle}" '
            f'stroke="{ink}" stroke-width="7" stroke-opacity=".28"/>'
        )
    parts += [
        f'<circle cx="{_x(score, span)}" cy="{middle}" r="3" fill="none" stroke="{ink}" stroke-width="1.3"/>'
        for score in scores["per_seed"]
    ]
    x = _x(scores["iqm"], span)
    parts.append(f'<path d="M{x} {middle - 6}l5 6l-5 6l-5 -6z" fill="{ink}"/>')
    return (
        f'<svg class="strip" role="img" aria-label="{words}" viewBox="0 0 {STRIP_WIDTH} {STRIP_HEIGHT}">'
        f"<title>{words}</title>{''.join(parts)}</svg>"
    )


def _x(value: float | int, span: tuple[float, float]) -> float:
    return round((value - span[0]) / (span[1] - span[0]) * STRIP_WIDTH, 1)


def _html_axis(span: tuple[float, float]) -> str:
    marks = "".join(
        f'<text x="{_x(mark, span)}" y="9" text-anchor="{anchor}">{mark} {word}</text>'
        f'<line class="guide" x1="{_x(mark, span)}" x2="{_x(mark, span)}" y1="13" y2="18"/>'
        for mark, word, anchor in (
            (0, "random", "start"),
            (100, "expert", "middle" if span[1] > 112 else "end"),
        )
    )
    return (
        f'<svg class="strip" role="img" aria-label="score axis" viewBox="0 0 {STRIP_WIDTH} 18">{marks}</svg>'
    )


def _text_axis(span: tuple[float, float], width: int = TEXT_STRIP) -> str:
    axis = [" "] * width
    for mark in (0, 100):
        words = str(mark)
        start = int((mark - span[0]) / (span[1] - span[0]) * width)
        start = min(width - len(words), max(0, start))
        axis[start : start + len(words)] = words
    return "".join(axis)


def _caption(summaries: Sequence[Summary]) -> str:
    lines = [
        "score: interquartile mean over seeds, 0 = random, 100 = expert",
        f"95% interval: bootstrap over seeds, which are the dots; seeds {TIMES} episodes",
    ]
    presets = sorted({str(summary["preset"]) for summary in summaries if is_small_scale(summary)})
    if presets:
        lines.append(f"small: made at the {' and '.join(presets)} preset, far below the papers' scale")
    return "\n".join(lines)

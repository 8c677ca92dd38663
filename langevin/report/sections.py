"""The chapters of the report, each a function from runs to HTML; an empty string leaves the chapter out."""

import base64
import shlex
import struct
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from langevin.errors import UsageError
from langevin.report.curves import (
    BAND,
    IMAGINED_STYLE,
    TRUE_STYLE,
    Curve,
    curve_of,
    imagined_and_true_reward,
    learning_curves,
)
from langevin.report.fidelity_section import fidelity_chapter
from langevin.report.html import legend, panels, section
from langevin.report.runs import Picture, Run
from langevin.report.style import SeriesStyle, series_style
from langevin.report.table import MINUS, duration, html_results_table, is_small_scale, score_span

MOST_SPARKS = 30
MOST_FULL_WIDTH = 2
ERROR_FIGURE = "error_by_horizon.png"


def by_dataset(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Runs grouped by dataset, both in order of appearance."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.dataset, []).append(run)
    return groups


def styles_of(runs: Sequence[Run]) -> dict[str, SeriesStyle]:
    """One style for each label of the page, so that an algorithm looks the same on every dataset."""
    labels = dict.fromkeys(run.label for run in runs)
    return {label: series_style(place) for place, label in enumerate(labels)}


def facts(runs: Sequence[Run]) -> str:
    """What was run: datasets, steps, seeds, episodes, presets, machine, time."""
    seconds = [run.summary["wall_seconds"] for run in runs if run.summary.get("wall_seconds") is not None]
    evaluated = [run.summary["episodes"] for run in runs if "episodes" in run.summary]
    rows = {
        "Datasets" if len(by_dataset(runs)) > 1 else "Dataset": _distinct(run.dataset for run in runs),
        "Gradient steps": _distinct(_count(run.summary.get("steps")) for run in runs),
        "Seeds": _distinct(str(run.seeds) for run in runs) + (" each" if len(runs) > 1 else ""),
        "Evaluation": _distinct(f"{episodes} episodes a seed in the simulator" for episodes in evaluated),
        "Preset": _distinct(run.preset + is_small_scale(run.summary) * " (small scale)" for run in runs),
        "Machine": _distinct(_flat(run.summary.get("machine") or run.config.get("machine")) for run in runs),
        "Training time": f"{duration(sum(seconds))}, all runs added" if seconds else "",
    }
    items = "".join(f"<dt>{name}</dt><dd>{escape(value)}</dd>" for name, value in rows.items() if value)
    return f'<dl class="facts">{items}</dl>'


def results(runs: Sequence[Run]) -> str:
    """A table for each dataset, and what to know before believing it."""
    styles = styles_of(runs)
    groups = by_dataset(runs)
    span = score_span([run.summary for run in runs])
    parts = []
    for dataset, group in groups.items():
        chosen = [styles[run.label] for run in group]
        table = html_results_table([run.summary for run in group], chosen, span)
        parts.append(section(dataset, table) if len(groups) > 1 else table)
    parts.append(
        '<p class="note">Score: interquartile mean over seeds of the normalised score, 0 for a random policy '
        "and 100 for the reference expert. Circles are seeds, the diamond is the score, the bar its 95% "
        "interval. One update advances all seeds; time is for all seeds together.</p>"
    )
    small = sorted({str(run.summary["preset"]) for run in runs if is_small_scale(run.summary)})
    if small:
        parts.append(
            f'<p class="note"><span class="mark">small scale</span> The {escape(" and ".join(small))} preset '
            "trains smaller networks for fewer steps than the papers; compare these numbers with each other, "
            "not with published ones.</p>"
        )
    parts += [_stopped(run, record) for run in runs for record in run.stopped]
    parts += [_remark(run, remark) for run in runs for remark in run.summary.get("remarks", ())]
    return "".join(parts)


def learning(runs: Sequence[Run]) -> str:
    """Score over steps and over time for each dataset, imagined against true reward, all other numbers."""
    styles = styles_of(runs)
    groups = by_dataset(runs)
    parts = []
    for place, (dataset, group) in enumerate(groups.items()):
        chosen = [styles[run.label] for run in group]
        figures = [
            (
                learning_curves(group, chosen, against=against, legend=False),
                f"score on {dataset} by {against}",
            )
            for against in ("steps", "seconds")
        ]
        drawing = panels(figures, f"learning-{place}")
        if drawing:
            body = legend({run.label: styles[run.label] for run in group}) + drawing
            parts.append(section(dataset, body) if len(groups) > 1 else body)
    if parts:
        parts.append(f'<p class="note">{BAND}</p>')
    parts.append(_imagination(runs))
    sparks = "".join(section(_name(run, runs), _sparks(run)) for run in runs)
    if sparks:
        words = "Losses and everything else that was logged"
        parts.append(f"<details><summary>{words}</summary>{sparks}</details>")
    return "".join(parts)


def pictures(runs: Sequence[Run]) -> str:
    """The PNG files of each run's figures folder, with their captions.

    The error-by-horizon figure is left to the fidelity chapter, which draws it from the numbers.
    """
    parts = []
    for run in runs:
        drawn_below = {ERROR_FIGURE} if run.fidelity and run.fidelity.get("curves") else set()
        drawn = [_picture(picture) for picture in run.pictures if picture.path.name not in drawn_below]
        roomy = sum(wide for _, wide in drawn) <= MOST_FULL_WIDTH
        figures = [
            f'<figure class="{"wide-picture" if wide and roomy else "picture"}">{html}</figure>'
            for html, wide in drawn
        ]
        body = f'<div class="panels">{"".join(figures)}</div>' if figures else ""
        parts.append(section(_name(run, runs), body) if len(runs) > 1 else body)
    return "".join(parts)


def fidelity(runs: Sequence[Run]) -> str:
    """The fidelity reports of the runs that have one."""
    reported = [(run, run.fidelity) for run in runs if run.fidelity is not None]
    chapters = [fidelity_chapter(report, str(place)) for place, (_, report) in enumerate(reported)]
    if len(reported) == 1:
        return chapters[0]
    named = zip(reported, chapters, strict=True)
    return "".join(section(_name(run, runs), chapter) for (run, _), chapter in named)


def how_scores_are_computed(runs: Sequence[Run]) -> str:
    """The method, with the coverage that these runs' numbers of seeds give."""
    coverage = " ".join(coverage_words(seeds) for seeds in sorted({run.seeds for run in runs}))
    return (
        "<p>Each trained seed is one run. It drives the simulator for its evaluation episodes; its return is "
        "their mean undiscounted return, and its normalised score is 100 &times; (return &minus; random) / "
        "(expert &minus; random) with the task&rsquo;s reference returns. The policy at the end of training "
        "is evaluated; none is chosen by its score.</p>"
        "<p>The score of an algorithm is the interquartile mean over its seeds (Agarwal et al., 2021): the "
        "lowest and the highest quarter, rounded down, are left out, so with fewer than four seeds it is the "
        "plain mean.</p>"
        "<p>The 95% interval is a percentile bootstrap over seeds, stratified by task. "
        f"{coverage}</p>"
    )


def coverage_words(seeds: int) -> str:
    """How often the interval holds the truth with so few seeds (normally distributed seed scores)."""
    if seeds < 2:
        return "A single seed has no interval: how another would end is unknown."
    few = {2: "half of the time", 3: "three times in four", 4: "87% of the time", 5: "91% of the time"}
    if seeds not in few:
        return f"With {seeds} seeds it holds the truth a little less often than 95% of the time."
    width = " and is simply the range of the seeds" if seeds < 4 else ""
    return f"With {seeds} seeds it is coarse{width}; it holds the truth about {few[seeds]}, not 95%."


def how_to_run_again(runs: Sequence[Run]) -> str:
    """Each run's command, versions and folder."""
    parts = []
    for run in runs:
        details = [f"{run.seeds} seed" + ("s" if run.seeds > 1 else "")]
        details += [f"{_count(run.summary['steps'])} gradient steps"] if "steps" in run.summary else []
        details += [f"preset {run.preset}"] if run.preset else []
        details += [_flat(run.config["versions"])] if run.config.get("versions") else []
        details += [f"commit {run.config['commit']}"] if run.config.get("commit") else []
        parts.append(
            f"<h3>{escape(_name(run, runs))}</h3><pre>{escape(command_of(run))}</pre>"
            f'<p class="note">{escape(" · ".join(details))}<br>'
            f"Every setting is in <code>{escape(str(run.folder / 'config.toml'))}</code></p>"
        )
    return "".join(parts)


def command_of(run: Run) -> str:
    """The command that config.toml recorded, else the one its algorithm, dataset and seeds amount to."""
    recorded = run.config.get("command")
    if recorded:
        return shlex.join(map(str, recorded)) if isinstance(recorded, list) else str(recorded)
    words = ["langevin", "train", str(run.summary["algorithm"]), "--dataset", run.dataset]
    words += ["--preset", run.preset] if run.preset else []
    return shlex.join([*words, "--seeds", str(run.seeds)])


def _stopped(run: Run, record: dict) -> str:
    where = f"in stage {record.get('stage')} at step {_count(record.get('step'))}"
    words = f"{run.label}, seed {record.get('seed')} stopped {where}: {record.get('reason')}."
    return f'<p class="warning">{escape(words)} Its score is that of its last good state.</p>'


def _remark(run: Run, remark: str) -> str:
    return f'<p class="warning">{escape(f"{run.label}: {remark}")}</p>'


def _imagination(runs: Sequence[Run]) -> str:
    figures = [
        (imagined_and_true_reward(run, legend=False), f"imagined and true reward of {run.label}")
        for run in runs
    ]
    drawing = panels(figures, "imagined")
    if not drawing:
        return ""
    labels = {"imagined by the world model": IMAGINED_STYLE, "paid by the simulator": TRUE_STYLE}
    return (
        "<h3>Imagined against true reward</h3><p>The same policy in its world model and in the simulator. "
        "Where the imagined reward rises above the true one, the policy exploits the model&rsquo;s errors."
        f"</p>{legend(labels)}{drawing}"
    )


def _sparks(run: Run) -> str:
    keys = dict.fromkeys(
        (str(record.get("stage", "")), key)
        for record in run.metrics
        for key, value in record.items()
        if "/" in key and not key.startswith("evaluation/") and isinstance(value, int | float)
    )
    sparks = [_spark(curve_of(run.metrics, key, stage), f"{stage}: {key}") for stage, key in keys]
    drawn = [spark for spark in sparks if spark][:MOST_SPARKS]
    return f'<div class="sparks">{"".join(drawn)}</div>' if drawn else ""


def _spark(curve: Curve | None, name: str) -> str:
    """A curve without axes: mean over seeds, its last value in words."""
    if curve is None or not np.isfinite(curve.mean).any():
        return ""
    keep = np.isfinite(curve.mean)
    x, y = curve.steps[keep], curve.mean[keep]
    every = max(1, len(x) // 120)
    x, y = x[::every], y[::every]
    x = (x - x[0]) / max(x[-1] - x[0], 1e-12) * 160
    y = 38 - (y - y.min()) / max(y.max() - y.min(), 1e-12) * 34
    points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x, y, strict=True))
    last = f"{curve.mean[keep][-1]:.3g}".replace("-", MINUS)
    return (
        '<div class="spark"><svg viewBox="0 0 160 40" preserveAspectRatio="none" aria-hidden="true">'
        f'<polyline points="{points}"/></svg>{escape(name)} <b>{last}</b></div>'
    )


def _picture(picture: Picture) -> tuple[str, bool]:
    """A picture with its caption, and whether it is much wider than high."""
    content = picture.path.read_bytes()
    if content[:8] != b"\x89PNG\r\n\x1a\n" or len(content) < 24:
        raise UsageError(f"{picture.path} is not a PNG picture; delete it, or draw it again")
    width, height = struct.unpack(">II", content[16:24])
    data = base64.b64encode(content).decode()
    html = (
        f'<img alt="{escape(picture.caption)}" width="{width}" height="{height}" '
        f'src="data:image/png;base64,{data}"><figcaption>{escape(picture.caption)}</figcaption>'
    )
    return html, width > 1.45 * height


def _name(run: Run, runs: Sequence[Run]) -> str:
    return f"{run.label} on {run.dataset}" if len(by_dataset(runs)) > 1 else run.label


def _distinct(values: Any) -> str:
    return " · ".join(dict.fromkeys(value for value in values if value))


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else ("" if value is None else str(value))


def _flat(value: Any) -> str:
    """A string, or a table as "name value" pairs."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {entry}" for name, entry in value.items())
    return "" if value is None else str(value)

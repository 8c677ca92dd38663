"""The report: one HTML page that holds all it shows and asks the network for nothing."""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from importlib.resources import files
from pathlib import Path

from langevin import __version__
from langevin.errors import UsageError
from langevin.progress import AbstractProgress, SilentProgress
from langevin.report import sections
from langevin.report.runs import Run, read_runs, with_distinct_labels
from langevin.report.style import css_variables
from langevin.report.table import interval, number
from langevin.training.files import atomic_write

# The policy makes the promise of the first line the browser's job: nothing outside the file is loaded.
_HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
"""
_FOOT = """<footer>Written {date} by Langevin {version}.</footer>
<script>addEventListener("beforeprint",()=>document.querySelectorAll("details").forEach(d=>d.open=true))</script>
</body>
</html>
"""


def write_report(
    runs: Sequence[Run | Path | str],
    out: Path | str,
    *,
    title: str | None = None,
    progress: AbstractProgress | None = None,
) -> Path:
    """Write the page of these runs (read ones, or folders) and return its path.

    A page that stood there is replaced only by a whole new one. UsageError when a run cannot be read or `out`
    cannot be a file; LangevinError when the disk refuses.
    """
    out = require_place(Path(out))
    read: list[Run] = []
    for run in runs:
        read += [run] if isinstance(run, Run) else read_runs([Path(run)])
    atomic_write(out, build_page(read, title=title, progress=progress))
    return out


def require_place(out: Path) -> Path:
    """The path a page may be written to: ask before the work, not after.

    **Raises:** `UsageError` when it is a folder, or lies in one that does not exist.
    """
    if out.is_dir():
        raise UsageError(f"{out} is a folder; name a file in it, as in {out / 'report.html'}")
    if not out.parent.is_dir():
        raise UsageError(
            f"the folder {out.parent} does not exist; create it or choose another place for the report"
        )
    return out


def build_page(
    runs: Sequence[Run], *, title: str | None = None, progress: AbstractProgress | None = None
) -> str:
    """The page as text. Runs are grouped by dataset; within one they keep their order and their colours."""
    if not runs:
        raise UsageError("there is no run to report on; name at least one run folder")
    runs = with_distinct_labels(runs)
    title = title or default_title(runs)
    chapters = [
        ("results", "Results", sections.results),
        ("learning", "Learning curves", sections.learning),
        ("mazes", "Pictures", sections.pictures),
        ("world-model", "How far the world model can be trusted", sections.fidelity),
        ("scores", "How scores are computed", sections.how_scores_are_computed),
        ("again", "How to run this again", sections.how_to_run_again),
    ]
    written = []
    with (progress or SilentProgress()).track(len(chapters), "Drawing the report") as advance:
        for identity, heading, write in chapters:
            body = write(runs)
            if body:
                written.append((identity, heading, body))
            advance(1, heading.lower())
    return assemble_page("report", title, lede(runs), sections.facts(runs), written)


def assemble_page(
    kind: str, title: str, lede: str, facts: str, chapters: Sequence[tuple[str, str, str]]
) -> str:
    """A whole page: what kind it is, its title (text), a lede and facts (HTML), and chapters.

    A chapter is its identity in links, its heading, and its HTML.
    """
    links = "".join(f'<a href="#{identity}">{heading}</a>' for identity, heading, _ in chapters)
    style = css_variables() + files("langevin.report").joinpath("page.css").read_text(encoding="utf-8")
    parts = [_HEAD.format(title=escape(title), style=style)]
    parts.append(
        f'<header><p class="kicker">Langevin · {kind}</p><h1>{escape(title)}</h1>'
        f'<p class="lede">{lede}</p>{facts}<nav '
        f'aria-label="Sections">{links}</nav></header><main>'
    )
    parts += [
        f'<section aria-labelledby="{identity}"><h2 id="{identity}">{heading}</h2>{body}</section>'
        for identity, heading, body in chapters
    ]
    parts.append(
        "</main>" + _FOOT.format(date=f"{datetime.now(UTC):%d %B %Y}".lstrip("0"), version=__version__)
    )
    return "\n".join(parts)


def default_title(runs: Sequence[Run]) -> str:
    """What was compared, on what."""
    datasets = list(dict.fromkeys(run.dataset for run in runs))
    where = datasets[0] if len(datasets) == 1 else f"{len(datasets)} datasets"
    if len(runs) == 1:
        return f"{runs[0].label} on {where}"
    labels = list(dict.fromkeys(run.label for run in runs))
    return (
        f"{' and '.join(labels)} on {where}" if len(labels) == 2 else f"{len(labels)} algorithms on {where}"
    )


def lede(runs: Sequence[Run]) -> str:
    """The result in a sentence or two a dataset, with what the intervals allow to be said."""
    sentences = []
    groups = sections.by_dataset(runs)
    for dataset, group in groups.items():
        best, *others = sorted(group, key=lambda run: run.summary["normalized_score"]["iqm"], reverse=True)
        where = f" on {escape(dataset)}" if len(groups) > 1 else ""
        if not others:
            sentences.append(f"{escape(best.label)}{where} scores {_score_words(best)}.")
            continue
        second = others[0]
        sentences.append(f"{escape(best.label)} scores highest{where}: {_score_words(best)}; next is")
        sentences.append(f"{escape(second.label)} with {_score_words(second)}. {_told_apart(best, second)}")
    return " ".join(sentences)


def _score_words(run: Run) -> str:
    scores = run.summary["normalized_score"]
    bounds = "" if scores["ci95"][0] is None else f" {interval(scores['ci95'])}"
    seeds = f"{run.seeds} seed" + ("s" if run.seeds > 1 else "")
    return f"<b>{number(scores['iqm'])}</b>{bounds} over {seeds}"


def _told_apart(best: Run, second: Run) -> str:
    low, high = best.summary["normalized_score"]["ci95"][0], second.summary["normalized_score"]["ci95"][1]
    if low is None or high is None:
        return "One seed has no interval, so this order may not hold for another."
    if low > high:
        return "Their 95% intervals do not overlap."
    return "Their 95% intervals overlap: these seeds do not tell the two apart."

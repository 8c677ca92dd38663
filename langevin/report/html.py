"""Pieces of HTML that several chapters of the report are made of."""

from collections.abc import Iterable, Mapping
from html import escape

from matplotlib.figure import Figure

from langevin.report.style import SeriesStyle, inline_svg

_MARKS = {
    "o": "M5.8 5a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0 -6.4 0z",
    "s": "M6 2h6v6h-6z",
    "^": "M9 1.2l3.8 6.8h-7.6z",
    "v": "M9 8.8l3.8 -6.8h-7.6z",
    "D": "M9 .8l4.2 4.2l-4.2 4.2l-4.2 -4.2z",
    "P": "M7.6 1h2.8v2.6h2.6v2.8h-2.6v2.6h-2.8v-2.6h-2.6v-2.8h2.6z",
    "X": "M7 1.5l2 2l2 -2l1.5 1.5l-2 2l2 2l-1.5 1.5l-2 -2l-2 2l-1.5 -1.5l2 -2l-2 -2z",
}


def swatch(style: SeriesStyle) -> str:
    """The sign of a series beside its name: a short line with its colour, dash and marker."""
    ink = f"var(--{style.color_name})"
    dash = "" if style.dash == "-" else ' stroke-dasharray="4 1.5"'
    return (
        f'<svg class="swatch" aria-hidden="true" viewBox="0 0 18 10" fill="{ink}">'
        f'<line x1="0" x2="18" y1="5" y2="5" stroke="{ink}" '
        f'stroke-width="1.8"{dash}/><path d="{_MARKS[style.marker]}"/></svg>'
    )


def legend(labels: Mapping[str, SeriesStyle]) -> str:
    """Names with their signs; stands once above the panels that share it."""
    items = "".join(f"<li>{swatch(style)}{escape(label)}</li>" for label, style in labels.items())
    return f'<ul class="legend">{items}</ul>'


def panels(figures: Iterable[tuple[Figure | None, str]], identity: str) -> str:
    """Figures beside each other, each with a description for those who cannot see it; "" without any.

    `identity` must differ between the calls of one page.
    """
    drawn = [
        f"<figure>{inline_svg(figure, f'{identity}-{place}', words)}</figure>"
        for place, (figure, words) in enumerate(figures)
        if figure is not None
    ]
    single = " single" if len(drawn) == 1 else ""
    return f'<div class="panels{single}">{"".join(drawn)}</div>' if drawn else ""


def section(heading: str, body: str) -> str:
    """A body under a small heading, nothing when the body is empty."""
    return f"<h3>{escape(heading)}</h3>{body}" if body else ""

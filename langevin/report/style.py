"""One look for every figure: colours, axes, and how a figure becomes a file or a piece of a page.

The colours are those of Okabe and Ito (2008), made for colour-blind readers, some darkened so that thin
lines keep a contrast of 3:1 on white; each has a second value for dark pages. Colour is never the only
sign: lines also differ in dash or marker, and figures carry words.

Figures are `matplotlib.figure.Figure` objects that nobody registers with pyplot, so drawing has no global
state.
"""

import io
import re
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from langevin.training.files import atomic_write


@dataclass(frozen=True)
class Color:
    """A colour on light and on dark ground, `#rrggbb` in lower case."""

    light: str
    dark: str


PALETTE: dict[str, Color] = {
    "blue": Color("#0a6cae", "#5cb3ec"),
    "vermillion": Color("#cf5a00", "#f58b4c"),
    "green": Color("#008a66", "#37c29b"),
    "purple": Color("#a8518a", "#dd97c3"),
    "ochre": Color("#7d5600", "#ffd964"),
    "sky": Color("#3a97d8", "#a9dcfb"),
    "slate": Color("#667085", "#9aa4b5"),
    "ink": Color("#1e2329", "#e6e8eb"),
    "muted": Color("#626b76", "#a0a8b3"),
    "rule": Color("#dcdfe3", "#353b43"),
    "wall": Color("#b9bfc7", "#4a525c"),
    "ground": Color("#fefefc", "#15181c"),
}
SERIES = ("blue", "vermillion", "green", "purple", "ink", "ochre", "sky")
DASHES = ("-", (0, (5, 1.6)), (0, (1.6, 1.4)), (0, (6, 1.5, 1.5, 1.5)))
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
FONT_POINTS = 9.0


@dataclass(frozen=True)
class SeriesStyle:
    """How the line of one algorithm or model is drawn, everywhere."""

    color_name: str
    dash: str | tuple
    marker: str

    @property
    def color(self) -> str:
        return PALETTE[self.color_name].light


def series_style(index: int) -> SeriesStyle:
    """The `index`-th style; after seven the colours come again, dashed."""
    turn, place = divmod(index, len(SERIES))
    return SeriesStyle(SERIES[place], DASHES[turn % len(DASHES)], MARKERS[(place + turn) % len(MARKERS)])


def color(name: str) -> str:
    """The light value of a colour of the palette; figures are drawn with these."""
    return PALETTE[name].light


def new_figure(width: float | int, height: float | int) -> Figure:
    """An empty figure of `width` by `height` inches with the house's background."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor=color("ground"))
    FigureCanvasAgg(figure)
    return figure


def style_axes(ax: Axes, *, xlabel: str = "", ylabel: str = "", title: str = "") -> None:
    """Two thin spines, a light grid, labels in words. Text is taken literally (no mathematics in `$`)."""
    ax.set_facecolor("none")
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(color("muted"))
        spine.set_linewidth(0.7)
    ax.grid(True, color=color("rule"), linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(colors=color("muted"), labelsize=FONT_POINTS - 1, width=0.7, length=3, which="both")
    ax.tick_params(which="minor", length=0)
    text = {"fontsize": FONT_POINTS, "parse_math": False}
    ax.set_xlabel(xlabel, color=color("muted"), **text)
    ax.set_ylabel(ylabel, color=color("muted"), **text)
    ax.set_title(
        title, loc="left", color=color("ink"), fontsize=FONT_POINTS + 1, fontweight="bold", parse_math=False
    )


def thousands(value: float | int, _: int | None = None) -> str:
    """40000 -> "40k", 1500000 -> "1.5M": tick labels for gradient steps."""
    for unit, suffix in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            return f"{value / unit:g}{suffix}"
    return f"{value:g}"


def save_png(figure: Figure, path: Path, dots_per_inch: int = 170) -> Path:
    """Write a figure as PNG (atomically) and return the path."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dots_per_inch, metadata={"Software": None})
    atomic_write(path, buffer.getvalue())
    return path


def inline_svg(figure: Figure, identity: str, description: str) -> str:
    """A figure as an `<svg>` element whose colours follow the page's light or dark scheme.

    `identity` (letters, digits, `-`) prefixes every id, so that many figures live in one page;
    `description` is what a screen reader says. Text stays text, in the page's sans-serif face.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": identity}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    source = buffer.getvalue()
    body = source[source.index(">", source.index("<svg")) + 1 :]
    # The style element would apply to the whole page, and empty rotations are a third of the text.
    for pattern in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",
        r"<!--.*?-->",
        r' transform="rotate\(-?0 [^"]*"',
    ):
        body = re.sub(pattern, "", body, flags=re.DOTALL)
    for reference in ('id="', 'href="#', "url(#"):
        body = body.replace(reference, reference + identity + "-")
    body = re.sub(r"font-family: [^;\"]*", "font-family: var(--sans)", body)
    body = re.sub(r"font: ([^\"';]*?[\d.]+px) [^;\"]*", r"font: \1 var(--sans)", body)
    for name, value in PALETTE.items():
        body = body.replace(value.light, f"var(--{name})")
    body = re.sub(r"\s*\n\s*", " ", body)
    width, height = (72 * inches for inches in figure.get_size_inches())
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return f'<svg role="img" aria-label="{label}" viewBox="0 0 {width:g} {height:g}">{body.strip()}'


def css_variables() -> str:
    """The palette as CSS: light values, and dark ones where the reader's system asks for them."""
    light = "".join(f"--{name}:{value.light};" for name, value in PALETTE.items())
    dark = "".join(f"--{name}:{value.dark};" for name, value in PALETTE.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"

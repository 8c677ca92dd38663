"""Colours that everybody can tell apart, and drawings that can live in one page."""

import itertools
import re
import xml.etree.ElementTree as ElementTree

import matplotlib.pyplot
import numpy as np
import pytest

from langevin.report.style import (
    PALETTE,
    SERIES,
    css_variables,
    inline_svg,
    new_figure,
    save_png,
    series_style,
    style_axes,
    thousands,
)

# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
COLOR_BLIND = {
    "deuteranopia": [[0.3673, 0.8606, -0.2280], [0.2801, 0.6725, 0.0474], [-0.0118, 0.0429, 0.9689]],
    "protanopia": [[0.1523, 1.0526, -0.2049], [0.1145, 0.7863, 0.0992], [-0.0039, -0.0481, 1.0520]],
}


def linear(value: str) -> np.ndarray:
    srgb = np.array([int(value[place : place + 2], 16) for place in (1, 3, 5)]) / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def contrast(first: str, second: str) -> float:
    """WCAG 2's contrast ratio."""
    bright, dark = sorted(
        (linear(value) @ [0.2126, 0.7152, 0.0722] for value in (first, second)), reverse=True
    )
    return (bright + 0.05) / (dark + 0.05)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear RGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(rgb, 0, 1) / [0.9505, 1.0, 1.089]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_lines_and_text_stand_out_from_the_ground(scheme):
    ground = getattr(PALETTE["ground"], scheme)
    for name in SERIES:
        assert contrast(getattr(PALETTE[name], scheme), ground) >= 3, name
    for name in ("ink", "muted"):
        assert contrast(getattr(PALETTE[name], scheme), ground) >= 4.5, name


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", COLOR_BLIND)
def test_no_two_series_look_alike_to_a_colour_blind_reader(scheme, kind):
    seen = {
        name: lab(np.array(COLOR_BLIND[kind]) @ linear(getattr(PALETTE[name], scheme))) for name in SERIES
    }
    for first, second in itertools.combinations(SERIES, 2):
        assert np.linalg.norm(seen[first] - seen[second]) > 10, (first, second)


def test_series_never_share_both_colour_and_dash():
    styles = [series_style(place) for place in range(20)]
    assert len({(style.color_name, str(style.dash)) for style in styles}) == 20


def drawing(identity: str, title: str = "costs $5 & <more>") -> str:
    figure = new_figure(4, 3)
    ax = figure.subplots()
    style_axes(ax, xlabel="x", ylabel="y", title=title)
    ax.plot([0, 1], [0, 1], "o-", color=PALETTE["blue"].light)
    return inline_svg(figure, identity, 'says "what" it <is> & more')


def test_a_drawing_is_well_formed_and_takes_its_text_literally():
    svg = ElementTree.fromstring(drawing("a").replace("xlink:href", "href"))
    assert svg.attrib["aria-label"] == 'says "what" it <is> & more'
    assert "costs $5 & <more>" in ["".join(node.itertext()) for node in svg.iter("text")]


def test_a_drawing_follows_the_page_in_colour_and_face():
    svg = drawing("a")
    assert "var(--blue)" in svg
    assert "var(--ink)" in svg
    assert not [value.light for value in PALETTE.values() if value.light in svg]
    assert set(re.findall(r"font-family: ([^;\"]*)", svg)) == {"var(--sans)"}
    for name in re.findall(r"var\(--(\w+)\)", svg):
        assert name == "sans" or f"--{name}:" in css_variables()


def test_two_drawings_share_no_id_and_refer_to_their_own():
    first, second = (set(re.findall(r'\bid="([^"]*)"', drawing(identity))) for identity in ("a", "b"))
    assert first
    assert not first & second
    referred = set(re.findall(r'href="#([^"]*)"|url\(#([^)]*)\)', drawing("a")))
    assert {one or other for one, other in referred} <= first


def test_the_same_drawing_has_the_same_text():
    assert drawing("a") == drawing("a")


def test_figures_are_not_registered_with_pyplot(tmp_path):
    save_png(new_figure(1, 1), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert matplotlib.pyplot.get_fignums() == []
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (500, "500"), (40_000, "40k"), (1.5e6, "1.5M")])
def test_steps_are_written_short(value, text):
    assert thousands(value) == text

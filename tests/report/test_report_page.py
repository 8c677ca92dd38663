"""The page: whole in one file, honest about its numbers, safe with any text."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from fake_runs import LABELS, fake_fidelity, fake_run

from langevin.envs.mazes import UMAZE
from langevin.errors import UsageError
from langevin.report.mazes import two_panel_rollouts
from langevin.report.page import build_page, default_title, lede, write_report
from langevin.report.runs import read_runs
from langevin.report.sections import command_of, coverage_words
from langevin.report.style import save_png

VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a browser would load, ids, and whether every element is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self.ids += [values["id"]] if "id" in values else []
        self.loaded += [values[name] for name in ("src", "data", "poster", "srcset") if values.get(name)]
        (self.loaded if tag == "link" else self.links).extend(
            value for name, value in values.items() if name in ("href", "xlink:href") and value
        )

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else at {self.getpos()}"

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    for name in LABELS:
        fake_run(root / name, name, points=4)
    fake_run(root / "other", "td3bc", dataset="pointmaze/medium-v0", seeds=1, preset="paper", points=4)
    run = root / "dydiff"
    (run / "fidelity.json").write_text(json.dumps(fake_fidelity()))
    (run / "figures").mkdir()
    path = np.array([[[1.0, 1.0], [0.0, 1.0]]])
    save_png(two_panel_rollouts(UMAZE, path, path), run / "figures" / "rollouts.png", dots_per_inch=40)
    save_png(
        two_panel_rollouts(UMAZE, path, path), run / "figures" / "error_by_horizon.png", dots_per_inch=40
    )
    (run / "figures" / "captions.json").write_text('{"rollouts.png": "Ensemble <left>, refined right."}')
    return root


@pytest.fixture(scope="module")
def page(folder):
    return build_page(read_runs([folder]))


def test_the_page_asks_the_network_for_nothing(page):
    parsed = Page(page)
    assert parsed.loaded
    assert all(address.startswith("data:image/png;base64,") for address in parsed.loaded)
    assert all(address.startswith("#") for address in parsed.links)
    assert "@import" not in page
    assert not re.findall(r"url\((?!#)", page)
    assert "default-src 'none'; img-src data:" in page


def test_the_page_is_well_formed(page):
    parsed = Page(page)
    assert parsed.open == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert {link[1:] for link in parsed.links} <= set(parsed.ids)


def test_the_page_shows_every_run_with_its_numbers(page, folder):
    text = " ".join(Page(page).text)
    for run in read_runs([folder]):
        assert run.label in text
        assert run.dataset in text
        assert f"{run.summary['normalized_score']['iqm']:.1f}".replace("-", "\N{MINUS SIGN}") in text
        assert run.config["command"] in text


def test_every_chapter_is_there(page):
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert headings == [
        "Results",
        "Learning curves",
        "Pictures",
        "How far the world model can be trusted",
        "How scores are computed",
        "How to run this again",
    ]
    assert "Trust" not in headings
    assert fake_fidelity()["verdict"][1] in page


def test_pictures_are_embedded_with_captions_and_not_drawn_twice(page):
    parsed = Page(page)
    assert parsed.tags.count("img") == 1
    assert "Ensemble &lt;left&gt;, refined right." in page


def test_chapters_without_content_are_left_out(tmp_path):
    folder = fake_run(tmp_path / "run", "bc")
    (folder / "metrics.jsonl").unlink()
    (folder / "config.toml").unlink()
    page = build_page(read_runs([folder]))
    headings = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert headings == ["Results", "How scores are computed", "How to run this again"]
    assert "langevin train bc --dataset pointmaze/umaze-v0 --preset cpu --seeds 3" in page


def test_text_from_a_run_is_never_markup(tmp_path):
    folder = fake_run(tmp_path / "run", "bc", points=2)
    summary = json.loads((folder / "summary.json").read_text())
    summary["label"] = summary["dataset"] = "<script>alert('$x$')</script>"
    (folder / "summary.json").write_text(json.dumps(summary))
    assert Page(build_page(read_runs([folder]))).tags.count("script") == 1


def test_the_first_sentence_says_what_the_intervals_allow(tmp_path):
    for name in ("bc", "td3bc", "diffuser"):
        fake_run(tmp_path / name, name)
    bc, planner, td3bc = read_runs([tmp_path])
    assert [run.label for run in (bc, planner, td3bc)] == [
        LABELS[name] for name in ("bc", "diffuser", "td3bc")
    ]
    assert lede([td3bc, planner]).startswith(f"{LABELS['diffuser']} scores highest: <b>")
    assert "do not overlap" in lede([td3bc, planner])
    for run in (bc, td3bc):
        run.summary["normalized_score"]["ci95"] = [0.0, 10.0]
    assert "overlap: these seeds do not tell the two apart" in lede([td3bc, bc])
    td3bc.summary["normalized_score"]["ci95"] = [None, None]
    assert "One seed has no interval" in lede([td3bc, planner])


def test_the_title_says_what_was_compared(folder):
    runs = read_runs([folder / "bc", folder / "td3bc"])
    assert default_title(runs[:1]) == "BC on pointmaze/umaze-v0"
    assert default_title(runs) == "BC and TD3+BC on pointmaze/umaze-v0"
    assert default_title(read_runs([folder])) == "4 algorithms on 2 datasets"


def test_what_a_run_has_to_say_of_itself_is_told(tmp_path):
    """A saturated classifier, collapsed importance weights: what makes a score mean less than it seems to."""
    folder = fake_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    remark = "97% of the scores are at an end: the classifier is saturated <b>"
    (folder / "summary.json").write_text(json.dumps(summary | {"remarks": [remark]}))
    page = build_page(read_runs([folder]))
    assert "TD3+BC: 97% of the scores are at an end: the classifier is saturated &lt;b&gt;" in page


def test_a_stopped_seed_is_told(tmp_path):
    folder = fake_run(tmp_path / "run", points=2)
    stop = {
        "stage": "policy",
        "step": 7000,
        "seed": 1,
        "event": "stopped",
        "reason": "critic/loss is not finite",
    }
    with open(folder / "metrics.jsonl", "a") as lines:
        lines.write(json.dumps(stop) + "\n")
    page = build_page(read_runs([folder]))
    assert "TD3+BC, seed 1 stopped in stage policy at step 7,000: critic/loss is not finite." in page


@pytest.mark.parametrize("seeds", [2, 3])
def test_the_stated_coverage_of_so_few_seeds_is_true(seeds):
    # With 2 or 3 seeds the interval is their range, which misses when all lie on one side of the truth.
    misses = 2 * 0.5**seeds
    assert {0.5: "half of the time", 0.75: "three times in four"}[1 - misses] in coverage_words(seeds)


def test_a_recorded_command_is_shown_as_typed(tmp_path):
    run = read_runs([fake_run(tmp_path / "run")])[0]
    run.config["command"] = ["langevin", "train", "td3bc", "--out", "my runs"]
    assert command_of(run) == "langevin train td3bc --out 'my runs'"


def test_a_page_is_replaced_only_by_a_whole_one(tmp_path):
    folder, out = fake_run(tmp_path / "run", points=1), tmp_path / "report.html"
    out.write_text("old")
    (folder / "figures").mkdir()
    (folder / "figures" / "broken.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match=r"broken\.png is not a PNG picture"):
        write_report([folder], out)
    assert out.read_text() == "old"
    (folder / "figures" / "broken.png").unlink()
    assert write_report([folder], out, title="Mine") == out
    assert "<h1>Mine</h1>" in out.read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "run"]


def test_places_that_cannot_hold_a_page(tmp_path):
    folder = fake_run(tmp_path / "run", points=1)
    with pytest.raises(UsageError, match="is a folder; name a file in it"):
        write_report([folder], tmp_path)
    with pytest.raises(UsageError, match="does not exist; create it"):
        write_report([folder], tmp_path / "nowhere" / "report.html")
    with pytest.raises(UsageError, match="no run to report on"):
        write_report([], tmp_path / "report.html")

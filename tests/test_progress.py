import io

from rich.console import Console

from langevin.progress import BarProgress, SilentProgress


def test_silence_is_silent(capfd):
    with SilentProgress().track(10, "work") as advance:
        advance(3, "a note")
    assert capfd.readouterr() == ("", "")


def test_a_bar_shows_label_count_and_note():
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100)
    with BarProgress(console).track(10, "collecting") as advance:
        advance(4, "loss 0.5")
        advance(6)
    shown = screen.getvalue()
    assert "collecting" in shown
    assert "10/10" in shown
    assert "loss 0.5" in shown


def test_a_bar_keeps_off_standard_output(capfd):
    with BarProgress().track(2, "work") as advance:
        advance(2)
    assert capfd.readouterr().out == ""


def test_bars_of_work_side_by_side_stand_below_one_another():
    """A terminal shows one display at a time, so a second of its own would be refused."""
    screen = io.StringIO()
    bars = BarProgress(Console(file=screen, force_terminal=True, width=100))
    with bars.track(10, "collecting") as collect:
        with bars.track(4, "training") as train:
            train(1)
            collect(2)
        collect(8)
    with bars.track(5, "drawing") as draw:
        draw(5)
    shown = screen.getvalue()
    assert "10/10" in shown
    assert "5/5" in shown
    assert "training" in shown.split("drawing")[0]

"""A run's pictures on disk, each with its caption."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from langevin.report.style import save_png
from langevin.training.files import atomic_write

CAPTIONS = "captions.json"


def save_figure(folder: Path, name: str, figure: Figure, caption: str) -> Path:
    """Write figures/NAME.png and its caption into figures/captions.json."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    path = save_png(figure, figures / f"{name}.png")
    atomic_write(figures / CAPTIONS, json.dumps(captions(folder) | {path.name: caption}, indent=1) + "\n")
    return path


def captions(folder: Path) -> dict[str, str]:
    """The captions of a run's pictures by file name, in the order they were drawn; none where there are none."""
    path = folder / "figures" / CAPTIONS
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}

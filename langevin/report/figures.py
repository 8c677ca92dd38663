"""A run's pictures on disk, each with its caption."""

import json
from pathlib import Path

from matplotlib.figure import Figure

from langevin.report.style import save_png
from langevin.training.files import atomic_write


def save_figure(folder: Path, name: str, figure: Figure, caption: str) -> Path:
    """Write figures/NAME.png and its caption into figures/captions.json."""
    figures = folder / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    path = save_png(figure, figures / f"{name}.png")
    captions_path = figures / "captions.json"
    captions = json.loads(captions_path.read_text("utf-8")) if captions_path.is_file() else {}
    atomic_write(captions_path, json.dumps(captions | {path.name: caption}, indent=1) + "\n")
    return path

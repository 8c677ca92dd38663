"""`langevin report RUN [RUN …] -o report.html`: one page from finished runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from langevin.progress import BarProgress
from langevin.report.page import write_report
from langevin.report.runs import read_runs
from langevin.report.table import print_results


@dataclass(frozen=True)
class Report:
    """Put the results of runs on one self-contained HTML page.

    Examples:
    langevin report runs/td3bc runs/dydiff -o report.html
    langevin report runs/demo
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """Run folders, or a folder that holds run folders; the table keeps their order."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report.html")
    """The page to write; one that exists is replaced once the new one is complete."""
    title: str | None = None
    """The page's title (default: made from the datasets)."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Write the page; returns its path, size and the runs it shows."""
        console = Console(quiet=self.json)
        runs = read_runs(self.runs)
        page = write_report(runs, self.out, title=self.title, progress=BarProgress())
        result = {
            "report": str(page),
            "bytes": page.stat().st_size,
            "runs": [{"folder": str(run.folder), "label": run.label, "dataset": run.dataset} for run in runs],
        }
        print_results([run.summary for run in runs], console)
        console.print(f"The report is in {page}", highlight=False)
        if self.json:
            print(json.dumps(result))
        return result

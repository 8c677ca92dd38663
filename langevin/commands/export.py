"""`langevin export RUN`: a trained policy as one file that acts without Langevin."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console

from langevin.errors import UsageError, require_at_least
from langevin.experiments.runs import load_run, one_seed
from langevin.policies.export import to_numpy, to_stablehlo
from langevin.training.files import atomic_write

SUFFIX = {"numpy": ".npz", "stablehlo": ".zip"}


@dataclass(frozen=True)
class Export:
    """Write one seed's policy to a file that acts without Langevin: with NumPy alone, or as a StableHLO program.

    Examples:
    langevin export runs/td3bc-pointmaze-umaze-v0
    langevin export runs/diffuser-pointmaze-umaze-v0 --format stablehlo --seed 1 -o planner.zip
    """

    run_folder: tyro.conf.Positional[Path]
    """The folder of a finished run."""
    format: Literal["numpy", "stablehlo"] = "numpy"
    """numpy: an NPZ file, for policies that are one network. stablehlo: any policy; needs JAX to run."""
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file (default: policy.npz or policy.zip in the run folder)."""
    seed: int = 0
    """Which of the run's seeds, by its number."""
    batch_size: int = 1
    """Systems that a StableHLO policy acts for at once."""
    overwrite: bool = False
    """Replace the file if there is one."""
    json: bool = False
    """Print the result as one JSON object."""

    def run(self) -> dict[str, Any]:
        """Write the file and say where it is and how to use it."""
        require_at_least(1, batch_size=self.batch_size)
        loaded = load_run(self.run_folder)
        if self.seed not in loaded.config.seeds:
            raise UsageError(
                f"{self.run_folder} has no seed {self.seed}; choose one of {', '.join(map(str, loaded.config.seeds))}"
            )
        out = self.out or self.run_folder / f"policy{SUFFIX[self.format]}"
        if out.exists() and not self.overwrite:
            raise UsageError(f"{out} is there already; choose another --out, or --overwrite it")
        if not out.parent.is_dir():
            raise UsageError(f"the folder {out.parent} does not exist; make it, or choose another --out")
        policy = one_seed(loaded.policies, loaded.config.seeds.index(self.seed))
        sizes = loaded.system.observation_size, self.batch_size
        atomic_write(out, to_numpy(policy) if self.format == "numpy" else to_stablehlo(policy, *sizes))
        result = {
            "path": str(out),
            "format": self.format,
            "seed": self.seed,
            "observation_size": loaded.system.observation_size,
            "action_size": loaded.system.action_size,
            "bytes": out.stat().st_size,
        }
        if self.json:
            print(json.dumps(result))
        else:
            Console(soft_wrap=True).print(
                f"Wrote {out} ({result['bytes'] / 1e3:,.0f} kB); how to act with it stands in docs/guide/deploy.md",
                markup=False, highlight=False,
            )  # fmt: skip
        return result

"""The command line: finds the command, runs it, turns errors into one sentence and an exit code."""

import contextlib
import inspect
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

import tyro
from rich.console import Console

import langevin
from langevin.errors import LangevinError, UsageError, nearest

COMMANDS: dict[str, tuple[str, str, str]] = {
    "demo": ("demo", "Demo", "the main job, small: a planner and a world model against offline learners"),
    "data list": ("data", "ListDatasets", "datasets on disk and those that can be made here"),
    "data info": ("data", "Info", "a dataset's size, returns, scores and recipe"),
    "data make": ("data", "Make", "make a dataset in its simulator, without a download"),
    "data train-behaviour": (
        "data",
        "TrainBehaviour",
        "train a robot's medium and expert policies in its simulator",
    ),
    "data import": ("data_import", "Import", "make a dataset from a CSV, Parquet, HDF5 or NPZ file"),
    "data check": ("data", "Check", "look for what would spoil a training run"),
    "train": ("train", "Train", "train several seeds at once from logged data, and evaluate them"),
    "evaluate": ("evaluate", "Evaluate", "run a trained policy in the real environment"),
    "fidelity": ("fidelity", "Fidelity", "how far a world model can be trusted"),
    "report": ("report", "Report", "one self-contained HTML page from finished runs"),
    "export": ("export", "Export", "a trained policy as one file that acts without Langevin"),
    "bench": ("bench", "Bench", "updates per second on this machine"),
    "bench planning": (
        "bench_planning",
        "BenchPlanning",
        "a planner's decisions per second, and their worth",
    ),
}
"""Command -> module in langevin.commands, class in it, one line of help. Modules are imported when called for."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and exit: 0 ok, 1 failed, 2 bad usage."""
    sys.exit(run(list(sys.argv[1:] if arguments is None else arguments)))


def run(arguments: list[str]) -> int:
    """Run one command; returns its exit code."""
    if arguments in (["--version"], ["-V"]):
        print(f"langevin {langevin.__version__}")
        return 0
    if not arguments:
        print(usage(), file=sys.stderr)
        return 2
    if arguments[0] in ("-h", "--help"):
        print(usage())
        return 0
    found = find_command(arguments)
    if found is None:
        return bad_usage(arguments)
    name, rest = found
    module, class_name, _ = COMMANDS[name]
    from langevin.training.compile_cache import enable_compile_cache

    try:
        command: Any = getattr(import_module(f"langevin.commands.{module}"), class_name)
        enable_compile_cache()
        with warnings_for_people():
            tyro.cli(command, args=rest, prog=f"langevin {name}", description=description(command)).run()
    except UsageError as error:
        return complain(error, 2)
    except LangevinError as error:
        return complain(error, 1)
    except KeyboardInterrupt:
        return complain("stopped; go on with --resume where the command has it", 1)
    except BrokenPipeError:
        with contextlib.suppress(OSError):
            sys.stdout.close()
        return 0
    except SystemExit as stop:  # tyro: 0 after --help, 2 after arguments it cannot read
        return stop.code if isinstance(stop.code, int) else 1
    return 0


def find_command(arguments: list[str]) -> tuple[str, list[str]] | None:
    """The command's name and the arguments after it; None when there is no such command."""
    for words in (2, 1):
        name = " ".join(arguments[:words])
        if name in COMMANDS:
            return name, arguments[words:]
    return None


def bad_usage(arguments: list[str]) -> int:
    """Say what was not understood, and what is there."""
    group, *rest = arguments
    members = [name for name in COMMANDS if name.startswith(f"{group} ")]
    if members and (not rest or rest[0].startswith("-")):
        asked_for_help = any(word in ("-h", "--help") for word in rest)
        print(usage(members), file=sys.stdout if asked_for_help else sys.stderr)
        return 0 if asked_for_help else 2
    name = f"{group} {rest[0]}" if members else group
    return complain(f"there is no command {name!r}; {nearest(name, members or list(COMMANDS))}", 2)


def description(command: type) -> str:
    """A command's docstring, each example a paragraph.

    Read by tyro itself it would lose what stands below "Examples:", and lines of one paragraph are joined.
    """
    return re.sub(r"\n(?=langevin )", "\n\n", inspect.getdoc(command) or "")


def usage(names: Sequence[str] | None = None) -> str:
    """The commands, a line each."""
    chosen = names or list(COMMANDS)
    lines = [f"  langevin {name:<12} {COMMANDS[name][2]}" for name in chosen]
    return "\n".join([
        "Offline reinforcement learning with diffusion models, as planners and as world models.",
        "",
        *lines,
        "",
        "langevin COMMAND --help explains a command and gives examples.",
    ])  # fmt: skip


@contextlib.contextmanager
def warnings_for_people() -> Iterator[None]:
    """Warnings of ours as one sentence on standard error, without the line of code that they come from."""
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *place: Any, **more: Any) -> None:
            if category is not UserWarning:
                return shown(message, category, *place, **more)
            Console(stderr=True, soft_wrap=True).print(
                f"langevin: warning: {message}", style="yellow", markup=False, highlight=False
            )

        warnings.showwarning = show
        yield


def complain(error: object, code: int) -> int:
    """One sentence on standard error."""
    Console(stderr=True, soft_wrap=True).print(
        f"langevin: {error}", style="red", markup=False, highlight=False
    )
    return code


if __name__ == "__main__":
    main()

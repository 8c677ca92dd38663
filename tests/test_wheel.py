"""What a person gets who installs the wheel: every package and data file, and a command that works on its own."""

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True)
    (path,) = out.glob("*.whl")
    return path


def test_the_wheel_holds_every_module_and_data_file_and_nothing_else(wheel):
    """Only the top folder of a package in a wheel is a classic: it imports, and fails at the first command."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "langevin"], check=True, capture_output=True, text=True
    ).stdout.split()
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert set(listed) - packed == set()
    assert all(name.startswith("langevin/") for name in packed)
    assert {
        "langevin/py.typed",
        "langevin/training/presets/dydiff.toml",
        "langevin/report/page.css",
        "langevin/data/sources/d4rl.toml",
    } <= packed
    assert not [name for name in packed if "__pycache__" in name or name.startswith("tests/")]


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A fresh environment with the wheel, which sees this one's other packages but not this one's Langevin."""
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    binaries = folder / "bin"
    pip = [str(binaries / "python"), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    # Folders on PYTHONPATH do not have their .pth files read, so an editable install stays out of sight.
    environment = os.environ | {
        "PYTHONPATH": sysconfig.get_paths()["purelib"],
        "MINARI_DATASETS_PATH": str(folder / "datasets"),
    }

    def run(*command: str) -> str:
        done = subprocess.run(
            [str(binaries / command[0]), *command[1:]],
            check=True, capture_output=True, text=True, cwd=folder, env=environment,
        )  # fmt: skip
        return done.stdout

    run.folder = folder
    return run


def test_the_installed_package_is_the_wheels(installed):
    where = installed("python", "-c", "import langevin; print(langevin.__file__)")
    assert str(installed.folder) in where


def test_the_command_works_outside_the_sources(installed):
    assert "langevin train" in installed("langevin", "--help")
    assert "--dataset" in installed("langevin", "train", "--help")
    assert "pointmaze/umaze-v0" in installed("langevin", "data", "list")


def test_presets_and_the_reports_style_are_found_where_they_are_installed(installed):
    program = (
        "from langevin.training.algorithms.registry import ALGORITHMS, load_settings\n"
        "for name in ALGORITHMS:\n"
        "    for preset in ('cpu', 'paper'):\n"
        "        load_settings(name, None, preset, 'pointmaze/umaze-v0', {})\n"
        "import importlib, pkgutil, langevin\n"
        "for module in pkgutil.walk_packages(langevin.__path__, 'langevin.'):\n"
        "    importlib.import_module(module.name)\n"
        "print('all there')\n"
    )
    assert installed("python", "-c", program) == "all there\n"

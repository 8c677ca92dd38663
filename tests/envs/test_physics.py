import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from langevin.envs.mazes import LARGE, MEDIUM, UMAZE
from langevin.envs.physics import point_maze_model

MAZES = {"umaze": UMAZE, "medium": MEDIUM, "large": LARGE}
BUILD = """
from langevin.envs.mazes import UMAZE
from langevin.envs.physics import point_maze_model
point_maze_model(UMAZE)
"""
PHYSICAL = (
    "geom_pos",
    "geom_size",
    "geom_type",
    "geom_friction",
    "geom_solref",
    "geom_solimp",
    "geom_margin",
    "geom_contype",
    "geom_conaffinity",
    "geom_condim",
    "body_mass",
    "body_inertia",
    "dof_damping",
    "actuator_gear",
    "actuator_ctrlrange",
)


def test_the_model_is_gymnasium_robotics_in_every_physical_number(maze_name, make_gymnasium):
    theirs = make_gymnasium(maze_name).unwrapped.model
    ours = point_maze_model(MAZES[maze_name])
    for name in PHYSICAL:
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    for name in ("timestep", "integrator", "solver", "iterations", "tolerance"):
        assert getattr(ours.opt, name) == getattr(theirs.opt, name)


def test_a_maze_is_built_once_and_leaves_no_file(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    point_maze_model.cache_clear()
    assert point_maze_model(UMAZE) is point_maze_model(UMAZE)
    assert list(Path(tmp_path).iterdir()) == []


def test_building_a_maze_prints_nothing():
    """Importing gymnasium-robotics prints a notice, so its files are found without importing it."""
    done = subprocess.run([sys.executable, "-c", BUILD], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("maze", MAZES.values(), ids=MAZES)
def test_every_wall_cell_is_a_box(maze):
    model = point_maze_model(maze)
    # The floor and the ball are the two geoms that are not walls.
    assert model.ngeom == maze.walls.sum() + 2

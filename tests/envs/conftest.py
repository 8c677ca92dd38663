"""gymnasium-robotics' own point mazes, as the independent source of truth."""

import os

import gymnasium
import gymnasium_robotics
import pytest

GYMNASIUM_IDS = {
    "umaze": "PointMaze_UMaze-v3",
    "medium": "PointMaze_Medium-v3",
    "large": "PointMaze_Large-v3",
}


@pytest.fixture(params=GYMNASIUM_IDS)
def maze_name(request):
    return request.param


@pytest.fixture
def make_gymnasium():
    """Makes the maze's environment; the XML file that each one leaves in the temporary folder is removed."""
    gymnasium.register_envs(gymnasium_robotics)
    made = []

    def make(maze_name):
        made.append(gymnasium.make(GYMNASIUM_IDS[maze_name]))
        return made[-1]

    yield make
    for environment in made:
        os.remove(environment.unwrapped.tmp_xml_file_path)
        environment.close()

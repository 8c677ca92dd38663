"""A file is written whole or not at all."""

import os
import signal
import subprocess
import sys

import pytest

from langevin.errors import LangevinError
from langevin.training import files
from langevin.training.files import atomic_folder, atomic_write, sweep_unfinished, sync


def test_text_and_bytes_replace_what_was_there(tmp_path):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")
    atomic_write(path, "neu: ü")
    assert path.read_text("utf-8") == "neu: ü"
    atomic_write(path, b"\x00\x01")
    assert path.read_bytes() == b"\x00\x01"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    atomic_write(path, "old")

    def full(file):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(LangevinError, match=r"could not write .*a\.txt: No space left on device"):
        atomic_write(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_folder_that_fails_on_the_way_does_not_exist(tmp_path):
    def fill(folder):
        with open(folder / "first", "w") as file:
            sync(file)
        raise OSError(28, "No space left on device")

    with pytest.raises(LangevinError, match="No space left"):
        atomic_folder(tmp_path / "whole", fill)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_writer_left_is_swept_and_was_never_visible(tmp_path):
    script = (
        "import os, signal, sys\n"
        "from langevin.training.files import atomic_folder\n"
        "def fill(folder):\n"
        "    (folder / 'half').write_text('x')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_folder(sys.argv[1] + '/whole', fill)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "whole").exists()
    assert len(os.listdir(tmp_path)) == 1
    sweep_unfinished(tmp_path)
    assert os.listdir(tmp_path) == []

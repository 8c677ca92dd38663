"""Downloads against a server of the test's own: whole, resumed, damaged, refused, and with nobody there."""

import hashlib
import http.server
import os
import re
import socket
import threading
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from d4rl_files import HOPPER, episodes, write

from langevin.data.sources import d4rl, download, open_dataset
from langevin.data.sources.download import download as fetch
from langevin.errors import LangevinError, UsageError
from langevin.progress import SilentProgress

CONTENT = np.random.default_rng(0).bytes(300_000)
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Shop:
    """What the server gives, and what it was asked for."""

    content: bytes = CONTENT
    etag: str = '"first"'
    knows_ranges: bool = True
    breaks_after: int = 0
    """Bytes of each answer after which the connection is closed; 0 for never."""
    missing: bool = False
    ranges: list = field(default_factory=list)
    requests: int = 0
    sent: int = 0


@pytest.fixture
def shop():
    """A server on this machine; its address is `shop.url`."""
    shop = Shop()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            shop.requests += 1
            if shop.missing:
                self.send_error(404)
                return
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            shop.ranges += [int(asked[1])] if asked else []
            fresh = self.headers.get("If-Range") == shop.etag
            start = int(asked[1]) if asked and shop.knows_ranges and fresh else 0
            body = shop.content[start:]
            self.send_response(206 if start else 200)
            self.send_header("ETag", shop.etag)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            body = body[: shop.breaks_after] if shop.breaks_after else body
            shop.sent += len(body)
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    shop.url = f"http://127.0.0.1:{server.server_address[1]}/file.hdf5"
    yield shop
    server.shutdown()
    server.server_close()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "files" / "file.hdf5"


def test_a_whole_file_arrives_with_progress_and_leaves_nothing_beside(shop, path):
    told = []

    class Told(SilentProgress):
        def track(self, total, label):
            told.append((total, label))
            return super().track(total, label)

    assert fetch(shop.url, path, CHECKSUM, Told()) == path
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["file.hdf5"]
    assert told == [(1, "Downloading file.hdf5 (MB)")]


def break_off(shop, path, after=100_000):
    """Let a download break."""
    shop.breaks_after = after
    with pytest.raises(LangevinError, match=r"stopped after 100,000 of 300,000 bytes; run the command again"):
        fetch(shop.url, path, CHECKSUM)
    assert not path.exists()
    shop.breaks_after = 0


def test_a_broken_download_goes_on_where_it_stopped(shop, path):
    break_off(shop, path)
    shop.sent = 0
    fetch(shop.url, path, CHECKSUM)
    assert path.read_bytes() == CONTENT
    assert shop.ranges == [100_000]
    assert os.listdir(path.parent) == ["file.hdf5"]


def test_a_server_without_ranges_sends_everything_again(shop, path):
    break_off(shop, path)
    shop.knows_ranges = False
    fetch(shop.url, path, CHECKSUM)
    assert path.read_bytes() == CONTENT


def test_two_versions_of_a_file_are_never_glued_together(shop, path):
    break_off(shop, path)
    shop.content, shop.etag = CONTENT[::-1], '"second"'
    fetch(shop.url, path)
    assert path.read_bytes() == CONTENT[::-1]
    assert shop.ranges == []


def test_a_download_that_was_whole_but_not_yet_in_its_place_is_not_fetched_twice(shop, path):
    break_off(shop, path)
    (partial,) = path.parent.iterdir()
    partial.write_bytes(CONTENT)
    fetch(shop.url, path, CHECKSUM)
    assert path.read_bytes() == CONTENT
    assert shop.ranges == []


def test_a_wrong_checksum_is_refused_and_nothing_is_left(shop, path):
    shop.content = CONTENT[:-1] + b"?"
    with pytest.raises(
        LangevinError, match=r"checksum .* not the published .* run the command again"
    ) as refusal:
        fetch(shop.url, path, CHECKSUM)
    assert "\n" not in str(refusal.value)
    assert list(path.parent.iterdir()) == []


def test_a_file_the_server_does_not_have_is_one_sentence(shop, path):
    shop.missing = True
    with pytest.raises(LangevinError, match=r"the server says 404 .*download http.*/file.hdf5 elsewhere"):
        fetch(shop.url, path)
    assert not path.exists()


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_without_a_network_the_error_says_to_fetch_the_file_elsewhere(host, path):
    url = f"http://{host}:{closed_port()}/file.hdf5"
    with pytest.raises(LangevinError, match="no connection") as refusal:
        fetch(url, path)
    assert f"download {url} elsewhere and give the file's path, or put it at {path}" in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert not path.parent.exists()


def test_a_full_disk_is_one_sentence_and_keeps_what_was_there(shop, path, monkeypatch):
    def refuse(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_receive", refuse)
    with pytest.raises(LangevinError, match=r"could not write .*No space left on device"):
        fetch(shop.url, path)
    assert not path.exists()


@pytest.fixture
def library(shop, tmp_path, monkeypatch):
    """D4RL's hopper-medium-v2 as the server's only file, and an empty folder of D4RL's."""
    source = write(tmp_path / "source.hdf5", episodes([4, 5], terminal=[0]))
    shop.content = source.read_bytes()
    shop.url = shop.url.replace("file.hdf5", HOPPER)
    entry = d4rl.published()["hopper-medium-v2"]
    entry = replace(entry, url=shop.url, sha256=hashlib.sha256(shop.content).hexdigest())
    monkeypatch.setattr(d4rl, "published", lambda: {"hopper-medium-v2": entry})
    monkeypatch.setenv("D4RL_DATASET_DIR", str(tmp_path / "d4rl"))
    return tmp_path / "d4rl"


def test_a_name_is_downloaded_once_and_opened(library, shop):
    for _ in range(2):
        data = open_dataset("d4rl:hopper-medium-v2")
        assert (data.transitions, data.episodes, data.metadata["task"]) == (9, 2, "hopper-d4rl")
    assert shop.requests == 1
    assert os.listdir(library) == [HOPPER]


def test_a_file_that_was_changed_on_disk_is_refused_by_name_and_opens_by_path(library, shop):
    library.mkdir()
    write(library / HOPPER, episodes([7]))
    with pytest.raises(
        LangevinError, match=r"hopper_medium-v2.hdf5 has the checksum .* delete it .* by its path"
    ):
        open_dataset("d4rl:hopper-medium-v2")
    assert open_dataset(library / HOPPER).transitions == 7
    assert shop.requests == 0


@pytest.mark.parametrize("name", ["hopper-medum-v2", "", "pointmaze/umaze-v0", "../hopper-medium-v2"])
def test_a_name_that_d4rl_does_not_have_names_the_nearest(name, library):
    with pytest.raises(UsageError, match=r"is not known; .*hopper-medium-v2"):
        open_dataset(f"d4rl:{name}")
    assert not library.exists()

"""Fetching one file over HTTP: with progress, going on where an earlier attempt stopped, checked when whole."""

import hashlib
import http.client
import urllib.error
import urllib.request
from pathlib import Path

from langevin.errors import LangevinError
from langevin.progress import AbstractProgress, SilentProgress

CHUNK = 1 << 20
"""Bytes read at a time, and the unit of the progress bar."""
TIMEOUT = 30.0
"""Seconds without a byte after which the server counts as gone."""
NETWORK_ERRORS = (urllib.error.URLError, http.client.HTTPException, ConnectionError, TimeoutError)


def download(url: str, path: Path, sha256: str = "", progress: AbstractProgress | None = None) -> Path:
    """Fetch the file at `url` to `path`, whole or not at all.

    It grows beside its place in a file whose name holds the server's mark of the version, so that a later call goes
    on where this one stopped, and never glues two versions together. `sha256` (hexadecimal, "" for unknown) is
    compared before the file is moved to its place.

    **Raises:** `LangevinError` without network, when the server or the disk refuses, when the connection breaks (what
    came is kept), and when the checksum differs (what came is deleted).
    """
    elsewhere = f"download {url} elsewhere and give the file's path, or put it at {path}"
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
            path.parent.mkdir(parents=True, exist_ok=True)
            mark = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
            size = int(answer.headers.get("Content-Length") or 0)
            partial = _partial(path, mark)
            have = partial.stat().st_size if mark and partial.exists() else 0
            # An older version's beginning is of no use any more.
            for stale in path.parent.glob(f".{path.name}.partial-*"):
                if stale != partial:
                    stale.unlink()
            if not 0 < have <= size:
                _receive(answer, partial, 0, size, path.name, progress)
        if have and have < size:
            _resume(url, partial, mark, have, size, path.name, progress)
    except NETWORK_ERRORS as error:
        raise LangevinError(f"could not download {path.name} ({_reason(error)}); {elsewhere}") from error
    except OSError as error:
        raise LangevinError(
            f"could not write {path} ({error.strerror or error}); make room, and try again"
        ) from error
    came = partial.stat().st_size
    if size and came != size:
        raise LangevinError(
            f"the download of {path.name} stopped after {came:,} of {size:,} bytes; run the command again to go on "
            f"from there, or {elsewhere}"
        )
    require_checksum(partial, sha256, f"what came from {url}", "run the command again to download it anew")
    partial.replace(path)
    return path


def require_checksum(file: Path, sha256: str, what: str, advice: str) -> None:
    """Compare a file's SHA-256 with what was published ("": nothing was); one that differs is not used.

    A partial download that differs is deleted: going on from it would be in vain.

    **Raises:** `LangevinError` saying `what` differs, and the `advice`.
    """
    if not sha256:
        return
    with file.open("rb") as reader:
        got = hashlib.file_digest(reader, "sha256").hexdigest()
    if got != sha256:
        if ".partial-" in file.name:
            file.unlink()
        raise LangevinError(
            f"{what} has the checksum {got[:12]}…, not the published {sha256[:12]}…: it is damaged or another file; "
            f"{advice}"
        )


def _resume(
    url: str, partial: Path, mark: str, have: int, size: int, name: str, progress: AbstractProgress | None
) -> None:
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-", "If-Range": mark})
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        # A server that knows no ranges answers 200 and sends everything.
        start = have if answer.status == 206 else 0
        _receive(answer, partial, start, size, name, progress)


def _receive(
    answer: http.client.HTTPResponse,
    partial: Path,
    start: int,
    size: int,
    name: str,
    progress: AbstractProgress | None,
) -> None:
    total = max(-(-size // CHUNK), 1)
    with (
        (progress or SilentProgress()).track(total, f"Downloading {name} (MB)") as advance,
        partial.open("ab" if start else "wb") as writer,
    ):
        advance(start // CHUNK)
        while chunk := answer.read(CHUNK):
            writer.write(chunk)
            advance(1)


def _partial(path: Path, mark: str) -> Path:
    return path.with_name(f".{path.name}.partial-{hashlib.sha256(mark.encode()).hexdigest()[:12]}")


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server says {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"no connection: {error.reason}"
    return f"the connection broke: {error}" if str(error) else "the connection broke"

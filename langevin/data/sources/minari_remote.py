"""Datasets on Minari's server, fetched through Minari's own interface."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from langevin.data.sources.minari import dataset_path, datasets_folder, require_free
from langevin.errors import LangevinError


def fetch_dataset(dataset_id: str) -> str:
    """Download a dataset of Minari's server unless it is on disk; gives back its id.

    It is fetched into a folder beside the datasets and moved to its place when whole. What Minari's client keeps of a
    download that broke stays there, and it goes on from it.

    **Raises:** `UsageError` when the id is malformed; `LangevinError` when it cannot be fetched.
    """
    if dataset_path(dataset_id).exists():
        return dataset_id
    path = require_free(dataset_id)
    waiting = datasets_folder() / ".downloads"
    try:
        import minari

        with _datasets_in(waiting):
            # Minari takes what a broken download left for the whole; forced, it also takes versions it cannot read.
            shutil.rmtree(waiting / dataset_id, ignore_errors=True)
            minari.download_dataset(dataset_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        (waiting / dataset_id).rename(path)
    except ImportError as error:
        raise LangevinError(
            f"could not download {dataset_id}: Minari's client needs huggingface_hub; pip install 'langevin[remote]'"
        ) from error
    # The client lets through whatever its HTTP library raises, which shares no base class with anything.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise LangevinError(
            f"could not download {dataset_id} from Minari's server ({reason}); download it elsewhere and put its "
            f"folder at {path}"
        ) from error
    shutil.rmtree(waiting, ignore_errors=True)
    return dataset_id


@contextmanager
def _datasets_in(folder: Path) -> Iterator[None]:
    """Minari knows its folder by an environment variable alone."""
    before = os.environ.get("MINARI_DATASETS_PATH")
    os.environ["MINARI_DATASETS_PATH"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MINARI_DATASETS_PATH"]
        else:
            os.environ["MINARI_DATASETS_PATH"] = before

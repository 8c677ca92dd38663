"""Columns of CSV, Parquet, HDF5 and NPZ files as NumPy arrays: which there are, and those asked for.

A column is one number a row, or one vector of fixed length a row (a list column, a two-dimensional array).
No pickled object is ever loaded.
"""

import csv
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from langevin.errors import DatasetError, UsageError

CSV_SUFFIXES = (".csv", ".tsv", ".txt")
HDF5_SUFFIXES = (".hdf5", ".h5", ".hdf")
SUFFIXES = (*CSV_SUFFIXES, ".parquet", *HDF5_SUFFIXES, ".npz")
DELIMITERS = ",;\t"
READ_ERRORS = (
    OSError,
    RuntimeError,
    KeyError,
    ValueError,
    TypeError,
    EOFError,
    zlib.error,
    zipfile.BadZipFile,
)


Read = TypeVar("Read")


def column_names(path: Path) -> list[str]:
    """The columns of a file, in its own order; those of HDF5, which has none, with numbers counted up (x2 before x10).

    **Raises:** `UsageError` for a kind of file that cannot be read, `DatasetError` when it is not there, empty,
    damaged, or names a column twice.
    """
    suffix = _suffix(path)
    if suffix in CSV_SUFFIXES:
        names = _csv_header(path)[0]
    elif suffix == ".parquet":
        names = list(_parquet(path).schema_arrow.names)
    elif suffix in HDF5_SUFFIXES:
        names = sorted(_hdf5_shapes(path), key=_natural)
    else:
        names = _npz_names(path)
    repeated = [name for place, name in enumerate(names) if name in names[:place]]
    if repeated:
        raise DatasetError(f"{path} has two columns called {repeated[0]!r}; rename one of them")
    if not names:
        raise DatasetError(f"{path} holds no columns")
    return list(names)


def read_columns(path: Path, names: Sequence[str], words: Sequence[str] = ()) -> dict[str, np.ndarray]:
    """Those columns, (rows,) or (rows, size): numbers as they are stored, float64 where the file is text.

    A number that is missing is nan. The columns among `words` may also hold text.

    **Raises:** `DatasetError` naming file, column and row when a cell is no number or vectors differ in length.
    """
    suffix = _suffix(path)
    if suffix in CSV_SUFFIXES:
        return _read_csv(path, names, words)
    if suffix == ".parquet":
        table = _understood(path, lambda: _parquet(path).read(columns=list(names)))
        return {name: _arrow_column(path, name, table.column(name)) for name in names}
    if suffix in HDF5_SUFFIXES:
        return _read_hdf5(path, names)
    return _read_npz(path, names)


def first_line(path: Path) -> int | None:
    """Line of a text file's first row; None for files that have no lines."""
    return 2 if _suffix(path) in CSV_SUFFIXES else None


def _suffix(path: Path) -> str:
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name a file in it")
    if not path.exists():
        raise DatasetError(f"there is no file {path}")
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise UsageError(f"{path} is of no kind that can be read; its name must end in {', '.join(SUFFIXES)}")
    return suffix


def _csv_header(path: Path) -> tuple[list[str], str]:
    """Column names and the delimiter: the one that the header holds most of."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            line = file.readline()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(
            f"{path} cannot be read as UTF-8 text ({error}); save it as CSV in UTF-8"
        ) from error
    if not line.strip():
        raise DatasetError(f"{path} is empty; it needs a first line that names the columns")
    delimiter = max(DELIMITERS, key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter))]
    if all(_is_number(name) for name in names):
        raise DatasetError(f"{path} has no line of column names: its first line holds numbers; add one")
    return names, delimiter


def _read_csv(path: Path, names: Sequence[str], words: Sequence[str]) -> dict[str, np.ndarray]:
    import pyarrow as pa

    try:
        table = _csv_table(path, {name: pa.string() if name in words else pa.float64() for name in names})
    except pa.ArrowInvalid as error:
        texts = _understood(path, lambda: _csv_table(path, dict.fromkeys(names, pa.string())))
        for name in names:
            if name not in words:
                _require_numbers(path, name, texts.column(name).to_pylist())
        raise DatasetError(f"{path} cannot be read as a table ({_sentence(error)})") from error
    return {name: _arrow_column(path, name, table.column(name)) for name in names}


def _csv_table(path: Path, types: dict):
    from pyarrow import csv as arrow_csv

    header, delimiter = _csv_header(path)
    return arrow_csv.read_csv(
        path,
        read_options=arrow_csv.ReadOptions(column_names=header, skip_rows=1),
        parse_options=arrow_csv.ParseOptions(delimiter=delimiter),
        convert_options=arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), strings_can_be_null=True
        ),
    )


def _require_numbers(path: Path, name: str, cells: list[str | None]) -> None:
    for row, cell in enumerate(cells):
        if cell is not None and not _is_number(cell):
            hint = "; write decimals with a point" if re.fullmatch(r"-?\d+,\d+", cell) else ""
            raise DatasetError(f"{path}: column {name!r}, line {row + 2} is {cell!r}, not a number{hint}")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _parquet(path: Path):
    from pyarrow import parquet

    return _understood(path, lambda: parquet.ParquetFile(path))


def _arrow_column(path: Path, name: str, column) -> np.ndarray:
    """A column of Arrow's as NumPy: numbers, strings, or a matrix where each cell is a list."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if (
        pa.types.is_list(column.type)
        or pa.types.is_large_list(column.type)
        or pa.types.is_fixed_size_list(column.type)
    ):
        return _list_column(path, name, column)
    if pa.types.is_boolean(column.type) and column.null_count:
        column = column.cast(pa.float32())
    return column.to_numpy()


def _list_column(path: Path, name: str, column) -> np.ndarray:
    import pyarrow.compute as pc

    lengths = pc.fill_null(pc.call_function("list_value_length", [column]), -1).to_numpy()
    if len(lengths) == 0:
        return np.zeros((0, 1))
    wrong = lengths != lengths[0]
    if wrong.any() or lengths[0] <= 0:
        row = int(np.argmax(wrong)) if wrong.any() else 0
        raise DatasetError(
            f"{path}: column {name!r}, row {row} holds {max(lengths[row], 0)} numbers, row 0 {max(lengths[0], 0)}; "
            "every row must hold equally many"
        )
    return pc.call_function("list_flatten", [column]).to_numpy().reshape(len(lengths), int(lengths[0]))


def _hdf5_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    import h5py

    found: dict[str, tuple[int, ...]] = {}

    def note(name: str | bytes, item: object) -> None:
        # A name that is no UTF-8, as in a damaged file, comes as bytes.
        if isinstance(item, h5py.Dataset) and item.ndim in (1, 2) and isinstance(name, str):
            found[name] = item.shape

    def visit() -> None:
        with h5py.File(path, "r") as file:
            file.visititems(note)

    _understood(path, visit)
    return found


def _read_hdf5(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    import h5py

    def values(item: object) -> np.ndarray:
        if not isinstance(item, h5py.Dataset):
            raise KeyError("a group stands where an array was")
        return np.asarray(item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()])

    def read() -> dict[str, np.ndarray]:
        with h5py.File(path, "r") as file:
            return {name: values(file[name]) for name in names}

    return _understood(path, read)


def _npz_names(path: Path) -> list[str]:
    def read() -> list[str]:
        with np.load(path, allow_pickle=False) as arrays:
            return list(arrays.files)

    return _understood(path, read)


def _read_npz(path: Path, names: Sequence[str]) -> dict[str, np.ndarray]:
    def read() -> dict[str, np.ndarray]:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in names}

    return _understood(path, read)


def _understood(path: Path, read: Callable[[], Read]) -> Read:
    """What `read` gives; what it raises becomes a sentence that names the file."""
    try:
        return read()
    except READ_ERRORS as error:
        if "allow_pickle" in str(error):
            raise DatasetError(
                f"{path} holds pickled objects, which could run any program; save plain numeric arrays"
            ) from error
        raise DatasetError(
            f"{path} cannot be read ({_sentence(error)}); it is damaged, cut off, or of another kind than its name says"
        ) from error


def _sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].strip()[:200] if lines else type(error).__name__


def _natural(name: str) -> list:
    """Sorts x2 before x10."""
    return [
        (0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name) if part
    ]

"""The files of a board: its table, how its metrics agree, and its page, each written whole or not at all.

A committed board has two more: what it was made from as JSON, and every sample's score as Parquet, numbers to the bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mibench.errors import NotWritten, UsageError, one_line
from mibench.files import writing

if TYPE_CHECKING:
    import pandas as pd

DATA = "-data.json"  # of a run; in a folder of boards it is data/NAME.json
ENDINGS = (".csv", "-agreement.csv", ".html", DATA)
SCORES = ("data", "model", "method", "metric", "seed", "sample", "value", "reason")
TEXTS = ("data", "model", "method", "metric", "sample", "reason")


def packed(scores: pd.DataFrame) -> bytes:
    """Every sample's score as Parquet: the same bytes for the same scores, in whatever order they come."""
    import io

    table = scores[list(SCORES)].sort_values(list(SCORES[:6]), ignore_index=True)
    table = table.assign(reason=table["reason"].fillna(""))
    table = table.astype(dict.fromkeys(TEXTS, "category") | {"seed": "int32", "value": "float64"})
    file = io.BytesIO()
    table.to_parquet(file, engine="pyarrow", index=False, compression="zstd")
    return file.getvalue()


def unpacked(file: Path, mend: str) -> pd.DataFrame | None:
    """Every sample's score of a committed board; None where it has none."""
    if not file.exists():
        return None
    import pandas as pd

    try:
        table = pd.read_parquet(file, engine="pyarrow")
        return table[list(SCORES)].astype(dict.fromkeys(TEXTS, str) | {"seed": int, "value": float})
    except (ImportError, OSError, ValueError, KeyError, TypeError) as error:  # of pandas, pyarrow, a lacking column
        raise UsageError(f"{file} is not a table of samples' scores ({one_line(str(error))}): {mend}") from error


def put(path: Path, content: str | bytes) -> None:
    """Write a whole file or leave the old one, whatever happens half-way."""
    mend = "free the disk or name a folder that can be written"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NotWritten(f"{path} cannot be written: {error.strerror}; {mend}") from error
    writing.sweep(path.parent)
    writing.write(path, content.encode() if isinstance(content, str) else content, mend)

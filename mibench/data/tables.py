"""Tables: scikit-learn's iris, wine and breast cancer, and any CSV file of numbers with a column of classes."""

from __future__ import annotations

import csv
import math
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mibench.data.splits import members
from mibench.errors import DataError, is_unprintable
from mibench.files.reading import MIB, check_file
from mibench.plugins import contract
from mibench.plugins.contract import Data, P_co, Samples, Split

FEWEST = 5  # rows of a class, so that each of them is in every split
MAX_BYTES = 256 * MIB  # of a CSV file, which is read whole
MAX_COLUMNS = 10_000
MAX_CLASSES = 50_000
LARGEST = float(np.finfo(np.float32).max)  # what a network can be given


@dataclass(frozen=True)
class Rows:
    """A whole table."""

    x: Tensor  # (N, F)
    label: Tensor  # (N,)
    features: tuple[str, ...]
    classes: tuple[str, ...]


class Table(Data[P_co]):
    """What all tables share: their rows are dealt to the splits, class by class."""

    @abstractmethod
    def rows(self) -> Rows:
        """The whole table."""

    @property
    def features(self) -> tuple[str, ...]:
        """The columns' names."""
        return self.rows().features

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.rows().classes

    def load(self, split: Split, count: int | None, shape: tuple[int, ...]) -> Samples:
        """The first rows of a split, in the table's own units."""
        rows = self.rows()
        width = rows.x.shape[1]
        if tuple(shape) != (width,):
            wanted = "x".join(map(str, shape))
            raise DataError(f"the table {self.argument or self.name} has {width} columns, but the model wants {wanted}")
        chosen = members(split, [str(index) for index in range(len(rows.x))], rows.label.tolist())[:count]
        return Samples(rows.x[chosen], rows.label[chosen], tuple(f"row-{index + 1:04d}" for index in chosen))


class Iris(Table):
    """150 irises of three species, four measures."""

    name = "iris"
    title = "Iris"

    def rows(self) -> Rows:
        """scikit-learn's copy."""
        return _shipped("iris")


class Wine(Table):
    """178 wines of three growers, thirteen measures."""

    name = "wine"
    title = "Wine"

    def rows(self) -> Rows:
        """scikit-learn's copy."""
        return _shipped("wine")


class BreastCancer(Table):
    """569 tumours, malignant or benign, thirty measures."""

    name = "breast-cancer"
    title = "Breast cancer"

    def rows(self) -> Rows:
        """scikit-learn's copy."""
        return _shipped("breast_cancer")


class Parameters(contract.Parameters):
    """Which column is the class."""

    target: str = ""  # empty: the last column


class Csv(Table[Parameters]):
    """`csv:PATH`: a header, numbers, and the class in the last column (or the one named by `target`)."""

    name = "csv"
    title = "CSV table"

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.argument,) if self.argument else ()

    def rows(self) -> Rows:
        """The file's rows, checked."""
        if not self.argument:
            raise DataError("csv needs a file: write csv:PATH")
        path = Path(self.argument)
        check_file(path, MAX_BYTES, DataError)
        try:
            return _read(path, self.parameters.target, path.stat().st_mtime_ns)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"{path} cannot be read as a CSV file: {error}") from error


@cache
def _shipped(name: str) -> Rows:
    import sklearn.datasets

    bunch: Any = getattr(sklearn.datasets, f"load_{name}")()
    x, label = torch.from_numpy(bunch.data).float(), torch.from_numpy(bunch.target).long()
    return Rows(x, label, tuple(map(str, bunch.feature_names)), tuple(map(str, bunch.target_names)))


@cache
def _read(path: Path, target: str, _changed: int) -> Rows:
    """A CSV file as checked rows; read again when it has changed."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = _lines(path, csv.reader(file))
        header = next(lines, (0, []))[1]
        column = _target(path, header, target)
        values, label, names = array("d"), array("q"), dict[str, int]()
        for number, line in lines:
            values.extend(_number(text, path, number, header[i]) for i, text in enumerate(line) if i != column)
            label.append(names.setdefault(line[column].strip(), len(names)))
            if len(names) > MAX_CLASSES:
                many = f"more than {MAX_CLASSES:,} classes"
                raise DataError(f"{path}, column {header[column]!r}: {many}; is it the column of classes?")
    if not label:
        raise DataError(f"{path} has no rows: a header, numbers and a column of classes are wanted")
    _check_classes(path, header[column], names, Counter(label))
    classes = sorted(names, key=_in_order)
    place = {name: index for index, name in enumerate(classes)}
    order = torch.tensor([place[name] for name in names])
    x = torch.from_numpy(np.asarray(values).reshape(len(label), len(header) - 1)).float()
    features = tuple(header[:column] + header[column + 1 :])
    return Rows(x, order[torch.from_numpy(np.asarray(label))], features, tuple(classes))


def _lines(path: Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """The header, then each row under its number in the file, empty ones left out; all are as wide as the header."""
    width = 0
    for number, line in enumerate(filter(None, reader), start=1):
        if number == 1:
            line = [name.strip() for name in line]
            width = len(line)
        if len(line) != width:
            raise DataError(f"{path}, row {number}: {len(line)} values under a header of {width} columns")
        yield number, line


def _target(path: Path, header: list[str], target: str) -> int:
    """The place of the column of classes under a header that can be used."""
    if len(header) < 2:
        raise DataError(f"{path} has no rows: a header, numbers and a column of classes are wanted")
    if len(header) > MAX_COLUMNS:
        raise DataError(f"{path} has {len(header):,} columns, more than {MAX_COLUMNS:,}: keep the ones that matter")
    twice = [name for name, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path} has more than one column {twice[0]!r}: rename or remove one")
    if target and target not in header:
        raise DataError(f"{path} has no column {target!r}: there are {', '.join(header)}")
    return header.index(target) if target else len(header) - 1


def _check_classes(path: Path, column: str, names: dict[str, int], counts: Counter[int]) -> None:
    """Refuse classes that cannot be printed, and too few of them or of their rows."""
    odd = [name for name in names if any(map(is_unprintable, name))]
    rare = [name for name in sorted(names, key=_in_order) if counts[names[name]] < FEWEST]
    if odd:
        raise DataError(f"{path}, column {column!r}: the class {odd[0]!r} has control characters; rename it")
    if len(names) < 2 or rare:
        fault = f"class {rare[0]!r} has fewer than {FEWEST} rows" if rare else "all rows have the same class"
        raise DataError(f"{path}, column {column!r}: {fault}; is it the column of classes?")


def _number(text: str, path: Path, row: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, row {row}, column {column!r}: {text!r} is no finite number; mend or remove the row")
    if abs(value) > LARGEST:
        raise DataError(
            f"{path}, row {row}, column {column!r}: {text!r} is too large for a network; rescale the column"
        )
    return value


def _in_order(name: str) -> tuple[float, str]:
    """Classes that are numbers in their order, others by name."""
    try:
        return (float(name), name)
    except ValueError:
        return (math.inf, name)

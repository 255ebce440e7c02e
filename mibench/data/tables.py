"""Tables: scikit-learn's iris, wine and breast cancer, and any CSV file of numbers with a column of classes."""

from __future__ import annotations

import csv
import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mibench import contract
from mibench.contract import Data, Samples, Split
from mibench.data.splits import members
from mibench.errors import DataError

FEWEST = 5  # rows of a class, so that each of them is in every split


@dataclass(frozen=True)
class Rows:
    """A whole table."""

    x: Tensor  # (N, F)
    label: Tensor  # (N,)
    features: tuple[str, ...]
    classes: tuple[str, ...]


class Table(Data):
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


class Csv(Table):
    """`csv:PATH`: a header, numbers, and the class in the last column (or the one named by `target`)."""

    name = "csv"
    title = "CSV table"

    class Parameters(contract.Parameters):
        target: str = ""  # empty: the last column

    @property
    def paths(self) -> tuple[str, ...]:
        """The file."""
        return (self.argument,) if self.argument else ()

    def rows(self) -> Rows:
        """The file's rows, checked."""
        if not self.argument:
            raise DataError("csv needs a file: write csv:PATH")
        path = Path(self.argument)
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
        lines = [line for line in csv.reader(file) if line]
    if len(lines) < 2 or len(lines[0]) < 2:
        raise DataError(f"{path} has no rows: a header, numbers and a column of classes are wanted")
    header = [name.strip() for name in lines[0]]
    if target and target not in header:
        raise DataError(f"{path} has no column {target!r}: there are {', '.join(header)}")
    column = header.index(target) if target else len(header) - 1
    values, named = [], []
    for number, line in enumerate(lines[1:], start=2):
        if len(line) != len(header):
            raise DataError(f"{path}, row {number}: {len(line)} values under a header of {len(header)} columns")
        values.append([_number(text, path, number, header[i]) for i, text in enumerate(line) if i != column])
        named.append(line[column].strip())
    classes = sorted(set(named), key=_in_order)
    rare = [name for name in classes if named.count(name) < FEWEST]
    if len(classes) < 2 or rare:
        fault = f"class {rare[0]!r} has fewer than {FEWEST} rows" if rare else "all rows have the same class"
        raise DataError(f"{path}, column {header[column]!r}: {fault}; is it the column of classes?")
    label = torch.tensor([classes.index(name) for name in named])
    return Rows(torch.tensor(values), label, tuple(header[:column] + header[column + 1 :]), tuple(classes))


def _number(text: str, path: Path, row: int, column: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(f"{path}, row {row}, column {column!r}: {text!r} is no finite number; mend or remove the row")
    return value


def _in_order(name: str) -> tuple[float, str]:
    """Classes that are numbers in their order, others by name."""
    try:
        return (float(name), name)
    except ValueError:
        return (math.inf, name)

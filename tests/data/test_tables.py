"""Tables come whole and in disjoint splits, and a bad CSV file is refused with the row, the value and the mend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mibench.data.tables import Table
from mibench.errors import DataError
from mibench.plugins import registry
from mibench.plugins.contract import Split

SPLITS: tuple[Split, ...] = ("training", "calibration", "scoring")
GOOD = "width,height,kind\n" + "".join(f"{i},{i / 2},{'yes' if i % 2 else 'no'}\n" for i in range(20))


def table(spec: str) -> Table:
    found = registry.data(spec)
    assert isinstance(found, Table)
    return found


@pytest.mark.parametrize(("spec", "shape"), [("iris", (150, 4)), ("wine", (178, 13)), ("breast-cancer", (569, 30))])
def test_shipped_tables_are_whole_and_their_splits_disjoint(spec: str, shape: tuple[int, int]) -> None:
    data = table(spec)
    loaded = [data.load(split, None, shape[1:]) for split in SPLITS]
    assert len({name for samples in loaded for name in samples.ids}) == sum(map(len, loaded)) == shape[0]
    assert len(data.features) == shape[1]
    assert {int(label) for label in loaded[2].label} == set(range(len(data.classes)))


@pytest.mark.parametrize("target", ["", "kind"])
def test_a_csv_file_is_read(target: str, tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    data = table(f"csv[target={target}]:{path}" if target else f"csv:{path}")
    rows = data.rows()
    assert (rows.features, rows.classes) == (("width", "height"), ("no", "yes"))
    assert torch.equal(rows.x[3], torch.tensor([3.0, 1.5]))
    assert rows.label[:4].tolist() == [0, 1, 0, 1]


def test_the_column_of_classes_may_be_any(tmp_path: Path) -> None:
    path = tmp_path / "first.csv"
    path.write_text("kind,width\n" + "".join(f"{i % 2},{i}\n" for i in range(12)))
    rows = table(f"csv[target=kind]:{path}").rows()
    assert rows.features == ("width",)
    assert rows.x[:3, 0].tolist() == [0.0, 1.0, 2.0]


def test_classes_that_are_numbers_come_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "numbers.csv"
    path.write_text("width,kind\n" + "".join(f"{i},{(2, 10)[i % 2]}\n" for i in range(12)))
    assert table(f"csv:{path}").classes == ("2", "10")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "changing.csv"
    path.write_text(GOOD)
    before = table(f"csv:{path}").rows()
    path.write_text(GOOD + "40,20,no\n")
    assert len(table(f"csv:{path}").rows().x) == len(before.x) + 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows"),
        ("width,kind\n", "has no rows"),
        ("only\n1\n", "has no rows"),
        (GOOD.replace("3,1.5", "3,high"), r"row 5, column 'height': 'high' is no finite number"),
        (GOOD.replace("3,1.5", "3,nan"), r"row 5, column 'height': 'nan' is no finite number"),
        (GOOD.replace("3,1.5", "3,inf"), r"'inf' is no finite number"),
        (GOOD.replace("3,1.5", "3,"), r"row 5, column 'height': '' is no finite number"),
        (GOOD.replace("3,1.5,yes", "3,1.5"), r"row 5: 2 values under a header of 3 columns"),
        (GOOD.replace("yes", "no"), "all rows have the same class"),
        (GOOD.replace("3,1.5,yes", "3,1.5,maybe"), r"class 'maybe' has fewer than 5 rows"),
    ],
)
def test_a_bad_csv_file_is_refused_with_the_place(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        table(f"csv:{path}").load("scoring", 1, (2,))


def test_what_is_no_csv_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary.csv").write_bytes(bytes(range(128, 256)))
    for argument, message in (("nowhere.csv", "does not exist"), ("binary.csv", "cannot be read")):
        with pytest.raises(DataError, match=message):
            table(f"csv:{tmp_path / argument}").rows()
    with pytest.raises(DataError, match="csv:PATH"):
        table("csv").rows()


def test_an_unknown_target_is_told_the_columns(tmp_path: Path) -> None:
    path = tmp_path / "good.csv"
    path.write_text(GOOD)
    with pytest.raises(DataError, match="no column 'species': there are width, height, kind"):
        table(f"csv[target=species]:{path}").rows()


def test_a_model_of_another_width_is_told_so() -> None:
    with pytest.raises(DataError, match="iris has 4 columns, but the model wants 5"):
        registry.data("iris").load("scoring", 1, (5,))

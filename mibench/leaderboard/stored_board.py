"""A board as data: all that its table and its page are made from, but for the samples' scores, which are Parquet.

So a committed board's files can be made again by another version's words and statistics, without the run. Pictures are
PNG as the page shows them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints

from mibench.files.reading import MIB, file_name, read_text
from mibench.leaderboard.results import CELLS, Gate, Results, Sample, TaskCard
from mibench.record.cards import MethodCard, MetricCard
from mibench.record.stored import Count, Finite, Line, Name, Part, Stored

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "data"  # in a folder of tables and pages
MEND = "make it by `mibench report RUN`"
MAX_BYTES = 256 * MIB
Drawn = Annotated[str, StringConstraints(pattern=r"^data:image/png;base64,[A-Za-z0-9+/]*=*$")]


class Picture(Part):
    """A sample that is looked at."""

    data: Name
    model: Name
    sample: Name
    label: Line
    target: Line
    image: Drawn
    mask: Drawn | None
    maps: dict[Name, Drawn]


class CostLine(Part):
    """What a row costs."""

    data: Name
    model: Name
    method: Name
    costs: dict[Name, Finite]


class SeedLine(Part):
    """How many seeds were requested of a row and metric."""

    data: Name
    model: Name
    method: Name
    metric: Name
    seeds: Count


class StoredBoard(Stored):
    """All that the file holds."""

    schema_number: Literal[1] = 1
    suite: Name
    title: Line
    metrics: tuple[MetricCard, ...]
    methods: tuple[MethodCard, ...]
    tasks: tuple[TaskCard, ...]
    cells: tuple[tuple[Line, Line, Line, Line, Line, Line], ...]
    costs: tuple[CostLine, ...]
    gates: tuple[Gate, ...]
    facts: dict[Line, Line]
    chance: Line
    encoding: Line
    known_good: tuple[Name, ...]
    published: tuple[tuple[Name, Name, Name, Finite], ...]
    published_in: Line
    seeds: tuple[SeedLine, ...]
    origins: dict[Name, tuple[Name, Name]]
    pictures: Annotated[tuple[Picture, ...], Field(max_length=1000)]


def file_of(folder: Path, name: str) -> Path:
    """Where a board's data are."""
    return folder / FOLDER / f"{file_name(name)}.json"


def stored(results: Results) -> StoredBoard:
    """Results without their samples' scores."""
    from mibench.leaderboard.pictures import shown

    lines = [tuple(map(str, line)) for line in results.cells[list(CELLS)].fillna("").to_numpy().tolist()]
    return StoredBoard(
        suite=results.suite,
        title=results.title,
        metrics=results.metrics,
        methods=results.methods,
        tasks=results.tasks,
        cells=tuple(sorted(lines)),  # type: ignore[arg-type]
        costs=tuple(
            CostLine(data=data, model=model, method=method, costs=dict(costs))
            for (data, model, method), costs in sorted(results.costs.items())
        ),
        gates=results.gates,
        facts=dict(results.facts),
        chance=results.chance,
        encoding=results.encoding,
        known_good=results.known_good,
        published=results.published,
        published_in=results.published_in,
        seeds=tuple(
            SeedLine(data=place[0], model=place[1], method=place[2], metric=place[3], seeds=count)
            for place, count in sorted(results.seeds.items())
        ),
        origins=dict(results.origins),
        pictures=tuple(
            Picture(
                data=each.data,
                model=each.model,
                sample=each.sample,
                label=each.label,
                target=each.target,
                image=shown(each.image),
                mask=None if each.mask is None else shown(each.mask),
                maps={name: shown(map, is_map=True) for name, map in each.maps.items()},
            )
            for each in results.samples
        ),
    )


def results_of(board: StoredBoard, scores: pd.DataFrame) -> Results:
    """The results that were stored."""
    import pandas as pd

    return Results(
        suite=board.suite,
        title=board.title,
        scores=scores,
        cells=pd.DataFrame(list(board.cells), columns=list(CELLS)),
        metrics=board.metrics,
        methods=board.methods,
        tasks=board.tasks,
        costs={(each.data, each.model, each.method): each.costs for each in board.costs},
        gates=board.gates,
        samples=tuple(
            Sample(each.data, each.model, each.sample, each.image, each.maps, each.label, each.target, each.mask)
            for each in board.pictures
        ),
        facts=board.facts,
        chance=board.chance,
        encoding=board.encoding,
        known_good=board.known_good,
        published=board.published,
        published_in=board.published_in,
        seeds={(each.data, each.model, each.method, each.metric): each.seeds for each in board.seeds},
        origins=board.origins,
    )


def read(file: Path) -> StoredBoard:
    """A board's data from its file."""
    return StoredBoard.read(read_text(file, MAX_BYTES), file, MEND)

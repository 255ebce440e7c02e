"""What the commands print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from mibench.cli.display import duration
from mibench.errors import UsageError
from mibench.files.reading import file_name
from mibench.plugins import catalogue
from mibench.plugins.cards import Card, ExplainerCard, MetricCard, ModelCard, WrapperCard
from mibench.plugins.spec import unknown

if TYPE_CHECKING:
    from mibench.conformance.check import Finding
    from mibench.leaderboard.overview import Placed
    from mibench.models.layers import Proposal
    from mibench.record.store import Recorded, Store
    from mibench.record.symptom import Symptom
    from mibench.record.verified import Verified
    from mibench.run.dry_run import Outlook
    from mibench.run.run import Summary

MANY = 12  # failures that are listed one by one
FEW = 3  # keys that are listed of many
STYLES = {"kept": "green", "broken": "red", "fine": "green", "wrong": "red"}


def line(console: Console, text: str, style: str = "") -> None:
    """One line as it is, however long."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


def grid(console: Console, heads: Sequence[str], rows: Iterable[Sequence[str | Text]], numbers: int = 0) -> None:
    """A plain table whose last `numbers` columns are numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=any(heads))
    for place, head in enumerate(heads):
        right = place >= len(heads) - numbers
        table.add_column(head, justify="right" if right else "left", overflow="fold", no_wrap=right)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    console.print(table)


def warn_of_broken(console: Console) -> None:
    """A line for every plug-in that was found but cannot be used."""
    for broken in catalogue.broken():
        line(console, f"warning: a plug-in in {broken.origin} cannot be used: {broken.reason}", "yellow")


def shelf(console: Console, room: str) -> None:
    """Everything in a room, with its parameters."""
    line(console, room, "bold")
    if room == "suites":
        from mibench.suites import suite

        grid(console, ("", ""), [(name, suite.load(name).description) for name in suite.names()])
    else:
        cards = catalogue.cards(room)  # type: ignore[arg-type]  # one of the rooms, or a suite, seen above
        grid(console, ("", "", ""), [(card.name, _about(card), _parameters(card)) for card in cards])
    line(console, "")


def _about(card: Card) -> str:
    """A plug-in's title and what else sets it apart."""
    marks = []
    if isinstance(card, MetricCard):
        marks = [card.family, "gate" if card.gate else "", "" if card.default else "offered"]
    elif isinstance(card, ExplainerCard | WrapperCard):
        marks = ["control" if card.control else ""]
    shown = ", ".join(mark for mark in marks if mark)
    return f"{card.title} ({shown})" if shown else card.title


def _parameters(card: Card) -> str:
    if isinstance(card, WrapperCard):
        return f"{card.name}:METHOD"
    shown = ", ".join(f"{option.name}={option.default}" for option in card.options)
    if isinstance(card, MetricCard) and card.takes:
        return f"{card.name}:{card.takes}"
    takes = card.takes if isinstance(card, ModelCard) else ""
    return f"{card.name}[…]:{takes}, with {shown}" if takes else shown


def outlook(console: Console, told: Outlook) -> None:
    """What a run would compute."""
    rows = [
        (
            *(each.stage, each.task, each.subject, str(each.cells), str(each.known)),
            *(f"{each.forwards:.3g}", f"{each.seconds:.1f}"),
        )
        for each in told.lines
    ]
    heads = ("stage", "task", "method or metric", "cells", "known", "forwards (guessed)", "seconds")
    grid(console, heads, rows, numbers=4)
    for lost in told.lost:
        line(console, f"cannot be prepared: {lost}", "red")
    cells, known, forwards = (
        sum(getattr(each, name) for each in told.lines) for name in ("cells", "known", "forwards")
    )
    workers = f"{told.workers} worker{'s' * (told.workers != 1)}"
    line(
        console,
        f"{cells} cells, {known} of them computed before; about {duration(told.seconds)} with {workers}{_basis(told)}",
    )
    size = "not known before the networks are opened (--open)" if told.storage is None else _size(told.storage)
    line(console, f"about {forwards:.3g} forwards of one sample, a guess; maps: {size}")
    line(console, f"the record is {told.folder}")


def _basis(told: Outlook) -> str:
    """What the times come from."""
    if not told.guessed:
        return ", as cells took here before"
    if told.measured:
        return "; a guess from one measured forward of each network and a guessed number of forwards"
    return "; a guess, for not all of it was timed here yet (--open measures a forward of each network)"


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB, without the other files that some explainers save"


def summary(console: Console, told: Summary) -> None:
    """The standings, the failures, and where everything is."""
    for task in told.overview.tasks:
        line(console, "")
        found = f"standing over {task.metrics} scores with sight" if task.metrics else f"no order: {task.why}"
        line(console, f"{task.data}/{task.model}: {found}", "bold")
        rows = [
            (*_place(place), place.leading or place.why.partition(":")[0], place.method, f"{place.value:.2f}")
            for place in task.places
        ]
        if rows:
            grid(console, ("place", "between", "", "method", "standing"), rows, numbers=1)
        for words in filter(None, (task.why if task.metrics else "", task.truth)):
            line(console, f"  {words}")
        for method, reason in sorted(task.unranked.items()):
            line(console, f"  {method} is not ranked: {reason}")
        if task.blind:
            line(
                console, f"  blind here (cannot distinguish known-good maps from random ones): {', '.join(task.blind)}"
            )
    failures(console, told)
    line(console, "")
    line(console, f"{told.cells} cells, {told.computed} computed now, {len(told.failures)} failed")
    line(console, f"the board is {told.folder / 'leaderboard.html'}")


def _place(place: Placed) -> tuple[str, str]:
    """A place and its interval; nothing for none."""
    return ("", "") if place.rank is None else (f"{place.rank}", f"{place.rank_low}-{place.rank_high}")


def failures(console: Console, told: Summary) -> None:
    """What failed, alike reasons together."""
    alike = Counter((cell.task, cell.method, outcome.status, outcome.reason) for cell, outcome in told.failures)
    if alike:
        line(console, "")
    for (task, method, status, reason), count in alike.most_common(MANY):
        line(console, f"{status}: {task} {method}: {reason} ({count} cell{'s' * (count != 1)})", "red")
    if len(alike) > MANY:
        line(console, f"and {len(alike) - MANY} more; see: show --run {told.folder}")


def layers(console: Console, found: Proposal) -> None:
    """A network's layers with the shapes of their outputs, and the spec that opens it."""
    marks = {found.local: "local", found.representation: "representation"}
    if found.local == found.representation:
        marks = {found.local: "local, representation"}
    listed = {layer.name: (layer.name, layer.kind, "x".join(map(str, layer.shape))) for layer in found.candidates}
    rows = [listed.get(name, (name, "", "")) for name in dict.fromkeys([*listed, *marks])]
    grid(console, ("layer", "", "output", "cut"), [(*row, marks.get(row[0], "")) for row in rows])
    line(console, "")
    if found.is_guess:
        shape = "x".join(map(str, found.shape))
        line(console, f"an input of {shape} is assumed, which the network takes: give --shape if yours is another")
    line(console, f'--models "{found.spec}"')


def findings(console: Console, name: str, found: Iterable[Finding]) -> None:
    """What the conformance check found, rule by rule."""
    line(console, name, "bold")
    rows = [(Text(each.verdict, STYLES.get(each.verdict, "")), each.network, each.rule, each.reason) for each in found]
    grid(console, ("", "network", "rule", ""), rows)


def verified(console: Console, found: Verified) -> None:
    """Each metric's largest deviation from Quantus, and the line that the board carries."""
    heads = ("metric", "in Quantus", "", "scores", "without", "deviation", "seconds")
    rows = [
        (
            *(each.metric, each.original, each.reason or each.exception, str(each.scores), str(each.without)),
            *(f"{each.deviation:.1e}" if each.scores else "", f"{each.seconds:.1f}"),
        )
        for each in found.metrics
    ]
    grid(console, heads, rows, numbers=4)
    scores, seconds = (sum(getattr(each, name) for each in found.metrics) for name in ("scores", "seconds"))
    style = STYLES["wrong"] if found.wrong else ""
    line(console, f"verified {found} ({scores} scores, {seconds:.0f} s)", style)


def symptoms(console: Console, seen: Iterable[Symptom]) -> int:
    """What the doctor saw, line by line; the number of things that are wrong."""
    wrong = 0
    for each in seen:
        line(console, f"{each.state:7} {each.name:16} {each.text}", STYLES.get(each.state, ""))
        wrong += each.state == "wrong"
    return wrong


def show(console: Console, what: str, folder: Path) -> None:
    """A cell by its key, a sample by its name, or else all failures of a run."""
    from mibench.record.store import Store

    with Store(folder) as store:
        cells = store.cells()
        keyed = [cell for cell in cells if what and cell.key.startswith(what)]
        tasks = [task for task in store.about().tasks if what in {name for name, _, _ in store.samples(task)}]
        if len(keyed) == 1:
            _cell(console, store, keyed[0])
        elif tasks:
            for task in tasks:
                _sample(console, store, task, what)
        elif keyed:
            keys = ", ".join(cell.key for cell in keyed[:FEW])
            raise UsageError(f"{what!r} begins the keys of {len(keyed)} cells, such as {keys}: give more of one")
        elif what:
            names = [name for task in store.about().tasks for name, _, _ in store.samples(task)]
            raise unknown("sample or cell", what, names)
        else:
            bad = [cell for cell in cells if cell.status != "ok"]
            grid(
                console,
                ("key", "cell", "status", "reason"),
                [(c.key[:8], _name(c), c.status or "missing", c.reason) for c in bad],
            )
            line(console, f"{len(cells)} cells, {len(bad)} without an answer; show KEY shows the log of one")


def _name(cell: Recorded) -> str:
    parts = (cell.stage, cell.task, cell.method, cell.metric, cell.variant, f"seed {cell.seed}")
    return " · ".join(part for part in parts if part)


def _cell(console: Console, store: Store, cell: Recorded) -> None:
    """What became of a cell, and what it printed."""
    line(console, _name(cell), "bold")
    line(console, f"{cell.status or 'missing'} {cell.reason}".strip())
    for key, value in cell.facts.items():
        line(console, f"  {key}: {value:g}" if isinstance(value, float) else f"  {key}: {value}")
    log = store.folder / "logs" / cell.log
    if cell.log and cell.log == file_name(cell.log) and log.is_file():
        line(console, f"log {log}:")
        line(console, log.read_text("utf-8", errors="replace"))


def _sample(console: Console, store: Store, task: str, name: str) -> None:
    """All scores of a sample, and a picture of all its maps."""
    from mibench.cli import gallery
    from mibench.leaderboard import reporting

    number = [each[0] for each in store.samples(task)].index(name)
    _, label, target = store.samples(task)[number]
    line(console, f"{task} {name}: labelled {label!r}, explained as {target!r}", "bold")
    scores = store.scores()
    scores = scores[(scores.task == task) & (scores["sample"] == name)]
    wide = scores.pivot_table("value", "method", "metric", "mean", dropna=False, sort=True)
    _scores(console, {str(method): row.to_dict() for method, row in wide.iterrows()})
    for sample in reporting.samples_of(store, task, [number]):
        file = store.folder / f"{file_name('sample', task, str(number))}.png"
        try:
            found = {row: each for row, each in sample.maps.items() if not isinstance(each, str)}
            assert not isinstance(sample.image, str)  # of a record, nothing is drawn yet
            gallery.sheet(sample.image, found, f"{task} {name}", file)
        except OSError as error:
            line(console, f"no picture of the maps: {file}: {error.strerror}; copy the run, and show it from there")
        else:
            line(console, f"maps: {file}")


def _scores(console: Console, table: Mapping[str, Mapping[Any, float]]) -> None:
    if not table:
        raise UsageError("this sample has no scores yet")
    metrics = sorted({str(metric) for row in table.values() for metric in row})
    rows = [
        (
            method,
            *(
                "" if row.get(metric) != row.get(metric) else f"{row.get(metric, float('nan')):.3g}"
                for metric in metrics
            ),
        )
        for method, row in table.items()
    ]
    grid(console, ("method", *metrics), rows, numbers=len(metrics))

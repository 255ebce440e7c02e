"""A sample of a run's scores computed again by Quantus: the same maps, samples and draws, Quantus' own code.

Every native score that claims an original of Quantus (`metrics.originals`) is looked at, of every row, with the first
seed. The network answers again, so that perturbed inputs are checked as well; nothing is explained again.
"""

from __future__ import annotations

import datetime
import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from mibench.errors import UsageError
from mibench.metrics.originals import Original, original
from mibench.metrics.quantus_calls import library, part, some
from mibench.network import devices
from mibench.plugins import catalogue, registry
from mibench.plugins.contract import Evidence, Metric, Scene, Unsupported
from mibench.plugins.reasons import kind, message
from mibench.record.about import About, RowAbout
from mibench.record.cells import TRAINED, USABLE, RowSource, TaskSpec
from mibench.record.environment import version
from mibench.record.store import Recorded, Store
from mibench.record.verified import FILE, Checked, Verified, state
from mibench.run import planning, scoring
from mibench.run.explaining import task_of
from mibench.run.run import write_board

Scores = Mapping[tuple[str, str, str], Tensor]  # (task, row, metric) -> (B,), NaN where there is none
Say = Callable[[str], None]


@dataclass
class Tally:
    """What was found of one metric so far."""

    original: Original
    scores: int = 0
    without: int = 0
    deviation: float = 0.0
    seconds: float = 0.0
    reasons: dict[str, None] = field(default_factory=dict)  # why rows could not be compared, each once

    def add(self, metric: Metric, ours: Tensor, theirs: Tensor) -> None:
        """Compare scores (n,) of a row."""
        both = ours.isfinite() & theirs.isfinite()
        self.scores += int(both.sum())
        self.without += int((ours.isfinite() & ~both).sum())
        if both.any():
            self.deviation = max(self.deviation, float(deviations(metric, ours[both], theirs[both]).max()))


def verify(folder: Path, samples: int, say: Say = lambda _: None) -> Verified:
    """Recompute the scores of the first samples of each task, and keep in the record what came of it."""
    library()  # before anything is opened
    with Store(folder) as store:
        about = store.about()
        every = {
            card.name: original(registry.metric(card.name)) for card in about.cards.metrics if _is_there(card.name)
        }
        tallies = {name: Tally(found) for name, found in every.items() if found}
        if not tallies:
            raise UsageError(f"{folder} has no score that claims an original of Quantus: there is nothing to verify")
        recorded = _recorded(store)
        for spec in planning.specs(about.suite, retrain=about.setting.retrain):
            if spec.name in about.tasks and not spec.network:  # the first seed's
                say(f"{spec.name}: {len(about.rows)} rows, {len(tallies)} metrics")
                for row, evidence, scene in _rows(store, about, spec):
                    for name, tally in tallies.items():
                        _compare(
                            registry.metric(name), tally, scene, evidence, samples, recorded.get((spec.name, row, name))
                        )
        found = Verified(
            of=state(store, tallies),
            quantus=version("quantus"),
            date=datetime.datetime.now(datetime.UTC).date().isoformat(),
            samples=samples,
            metrics=tuple(_checked(name, tally) for name, tally in tallies.items()),
        )
    with Store(folder, write=True) as store:
        store.write_text(FILE, found.written())
        write_board(store)
    return found


def deviations(metric: Metric, ours: Tensor, theirs: Tensor) -> Tensor:
    """How far scores (n,) of a row differ: as a share of the range, or of their largest distance from its one end."""
    low, high = metric.range
    if math.isfinite(low) and math.isfinite(high):
        return (ours - theirs).abs() / (high - low)
    end = next((each for each in metric.range if math.isfinite(each)), 0.0)
    return (ours - theirs).abs() / (ours - end).abs().max().clamp(min=1e-12)


def _is_there(name: str) -> bool:
    """Whether a metric of the record is one of this package's."""
    plain = registry.parse(name).name
    return plain in catalogue.names("metrics") and catalogue.card("metrics", plain).place.ours


def _compare(
    metric: Metric, tally: Tally, scene: Scene, evidence: Evidence, samples: int, recorded: Tensor | None
) -> None:
    """One row by one metric."""
    if recorded is None or recorded.isnan().all() or scoring.unmet(metric, scene, evidence):
        return
    count = len(recorded) if tally.original.whole else min(samples, len(recorded))
    numbers = list(range(count))
    began = time.perf_counter()
    try:
        theirs = tally.original.scores(metric, part(scene, numbers), some(evidence, numbers))
    except Unsupported as refusal:
        tally.reasons[message(refusal)] = None
    except Exception as error:  # Quantus' own code
        tally.reasons[kind(error)] = None
    else:
        tally.add(metric, recorded[:count], theirs)
    tally.seconds += time.perf_counter() - began


def _checked(name: str, tally: Tally) -> Checked:
    reasons = "; ".join(tally.reasons)
    return Checked(
        metric=name,
        original=tally.original.name,
        scores=tally.scores,
        without=tally.without,
        deviation=tally.deviation,
        seconds=tally.seconds,
        reason=reasons or ("" if tally.scores else "no row has a score that Quantus can give"),
        exception=tally.original.exception,
    )


def _recorded(store: Store) -> Scores:
    """The record's scores of the first seed."""
    table = store.scores()
    first = table[table["seed"] == 0]
    return {
        (str(task), str(row), str(metric)): torch.tensor(values["value"].to_numpy(), dtype=torch.float64)
        for (task, row, metric), values in first.groupby(["task", "method", "metric"], sort=False)
    }


def _rows(store: Store, about: About, spec: TaskSpec) -> Iterator[tuple[str, Evidence, Scene]]:
    """Every row of a task that has maps, with the scene on which it was scored."""
    device, precision = devices.device_of(about.setting.device), about.setting.precision
    task, was = task_of(spec, device, precision), about.tasks[spec.name]
    if (task.weights_hash, task.data_hash) != (was.weights_hash, was.data_hash):
        raise UsageError(
            f"the network or the samples of {spec.name} here are not those that {store.folder} explained: "
            "run the suite again"
        )
    scene = scoring.scene_of(spec, device, precision, 0, about.setting.batch)
    explained: dict[str, dict[str, list[Recorded]]] = defaultdict(lambda: defaultdict(list))
    for cell in store.cells("explain"):
        if cell.task == spec.name and cell.seed == 0:
            explained[cell.method][cell.variant].append(cell)
    for row, about_row in about.rows.items():
        source, digests = _source(about_row, explained[about_row.explainer])
        if source.maps:
            yield row, scoring.gather(store.folder, source, digests)[0], scene


def _source(row: RowAbout, explained: Mapping[str, list[Recorded]]) -> tuple[RowSource, dict[str, str]]:
    """From which files a row is read, with their digests; from none where a part of its maps is missing."""
    usable = {variant: cells for variant, cells in explained.items() if all(cell.status in USABLE for cell in cells)}
    plain = usable.get(TRAINED, [])
    method = registry.method(row.method)
    spec = next(each for each in method.explainer.maps if each.name == row.map)
    variants = {variant: cells[0].key for variant, cells in usable.items() if variant != TRAINED}
    wrapper = method.wrapper.name if method.wrapper else ""
    digests = {cell.key: cell.digest for cells in usable.values() for cell in cells}
    return RowSource(spec, tuple(cell.key for cell in plain), variants, wrapper), digests

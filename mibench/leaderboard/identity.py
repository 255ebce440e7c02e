"""What a later run must share with a board's to be compared with it, from the record of the board's run."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from typing import Literal

from mibench.files import writing
from mibench.leaderboard import overview
from mibench.record import maps
from mibench.record.cards import MetricCard
from mibench.record.cells import TRAINED, USABLE
from mibench.record.identity import Identity, MetricIdentity, TaskIdentity
from mibench.record.store import Store


def identity_of(store: Store, places: Mapping[str, int] | None = None) -> Identity:
    """What a later run must share with this one to be compared, and what excuses a difference.

    `complete` records whether all methods or metrics were requested: then one that is missing later is a loss. The
    methods' places are those of the run's own board where it is what would be made now, if they are not given.
    """
    about = store.about()
    seeds, fits = _seeds(store), _fits(store)
    if places is None:
        known = overview.current(store)
        places = known.places if known else {}
    words: dict[Literal["methods", "metrics"], tuple[str, ...]] = {"methods": ("all",), "metrics": ("all", "default")}
    return Identity(
        schema_number=2,
        processor=about.environment.processor,
        torch=about.environment.libraries.get("torch", ""),
        complete=tuple(what for what, whole in words.items() if getattr(about.suite, what) in whole),
        metrics={card.name: _metric_identity(card, seeds.get(card.name, 0)) for card in about.cards.metrics},
        tasks={
            name: TaskIdentity(
                data_hash=task.data_hash,
                weights_hash=task.weights_hash,
                drawing=task.drawing,
                recipe=task.recipe,
                accuracy=float(f"{task.accuracy:.6g}") if task.recipe else None,
                truth=task.truth,
                network=task.architecture,
                networks=tuple((each.weights_hash, each.data_hash) for each in task.networks),
                fits=fits.get(name, {}),
            )
            for name, task in about.tasks.items()
        },
        places=dict(places),
    )


def _metric_identity(card: MetricCard, seeds: int) -> MetricIdentity:
    low, high = (bound if math.isfinite(bound) else None for bound in card.range)
    return MetricIdentity(version=card.version, low=low, high=high, seeds=seeds)


def _seeds(store: Store) -> dict[str, int]:
    """The number of seeds requested of each metric."""
    asked: dict[str, set[int]] = {}
    for cell in store.cells("score"):
        asked.setdefault(cell.metric, set()).add(cell.seed)
    return {metric: len(seeds) for metric, seeds in asked.items()}


def _fits(store: Store) -> dict[str, dict[str, str | tuple[str, ...]]]:
    """A digest of what each row's explainer learned by seed, by task and row; empty for a seed without a fit."""
    learned: dict[tuple[str, str], dict[int, str]] = {}
    rows = store.about().rows
    for cell in store.cells("fit"):
        if cell.variant == TRAINED and cell.status in USABLE:
            content = writing.read(maps.path(store.folder, cell.key), cell.digest, cell.key)
            learned.setdefault((cell.task, cell.method), {})[cell.seed] = hashlib.sha256(content).hexdigest()[:24]
    found: dict[str, dict[str, str | tuple[str, ...]]] = {}
    for (task, explainer), fits in learned.items():
        by_seed = tuple(fits.get(seed, "") for seed in range(max(fits) + 1))
        same: dict[str, str | tuple[str, ...]] = {
            row: by_seed for row, source in rows.items() if source.explainer == explainer
        }
        found.setdefault(task, {}).update(same)
    return found

"""The page of a board: one self-contained file that needs no network, from the template page.html in this folder.

What the template shows is laid out here and in cells.py as plain data; jinja2 escapes every name.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from mibench.leaderboard.agreement import Agreement, flips
from mibench.leaderboard.cells import Cell, Column, Table, heads, number, order_cells, score_cells, table
from mibench.leaderboard.order import Order
from mibench.leaderboard.panels import METHODS, Panel, why
from mibench.leaderboard.pictures import Point, tradeoff
from mibench.leaderboard.pictures import shown as drawn
from mibench.leaderboard.results import COSTS, LOST, TaskCard
from mibench.leaderboard.tables import Board, Task
from mibench.leaderboard.template import template
from mibench.statistics.bars import touch


def to_html(board: Board) -> str:
    """The whole page as text."""
    results, overall = board.results, board.order()
    script = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
    tasks = [_task(board, task, f"task-{k + 1}") for k, task in enumerate(board.panels)]
    return template("page.html").render(
        title=results.title or results.suite,
        summary=_summary(board),
        brief=[*_brief(board)],
        marks={card.name: card.marks for card in results.methods},
        facts=results.facts,
        published_in=results.published_in,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        order=overall,
        known=overall.known(results.known_good),
        overview=_overview(board, overall),
        pictures=[*_pictures(board)],
        tasks=tasks,
        lost=_lost(board),
        metrics=results.metrics,
        methods=results.methods,
    )


def _title(board: Board, task: Task) -> str:
    named = {(card.data, card.model): card.title for card in board.results.tasks}
    return named.get(task) or " / ".join(task)


def _summary(board: Board) -> str:
    """What is on the board, in one sentence."""
    rows = {row.method for row in board.rows}
    controls = len(rows & board.results.controls)
    samples = [str(panels[0].weights.shape[1]) for panels in board.panels.values() if panels]
    tasks = f"{len(board.panels)} task{'s' * (len(board.panels) != 1)}"
    return (
        f"{len(rows) - controls} rows and {controls} controls, {len(board.results.metrics)} metrics, {tasks}, "
        f"{' and '.join(dict.fromkeys(samples)) or 'no'} samples each. "
        "Scores and standings over two samples and more have intervals, costs and published figures none; "
        "every tie is shown."
    )


def _brief(board: Board) -> Iterator[dict[str, Any]]:
    """A summary of each task: its order or why there is none, which metrics are blind, which rows are not ranked."""
    for task, panels in board.panels.items():
        order = board.order(task)
        without: dict[str, list[str]] = {}
        rows = {row.method for panel in panels for row in panel.rows} - board.results.controls
        for method in sorted(rows - {row for panel in panels for row in panel.ranked}):
            without.setdefault(why(panels, method), []).append(method)
        yield {
            "title": _title(board, task),
            "order": order,
            "known": order.known(board.results.known_good),
            "blind": [(panel.card.name, panel.blind) for panel in panels if panel.blind],
            "outdone": [panel.card.name for panel in panels if panel.outdone],
            "saturated": [panel.card.name for panel in panels if panel.saturated],
            "fooled": [panel.card.name for panel in panels if panel.fooled],
            "without": without,
        }


def _of(panels: Sequence[Panel], family: str) -> list[Panel]:
    return [panel for panel in panels if panel.card.family == family]


def _overview(board: Board, overall: Order) -> Table:
    """Standings over all tasks and on each, and what an explanation costs there."""
    orders = {task: board.order(task) for task in board.panels}
    columns = [(Column("standing", "all tasks", "descending", "descending"), order_cells(overall))]
    if len(orders) > 1:
        columns += [(Column("standing", task[0], "descending"), order_cells(each)) for task, each in orders.items()]
    for task in board.panels:
        costs = {row.method: row for row in board.on(task) if row.metric == "forwards"}
        if costs:
            cells = {name: Cell(number(row.value), row.value, place=" ") for name, row in costs.items()}
            columns.append((Column("cost", f"× forward, {task[0]}"), cells))
    places = {each.method: each.why for each in overall.places}
    known = {each.method: "a control is shown, not ranked" for each in overall.controls}
    return table(
        columns, {"": places, "not placed: a score that counts is missing": dict(overall.incomplete), "controls": known}
    )


def _pictures(board: Board) -> Iterator[dict[str, Any]]:
    """Quality against cost on each task."""
    for task in board.panels:
        costs = {row.method: row.value for row in board.on(task) if row.metric == "forwards" and row.value > 0}
        places = [each for each in board.order(task).placed if each.method in costs]
        points = [Point(each.method, costs[each.method], each.value, each.low, each.high) for each in places]
        if len(points) > 1:
            spoken = "; ".join(f"{p.name}: standing {p.value:.2f} at {number(p.cost)} forwards" for p in points)
            yield {
                "plot": tradeoff(points),
                "title": _title(board, task),
                "axis": "cost, × one forward pass",
                "spoken": spoken,
            }


def _task(board: Board, task: Task, name: str) -> dict[str, Any]:
    """All that the page shows of one task."""
    panels = board.panels[task]
    agreed = board.agreements[task]
    card = next((card for card in board.results.tasks if (card.data, card.model) == task), TaskCard(*task))
    return {
        "id": name,
        "title": _title(board, task),
        "facts": {"data": task[0], "model": task[1], **card.facts},
        "notices": card.notices,
        "unjudged": ", ".join(panel.card.name for panel in panels if panel.ranks and panel.blind is None),
        "partial": board.order(task).partial,
        "families": [*_family_tables(board, task)],
        "gates": _gates(board, task),
        "costs": _costs(board, task),
        "published": _published(board, task),
        "agreements": agreed,
        "matrix": _matrix(agreed),
        "variants": [pair for pair in agreed if pair.variants],
        "flips": [*flips(panels)],
        **_gallery(board, task, name),
    }


def _family_tables(board: Board, task: Task) -> Iterator[dict[str, Any]]:
    """The scores of each family on one task; a metric that failed alike on all rows is a sentence, not a column."""
    panels = board.panels[task]
    for family in dict.fromkeys(panel.card.family for panel in panels):
        lost = {panel.card.name: _lost_alike(panel) for panel in _of(panels, family)}
        some = [panel for panel in _of(panels, family) if not lost[panel.card.name]]
        notes = [f"{name} has no score on any row: {why}." for name, why in lost.items() if why]
        notes += [f"{panel.card.name} is {panel.blind}." for panel in some if panel.blind]
        notes += [f"{panel.card.name} sees, but puts {panel.outdone}." for panel in some if panel.outdone]
        notes += [f"{panel.card.name} is saturated: {panel.saturated}." for panel in some if panel.saturated]
        notes += [f"{panel.card.name} is fooled: {panel.fooled}." for panel in some if panel.fooled]
        notes += [
            f"{panel.card.name} has no sight: {panel.seen.reason}" for panel in some if panel.seen and not panel.sight
        ]
        few = [panel.card.name for panel in some if panel.few and panel.sound and not panel.card.gate]
        notes += [f"Fewer than {METHODS} methods can be ranked by {', '.join(few)}: no places."] * bool(few)
        notes += [f"{panel.card.name}: {found}." for panel in some if (found := _overlaps(panel))]
        about = [(panel.card.name, panel.card.about) for panel in some if panel.card.about]
        shown = _family_table(board, some, board.order(task)) if some else None
        yield {"name": family, "about": about, "notes": notes, "table": shown}


def _overlaps(panel: Panel) -> str:
    """How many pairs are apart although their bars touch, in words."""
    if panel.pairs is None:
        return ""
    apart = panel.pairs.above | panel.pairs.above.T
    both = int(np.triu(apart & touch(panel.pairs.mean, panel.pairs.bars)).sum())
    many = int(np.triu(apart).sum())
    return f"{both} of {many} pairs are apart although their bars touch, for they move together" if both else ""


def _lost_alike(panel: Panel) -> str:
    """What became of a metric that has no value on any row: its commonest status and reason."""
    if any(row.samples for row in panel.rows):
        return ""
    told = [(row.status, row.reason) for row in panel.rows]
    status, reason = max(sorted(set(told)), key=told.count)
    return f"{status} ({reason})"


def _family_table(board: Board, panels: Sequence[Panel], order: Order) -> Table:
    """Rows in the order of the methods, or of the first metric of the family that ranks any."""
    controls = board.results.controls
    methods = [row.method for row in panels[0].rows]
    first = next((panel for panel in panels if panel.ranks), None)
    known = {each.method: place for place, each in enumerate(order.placed)}
    columns = [(heads(panel), score_cells(panel, board.results.chance)) for panel in panels]
    ranked = [method for method in methods if any(method in panel.ranked and panel.ranks for panel in panels)]
    value = {method: -first.mean(method) for method in ranked} if first else {}
    ranked.sort(key=lambda method: (known.get(method, len(known)), np.nan_to_num(value[method], nan=np.inf), method))
    left = [method for method in methods if method not in ranked and method not in controls]
    gates = all(panel.card.gate for panel in panels)
    groups = {
        "": dict.fromkeys(ranked, ""),
        "gates are passed or failed" if gates else "not ranked": {method: why(panels, method) for method in left},
        "controls": {method: why(panels, method) for method in methods if method in controls},
    }
    return table(columns, groups)


def _gates(board: Board, task: Task) -> dict[str, Any]:
    """Rows against gates."""
    found = {(gate.method, gate.gate): gate for gate in board.results.gates if (gate.data, gate.model) == task}
    names = list(dict.fromkeys(gate for _, gate in found))
    methods = sorted({method for method, _ in found})
    return {"names": names, "lines": [(method, [found.get((method, name)) for name in names]) for method in methods]}


def _costs(board: Board, task: Task) -> dict[str, Any]:
    rows = {(row.method, row.metric): row for row in board.on(task) if row.family == "runtime"}
    shown = [cost for cost in COSTS if any(metric == cost.name for _, metric in rows)]
    lines = []
    for method in sorted({method for method, _ in rows}):
        cells = [rows.get((method, cost.name)) for cost in shown]
        found = [Cell(number(row.value), row.value) if row else Cell() for row in cells]
        lines.append({"name": method, "cells": found})
    return {"columns": [Column(cost.title, cost.unit) for cost in shown], "lines": lines}


def _published(board: Board, task: Task) -> list[dict[str, str]]:
    """The published figures for the rows of one task, with what was measured."""
    ours = {(f"{row.method}, published", row.metric): row for row in board.on(task)}
    lines = []
    for row in board.published:
        if (row.data, row.model) == task:
            mine = ours.get((row.method, row.metric))
            found = number(mine.value) if mine is not None and np.isfinite(mine.value) else "not measured"
            interval = (
                f"{number(mine.low)} to {number(mine.high)}" if mine is not None and np.isfinite(mine.low) else ""
            )
            name = row.method.removesuffix(", published")
            lines.append(
                {"method": name, "metric": row.metric, "ours": found, "interval": interval, "theirs": number(row.value)}
            )
    return lines


def _matrix(agreed: Sequence[Agreement]) -> dict[str, Any]:
    """Kendall's tau of every two metrics as a square."""
    names = list(dict.fromkeys(name for pair in agreed for name in (pair.left, pair.right)))
    found = {frozenset((pair.left, pair.right)): pair for pair in agreed}
    lines = []
    for name in names:
        pairs = [found.get(frozenset((name, other))) for other in names]
        lines.append({"name": name, "cells": [_tau(pair) for pair in pairs]})
    return {"names": names, "lines": lines}


def _tau(pair: Agreement | None) -> dict[str, Any]:
    if pair is None or not np.isfinite(pair.tau):
        return {"text": "", "share": 0, "positive": True, "title": ""}
    interval, sure = f"{pair.low:.2f} to {pair.high:.2f}", f"{pair.alike} pairs alike, {pair.opposed} opposed"
    title = f"{pair.left} and {pair.right}: {interval}, {sure}"
    text = f"{pair.tau:.2f}".replace("-", "−")
    return {"text": text, "share": round(abs(pair.tau), 2), "positive": pair.tau >= 0, "title": title}


def _gallery(board: Board, task: Task, name: str) -> dict[str, Any]:
    """The samples of one task with their maps, best row first, and the scores under them."""
    ranked = [each.method for each in board.order(task).places]
    samples = [sample for sample in board.results.samples if (sample.data, sample.model) == task]
    shown = []
    for sample in samples:
        order = [method for method in ranked if method in sample.maps] + sorted({*sample.maps} - {*ranked})
        maps = [{"name": method, "image": drawn(sample.maps[method], is_map=True)} for method in order]
        mask = "" if sample.mask is None else drawn(sample.mask)
        words = [
            f"sample {sample.sample}",
            sample.label and f"label {sample.label}",
            sample.target and f"explained class {sample.target}",
        ]
        shown.append(
            {
                "name": sample.sample,
                "title": ", ".join(filter(None, words)),
                "image": drawn(sample.image),
                "mask": mask,
                "maps": maps,
            }
        )
    picked = _scores(board, task, {sample.sample for sample in samples})
    return {"gallery": f"{name}-samples" if samples else "", "samples": shown, "pick": list(picked), "picked": picked}


def _scores(board: Board, task: Task, samples: set[str]) -> Mapping[str, Mapping[str, Mapping[str, str]]]:
    """Of the samples on the page: metric -> sample -> row -> score, the mean over seeds."""
    scores = board.results.scores
    mine = scores[(scores["data"] == task[0]) & (scores["model"] == task[1]) & scores["sample"].isin(samples)]
    means = (
        mine.groupby(["metric", "sample", "method"], sort=True, observed=True)["value"].mean().dropna().reset_index()
    )
    picked: dict[str, dict[str, dict[str, str]]] = {card.name: {} for card in board.results.metrics}
    for metric, sample, method, value in means.to_numpy().tolist():
        if metric in picked:
            picked[metric].setdefault(sample, {})[method] = f"{value:.3g}".replace("-", "−")
    return {metric: found for metric, found in picked.items() if found}


def _lost(board: Board) -> list[dict[str, str]]:
    """Cells that failed or have no score, those with the same reason together."""
    metrics: dict[tuple[Task, str, str, str], list[str]] = {}
    for row in board.rows:
        if row.status in LOST or not np.isfinite(row.value):
            metrics.setdefault(((row.data, row.model), row.status, row.reason, row.method), []).append(row.metric)
    methods: dict[tuple[Task, str, str, tuple[str, ...]], list[str]] = {}
    for (task, status, reason, method), names in metrics.items():
        methods.setdefault((task, status, reason, tuple(names)), []).append(method)
    every = {task: {row.method for row in board.on(task)} for task in board.panels}
    return [
        {
            "methods": "all rows" if {*names} == every[task] else ", ".join(names),
            "task": _title(board, task),
            "status": status,
            "reason": reason,
            "metrics": "all" if len(lost) == len(board.results.metrics) else ", ".join(lost),
        }
        for (task, status, reason, lost), names in sorted(methods.items())
    ]

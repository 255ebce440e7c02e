"""What run.json holds of a suite's rows and metrics, from the plug-ins' cards, so that a report needs no plug-in."""

from __future__ import annotations

from mibench.errors import one_line
from mibench.plugins import cards as plugins
from mibench.plugins.catalogue import MethodCards
from mibench.plugins.classes import label
from mibench.plugins.contract import MapSpec, Metric
from mibench.record.about import Cards
from mibench.record.cards import MethodCard, MetricCard
from mibench.suites.suite import Suite


def cards(suite: Suite) -> Cards:
    """All of a suite."""
    methods = [
        _method_card(row, method, spec) for method in suite.chosen_methods() for row, spec in method.rows.items()
    ]
    return Cards(methods=tuple(methods), metrics=tuple(metric_card(metric) for metric in suite.chosen_metrics()))


def _method_card(row: str, method: MethodCards, spec: MapSpec) -> MethodCard:
    """What an explainer declares about one of its rows."""
    explainer = method.explainer
    facts = (method.control, spec.unit, spec.signed, one_line(explainer.paper), explainer.of_class, explainer.seeded)
    return MethodCard(row, one_line(_title(method, spec.name)), *facts)


def metric_card(metric: plugins.MetricCard | Metric) -> MetricCard:
    """What a metric declares about itself."""
    text = metric.about if isinstance(metric, plugins.MetricCard) else (type(metric).__doc__ or "").strip()
    about, name = one_line(text.partition("\n")[0]), label(metric)
    facts = (metric.family, metric.direction, metric.range, metric.unit, metric.gate, one_line(metric.paper))
    return MetricCard(
        name,
        one_line(metric.title),
        *facts,
        about,
        metric.version,
        metric.limit,
        metric.fails,
        metric.judged,
        metric.chance,
    )


def _title(method: MethodCards, map_name: str) -> str:
    title = method.explainer.title if method.wrapper is None else f"{method.wrapper.title}: {method.explainer.title}"
    return title if map_name == method.explainer.maps[0].name else f"{title}, {map_name} map"

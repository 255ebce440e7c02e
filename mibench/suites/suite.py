"""What to run: a TOML file of tasks, methods, controls and metrics, and the ways to narrow it.

Everything that is written is checked before anything runs: keys when the file is read; names and parameters, which
flags may still change, by `check`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from mibench.errors import UsageError
from mibench.files.reading import MIB, read_text
from mibench.plugins import catalogue
from mibench.plugins.cards import ExplainerCard, MetricCard
from mibench.plugins.catalogue import MethodCards
from mibench.plugins.classes import refuse_unknown_needs
from mibench.plugins.spec import MAX_LETTERS, parse, shown, spelt, unknown

MAX_BYTES = MIB  # of a suite's file
MAX_SAMPLES = 100_000  # ImageNet's validation set has 50,000; a page's bootstrap holds 2,000 bytes a sample
MAX_GATE_SAMPLES = 10_000  # explained in one piece for each variant
MAX_TIMED_SAMPLES = 10_000  # explained one at a time
MAX_SEEDS = 1_000
MAX_PERTURBATIONS = 100
MAX_LIST = 1_000  # tasks, methods, metrics
MAX_CELLS = 1_000_000  # of a plan, which is held in memory whole; the largest embedded suite has a few thousand

SuiteName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$", max_length=100)]
SpecText = Annotated[str, StringConstraints(max_length=MAX_LETTERS)]
Specs = Annotated[tuple[SpecText, ...], Field(max_length=MAX_LIST)]
Words = Annotated[str, StringConstraints(max_length=2_000)]
Samples = Annotated[int, Field(ge=1, le=MAX_SAMPLES)]


class Task(BaseModel):
    """A network and the samples on which it is explained; `samples` and `calibration` fall back to the suite's."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: SpecText
    data: SpecText = ""  # empty: the data that the network learned from
    samples: Samples | None = None
    calibration: Samples | None = None
    metrics: Specs = ()  # of the suite's metrics only these; empty: all


class Published(NamedTuple):
    """A figure that a paper gives for one of a suite's rows, to be shown with ours."""

    model: SpecText
    method: SpecText
    metric: SpecText
    value: Annotated[float, Field(allow_inf_nan=False)]


class Suite(BaseModel):
    """A declared benchmark. Lists of specs, or one word: "all" for methods, "default" or "all" for metrics."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: SuiteName
    description: Words = ""
    tasks: tuple[Task, ...] = Field(min_length=1, max_length=MAX_LIST)
    methods: Specs | SpecText = "all"
    controls: Specs = ()
    chance: SpecText = ""  # the control whose maps are random …
    encoding: SpecText = ""  # the control whose maps encode the class by position: a metric that prefers it is fooled
    known_good: Specs = ()  # … and methods known to be good: a metric that cannot separate them is blind
    metrics: Specs | SpecText = "default"
    seeds: int = Field(default=1, ge=1, le=MAX_SEEDS)
    samples: Samples = 64
    calibration: Samples = 512
    shard: Samples = 64  # samples explained in one piece
    gate_samples: int = Field(default=16, ge=0, le=MAX_GATE_SAMPLES)  # of which the sanity gates' variants are made
    perturbations: int = Field(default=3, ge=1, le=MAX_PERTURBATIONS)  # a sample, if a robustness metric is chosen
    timed_samples: int = Field(default=8, ge=1, le=MAX_TIMED_SAMPLES)  # on which costs are measured, one at a time
    published: tuple[Published, ...] = Field(default=(), max_length=MAX_LIST)  # a paper's figures for these rows …
    published_in: Words = ""  # … and where and on what it has them

    def chosen_methods(self) -> tuple[MethodCards, ...]:
        """Methods, then controls, each once, in the order of the suite."""
        written = self.methods if not isinstance(self.methods, str) else tuple(every_method())
        methods = catalogue.methods([*written, *self.controls])
        return tuple({method.label: method for method in methods}.values())

    def chosen_metrics(self) -> tuple[MetricCard, ...]:
        """Metrics, each once, in the order of the suite."""
        if not isinstance(self.metrics, str):
            written: Iterable[str] = self.metrics
        else:
            every = [card for card in catalogue.cards("metrics") if isinstance(card, MetricCard)]
            written = [card.name for card in every if not card.takes and (self.metrics == "all" or card.default)]
        return tuple({metric.label: metric for metric in catalogue.metrics(list(written))}.values())


def every_method() -> list[str]:
    """The names of all explainers that are not controls."""
    return [card.name for card in catalogue.cards("methods") if isinstance(card, ExplainerCard) and not card.control]


def names() -> tuple[str, ...]:
    """The suites that come with the package."""
    files = resources.files("mibench.suites").iterdir()
    return tuple(sorted(Path(file.name).stem for file in files if file.name.endswith(".toml")))


def load(name: str) -> Suite:
    """A suite by its name, or by the path of a TOML file."""
    if name in names():
        return read((resources.files("mibench.suites") / f"{name}.toml").read_text("utf-8"), f"suite {name!r}")
    path = Path(name)
    if path.suffix != ".toml":
        raise unknown("suite", name, names())
    return read_file(path)


def read_file(path: Path) -> Suite:
    """A suite from a TOML file, not yet checked beyond its keys and types."""
    return read(read_text(path, MAX_BYTES), str(path))


def read(text: str, origin: str) -> Suite:
    """A suite from TOML, not yet checked beyond its keys and types; `origin` is named in errors."""
    try:
        return Suite.model_validate(tomllib.loads(text))
    except ValidationError as error:  # which is a ValueError, too
        raise UsageError(f"{origin}: {_explained(error)}") from error
    except RecursionError as error:
        raise UsageError(f"{origin} is not TOML that can be read: its lists are nested too deep") from error
    except ValueError as error:  # of tomllib, or of Python where a number has too many digits
        raise UsageError(f"{origin} is not TOML: {error}") from error


def write(suite: Suite) -> str:
    """A suite as TOML that `read` understands."""
    tables = suite.model_dump(exclude_none=True)
    tasks = tables.pop("tasks")
    parts = [_lines(tables), *("[[tasks]]\n" + _lines(task) for task in tasks)]
    return "\n".join(parts)


def _lines(table: dict[str, Any]) -> str:
    return "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}\n" for key, value in table.items())


def check(suite: Suite) -> Suite:
    """The suite itself, after every name and parameter in it was looked up."""
    for key, words in (("methods", ("all",)), ("metrics", ("default", "all"))):
        written = getattr(suite, key)
        if isinstance(written, str) and written not in words:
            raise UsageError(f"suite {suite.name!r}: {key} must be a list or {' or '.join(words)}, not {written!r}")
    for metric in suite.chosen_metrics():
        refuse_unknown_needs(metric)
    _refuse_too_many_cells(suite)
    catalogue.methods([*suite.known_good, *filter(None, [suite.chance, suite.encoding])])
    models = catalogue.models([task.model for task in suite.tasks])
    catalogue.datas([task.data or model.data for task, model in zip(suite.tasks, models, strict=True)])
    for metric in catalogue.metrics([name for task in suite.tasks for name in task.metrics]):
        refuse_unknown_needs(metric)
    return suite


def _refuse_too_many_cells(suite: Suite) -> None:
    """Refuse a suite whose plan would be absurdly large: no list is made by numbers that multiply to that."""
    methods, metrics = suite.chosen_methods(), suite.chosen_metrics()
    rows = sum(len(method.rows) for method in methods)
    samples = max(task.samples or suite.samples for task in suite.tasks)
    pieces = -(-samples // suite.shard) * suite.seeds + 3 + suite.perturbations
    cells = len(suite.tasks) * (len(methods) * pieces + rows * len(metrics) * suite.seeds)
    if cells > MAX_CELLS:
        raise UsageError(
            f"suite {suite.name!r} comes to about {cells:,} cells, more than {MAX_CELLS:,}: explain more samples in a "
            "piece (shard), or choose fewer seeds, tasks, methods or metrics"
        )


def narrow(
    suite: Suite,
    *,
    methods: Sequence[str] = (),
    models: Sequence[str] = (),
    data: Sequence[str] = (),
    metrics: Sequence[str] = (),
    samples: int | None = None,
    seeds: int | None = None,
    quick: bool = False,
) -> Suite:
    """The checked suite with other methods, metrics, models or data, fewer samples or seeds; controls stay."""
    changes: dict[str, Any] = {}
    if quick:
        changes |= {"samples": 8, "gate_samples": 4, "timed_samples": 3, "seeds": 1}
    if methods:
        changes["methods"] = tuple(methods)
    if metrics:
        changes["metrics"] = tuple(metrics)
    if seeds is not None:
        changes["seeds"] = seeds
    if samples is not None:
        changes["samples"] = samples
    tasks = _tasks(suite.tasks, models, data)
    if "samples" in changes:
        tasks = [task.model_copy(update={"samples": None}) for task in tasks]
        changes["gate_samples"] = min(changes.get("gate_samples", suite.gate_samples), changes["samples"])
    changes["tasks"] = tuple(tasks)
    try:
        narrowed = Suite(**(suite.model_dump() | changes))
        return check(suite if narrowed == suite else narrowed.model_copy(update={"description": _run(narrowed, suite)}))
    except ValidationError as error:
        raise UsageError(_explained(error)) from error


def _run(suite: Suite, declared: Suite) -> str:
    """What is run of a suite of which something was changed, in words; only what was changed is named."""
    said = [
        f"{key} {', '.join(getattr(suite, key))}" for key in ("methods", "metrics") if _differ(suite, declared, key)
    ]
    places = [(task.data, shown(task.model)) for task in suite.tasks]
    if places != [(task.data, shown(task.model)) for task in declared.tasks]:
        said.insert(0, ", ".join(f"{model} on {data or 'its own data'}" for data, model in dict.fromkeys(places)))
    said += [f"{getattr(suite, key)} {key}" for key in ("samples", "seeds") if _differ(suite, declared, key)]
    return f"The suite {suite.name!r} changed to: {'; '.join(said) or 'other tasks'}"


def _differ(suite: Suite, declared: Suite, key: str) -> bool:
    return bool(getattr(suite, key) != getattr(declared, key))


def _tasks(tasks: Sequence[Task], models: Sequence[str], data: Sequence[str]) -> list[Task]:
    """The suite's own tasks with these models and data where it has them, new ones where it has not.

    Networks that a suite explains on what they learned learn the data given in its place.
    """
    if models and data:
        return [Task(model=model, data=source) for model in models for source in data]
    if models:
        return [t for model in models for t in _with(tasks, "model", model) or [Task(model=model)]]
    if data:
        return [task for source in data for task in _on(tasks, source) or _given(tasks, source)]
    return list(tasks)


def _on(tasks: Sequence[Task], source: str) -> list[Task]:
    """The tasks on these data; `folder:PATH` is for all that wait on `folder`, `mosaic:folder` … for a path."""
    name = parse(source).name
    waiting = [task for task in tasks if task.data == name or task.data.endswith(f":{name}")]
    placed = [task.model_copy(update={"data": task.data.removesuffix(name) + source}) for task in waiting]
    return _with(tasks, "data", source) or placed


def _given(tasks: Sequence[Task], source: str) -> list[Task]:
    """The networks of these tasks on other data: those that can learn them, or all as they are where none can."""
    models = catalogue.models([task.model for task in tasks])
    learning = catalogue.models(
        [
            spelt(model.name, {**parse(task.model).parameters, "data": source}, model.argument)
            for model, task in zip(models, tasks, strict=True)
            if "data" in model.parameters and task.data in ("", model.data)
        ]
    )
    return [
        Task(model=model, data=source)
        for model in dict.fromkeys([model.label for model in learning] or [task.model for task in tasks])
    ]


def _with(tasks: Sequence[Task], key: str, spec: str) -> list[Task]:
    return [task for task in tasks if getattr(task, key) == spec]


def _explained(error: ValidationError) -> str:
    """The first thing that pydantic found wrong, with the nearest right key."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if "[" not in str(part)) or "the suite"  # no kinds of lists
    if first["type"] == "extra_forbidden":
        parent = Task if first["loc"][0] == "tasks" else Suite
        return str(unknown("key", str(first["loc"][-1]), parent.model_fields))
    return (
        f"{where}: {first['msg']}, not {_shown(first['input'])}"
        if first["type"] != "missing"
        else f"{where} is missing"
    )


def _shown(value: Any) -> str:
    """A value that was refused; a number may have more digits than Python writes."""
    try:
        return repr(value)
    except ValueError:
        return "this number"

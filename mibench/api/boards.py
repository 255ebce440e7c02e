"""`mibench.run` and `mibench.gate`: the commands of these names, with objects for specs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mibench.api.progress import Bars
from mibench.api.shown import Shown
from mibench.errors import UsageError
from mibench.gate import comparison, regression
from mibench.gate.markdown import to_markdown
from mibench.gate.thresholds import read_thresholds
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Metric
from mibench.record.cells import Cell, Outcome
from mibench.run import run as runs
from mibench.run.run import Options, Rerun
from mibench.suites import suite as suites
from mibench.suites.suite import Suite


@dataclass(frozen=True, repr=False)
class Board(Shown):
    """A run's leaderboard, and the folder of its record."""

    folder: Path
    failures: tuple[tuple[Cell, Outcome], ...] = ()


@dataclass(frozen=True)
class Verdict:
    """What became better or worse than a committed leaderboard; a notebook shows it as the command prints it."""

    comparison: comparison.Comparison
    before: str
    after: str

    @property
    def passed(self) -> bool:
        """Whether nothing became worse."""
        return not self.comparison.regressions

    def __repr__(self) -> str:
        return to_markdown(self.comparison, self.before, self.after)

    def _repr_markdown_(self) -> str:
        return repr(self)


def run(
    suite: str | Path | Suite = "default",
    *,
    methods: Sequence[str | Explainer] = (),
    models: Sequence[str] = (),
    data: Sequence[str] = (),
    metrics: Sequence[str | Metric] = (),
    samples: int | None = None,
    seeds: int | None = None,
    quick: bool = False,
    out: Path | str | None = None,
    device: str = "auto",
    precision: str = "fp32",
    engine: str = "local",
    jobs: int = 0,
    timeout: float = 600.0,
    rerun: Rerun = "missing",
) -> Board:
    """Run a suite as `mibench run` does, into the same folder: what was computed before is used again.

    Workers get methods and metrics as data, by their names and parameters: an explainer is fitted there again, to each
    task's own network and calibration samples.
    """
    declared = suite if isinstance(suite, Suite) else suites.load(str(suite))
    narrowed = suites.narrow(
        declared,
        methods=[spec_of(each) for each in methods],
        models=models,
        data=data,
        metrics=[spec_of(each) for each in metrics],
        samples=samples,
        seeds=seeds,
        quick=quick,
    )
    folder = None if out is None else Path(out)
    options = Options(folder, device, precision, engine, jobs=jobs, timeout=timeout, rerun=rerun)
    with Bars() as watch:
        summary = runs.run(narrowed, options, watch)
    return Board(summary.board, summary.folder, summary.failures)


def spec_of(plugin: str | Explainer | Metric) -> str:
    """A method or a metric as the text by which a worker finds it, or why none would find it."""
    if isinstance(plugin, str):
        return plugin
    room: registry.Room = "metrics" if isinstance(plugin, Metric) else "methods"
    cls = type(plugin)
    if not registry.is_registered(room, cls):
        raise UsageError(
            f"{cls.__name__} is not registered, and workers find plug-ins by name: install a package with the entry "
            f'point [project.entry-points."mibench.{room}"] {cls.__name__.lower()} = "{cls.__module__}", or explain '
            "and score here, with mibench.compare"
        )
    spec = registry.label(plugin)
    again = registry.metric(spec) if isinstance(plugin, Metric) else registry.explainer(spec)
    if again.parameters != plugin.parameters:
        raise UsageError(f"{plugin!r} cannot be written as a spec: {spec!r} reads as {again!r}")
    return spec


def gate(
    board: Board | Path | str, *, baseline: Path | str = "leaderboards", thresholds: Path | None = None
) -> Verdict:
    """Compare a run with the committed leaderboard of its suite, as `mibench gate` does."""
    after, before = Path(board.folder if isinstance(board, Board) else board), Path(baseline)
    regression.refuse_itself(after, before)
    found = regression.gate(after, before, read_thresholds(thresholds))
    return Verdict(found, str(before), str(after))

"""Which tasks need not be opened again: those of this package, as long as their code and their files are the same.

What is recalled is only what a plan needs. As soon as anything is to be computed, every task is opened and checked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mibench.errors import MibenchError
from mibench.plugins import catalogue
from mibench.plugins.cards import DataCard, ModelCard
from mibench.plugins.spec import parse
from mibench.record import environment, fingerprint, maps
from mibench.record.cells import Prepared, Setting, TaskSpec
from mibench.record.prepared import FILE, MEND, KeptTask, KeptTasks, state
from mibench.record.store import Store

OPENS = "mibench.run.explaining"  # the module that opens tasks


def keep(store: Store, tasks: Mapping[TaskSpec, Prepared], setting: Setting, began: int) -> None:
    """Record what the tasks were found to be; `began` is when the first of their files may have been read."""
    found = [_kept(spec, prepared, setting, began) for spec, prepared in tasks.items()]
    store.write_text(FILE, KeptTasks(tasks=tuple(each for each in found if each and each.sure)).written())


def recalled(store: Store, specs: Iterable[TaskSpec], setting: Setting) -> dict[TaskSpec, Prepared]:
    """The tasks as they were found last time; none unless all of them would be found so again."""
    try:
        tasks = {each.spec: each for each in KeptTasks.read(store.read_text(FILE), store.folder / FILE, MEND).tasks}
        found = {spec: tasks[spec].prepared for spec in specs}
        now = time.time_ns()
        same = all(_kept(spec, prepared, setting, now) == tasks[spec] for spec, prepared in found.items())
        pictures = [str(maps.path(Path(), prepared.facts["pictures"])) for prepared in found.values()]
    except (MibenchError, KeyError, OSError):
        return {}
    return found if same and store.files().keys() >= set(pictures) else {}


def _kept(spec: TaskSpec, prepared: Prepared, setting: Setting, read: int) -> KeptTask | None:
    """A task with all that decides what it is opened as, as that is now; None where that cannot be known."""
    plugins = list(_plugins(spec))
    if not all(plugin.place.ours for plugin in plugins) or any(_is_code(plugin) for plugin in plugins):
        return None  # what another's code reads is not known
    ours = {name: state(name, time.time_ns()) for name in prepared.files}  # whole files, checked when they are read
    paths = [str(Path(path).resolve()) for plugin in plugins for path in plugin.paths]
    return KeptTask(
        spec=spec,
        code=_code(),
        device=environment.device_class(setting.device),
        precision=setting.precision,
        files=ours | {path: state(path, read) for path in paths},
        prepared=prepared,
    )


def _plugins(spec: TaskSpec) -> Iterator[ModelCard | DataCard]:
    """The network, its data, and the data that these are made of."""
    model = catalogue.model(spec.model)
    yield model
    ahead = [spec.data, model.data, model.argument]
    while ahead:
        text = ahead.pop()
        if text and parse(text).name in catalogue.names("data"):
            data = catalogue.data(text)
            yield data
            ahead.append(data.argument)


def _is_code(plugin: ModelCard | DataCard) -> bool:
    """Whether it is built by code that the user names."""
    return isinstance(plugin, ModelCard) and bool(plugin.takes)


def _code() -> str:
    """A hash of everything that opens tasks: all networks and data of this package, and the harness's part."""
    zoo = {card.modules[0] for room in catalogue.ZOO for card in catalogue.cards(room) if card.place.ours}
    return fingerprint.sources([*zoo, OPENS])

"""From a network and samples to maps on disk: fit, explain, and look at what came out before anything is scored.

Besides the plain maps there are variants of the first samples' maps, which the sanity gates compare with the plain
ones: another class explained, the same network with random weights fitted and explained, and a repetition; and,
for the robustness metrics, the maps of inputs with a little noise.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import json
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mibench.errors import MibenchError
from mibench.files import cache
from mibench.network import devices
from mibench.network.noise import perturbed
from mibench.network.probe import OpenProbe
from mibench.network.seeds import seed_of
from mibench.network.untouched import Seen, left_as_found
from mibench.plugins import registry
from mibench.plugins.contract import (
    PERTURBED,
    Explainer,
    Explanation,
    FittedExplainer,
    Known,
    Probe,
    Samples,
    State,
    Unsupported,
)
from mibench.record import maps
from mibench.record.cells import TRAINED, Cell, Job, Outcome, Prepared, Setting, TaskSpec
from mibench.run.notices import notices
from mibench.run.task import Task, make_task

MOST = 32  # samples explained at once …
MOST_ON_ACCELERATOR = 64
CENTRED, OTHER_CLASS = "centred", ("other-class", "centred-other-class")
NUMBERS = 2**18  # … fewer if they have more numbers: explainers that take 50 steps hold 50 of each in memory


class ExplainerFault(MibenchError):
    """An explainer broke the contract."""


@functools.lru_cache(maxsize=2)
def task_of(spec: TaskSpec, device: str, precision: str) -> Task:
    """The task, kept by this worker for the jobs that follow."""
    return make_task(spec, device, precision)


def prepare(job: Job) -> Prepared:
    """Make sure that the network is trained and the samples are there; keep a few samples to be looked at."""
    task = task_of(job.task, job.setting.device, job.setting.precision)
    scoring, probe = task.scoring, task.probe
    seen = {"x": scoring.x[: job.samples]}
    if scoring.mask is not None:
        seen["mask"] = scoring.mask[: job.samples].float()
    file = maps.path(Path(job.setting.folder), picture_key(task))
    digest = maps.write(file, maps.Saved(Explanation({}, {}, seen)))
    facts = {
        "kind": probe.kind,
        "layer": probe.local,
        "grid": list(probe.grid),
        "pixels": list(probe.pixels),
        "samples": len(scoring),
        "calibration": len(task.calibration),
        "pictures": picture_key(task),
        "truth": task.truth_figures,
    }
    return Prepared(
        task.name,
        task.weights_hash,
        task.data_hash,
        float(task.accuracy),
        scoring.ids,
        tuple(scoring.label.tolist()),
        tuple(task.target.tolist()),
        tuple(probe.classes),
        facts,
        notices(task),
        _forward_seconds(task),
        digest,
        tuple(map(_kept_name, task.files)),
    )


def _kept_name(file: Path) -> str:
    """A file by its name in the cache, wherever that is; any other by its path."""
    folder = cache.folder()
    return str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file.resolve())


def _forward_seconds(task: Task) -> float:
    """How long the network takes for one sample, in a batch as explainers get it: the fastest of three forwards."""
    x = task.scoring.x[:MOST]
    seconds = []
    for _ in range(3):
        before = time.perf_counter()
        with torch.no_grad():
            task.probe.logits(x).cpu()
        seconds.append(time.perf_counter() - before)
    return min(seconds) / len(x)


def picture_key(task: Task) -> str:
    """The name of the file with a task's first samples."""
    return hashlib.sha256(f"{task.name} {task.data_hash} {task.weights_hash}".encode()).hexdigest()[:24]


def fit(job: Job) -> list[Outcome]:
    """Fit an explainer to a network and keep what it learned, a copy for every explainer that learns the same."""
    cell = job.cells[0]
    task, probe = _network(job.task, job.setting, cell)
    explainer = registry.explainer(cell.method)
    if not isinstance(explainer, FittedExplainer):
        raise ExplainerFault(f"{cell.method} is not fitted")
    explainer = _learner(explainer)
    calibration = copied(task.calibration)  # on the CPU: the probe moves what it is given, a batch at a time
    with left_as_found(probe.model, task.tensors, _seen(task, probe)):
        on_cpu = probe.device.type == "cpu"
        clock = time.process_time if on_cpu else time.perf_counter  # one thread: the work of others does not count
        devices.synchronize(probe.device)
        before = clock()
        state = explainer.learn(probe, calibration, cell.seed)
        devices.synchronize(probe.device)
        seconds = clock() - before
        state = plain_state(state)
    files = {each.key: maps.path(Path(job.setting.folder), each.key) for each in job.cells}
    return [
        Outcome(key, "ok", facts={"seconds": seconds}, digest=maps.write_state(file, state))
        for key, file in files.items()
    ]


def _learner(explainer: FittedExplainer) -> FittedExplainer:
    """Who learns for an explainer, by its name: what another plug-in calls `mire` learns as `mire` does."""
    if explainer.learner is explainer:
        return explainer
    learner = registry.explainer(registry.label(explainer.learner))
    if not isinstance(learner, FittedExplainer):
        raise ExplainerFault(f"its learner {learner.name!r} is not fitted")
    return learner


def explain(job: Job) -> list[Outcome]:
    """Explain some samples, look at the maps and keep them."""
    (cell,) = job.cells
    task, probe = _network(job.task, job.setting, cell)
    explainer = registry.explainer(cell.method)
    part = slice(cell.start, cell.stop)
    target = _other_class(task, explainer, cell.seed) if cell.variant in OTHER_CLASS else task.target
    seeds = sample_seeds(task.scoring.ids, cell.seed)[part]
    x = task.scoring.x[part]
    if cell.variant.startswith(PERTURBED):
        x = perturbed(x, seeds, cell.variant)
    notes: list[str] = []
    with left_as_found(probe.model, task.tensors, _seen(task, probe)):
        fitted(explainer, probe, Path(job.setting.folder), job.fit, job.digests)
        if isinstance(explainer, Known):
            explanation = _shown(explainer, task, cell, target)
        else:
            explanation = in_batches(explainer, probe, x, target[part], seeds, job.setting.batch, notes)
    reasons = {name: [fault(one) for one in each] for name, each in explanation.maps.items()}
    digest = maps.write(maps.path(Path(job.setting.folder), cell.key), maps.Saved(explanation, reasons))
    facts = {"notes": notes} if notes else {}
    return [replace(_judged(cell, reasons), digest=digest, facts=facts)]


def copied(samples: Samples) -> Samples:
    """Samples that share no memory with these."""
    truth = samples.truth and samples.truth.changed(Tensor.clone)
    mask = None if samples.mask is None else samples.mask.clone()
    return Samples(samples.x.clone(), samples.label.clone(), samples.ids, mask, truth)


def fitted(explainer: Explainer, probe: Probe, folder: Path, key: str, digests: Mapping[str, str]) -> Explainer:
    """The explainer, with what its fit learned if it has one."""
    if isinstance(explainer, FittedExplainer):
        explainer.restore(probe, maps.read_state(maps.source(folder, key, digests)))
    return explainer


def in_batches(
    explainer: Explainer,
    probe: Probe,
    x: Tensor,
    target: Tensor,
    seeds: Sequence[int],
    batch: int,
    notes: list[str] | None = None,
) -> Explanation:
    """Explain samples a batch at a time (0: as fits their size) and check the maps for what the contract promises.

    A batch that does not fit into memory is halved, which the notes state.
    """
    batch = batch or _batch(probe, x)
    parts, start, halved = [], 0, 0
    while start < len(x):
        part, is_short = slice(start, start + batch), False
        _seed_everything(seeds[start])
        try:
            inputs, classes = (each[part].to(probe.device, copy=True) for each in (x, target))
            explanation = explainer.explain(probe, inputs, classes, seeds[part])
        except Exception as error:
            if not devices.short_of_memory(error) or min(batch, len(x) - start) == 1:
                raise
            is_short = True
        if is_short:  # out here the error holds no memory any more
            devices.forget_cache(probe.device)
            halved = halved or min(batch, len(x) - start)
            batch = min(batch, len(x) - start) // 2
            continue
        parts.append(checked(explainer, probe, explanation, len(x[part])))
        start += batch
    if notes is not None and halved:
        notes.append(f"out of memory with {halved} samples at once: explained {batch} at once")
    return Explanation(*(_joined([getattr(part, kind) for part in parts]) for kind in ("maps", "facts", "signals")))


def _batch(probe: Probe, x: Tensor) -> int:
    """How many samples are explained at once: on an accelerator as many as its memory holds, whatever their size."""
    on_cpu = max(1, min(MOST, NUMBERS // x[0].numel()))
    return min(MOST_ON_ACCELERATOR, devices.together(probe, on_cpu))


def checked(explainer: Explainer, probe: Probe, explanation: Explanation, count: int) -> Explanation:
    """The explanation on the CPU in float32, or an error that states what the contract requires."""
    if not isinstance(explanation, Explanation):
        raise ExplainerFault(f"returned {type(explanation).__name__}, not an Explanation")
    promised = {spec.name for spec in explainer.maps}
    if set(explanation.maps) != promised:
        raise ExplainerFault(f"returned maps {sorted(explanation.maps)} but declares maps {sorted(promised)}")
    wanted = (count, *probe.pixels)
    for name, each in {**explanation.maps, **explanation.facts, **explanation.signals}.items():
        if not isinstance(each, Tensor):
            raise ExplainerFault(f"{name!r} is {type(each).__name__}, not a tensor")
        if each.is_complex():  # its imaginary part would be dropped
            raise ExplainerFault(f"{name!r} holds complex numbers, not real ones")
    for name, each in explanation.maps.items():
        if tuple(each.shape) != wanted:
            raise ExplainerFault(f"the map {name!r} has shape {tuple(each.shape)}, expected (B, H, W) = {wanted}")
    for name, each in {**explanation.facts, **explanation.signals}.items():
        if len(each) != count:
            raise ExplainerFault(f"{name!r} has {len(each)} entries for {count} samples")
    plain = [
        {name: each.detach().float().cpu() for name, each in group.items()}
        for group in (explanation.maps, explanation.facts, explanation.signals)
    ]
    return Explanation(*plain)


def _shown(explainer: Known, task: Task, cell: Cell, target: Tensor) -> Explanation:
    """What is known of some samples and of the class that is explained."""
    if cell.variant not in (TRAINED, CENTRED, *OTHER_CLASS):
        raise Unsupported("what is known of a sample does not change with the weights or from run to run")
    part = slice(cell.start, cell.stop)
    samples = copied(replace(task.scoring, truth=task.truth)[part])
    return checked(explainer, task.probe, explainer.show(task.probe, samples, target[part]), len(samples))


def fault(image: Tensor) -> str:
    """Why a map (H, W) cannot be scored, or an empty string."""
    if image.isnan().any():
        return "the map holds NaN"
    if image.isinf().any():
        return "the map holds infinite values"
    if image.amax() == image.amin():
        return "the map is zero everywhere" if image.amax() == 0 else "the map is constant"
    return ""


def sample_seeds(ids: Sequence[str], seed: int) -> tuple[int, ...]:
    """One seed a sample, of its name and the run's seed: whatever else is in the batch or in the run."""
    return tuple(seed_of(f"{seed}/{name}") for name in ids)


def randomised(probe: OpenProbe, seed: int) -> OpenProbe:
    """The network with all its weights drawn at random, opened at the same places."""
    model = copy.deepcopy(probe.model).cpu()  # weights are drawn there, so that they are the same on every device
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        drawn = [_draw(module) for module in model.modules()]
    if not any(drawn):
        raise Unsupported("the network has no weights that could be randomised")
    model.to(probe.device).eval().requires_grad_(False)
    return OpenProbe(replace(probe.network, model=model), probe.local, probe.depths)


def centred(probe: OpenProbe) -> OpenProbe:
    """The network with each logit less the mean logit: evidence that all classes share is left out."""
    model = copy.deepcopy(probe.model)
    model.register_forward_hook(lambda _network, _inputs, logits: logits - logits.mean(1, keepdim=True))
    return OpenProbe(replace(probe.network, model=model), probe.local, probe.depths)


def _draw(module: nn.Module) -> bool:
    """Initialise a layer's own weights by its `reset_parameters`, or shuffle them if it has none."""
    own = list(module.parameters(recurse=False))
    reset: Callable[[], None] | None = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
    if own and reset is not None:
        reset()
    elif own:
        for parameter in own:
            order = torch.randperm(parameter.numel())
            parameter.copy_(parameter.flatten()[order].view_as(parameter))
    return bool(own)


def _network(spec: TaskSpec, setting: Setting, cell: Cell) -> tuple[Task, OpenProbe]:
    """A cell's task and the network that is explained in it."""
    task = task_of(spec, setting.device, setting.precision)
    if cell.variant == "random-weights":
        return task, randomised(task.probe, cell.seed)
    return task, centred(task.probe) if cell.variant.startswith(CENTRED) else task.probe


def _seen(task: Task, probe: OpenProbe) -> Seen:
    """What the task was like before; a network with weights drawn for this job alone was not there before."""
    return task.seen if probe is task.probe else replace(task.seen, network={})


def _judged(cell: Cell, reasons: dict[str, list[str]]) -> Outcome:
    """Whether the maps are fine; NaN is a failure even where other samples have none."""
    wrong = [reason for each in reasons.values() for reason in each if "NaN" in reason or "infinite" in reason]
    if not wrong:
        return Outcome(cell.key, "ok")
    count = sum(len(each) for each in reasons.values())
    return Outcome(cell.key, "nan", f"{wrong[0]} ({len(wrong)} of {count} maps)")


def _other_class(task: Task, explainer: Explainer, seed: int) -> Tensor:
    """A class drawn for each sample that is not the explained one, (N,)."""
    if not explainer.of_class:
        raise Unsupported("its maps show what the network represents, and are the same for every class")
    count = len(task.probe.classes)
    if count < 2:
        raise Unsupported("the network has only one class, so no other can be explained")
    steps = [1 + each % (count - 1) for each in sample_seeds(task.scoring.ids, seed)]
    return (task.target + torch.tensor(steps)) % count


def _seed_everything(seed: int) -> None:
    """A third-party explainer may draw from the global generators: then it draws the same every time."""
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def plain_state(state: State) -> State:
    """What was learned as tensors of memory and values that JSON has, read while everything is still being watched."""
    if not isinstance(state, State):
        raise ExplainerFault(f"learn returned {type(state).__name__}, not a State")
    tensors = {str(name): tensor.detach().cpu() for name, tensor in state.tensors.items()}
    return State(tensors, json.loads(json.dumps(dict(state.facts))))


def _joined(parts: Sequence[Any]) -> dict[str, Tensor]:
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

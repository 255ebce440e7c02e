"""A run on an accelerator: its settings, its clock, its memory, its noise, and a board like the CPU's."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

import mibench
from mibench.conformance import accelerator
from mibench.conformance.bench import Bench
from mibench.errors import UsageError
from mibench.network import devices
from mibench.network.probe import open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Samples
from mibench.record.cells import Cell, Job, Setting, TaskSpec
from mibench.run import costs, explaining, scoring, worker
from mibench.run.explaining import in_batches, randomised
from mibench.run.task import make_task
from tests.device import pretend
from tests.device.kinds import bench, enlarged

ROOT = Path(__file__).parent.parent.parent


def there(device: str, kind: str = "grid") -> Bench:
    return accelerator.carried(bench(kind), device)


# ---- names and settings


def test_auto_takes_no_device_without_double_precision(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "AUTOMATIC", ("cuda", "pretend"))
    monkeypatch.setattr(devices, "count", lambda kind: 2 if kind == "pretend" else 0)
    assert devices.device_of("auto") == "pretend:0"
    with pretend.without_doubles():
        assert devices.device_of("auto") == "cpu"


def test_a_device_is_found_by_its_kind_and_number(device: str) -> None:
    assert (devices.device_of("pretend"), devices.device_of("pretend:1")) == ("pretend:0", "pretend:1")
    with pytest.raises(UsageError, match="2 PRETEND devices"):
        devices.device_of("pretend:2")


def test_a_processor_has_no_tf32() -> None:
    with pytest.raises(UsageError, match="no TF32"):
        devices.precision_of("tf32", "cpu")


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_a_job_rounds_as_its_precision_says_and_leaves_the_settings(
    precision: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def look(_job: object) -> list[object]:
        cudnn = torch.backends.cudnn
        seen.append((torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark))
        seen.append(torch.are_deterministic_algorithms_enabled())
        return []

    def settings() -> tuple[object, ...]:
        cudnn = torch.backends.cudnn
        return (
            *(torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic, cudnn.benchmark),
            torch.are_deterministic_algorithms_enabled(),
        )

    monkeypatch.setattr(worker, "STAGES", {"fit": look})
    before = settings()
    worker.attempt(Job("fit", Setting("", device, precision), TaskSpec("", "", 1, 1)))
    tf32 = precision == "tf32"
    assert seen == [("high" if tf32 else "highest", tf32, True, False), True]
    assert settings() == before


def test_two_ways_through_a_network_may_differ_by_its_precision() -> None:
    """Two orders of summation differ by 2.5e-4 in TF32, which fp32's bound of 1e-4 refuses."""

    class Shaken(nn.Module):
        """A network that answers with an error of 1e-3 when it is entered at its cut."""

        def __init__(self) -> None:
            super().__init__()
            self.cut, self.z, self.head = nn.Linear(4, 4), nn.Identity(), nn.Linear(4, 3)

        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = self.head(self.z(self.cut(x)))
            return logits if torch.any(x) else logits * (1 + 1e-3)

    def opened(tolerance: float) -> object:
        net = Shaken().eval().requires_grad_(False)
        return open_probe(
            net, kind="columns", local="cut", representation="z", shape=(4,), classes=("a", "b", "c"),
            tolerance=tolerance,
        )  # fmt: skip

    bound = {name: each.tolerance for name, each in devices.PRECISIONS.items()}
    assert bound["fp32"] < 2.5e-4 < bound["tf32"] == bound["fp16"] < bound["bf16"]
    opened(bound["tf32"])
    with pytest.raises(Exception, match="cannot be cut"):
        opened(bound["fp32"])


# ---- the clock and the memory


def test_what_is_timed_is_waited_for_on_its_own_device(device: str) -> None:
    for number in range(2):
        with pretend.counted():
            devices.seconds(lambda: None, torch.device(f"pretend:{number}"))
            assert [pretend.native().synchronized(each) for each in range(2)] == [
                2 * (number == each) for each in range(2)
            ]


def test_a_fit_is_waited_for_before_its_clock_stops(device: str, tmp_path: Path) -> None:
    task = TaskSpec("mlp", "iris", 8, 32)
    setting = Setting(str(tmp_path), device)
    (tmp_path / "maps").mkdir()
    cell = Cell("f" * 24, "fit", task.name, "occlusion")
    with pretend.counted():
        explaining.fit(Job("fit", setting, task, (cell,)))
        assert pretend.native().synchronized(0) == 2


def test_costs_are_measured_on_the_second_device_too(device: str) -> None:
    second = torch.device("pretend:1")
    x = torch.ones(1000, device=second)
    assert devices.peak_bytes(lambda: x + x, second) == 4000
    assert costs._times(lambda _: None, 3, second)


def test_memory_does_not_grow_with_the_calibration_inputs(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is kept of a sample on the device is its representation, never its input; kept features have a bound."""
    for module in ("mibench.network.calibration", "mibench.methods.milr.milr", "mibench.methods.iba.readout"):
        monkeypatch.setattr(f"{module}.MEMORY", 0)
    on = there(device)
    one = on.calibration.x[0].nbytes
    for name in STREAMED:
        explainer = registry.explainer(name)
        assert isinstance(explainer, FittedExplainer)
        few, many = (_peak(explainer, on, count, device) for count in (400, 800))
        assert few > 0 or name in ("gradient-shap", "occlusion"), "these two need no network to be fitted"
        assert many - few < 0.5 * 400 * one, f"{name}: {few} bytes for 400 samples, {many} for 800"


STREAMED = (  # the explainers that are fitted, with a fixed number of features to remember
    *("gradient-shap", "iba", "iba-readout[epochs=1]", "milr[epochs=1,references=64]", "mipin"),
    *("mire[epochs=1,references=64]", "nif[reference=64]", "occlusion", "patternattribution", "patternnet"),
)


def _peak(explainer: FittedExplainer, on: accelerator.Bench, count: int, device: str) -> float:
    x = torch.randn((count, *on.probe.shape), generator=torch.Generator().manual_seed(0))
    samples = Samples(x, torch.arange(count) % 3, tuple(map(str, range(count))))
    return devices.peak_bytes(lambda: explainer.learn(on.probe, samples, 0), torch.device(device))


class Hungry(Explainer):
    """It wants a fixed amount of memory for every sample."""

    name, title = "hungry", "Hungry"
    BYTES = 400_000

    def explain(self, probe: object, x: Tensor, target: Tensor, seeds: object) -> Explanation:
        held = torch.ones((len(x), self.BYTES // 4), device=x.device)
        return Explanation({"map": x[:, 0] * held[:, :1, None]})


def test_a_batch_that_does_not_fit_is_halved_and_the_row_says_so(device: str) -> None:
    on = enlarged(there(device), 16)
    plain = in_batches(Hungry(), on.probe, on.samples.x, on.target, on.seeds, 16)
    notes: list[str] = []
    with pretend.room(5 * Hungry.BYTES):
        found = in_batches(Hungry(), on.probe, on.samples.x, on.target, on.seeds, 16, notes)
    assert torch.equal(found.maps["map"], plain.maps["map"])
    assert notes == ["out of memory with 16 samples at once: explained 4 at once"]
    with pretend.room(Hungry.BYTES // 2), pytest.raises(torch.OutOfMemoryError):  # not even one fits
        in_batches(Hungry(), on.probe, on.samples.x, on.target, on.seeds, 16)


def test_a_forward_that_does_not_fit_is_halved(device: str) -> None:
    probe = there(device).probe
    x = torch.randn((512, *probe.shape), generator=torch.Generator().manual_seed(0))
    whole = scoring.forwards(probe, x, 512)
    with pretend.room(3_000_000), pretend.counted() as counts:
        halved = scoring.forwards(probe, x, 512)
    assert torch.allclose(whole, halved, atol=1e-5)
    assert counts.to_device > 1


# ---- what is random


def test_random_weights_are_the_same_on_every_device(device: str) -> None:
    here = bench("tokens")
    state = randomised(here.probe, 3).model.state_dict()
    other = randomised(accelerator.carried(here, device).probe, 3).model.state_dict()
    assert all(torch.equal(value, other[name].cpu()) for name, value in state.items())
    assert {value.device.type for value in other.values()} == {"pretend"}


@pytest.mark.parametrize(
    "name", ["iba", "mire-noise[epochs=1]", "smoothgrad", "gradient-shap", "random", "nif[reference=32]"]
)
def test_noise_is_drawn_by_the_processor(name: str, device: str) -> None:
    on = there(device)
    with pretend.counted() as counts:
        accelerator.explained(name, on)
    assert counts.draws == 0


def test_a_network_of_ours_is_the_same_on_every_device(device: str) -> None:
    """It is trained on the processor, whatever the device it is explained on."""
    spec = TaskSpec("mlp", "iris", 8, 32)
    here, other = make_task(spec), make_task(spec, device)
    assert here.weights_hash == other.weights_hash
    assert here.data_hash == other.data_hash
    assert torch.equal(here.target, other.target)


# ---- a whole run


def test_the_python_interface_gives_the_cpus_maps_and_scores(device: str) -> None:
    here, x, maps, scores = bench("grid"), bench("grid").samples.x, [], []
    for where in ("cpu", device):
        net = mibench.open(copy.deepcopy(here.probe.model).to(where))
        fitted = mibench.methods.Iba(steps=2).fit(net, here.calibration.x, here.calibration.label, seed=0)
        maps.append(fitted(x.to(where), target=here.target)["map"])
        scores.append(mibench.metrics.faithfulness_estimate(net, x.to(where), here.target, maps[-1]))
    for one, other in (maps, scores):
        assert accelerator.difference({"": one}, {"": other}) < accelerator.CLOSE


@pytest.mark.slow  # two runs from the shell; .ci/run asks for it
def test_a_run_of_the_local_engine_gives_the_cpus_scores(device: str, tmp_path: Path) -> None:
    """Fit, explain (all variants), score and cost in worker processes, by the command line."""
    path = pretend.installed(tmp_path)
    boards = {}
    for name in ("cpu", "pretend:1"):
        command = [sys.executable, "-m", "mibench", "run", "iris", "--methods", METHODS, "--samples", "8"]
        command += ["--metrics", METRICS]
        command += ["--device", name, "--out", str(tmp_path / name), "--jobs", "1", "--no-publish", "--seeds", "1"]
        environment = {**os.environ, "PYTHONPATH": f"{path}:{ROOT}"}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout + done.stderr
        board = pd.read_csv(tmp_path / name / "leaderboard.csv")
        boards[name] = board[board["metric"].isin(METRICS.split(","))].set_index(["method", "metric"])["value"]
    about = json.loads((tmp_path / "pretend:1" / "run.json").read_text())
    assert about["setting"]["device"] == "pretend:1"
    assert about["environment"]["device"] == "pretend device in host memory"
    one, other = boards.values()
    assert one.index.equals(other.index)
    scored = one[one.notna()]
    assert len(scored) >= 8
    assert (other[scored.index] - scored).abs().max() < 1e-4 * scored.abs().max()


METHODS = "saliency,nif[reference=32]"
METRICS = "faithfulness-estimate,faithfulness-correlation,random-logit,mprt"

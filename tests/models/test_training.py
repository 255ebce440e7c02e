"""Small networks learn the same thing every time, are kept whole, and are refused below their floor."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.models import cache as cache_of
from mibench.models.training import Lesson, Recipe, accuracy, descend, trained

X = torch.randn(200, 2, generator=torch.Generator().manual_seed(1))
LABEL = (X[:, 0] > X[:, 1]).long()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path))
    return tmp_path / "models"


def lesson(floor: float = 0.9, seed: int = 0, name: str = "tiny", sources: tuple[str, ...] = ()) -> Lesson:
    return Lesson(name, floor, Recipe(epochs=20, batch=20, rate=0.05, seed=seed), sources)


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.2), nn.Linear(8, 2))


def teach(network: nn.Module, recipe: Recipe) -> float:
    def loss(batch: Tensor) -> Tensor:
        return F.cross_entropy(network(X[batch]), LABEL[batch])

    descend(network, loss, len(X), recipe)
    return accuracy(network, X, LABEL)


def never(network: nn.Module, recipe: Recipe) -> float:
    raise AssertionError("it learned again")


def weights(network: nn.Module) -> list[Tensor]:
    return list(network.state_dict().values())


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(weights(first), weights(second), strict=True))


def test_a_network_learns_once_and_is_then_read() -> None:
    learned = trained(lesson(), build, teach)
    assert same(learned, trained(lesson(), build, never))


def test_it_comes_in_eval_mode_and_frozen() -> None:
    for network in (trained(lesson(), build, teach), trained(lesson(), build, never)):
        assert not network.training
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_the_same_seed_learns_the_same_weights_and_another_seed_others(cache: Path) -> None:
    first = trained(lesson(), build, teach)
    for file in cache.iterdir():
        file.unlink()
    assert same(first, trained(lesson(), build, teach))
    assert not same(first, trained(lesson(seed=1), build, teach))


def test_learning_restores_the_global_generator_threads_and_grad_mode() -> None:
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with torch.no_grad():
        trained(lesson(), build, teach)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_a_change_of_parameters_or_sources_learns_again() -> None:
    paths = {lesson().path(), lesson(name="tiny[a=1]").path(), lesson(seed=1).path(), lesson(sources=("x",)).path()}
    assert len(paths) == 4


def test_the_accuracy_is_kept_beside_the_weights(cache: Path) -> None:
    trained(lesson(), build, teach)
    facts = json.loads(next(cache.glob("*.json")).read_text())
    assert facts["name"] == "tiny"
    assert 0.9 <= facts["accuracy"] <= 1.0


def test_below_the_floor_a_network_is_refused_and_so_is_its_cache() -> None:
    for teacher in (lambda network, recipe: 0.5, never):
        with pytest.raises(ModelError, match=r"tiny is right on only 50\.0% .* below its floor of 90\.0%"):
            trained(lesson(), build, teacher)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.5, 0.7, 0.9, 0.99])
def test_a_flipped_bit_is_named_and_the_network_is_learned_again(cache: Path, place: float) -> None:
    learned = trained(lesson(), build, teach)
    path = next(cache.glob("*.safetensors"))
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 8
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{path.name} is damaged.*the network is trained again"):
        assert same(learned, trained(lesson(), build, teach))
    assert same(learned, trained(lesson(), build, never))


@pytest.mark.parametrize("length", [0, 1, 50, -1])
def test_a_truncated_file_is_learned_again(cache: Path, length: int) -> None:
    learned = trained(lesson(), build, teach)
    path = next(cache.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.warns(UserWarning, match="is damaged"):
        assert same(learned, trained(lesson(), build, teach))


@pytest.mark.parametrize("known", [False, True])
def test_drafts_of_killed_processes_are_removed_and_living_ones_kept(cache: Path, known: bool) -> None:
    killed = subprocess.Popen([sys.executable, "-c", ""])
    killed.wait()
    cache.mkdir()
    if known:
        trained(lesson(), build, teach)
    host = socket.gethostname()
    for name in (f"{host}-{killed.pid}-0a", f"{host}-{os.getpid()}-0b", "elsewhere-1-0c", f"elsewhere-{killed.pid}-0d"):
        (cache / f".x.safetensors.{name}.part").touch()
    os.utime(cache / ".x.safetensors.elsewhere-1-0c.part", (0, 0))
    trained(lesson(), build, teach)
    left = {name.rpartition("-")[2] for name in os.listdir(cache) if name.endswith(".part")}
    assert left == {"0b.part", "0d.part"}


def test_an_unwritable_cache_says_so_before_learning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(ModelError, match="set MIBENCH_CACHE to a folder"):
        trained(lesson(), build, never)


def test_several_may_write_at_the_same_time_and_leave_one_whole_file(cache: Path) -> None:
    trained(lesson(), build, teach)
    network = build()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache_of.keep(network, lesson().path(), {"accuracy": 1.0}), range(40)))
    assert same(network, trained(lesson(), build, never))
    assert sorted(path.suffix for path in cache.iterdir()) == [".json", ".safetensors"]

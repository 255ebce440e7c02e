"""Weights are read from tensors alone, fit exactly, and are finite; nothing in a file is ever run."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mibench.errors import ModelError
from mibench.models.weights import fill, read


def network(seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return made


def state(seed: int = 1) -> dict[str, Tensor]:
    return dict(network(seed).state_dict())


def holds(target: nn.Module, weights: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, weights[name]) for name, tensor in target.state_dict().items())


@pytest.mark.parametrize("wrapping", [None, "state_dict", "model", "net", "model_state_dict"])
def test_checkpoints_fill_a_network(wrapping: str | None, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({wrapping: state(), "epoch": 3, "acc": 91.2, "optimizer": {"state": {}}} if wrapping else state(), path)
    target = network()
    fill(target, path)
    assert holds(target, state())


def test_safetensors_fill_a_network(tmp_path: Path) -> None:
    save_file(state(), tmp_path / "weights.safetensors")
    target = network()
    fill(target, tmp_path / "weights.safetensors")
    assert holds(target, state())


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_of_parallel_and_compiled_networks_are_dropped(prefix: str, tmp_path: Path) -> None:
    torch.save({prefix + name: tensor for name, tensor in state().items()}, tmp_path / "weights.pt")
    target = network()
    fill(target, tmp_path / "weights.pt")
    assert holds(target, state())


@pytest.mark.parametrize("prefix", ["model.", "net.", "model._orig_mod.", "module.model."])
def test_a_lightning_checkpoint_may_hold_more_than_the_network(prefix: str, tmp_path: Path) -> None:
    more = {"criterion.weight": torch.ones(2), "accuracy.total": torch.zeros(1)}
    weights = {prefix + name: tensor for name, tensor in state().items()} | more
    torch.save({"state_dict": weights, "epoch": 3, "pytorch-lightning_version": "2.1"}, tmp_path / "last.ckpt")
    target = network()
    fill(target, tmp_path / "last.ckpt")
    assert holds(target, state())


def test_more_weights_than_the_network_has_are_refused_within_its_part(tmp_path: Path) -> None:
    weights = {f"model.{name}": tensor for name, tensor in state().items()} | {"model.9.weight": torch.ones(2)}
    torch.save({"state_dict": weights}, tmp_path / "last.ckpt")
    with pytest.raises(ModelError, match=r"'9\.weight' besides \(0 weights missing, 1 too many\)"):
        fill(network(), tmp_path / "last.ckpt")


class Trap:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.path, "it ran"))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_with_code_is_refused_and_nothing_runs(zipped: bool, tmp_path: Path) -> None:
    path, victim = tmp_path / "trap.pth", tmp_path / "victim"
    if zipped:
        torch.save({"weight": torch.zeros(1), "trap": Trap(victim)}, path)
    else:
        path.write_bytes(pickle.dumps({"trap": Trap(victim)}))
    with pytest.raises(ModelError, match=r"trap\.pth holds code or objects besides tensors .* safetensors"):
        read(path)
    assert not victim.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "network.pth")
    with pytest.raises(ModelError, match="save the state_dict alone"):
        read(tmp_path / "network.pth")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(bad: float, tmp_path: Path) -> None:
    weights = state()
    weights["3.weight"][0, 1] = bad
    save_file(weights, tmp_path / "bad.safetensors")
    target, untouched = network(), network()
    with pytest.raises(ModelError, match=r"bad\.safetensors: 1 of the weights in '3\.weight' are NaN or infinite"):
        fill(target, tmp_path / "bad.safetensors")
    assert holds(target, dict(untouched.state_dict()))


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    weights = state()
    weights["4.weight"] = weights.pop("3.weight")
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"no '3\.weight' and '4\.weight' besides \(1 weights missing, 1 too many\)"):
        fill(network(), path)
    weights = state()
    weights["3.weight"] = torch.zeros(5, 4)
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"'3\.weight' is \(5, 4\) in the file and \(2, 4\) in it"):
        fill(network(), path)


def test_files_that_are_no_weights_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pth")
    for name, message in (
        ("nowhere.pth", "does not exist"),
        ("nowhere.safetensors", "does not exist"),
        ("text.pth", "besides tensors|cannot be read"),
        ("text.safetensors", "cannot be read as weights"),
        ("list.pth", "holds no state_dict"),
    ):
        with pytest.raises(ModelError, match=message):
            read(tmp_path / name)

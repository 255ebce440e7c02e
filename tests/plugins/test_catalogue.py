"""Cards hold what plug-ins declare, are made where these are imported, and are made again when anything has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mibench.errors import UsageError
from mibench.files import cache
from mibench.plugins import catalogue, registry, trial
from mibench.plugins.cards import ExplainerCard, MetricCard

SOURCE = """
from mibench.plugins.contract import Explainer, Explanation, MapSpec, Parameters
from pydantic import Field

class Parameters(Parameters):
    power: float = Field(1.0, gt=0)

class Mine(Explainer):
    name = "mine"
    title = "{title}"
    maps = (MapSpec("map", signed=True), MapSpec("more", "total", "nats"))
    Parameters = Parameters

    def explain(self, probe, x, target, seeds):
        return Explanation({{}})
"""
Write = Callable[[str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Write a package of one method; the next question looks again."""
    info = tmp_path / "minepackage-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: minepackage\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mibench.methods]\nmine = minepackage\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> None:
        file = tmp_path / "minepackage.py"
        file.write_text(text)
        os.utime(file, ns=(time.time_ns() - 10**10,) * 2)  # long enough ago to be kept
        catalogue.refresh()

    yield write
    monkeypatch.undo()
    catalogue.refresh()


def kept() -> Path:
    """The file of the card."""
    (origin,) = [each for each in catalogue._origins() if each.module == "minepackage"]
    return cache.folder() / catalogue._name(origin)


def refuse(*_: object) -> None:
    raise AssertionError("a child process was started")


def test_a_card_holds_what_its_class_declares() -> None:
    for name, cls in {"gradcam": "methods", "sparseness": "metrics"}.items():
        card, plugin = catalogue.card(cls, name), registry.plugins(cls)[name]()
        assert isinstance(card, ExplainerCard | MetricCard)
        shared = {"name", "title", "paper", "maps", "control", "seeded", "of_class", "range", "direction", "limit"}
        said = {each: getattr(card, each) for each in shared & type(card).model_fields.keys()}
        assert said == {each: getattr(plugin, each) for each in said}
        assert card.label == registry.label(plugin)
        assert card.parameters == plugin.parameters.model_dump(mode="json")


def test_a_card_is_kept_until_its_source_changes(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    write(SOURCE.format(title="First"))
    assert catalogue.card("methods", "mine").title == "First"
    assert [spec.name for spec in catalogue.method("mine").rows.values()] == ["map", "more"]
    assert catalogue.method("mine[power=2]").label == "mine[power=2]"
    with monkeypatch.context() as patched:
        patched.setattr(trial, "ask", refuse)
        catalogue.refresh()
        assert catalogue.card("methods", "mine").title == "First"
        assert catalogue.method("mine[power=2]").explainer.parameters == {"power": 2.0}
    write(SOURCE.format(title="Other"))
    assert catalogue.card("methods", "mine").title == "Other"


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"state": "0", "cards": [], "faults": [], "specs": {}}'])
def test_a_damaged_card_is_made_again(write: Write, content: bytes) -> None:
    write(SOURCE.format(title="Sound"))
    assert catalogue.card("methods", "mine").title == "Sound"
    kept().write_bytes(content)
    catalogue.refresh()
    assert catalogue.card("methods", "mine").title == "Sound"


def test_a_parameter_is_refused_by_the_plug_in_s_own_class(write: Write) -> None:
    write(SOURCE.format(title="Strict"))
    for text, answer in (("mine[power=0]", "greater than 0"), ("mine[pwer=1]", "did you mean power")):
        with pytest.raises(UsageError, match=answer):
            catalogue.method(text)


def test_a_cache_that_cannot_be_written_only_costs_time(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MIBENCH_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(catalogue, "ROOMS", {"methods": catalogue.ROOMS["methods"]})
    write(SOURCE.format(title="Uncached"))
    assert catalogue.card("methods", "mine").title == "Uncached"
    assert catalogue.method("gradcam").explainer.title == "Grad-CAM"


def test_a_declaration_of_a_wrong_kind_is_set_aside_with_its_reason(write: Write) -> None:
    write(SOURCE.format(title="Wrong").replace('maps = (MapSpec("map", signed=True)', 'maps = ("map"'))
    assert [each.reason for each in catalogue.broken()] != []
    assert "declares a wrong maps" in catalogue.broken()[0].reason

"""Every plug-in that is found keeps to what every plug-in must keep to, and the check sees those that do not."""

from __future__ import annotations

import pytest

from mibench.conformance.check import Finding, check
from mibench.plugins import catalogue, registry
from mibench.plugins.contract import Explainer, State, Wrapper
from mibench.plugins.registry import Method

EXPLAINERS = [name for name, cls in registry.plugins("methods").items() if issubclass(cls, Explainer)]
WRAPPERS = [name for name, cls in registry.plugins("methods").items() if issubclass(cls, Wrapper)]


def broken(findings: list[Finding]) -> list[str]:
    return [f"{each.network}: {each.rule}: {each.reason}" for each in findings if each.verdict == "broken"]


@pytest.mark.parametrize("name", sorted(EXPLAINERS))
def test_an_explainer_keeps_the_rules(name: str) -> None:
    assert broken(check(registry.method(name))) == []


@pytest.mark.parametrize("name", sorted(WRAPPERS))
def test_a_wrapper_keeps_the_rules(name: str) -> None:
    assert broken(check(registry.method(f"{name}:{min(EXPLAINERS)}"))) == []


@pytest.mark.parametrize("name", [card.name for card in catalogue.cards("metrics") if not card.takes])
def test_a_metric_keeps_the_rules(name: str) -> None:
    assert broken(check(registry.metric(name))) == []


def test_no_plugin_of_ours_is_broken() -> None:
    assert registry.broken() == ()


@pytest.mark.parametrize(
    ("how", "rule"),
    [
        ("raise", "gives the maps it promises"),
        ("shape", "gives the maps it promises"),
        ("nan", "gives the maps it promises"),
        ("weights", "gives the maps it promises"),
        ("hook", "leaves its input alone"),
        ("training", "gives the maps it promises"),
        ("refuse", "treats at least one kind of network"),
    ],
)
def test_an_explainer_that_goes_wrong_is_seen(toy: None, how: str, rule: str) -> None:
    findings = check(registry.method(f"faulty[how={how}]"))
    assert any(each.rule == rule for each in findings if each.verdict == "broken")


@pytest.mark.parametrize("says", ["seeded", "of_class"])
def test_an_explainer_that_says_that_nothing_changes_is_held_to_it(toy: None, says: str) -> None:
    name = {"seeded": "noise", "of_class": "learned"}[says]
    liar = type("Liar", (type(registry.method(name).explainer),), {says: False, "__doc__": "It lies."})
    rule = "depends on the seed and the class as declared"
    assert any(each.rule == rule for each in check(Method(liar())) if each.verdict == "broken")


def test_a_learner_that_learns_something_else_is_seen(toy: None) -> None:
    from toy.methods import Learned, Pupil

    class Truant(Pupil):
        """It learns half of what its learner learns."""

        def learn(self, *given):
            state = Learned().learn(*given)
            return State({"mean": state.tensors["mean"] / 2}, state.facts)

    rule = "learns what its learner learns"
    assert [each.verdict for each in check(Method(Pupil())) if each.rule == rule] == ["kept"] * 3
    assert "broken" in [each.verdict for each in check(Method(Truant())) if each.rule == rule]


def test_a_metric_that_mixes_rows_or_leaves_its_range_is_seen(toy: None) -> None:
    from toy.metrics import Drop, Inside

    class Mixed(Inside):
        def score(self, scene, rows):
            return {name: scores * len(rows) / 6 for name, scores in super().score(scene, rows).items()}

    class Beyond(Drop):
        range = (0.0, 1e-9)

    assert any(each.rule == "does not mix rows" for each in check(Mixed()) if each.verdict == "broken")
    assert any(each.rule == "scores inside its range" for each in check(Beyond()) if each.verdict == "broken")


def test_good_plugins_of_somebody_else_are_found_good(toy: None) -> None:
    for method in ("bright", "noise", "upside:bright"):
        assert broken(check(registry.method(method))) == []

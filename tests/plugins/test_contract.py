"""The contract: parameters are typed once, checked where they are written, and nothing in it is of any type."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from pydantic import Field

from mibench.errors import UsageError
from mibench.plugins import contract
from mibench.plugins.contract import Explainer, Explanation, FittedExplainer, Metric


class Steps(contract.Parameters):
    """How many steps are taken."""

    steps: int = Field(10, ge=1)


class Stepped(Explainer[Steps]):
    """Explains nothing."""

    name = "stepped"
    title = "Stepped"

    def explain(self, probe, x, target, seeds) -> Explanation:
        return Explanation({"map": x.mean(1)})


def test_brackets_name_the_parameters_once() -> None:
    assert Stepped.Parameters is Steps
    assert Stepped(steps=3).parameters == Stepped(Steps(steps=3)).parameters == Steps(steps=3)
    assert str(inspect.signature(Stepped)).startswith("(*, steps: ")
    assert repr(Stepped(steps=3)) == "Stepped(steps=3)"


def test_without_brackets_there_are_no_parameters() -> None:
    class Plain(Metric):
        """Scores nothing."""

        def score(self, scene, rows):
            return {}

    assert Plain.Parameters is contract.Parameters
    assert Plain().parameters.model_dump() == {}


def test_an_heir_keeps_the_parameters_or_nests_its_own() -> None:
    class Same(Stepped):
        """As its parent."""

    class Other(Stepped):
        """With another default."""

        class Parameters(Steps):
            steps: int = 20

    assert Same(steps=2).parameters.steps == 2
    assert Other().parameters.steps == 20


@pytest.mark.parametrize(
    ("given", "named"),
    [({"steps": "x"}, r"Stepped\(steps='x'\)"), ({"steps": 0}, r"steps=0"), ({"stepz": 1}, r"no parameter 'stepz'")],
)
def test_a_wrong_keyword_is_one_line_that_names_it(given: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        Stepped(**given)
    assert "\n" not in str(caught.value)


def test_parameters_are_given_by_name() -> None:
    with pytest.raises(UsageError, match=r"takes its parameters by name: Stepped\(steps=…\)"):
        Stepped(3)  # type: ignore[arg-type]


def test_what_is_final_cannot_be_replaced() -> None:
    with pytest.raises(TypeError, match="Old defines fit, which is final: what learns is named `learn`"):

        class Old(FittedExplainer):
            """Written for an older contract."""

            def fit(self, probe, calibration, seed):  # type: ignore[override]
                return None


def test_nothing_in_the_contract_is_of_any_type() -> None:
    tree = ast.parse(Path(contract.__file__).read_text("utf-8"))
    assert "Any" not in {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}

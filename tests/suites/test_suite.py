"""A suite says what to run; what it says wrongly is named with the nearest right word before anything runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from mibench.errors import UsageError
from mibench.suites import suite

TOY = """
name = "toy"
methods = ["bright", "learned"]
controls = ["noise"]
metrics = "default"
samples = 8

[[tasks]]
model = "quadrants"
"""


def test_the_embedded_suites_are_found() -> None:
    assert {"default", "natural"} <= set(suite.names())
    assert all(suite.load(name).name == name for name in suite.names())


def test_a_suite_is_read_from_a_file(tmp_path: Path, toy: None) -> None:
    path = tmp_path / "toy.toml"
    path.write_text(TOY)
    declared = suite.check(suite.load(str(path)))
    assert [method.label for method in declared.chosen_methods()] == ["bright", "learned", "noise"]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (TOY + "mdoel = 1", "'mdoel'; did you mean model"),
        ("sample = 3\n" + TOY, "'sample'; did you mean samples"),
        (TOY.replace("samples = 8", "samples = 0"), "samples: .*greater than or equal to 1, not 0"),
        (TOY.replace("samples = 8", "samples = 'x'"), "samples: .*integer"),
        (TOY.replace('model = "quadrants"', ""), "tasks.0.model is missing"),
        ("name = ", "is not TOML"),
    ],
)
def test_a_wrong_suite_is_answered_with_the_mend(text: str, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        suite.read(text, "toy.toml")


def test_a_file_that_is_no_text_is_no_suite(tmp_path: Path) -> None:
    (tmp_path / "bin.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"bin\.toml is not UTF-8 text: .*save it as UTF-8"):
        suite.load(str(tmp_path / "bin.toml"))


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"methods": ["brihgt"]}, "did you mean bright"),
        ({"metrics": ["insid"]}, "did you mean inside"),
        ({"models": ["quadrant"]}, "did you mean quadrants"),
        ({"data": ["corner"]}, "did you mean corners"),
        ({"samples": 0}, "samples"),
    ],
)
def test_a_wrong_flag_is_answered_with_the_mend(toy: None, change: dict, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        suite.narrow(suite.read(TOY, "toy"), **change)


def test_a_misspelt_suite_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean default"):
        suite.load("defualt")


def test_narrowing_keeps_the_controls_and_the_chosen_tasks(toy: None) -> None:
    wide = suite.read(TOY + '\n[[tasks]]\nmodel = "quadrants"\ndata = "corners"\nsamples = 4', "toy")
    narrow = suite.narrow(wide, methods=["bright[power=2]"], data=["corners"], samples=3)
    assert [method.label for method in narrow.chosen_methods()] == ["bright[power=2]", "noise"]
    assert [(task.model, task.data, task.samples) for task in narrow.tasks] == [("quadrants", "corners", None)]
    assert narrow.samples == narrow.gate_samples == 3


def test_data_that_the_suite_does_not_know_is_given_to_every_model_of_it(toy: None) -> None:
    declared = suite.read(TOY, "toy")
    assert [task.data for task in suite.narrow(declared, data=["corners"]).tasks] == ["corners"]


def test_networks_explained_on_their_training_data_learn_the_data_given() -> None:
    given = suite.narrow(suite.load("tabular"), data=["wine", "csv:notes.csv"])
    assert [(task.model, task.data) for task in given.tasks] == [
        ("mlp[data=wine]", "wine"),
        ("mlp[data=csv:notes.csv]", "csv:notes.csv"),
    ]
    [banknotes] = suite.narrow(suite.load("banknote"), data=["csv:notes.csv"]).tasks
    assert banknotes.model == "mlp[data=csv:notes.csv]"
    [kept] = suite.narrow(suite.load("iris"), models=["mlp"], data=["csv:notes.csv"]).tasks
    assert kept.model == "mlp"


def test_a_word_in_the_place_of_a_list_must_be_known(toy: None) -> None:
    with pytest.raises(UsageError, match="methods must be a list or all"):
        suite.check(suite.read(TOY.replace('["bright", "learned"]', '"every"'), "toy"))


def test_a_paper_s_figures_are_data_of_a_suite_and_name_its_rows() -> None:
    for name in ("mipin-table1", "mipin-table2", "class-sensitivity"):
        declared = suite.load(name)
        rows = {(f.method, f.metric) for f in declared.published}
        methods = {method.label for method in declared.chosen_methods()}
        metrics = {metric.name for metric in declared.chosen_metrics()}
        assert rows
        assert {method for method, _ in rows} <= methods
        assert {metric for _, metric in rows} <= metrics
        assert suite.read(suite.write(declared), name) == declared


def test_a_path_goes_to_every_task_that_waits_for_one() -> None:
    narrowed = suite.narrow(suite.load("natural"), data=["folder:photos"])
    assert [task.data for task in narrowed.tasks] == ["folder:photos", "mosaic:folder:photos"]
    assert narrowed.tasks[1].metrics == suite.load("natural").tasks[1].metrics

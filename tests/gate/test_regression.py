"""A run against a leaderboard that was committed: unchanged it passes, worse or other it does not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mibench.cli import main as cli
from mibench.errors import UsageError
from mibench.gate import regression
from mibench.gate.comparison import COMBINED
from mibench.gate.markdown import to_markdown
from mibench.gate.question import NotComparable
from mibench.gate.thresholds import read_thresholds
from mibench.leaderboard import publish
from mibench.leaderboard.row import COLUMNS
from mibench.record.cells import Outcome
from mibench.record.identity import Identity
from mibench.record.store import Store
from mibench.run.run import Options, run
from mibench.suites import suite
from tests.toy_suite import toy as declared


@pytest.fixture
def finished(toy: None, tmp_path: Path) -> Path:
    """A finished run of the toys."""
    return go(tmp_path / "run")


def go(folder: Path, **changes: object) -> Path:
    run(declared(**({"samples": 16} | changes)), Options(out=folder, device="cpu", engine="inline"))
    return folder


def worsen(folder: Path, method: str) -> None:
    """Take half of a method's scores away in a record, as a quality loss would."""
    with Store(folder, write=True) as store:
        scores = store.scores()
        for cell in store.cells("score"):
            if (cell.method, cell.metric) == (method, "inside"):
                own = scores[(scores.method == method) & (scores.metric == "inside") & (scores.seed == cell.seed)]
                worse, reasons = tuple(own["value"] - 0.5), tuple(own["reason"])
                store.record([Outcome(cell.key, "ok", scores=worse, reasons=reasons)], log="")


def test_an_unchanged_run_passes_its_own_leaderboard(finished: Path, tmp_path: Path) -> None:
    publish.publish([finished], tmp_path / "boards")
    changes = regression.gate(finished, tmp_path / "boards", read_thresholds())
    assert changes.paired > 0  # a committed board has every sample's score
    assert {change.verdict for change in changes.changes} == {"same"}


@pytest.mark.parametrize("paired", [True, False])
def test_a_quality_loss_is_a_regression(finished: Path, tmp_path: Path, paired: bool) -> None:
    publish.publish([finished], tmp_path / "boards")
    later = go(tmp_path / "later")
    worsen(later, "bright")
    changes = regression.gate(later, finished if paired else tmp_path / "boards", read_thresholds())
    scores = [each.row for each in changes.regressions if each.row.metric != "forwards"]  # seconds tell of the load
    assert [(row.method, row.metric) for row in scores if row.metric != COMBINED] == [("bright", "inside")]
    assert {row.method for row in scores} == {"bright"}


@pytest.mark.parametrize(
    ("narrowed", "more"),
    [
        ({"methods": ("bright",)}, "values that toy has not"),
        ({"samples": 4, "gate_samples": 4}, "more samples"),
        ({"seeds": 1}, "more seeds"),
    ],
)
def test_a_narrowed_run_replaces_no_board_unless_it_is_asked_to(
    toy: None, tmp_path: Path, narrowed: dict[str, object], more: str
) -> None:
    boards = tmp_path / "boards"
    go(tmp_path / "whole", seeds=2)
    go(tmp_path / "narrow", **({"seeds": 2} | narrowed))
    publish.publish([tmp_path / "whole"], boards)
    committed = (boards / "toy.csv").read_text()
    assert publish.outdone(tmp_path / "whole", boards) == ""
    assert more in publish.outdone(tmp_path / "narrow", boards)
    with pytest.raises(UsageError, match=more):
        publish.publish([tmp_path / "narrow"], boards)
    assert (boards / "toy.csv").read_text() == committed
    publish.publish([tmp_path / "narrow"], boards, replace=True)
    assert (boards / "toy.csv").read_text() != committed


@pytest.mark.parametrize("paired", [True, False])
def test_failed_seeds_are_a_regression_although_another_gives_a_number(toy: None, tmp_path: Path, paired: bool) -> None:
    for name in ("before", "later"):
        go(tmp_path / name, seeds=3)
    publish.publish([tmp_path / "before"], tmp_path / "boards")
    with Store(tmp_path / "later", write=True) as store:
        late = [cell.key for cell in store.cells("score") if cell.method.startswith("learned") and cell.seed]
        store.record([Outcome(key, "timeout", "stopped after 600 s") for key in late], log="")
    sides = {name: tmp_path / name for name in ("before", "later")}
    changes = regression.gate(sides["later"], sides["before"] if paired else tmp_path / "boards", read_thresholds())
    assert {(each.row.method, each.row.metric) for each in changes.regressions} == {
        (row, metric) for row in ("learned", "learned.total") for metric in ("inside", "drop")
    }
    assert {(each.verdict, each.reason) for each in changes.regressions} == {("lost", "stopped after 600 s")}
    table = regression.side(sides["later"]).table.set_index(["method", "metric"])
    assert table.loc[("learned", "inside"), "coverage"] == pytest.approx(1 / 3, abs=1e-5)
    assert table.loc[("learned", "moved"), "coverage"] == 4 / 16  # one seed alone is asked for it, on few samples
    assert not regression.gate(sides["later"], sides["later"], read_thresholds()).regressions  # as bad as before
    assert not regression.gate(sides["before"], sides["later"], read_thresholds()).regressions  # mended


def test_other_weights_are_refused(finished: Path, tmp_path: Path) -> None:
    publish.publish([finished], tmp_path / "boards")
    (file,) = (tmp_path / "boards").glob("*.json")
    identity = json.loads(file.read_text())
    for task in identity["tasks"].values():
        task["weights_hash"] = "07e4"
        task["networks"] = [["07e4", data] for _, data in task["networks"]]
    file.write_text(json.dumps(identity))
    with pytest.raises(NotComparable, match="weights"):
        regression.gate(finished, tmp_path / "boards", read_thresholds())


def test_a_baseline_that_is_not_there_is_named(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no leaderboard of the suite 'toy'"):
        regression.gate(finished, tmp_path, read_thresholds())


def test_a_board_says_how_samples_were_drawn_and_networks_trained(tmp_path: Path) -> None:
    tasks = []
    for name, models in (("one", ["mlp"]), ("same", ["mlp"]), ("other", ["mlp[hidden=8]"])):
        narrowed = suite.narrow(suite.load("iris"), methods=["saliency"], models=models, quick=True)
        run(narrowed, Options(out=tmp_path / name, device="cpu", engine="inline"))
        identity = regression.side(tmp_path / name).identity
        assert identity.complete == ("metrics",)  # methods were chosen
        tasks += identity.tasks.values()
    for kind in ("recipe", "drawing", "accuracy"):
        assert getattr(tasks[0], kind)
        assert getattr(tasks[0], kind) == getattr(tasks[1], kind)
    assert tasks[0].recipe != tasks[2].recipe


NOTHING = Identity(schema_number=2, processor="one", torch="2").written()
BROKEN = {
    "empty": ("", "No columns to parse"),
    "of one column": ("a\n1\n", "no column"),
    "without a row": (",".join(COLUMNS) + "\n", "it has no row"),
    "of words": (",".join(COLUMNS) + "\n" + ",".join("x" for _ in COLUMNS) + "\n", "Unable to parse"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_csv_that_is_no_leaderboard_is_named(tmp_path: Path, kind: str) -> None:
    text, why = BROKEN[kind]
    (tmp_path / "toy.csv").write_text(text)
    (tmp_path / "toy.json").write_text(NOTHING)
    with pytest.raises(UsageError, match=rf"toy\.csv is not a leaderboard: .*{why}"):
        regression.side(tmp_path / "toy.csv")


@pytest.mark.parametrize(
    ("beside", "why"),
    [
        (None, "cannot be compared without toy.json in its folder"),
        ("[1]", r"toy\.json cannot be read"),
        ('{"metric a": 1}', r"toy\.json was written by another version of mibench"),
        (NOTHING.replace("}", ""), r"toy\.json cannot be read"),
        (NOTHING.replace('"2"', "2"), r"toy\.json is damaged at torch \(Input should be a valid string, not 2\)"),
    ],
)
def test_a_csv_without_what_it_was_made_from_is_refused(tmp_path: Path, beside: str | None, why: str) -> None:
    (tmp_path / "toy.csv").write_text(",".join(COLUMNS) + "\n")
    if beside is not None:
        (tmp_path / "toy.json").write_text(beside)
    with pytest.raises(UsageError, match=why):
        regression.side(tmp_path / "toy.csv")


def test_the_committed_boards_can_be_compared_with_a_run() -> None:
    boards = sorted((Path(__file__).parent.parent.parent / "leaderboards").glob("*.json"))
    assert len(boards) >= 11
    for board in boards:
        found = regression.side(board.with_suffix(".csv"))
        assert {row.task for row in found.rows if ", published" not in row.method} <= set(found.identity.tasks)
        assert Identity.model_validate_json(found.identity.written()) == found.identity


def test_a_folder_that_is_no_run_and_a_file_that_is_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not the folder of a run"):
        regression.side(tmp_path)
    with pytest.raises(UsageError, match="nowhere"):
        regression.side(tmp_path / "nowhere.csv")


def test_a_method_may_be_called_nan(tmp_path: Path) -> None:
    row = dict.fromkeys(COLUMNS, "") | {"method": "nan", "metric": "NA", "value": "0.5"}
    (tmp_path / "toy.csv").write_text(",".join(COLUMNS) + "\n" + ",".join(row.values()) + "\n")
    (tmp_path / "toy.json").write_text(NOTHING)
    assert [(row.method, row.metric) for row in regression.side(tmp_path / "toy.csv").rows] == [("nan", "NA")]


def test_a_narrower_run_is_compared_on_shared_scores_and_the_rest_named(finished: Path, tmp_path: Path) -> None:
    publish.publish([finished], tmp_path / "boards")
    run(declared(samples=16, methods=("bright",)), Options(out=tmp_path / "few", device="cpu", engine="inline"))
    found = regression.gate(tmp_path / "few", tmp_path / "boards", read_thresholds())
    verdicts = {each.row.method: each.verdict for each in found.changes}
    assert verdicts["learned"] == verdicts["learned.total"] == "absent"
    assert verdicts["bright"] == "same"
    assert not found.regressions
    assert "learned (" in to_markdown(found, "a", "b")


def test_the_gate_leaves_with_the_code_that_says_what_it_found(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boards = tmp_path / "boards"
    publish.publish([finished], boards)
    later = go(tmp_path / "later")

    def code(*words: Path | str) -> int:
        monkeypatch.setattr(sys, "argv", ["mibench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    assert code("gate", later, "--baseline", boards) == 0
    assert code("gate", finished, "--baseline", boards) == 2  # the board is its own
    assert code("compare", finished, later) == 0
    assert code("gate", later, "--baseline", tmp_path / "nowhere") == 2
    worsen(later, "bright")
    assert code("gate", later, "--baseline", finished) == 1
    assert code("compare", finished, later) == 1
    (file,) = boards.glob("*.json")
    identity = json.loads(file.read_text())
    for task in identity["tasks"].values():
        task |= {"drawing": "", "recipe": "", "networks": []}  # without what excuses other samples and weights
    for key in ("data_hash", "weights_hash"):
        changed = json.loads(json.dumps(identity))
        next(iter(changed["tasks"].values()))[key] = "07e4"
        file.write_text(json.dumps(changed))
        assert code("gate", later, "--baseline", boards) == 4, key

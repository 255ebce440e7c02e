"""The command line as people meet it: what it prints, what it writes, and the exit code."""

from __future__ import annotations

import errno
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from mibench.cli import display, doctor
from mibench.cli import main as cli
from mibench.record import maps
from mibench.record.store import Store
from mibench.suites import suite

ROOT = Path(__file__).resolve().parent.parent.parent
TOY = """
name = "toy"
methods = ["bright", "learned"]
controls = ["noise", "upside:bright"]
chance = "noise"
known_good = ["bright"]
metrics = ["inside", "drop", "moved"]
samples = 6
calibration = 16
gate_samples = 2
timed_samples = 1

[[tasks]]
model = "quadrants"
"""


@dataclass
class Told:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


Command = Callable[..., Told]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are given; it holds toy.toml."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.toml").write_text(TOY)
    return tmp_path


@pytest.fixture
def mibench(toy: None, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Command:
    """The command, given in this process."""

    def call(*words: str) -> Told:
        monkeypatch.setattr(sys, "argv", ["mibench", *words])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        code = end.value.code
        return Told(int(code or 0), *capfd.readouterr())

    return call


@pytest.fixture
def fresh(toy: None, place: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, given in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)

    def call(*words: str, path: Path | None = None) -> Told:
        given = os.environ | ({"PYTHONPATH": f"{path}{os.pathsep}{os.environ['PYTHONPATH']}"} if path else {})
        command = [sys.executable, "-m", "mibench", *words]
        told = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600, env=given)
        return Told(told.returncode, told.stdout, told.stderr)

    return call


def test_help_is_quick_and_names_every_command(fresh: Command) -> None:
    """It imports nothing heavy."""
    told = fresh("--help")
    assert told.code == 0
    for command in ("run", "list", "explain", "check", "report", "show", "doctor"):
        assert re.search(rf"^  {command} ", told.out, re.MULTILINE)
    code = "import sys, mibench.cli.main; sys.exit('torch' in sys.modules or 'pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_run_from_the_first_call_to_the_report(mibench: Command, tmp_path: Path) -> None:
    plan = mibench("run", "toy.toml", "--dry-run", "--out", "first")
    assert plan.code == 0
    assert re.search(r"score +corners/quadrants +inside +5 +0", plan.out)
    assert "25 cells, 0 of them computed before; about" in plan.out
    assert not (tmp_path / "first").exists()

    run = mibench("run", "toy.toml", "--out", "first", "--jobs", "1", "--device", "cpu")
    assert run.code == 0, run
    assert "corners/quadrants: accuracy 100.0%, 6 samples" in run.out
    assert "[25/25]" in run.out
    assert "the board is first/leaderboard.html" in run.out
    assert {"run.json", "suite.toml", "results.sqlite", "maps", "logs", "leaderboard.csv"} <= set(
        os.listdir(tmp_path / "first")
    )
    assert not (tmp_path / "leaderboards").exists()

    assert "25 cells, 25 of them computed before" in mibench("run", "toy.toml", "--dry-run", "--out", "first").out
    report = mibench("report", "first", "-o", "boards")
    assert report.code == 0
    assert (tmp_path / "boards" / "toy.csv").read_bytes() == (tmp_path / "first" / "leaderboard.csv").read_bytes()

    sample = mibench("show", "scoring-3", "--run", "first")
    assert "labelled 'bottom right', explained as 'bottom right'" in sample.out
    assert re.search(r"^learned\.total +\S+ +\S+", sample.out, re.MULTILINE)
    picture = re.search(r"maps: (.*\.png)", sample.out)
    assert picture is not None
    assert Image.open(tmp_path / picture[1]).width > 500
    assert mibench("show", "scoring-33", "--run", "first").code == 2


def test_failed_cells_are_told_and_end_in_code_3(mibench: Command) -> None:
    run = mibench("run", "toy.toml", "--methods", "bright,faulty", "--engine", "inline", "--out", "first")
    assert run.code == 3
    assert "failed: corners/quadrants faulty: ValueError: the explainer had a bad day" in run.out
    failures = mibench("show", "--run", "first")
    key = re.search(r"^(\w{8}) +explain · corners/quadrants · faulty · seed 0", failures.out, re.MULTILINE)
    assert key is not None
    cell = mibench("show", key[1], "--run", "first")
    assert "the explainer had a bad day" in cell.out


def test_the_log_of_a_failed_cell_is_shown(mibench: Command) -> None:
    mibench("run", "toy.toml", "--methods", "bright,faulty", "--jobs", "1", "--out", "first")
    key = re.search(
        r"^(\w{8}) +explain · corners/quadrants · faulty · seed 0", mibench("show", "--run", "first").out, re.M
    )
    assert key is not None
    assert "Traceback (most recent call last)" in mibench("show", key[1], "--run", "first").out


def test_a_damaged_map_is_one_line_and_computed_again_by_the_same_run(mibench: Command, place: Path) -> None:
    again = ("run", "toy.toml", "--engine", "inline", "--out", "first")
    assert mibench(*again).code == 0
    shutil.copytree(place / "first", place / "whole")
    (place / "first/leaderboard.csv").unlink()  # a run is not held to its own board
    files = sorted((place / "first/maps").iterdir())
    for file in files:
        os.truncate(file, 20)
    for words in (
        ("report", "first", "-o", "boards"),
        ("show", "scoring-3", "--run", "first"),
        ("score", "first", "--metrics", "class-sensitivity", "--engine", "inline"),  # which drops what is damaged
        ("compare", "whole", "first"),
        ("gate", "first", "--baseline", "whole"),
    ):
        told = mibench(*words)
        assert (told.code, told.err.count("\n")) == (2, 1), told
        assert "damaged" in told.err
    assert mibench(*again).code == 0
    assert mibench("report", "first", "-o", "boards").code == 0
    for file in files:
        assert file.stat().st_size > 20


def test_a_damaged_fit_is_not_taken_for_another_fit(mibench: Command, place: Path) -> None:
    assert mibench("run", "toy.toml", "--engine", "inline", "--out", "first").code == 0
    with Store(place / "first") as store:
        (fit,) = [cell.key for cell in store.cells("fit") if not cell.variant]
    os.truncate(maps.path(place / "first", fit), 20)
    told = mibench("compare", "first", "first")
    assert (told.code, f"{fit}.safetensors is damaged" in told.err) == (2, True)


def test_the_newest_run_is_one_that_was_not_refused(mibench: Command, place: Path) -> None:
    assert mibench("run", "toy.toml", "--engine", "inline", "--out", "runs/first").code == 0
    refused = place / "runs/refused"
    Store(refused, write=True).close()
    told = mibench("show")
    assert (told.code, "25 cells, 0 without an answer" in told.out) == (0, True)
    assert mibench("run", "toy.toml", "--dry-run", "--out", str(refused)).code == 0
    assert mibench("run", "toy.toml", "--engine", "inline", "--out", str(refused)).code == 0


def test_the_first_digits_of_several_keys_are_not_of_one_cell(mibench: Command, place: Path) -> None:
    assert mibench("run", "toy.toml", "--engine", "inline", "--out", "first").code == 0
    with Store(place / "first") as store:
        firsts = Counter(cell.key[0] for cell in store.cells())
    digit, count = firsts.most_common(1)[0]
    told = mibench("show", digit, "--run", "first")
    assert told.code == 2
    assert f"'{digit}' begins the keys of {count} cells, such as {digit}" in told.err


def test_a_sample_of_a_run_that_cannot_be_written_has_its_scores_shown(mibench: Command, place: Path) -> None:
    assert mibench("run", "toy.toml", "--engine", "inline", "--out", "first").code == 0
    (place / "first/sample-corners-quadrants-3.png").mkdir()  # in the place of the picture
    told = mibench("show", "scoring-3", "--run", "first")
    assert (told.code, told.err) == (0, "")
    assert re.search(r"^learned\.total +\S+", told.out, re.MULTILINE)
    assert re.search(r"no picture of the maps: .*sample-corners-quadrants-3\.png: Is a directory; copy", told.out)


def test_an_error_that_is_no_place_keeps_its_traceback(mibench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ConnectionResetError(errno.ECONNRESET, "gone")

    monkeypatch.setattr("mibench.cli.console.shelf", wrong)
    with pytest.raises(ConnectionResetError):
        mibench("list")


@pytest.mark.parametrize(
    ("after", "how"),
    [
        (0.2, signal.SIGTERM),
        *(pytest.param(each, signal.SIGINT, marks=pytest.mark.slow) for each in (0.05, 0.5)),
        (1.0, signal.SIGINT),
    ],
)
def test_an_interrupt_before_anything_is_computed_is_one_line(
    toy: None, place: Path, monkeypatch: pytest.MonkeyPatch, after: float, how: signal.Signals
) -> None:
    """The whole group is interrupted, as by Ctrl-C: the fork server, which imports torch meanwhile, too."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT), prepend=os.pathsep)
    code = "import mibench.engines.forkserver as it; made = it.processes; "
    code += "it.processes = lambda: (made(), print('started', flush=True)); from mibench.cli.main import main; main()"
    command = [sys.executable, "-c", code, "run", "toy.toml"]
    pipe = subprocess.PIPE
    told = subprocess.Popen(command, cwd=place, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert told.stdout is not None
    assert told.stdout.readline() == "started\n"
    time.sleep(after)
    os.killpg(told.pid, how)
    said, wrong = told.communicate(timeout=60)
    assert (told.returncode, said, wrong) == (130, "interrupted; the same command goes on from here\n", "")


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["run", "toi.toml"], "toi.toml does not exist"),
        (["run", "defalt"], "no suite 'defalt'; did you mean default"),
        (["run", "toy.toml", "--methods", "brigth"], "no method 'brigth'; did you mean bright"),
        (["run", "toy.toml", "--methods", "bright[power=soft]"], "bright[power=soft] is not possible"),
        (["run", "toy.toml", "--metrics", "insid"], "no metric 'insid'; did you mean inside"),
        (["run", "toy.toml", "--models", "quadrant"], "no model 'quadrant'; did you mean quadrants"),
        (["run", "toy.toml", "--data", "corner"], "no data set 'corner'; did you mean corners"),
        (["run", "toy.toml", "--device", "gpu"], "no device 'gpu'"),
        (["run", "toy.toml", "--engine", "lokal"], "no engine 'lokal'; did you mean local"),
        (["run", "toy.toml", "--precision", "fp8", "--engine", "inline"], "unknown precision 'fp8'"),
        (["run", "toy.toml", "--samples", "0"], "samples"),
        (["check", "brigth"], "no method or metric 'brigth'; did you mean bright"),
        (["check", "insid"], "no method or metric 'insid'; did you mean inside"),
        (["figures", "mire", "--data", "nope"], "give --model with --data"),
        (["figures", "mire", "--model", "planted", "--data", "nope"], "no data set 'nope'"),
        (["run", "toy.toml", "--methods", "bright", "--timeout", "0.1"], "(--timeout) and was stopped"),
        (["report", "nowhere"], "nowhere is not the folder of a run"),
        (["show", "x"], "runs/ contains no run; give --run FOLDER"),
        (["gate"], "runs/ contains no run; give its folder: gate FOLDER"),
        (["gate", "nowhere"], "nowhere does not exist"),
        (["run", "toy.toml", "--out", ""], "--out is empty"),
        (["run", "toy.toml", "--out", "."], ". is not empty, and holds no run"),
        (["run", "toy.toml", "--out", "x" * 300], "File name too long"),
        (["report", "x" * 300], "File name too long"),
        (["figures", "mire", "-o", "toy.toml"], "toy.toml: File exists"),
        (["lst"], "list"),
    ],
)
def test_wrong_words_are_one_line_with_the_mend_and_code_2(mibench: Command, words: list[str], answer: str) -> None:
    told = mibench(*words)
    assert told.code == 2
    assert answer in told.err
    assert "Traceback" not in told.err


def test_a_second_run_in_the_same_folder_says_so_and_stops(fresh: Command, mibench: Command, tmp_path: Path) -> None:
    words = [
        sys.executable,
        "-m",
        "mibench",
        "run",
        "toy.toml",
        "--methods",
        "bright,faulty[how=hang]",
        "--out",
        "first",
    ]
    first = subprocess.Popen([*words, "--jobs", "1"], cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "first" / "run.json").exists() and first.poll() is None:
            time.sleep(0.05)
        second = mibench("run", "toy.toml", "--out", "first")
        assert second.code == 2
        assert f"another run (process {first.pid}) is at work in first" in second.err
        first.send_signal(2)
        assert first.wait(timeout=60) == 130
    finally:
        first.kill()
    assert mibench("run", "toy.toml", "--out", "first", "--jobs", "1").code == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_told_to_end_says_how_to_go_on(toy: None, place: Path, how: signal.Signals) -> None:
    words = ["run", "toy.toml", "--methods", "bright,faulty[how=hang]", "--out", "first", "--jobs", "1"]
    running = subprocess.Popen(
        [sys.executable, "-m", "mibench", *words],
        cwd=place,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
    )
    assert running.stdout is not None
    while "cells" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(how)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.endswith("interrupted; the same command goes on from here\n")


def test_a_list_obeys_the_width_that_it_is_given(fresh: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "72")
    assert max(map(len, fresh("list", "metrics").out.splitlines())) <= 72
    monkeypatch.delenv("COLUMNS")
    assert max(map(len, fresh("list", "metrics").out.splitlines())) > 72


def test_the_time_left_counts_what_cells_of_each_stage_took() -> None:
    watch = display.Lines(Console(file=io.StringIO()))
    watch.total.update({"explain": 10, "score": 20})
    assert watch.remaining(2) == ""
    watch.done["explain"], watch.timed["explain"] = 4, [10.0, 30.0]
    assert watch.remaining(2) == "more than 60 s left"  # 6 x 20 s with two workers, and nothing is known of scores
    watch.done["score"], watch.timed["score"] = 10, [6.0]
    assert watch.remaining(2) == "about 90 s left"


def test_a_whole_suite_refreshes_the_leaderboards_of_its_checkout(mibench: Command, tmp_path: Path) -> None:
    (tmp_path / "leaderboards").mkdir()
    words = ["run", "toy.toml", "--engine", "inline", "--samples", "4"]
    assert mibench(*words).code == 0
    assert os.listdir(tmp_path / "leaderboards") == []
    assert mibench(*words, "--publish").code == 0
    assert {"toy.csv", "toy.html", "index.html"} <= set(os.listdir(tmp_path / "leaderboards"))


def test_what_there_is_is_listed_with_its_parameters(mibench: Command) -> None:
    told = mibench("list").out
    assert re.search(r"^bright +Brightness +power=1 *$", told, re.MULTILINE)
    assert re.search(r"^upside .*control.*upside:METHOD", told, re.MULTILINE)
    assert re.search(r"^user .*user\[…\]:MODULE:FACTORY, with local=, ", told, re.MULTILINE)
    for name in ("inside", "quadrants", "corners", *suite.names()):
        assert re.search(rf"^{name} ", told, re.MULTILINE)


def test_a_method_is_checked(mibench: Command) -> None:
    good = mibench("check", "bright", "upside:bright")
    assert good.code == 0
    assert re.search(r"kept +grid +gives the maps it promises", good.out)
    bad = mibench("check", "faulty[how=nan]", "inside")
    assert bad.code == 1
    assert "the map 'map' holds NaN" in bad.out


def test_own_images_are_explained(mibench: Command, tmp_path: Path) -> None:
    for name, mode in (("grey.png", "L"), ("colour.jpg", "RGB")):
        Image.fromarray(np.full((9, 12) + (3,) * (mode == "RGB"), 200, np.uint8)).save(tmp_path / name)
    words = ["explain", "grey.png", "colour.jpg", "--model", "quadrants", "--methods", "bright,learned", "-o", "maps"]
    told = mibench(*words)
    assert told.code == 0, told.err
    assert set(os.listdir(tmp_path / "maps")) == {
        f"{stem}.{what}.png" for stem in ("grey", "colour") for what in ("bright", "learned", "learned.total", "maps")
    }
    (tmp_path / "grey.png").write_text("no picture")
    told = mibench(*words)
    assert told.code == 2
    assert "grey.png cannot be read as an image" in told.err


@pytest.fixture
def pictures(place: Path) -> Path:
    """Two grey pictures, dark.png and light.png, where commands are given."""
    for name, grey in (("dark", 60), ("light", 200)):
        Image.fromarray(np.full((16, 16), grey, np.uint8)).save(place / f"{name}.png")
    return place


def test_a_method_that_fails_costs_no_other_its_maps(mibench: Command, pictures: Path) -> None:
    faults = "faulty,faulty[how=refuse],faulty[how=weights],faulty[how=some-nan]"
    told = mibench("explain", "dark.png", "light.png", "--model", "quadrants", "--methods", f"{faults},bright,learned")
    assert told.code == 3
    assert "failed: faulty: ValueError: the explainer had a bad day (methods.py:" in told.out
    assert "skipped: faulty[how=refuse]: this network is not to my taste" in told.out
    assert "failed: faulty[how=weights]: left the network changed" in told.out
    assert "nan: faulty[how=some-nan] of dark.png: the map holds NaN" in told.out
    assert told.err == "error: some maps were not drawn, for the reasons above\n"
    drawn = {
        f"{stem}.{what}.png" for stem in ("dark", "light") for what in ("bright", "learned", "learned.total", "maps")
    }
    assert set(os.listdir(pictures / "maps")) == drawn | {"light.faulty[how=some-nan].png"}
    alone = mibench("explain", "dark.png", "light.png", "--model", "quadrants", "--methods", "learned", "-o", "alone")
    assert alone.code == 0
    for name in ("dark.learned.png", "light.learned.total.png"):  # explained by the network as it was
        assert (pictures / "alone" / name).read_bytes() == (pictures / "maps" / name).read_bytes()


def test_a_folder_is_explained_and_its_maps_saved_as_numbers(mibench: Command, pictures: Path) -> None:
    (pictures / "photos").mkdir()
    for name in ("dark", "light"):
        (pictures / f"{name}.png").rename(pictures / "photos" / f"{name}.png")
    (pictures / "photos" / "notes.txt").write_text("no picture")
    words = ["explain", "photos", "--model", "quadrants", "--methods", "bright"]
    told = mibench(*words, "--save", "maps.safetensors")
    assert told.code == 0, told.err
    assert "wrote maps.safetensors: 2 maps" in told.out
    saved = load_file(pictures / "maps.safetensors")
    assert {name: tuple(each.shape) for name, each in saved.items()} == {
        f"{name}.png/bright": (8, 8) for name in ("dark", "light")
    }
    (pictures / "empty").mkdir()
    assert "empty contains no pictures" in mibench(*words, "empty").err
    assert "folder nowhere does not exist" in mibench(*words, "--save", "nowhere/maps.safetensors").err


@pytest.mark.parametrize("how", ["refuse", "nan", "raise"])
def test_where_no_map_can_be_drawn_there_is_no_sheet_and_code_2(mibench: Command, pictures: Path, how: str) -> None:
    told = mibench("explain", "dark.png", "--model", "quadrants", "--methods", f"faulty[how={how}]")
    assert (told.code, told.err) == (2, "error: no map was drawn, for the reasons above\n")
    assert os.listdir(pictures / "maps") == []


@pytest.mark.parametrize("other", ["more/dark.png", "DARK.jpg", "dark.png"])
def test_images_whose_maps_would_have_one_name_are_refused(mibench: Command, pictures: Path, other: str) -> None:
    (pictures / "more").mkdir()
    Image.open(pictures / "dark.png").save(pictures / other)
    told = mibench("explain", "dark.png", other, "--model", "quadrants", "--methods", "bright")
    assert told.code == 2
    assert f"the maps of dark.png, {other} would have the same names" in told.err
    assert not (pictures / "maps").exists()


@pytest.mark.parametrize(
    ("factory", "shape", "why"),
    [
        ("poisoned", "3x16x16", "1 of the weights in 'fc.weight' are NaN or infinite"),
        ("overflowing", "3x16x16", "its logits of an ordinary input are NaN or infinite"),
        ("build", "1x16x16", "cannot take an input of 1x16x16"),
        ("dicing", "3x16x16", "two forwards of the same input differ"),
    ],
)
def test_explain_refuses_the_networks_that_run_refuses(
    mibench: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch, factory: str, shape: str, why: str
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests/models"))
    network = f"user[local=features,representation=avgpool,shape={shape}]:made_networks:{factory}"
    told = mibench("explain", "dark.png", "--model", network, "--methods", "gradcam")
    assert told.code == 2
    assert why in told.err
    assert not (pictures / "maps").exists()


def test_a_layer_that_a_method_asks_for_in_vain_is_named(
    mibench: Command, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tests/models"))
    network = "user[local=features,representation=avgpool,shape=3x16x16]:made_networks:build"
    told = mibench("explain", "dark.png", "--model", network, "--methods", "gradcam,iba[layer=x]")
    assert told.code == 3
    assert "failed: iba[layer=x]: the network has no layer 'x'" in told.out
    assert (pictures / "maps/dark.gradcam.png").exists()


@pytest.mark.parametrize("name", ["maps[new]", "x[/b]", "a:cat:b"])
def test_names_are_printed_as_they_are(mibench: Command, pictures: Path, name: str) -> None:
    methods = ["--methods", "bright[power=2],faulty[how=refuse]"]
    told = mibench("explain", "dark.png", "--model", "quadrants", *methods, "-o", name)
    assert told.code == 0, told.err
    assert f"1 map in {name}/dark.*.png" in told.out
    assert "skipped: faulty[how=refuse]: " in told.out
    mibench("run", "toy.toml", "--metrics", "inside", "--samples", "4", "--engine", "inline", "--out", "first")
    assert f"wrote {name}/toy.csv" in mibench("report", "first", "-o", name).out


def test_the_doctor_names_what_is_there(mibench: Command) -> None:
    told = mibench("doctor")
    assert told.code == 0
    assert re.search(r"^fine +torch +\d", told.out, re.MULTILINE)


def test_the_doctor_names_what_is_missing_and_its_mend(mibench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOADED", {"quantus": ("libGL.so.of.nobody",)})
    monkeypatch.setattr(doctor, "WANTED", ("quantus", "package_of_nobody"))
    told = mibench("doctor")
    assert told.code == 1
    assert re.search(r"^wrong +quantus .*apt install libgl1", told.out, re.MULTILINE)
    assert re.search(r"^wrong +package_of_nobody .*'package_of_nobody' is not installed", told.out, re.MULTILINE)


def test_an_installed_package_with_one_method_is_listed_checked_and_run(fresh: Command, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "theirs"\nversion = "1"\n[project.entry-points."mibench.methods"]\ntheirs = "theirs"\n'
        '[tool.setuptools]\npy-modules = ["theirs"]\n'
    )
    (source / "theirs.py").write_text(
        "from mibench.plugins.contract import Explainer, Explanation\n\n\nclass Theirs(Explainer):\n"
        '    """A method of theirs."""\n\n    name = "theirs"\n    title = "Theirs"\n\n'
        "    def explain(self, probe, x, target, seeds):\n"
        '        return Explanation({"map": x.flatten(1).abs()[:, : probe.pixels[0] * probe.pixels[1]]'
        ".view(len(x), *probe.pixels)})\n"
    )
    place = tmp_path / "installed"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(place), str(source)], check=True)
    assert re.search(r"^theirs +Theirs", fresh("list", "methods", path=place).out, re.MULTILINE)
    assert fresh("check", "theirs", path=place).code == 0
    run = fresh("run", "toy.toml", "--methods", "theirs", "--engine", "inline", "--out", "first", path=place)
    assert run.code == 0, run
    assert "theirs" in (tmp_path / "first" / "leaderboard.csv").read_text()


def test_score_adds_a_metric_to_a_run_and_says_in_one_line_why_it_cannot(mibench: Command, place: Path) -> None:
    assert mibench("run", "toy.toml", "--metrics", "inside", "--engine", "inline", "--out", "scored").code == 0
    told = mibench("score", "scored", "--metrics", "drop", "--engine", "inline")
    assert (told.code, "5 computed now, 0 failed" in told.out) == (0, True)
    assert ",drop," in (place / "scored/leaderboard.csv").read_text()
    for words in (("nowhere", "--metrics", "drop"), ("scored", "--metrics", "drpo"), ("scored", "--metrics", "")):
        told = mibench("score", *words)
        assert (told.code, told.err.count("\n")) == (2, 1)

"""Plug-ins are found by listing the rooms, asked for by a spec, and misspelling one is answered with the nearest."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mibench.errors import UsageError
from mibench.plugins import classes, registry
from mibench.plugins.contract import Explainer, Explanation, Parameters
from mibench.plugins.registry import Spec

EMPTY = "from mibench.plugins.contract import Explainer\nclass A(Explainer):\n    {}explain = len"
ROOT = Path(__file__).resolve().parent.parent.parent


class Tuned(Explainer):
    """Never registered: it only lends its parameters."""

    name = "tuned"
    title = "A method with parameters of every type"

    class Parameters(Parameters):
        steps: int = 10
        rate: float = 0.1
        deep: bool = False
        layers: tuple[str, ...] = ("a",)
        limit: float | None = 1.0
        source: str = "folder"

    def explain(self, probe, x, target, seeds):
        return Explanation({"map": x})


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("iba", Spec("iba")),
        ("iba[]", Spec("iba")),
        ("iba[beta=10, steps=5]", Spec("iba", {"beta": "10", "steps": "5"})),
        ("folder:/a/b[c]", Spec("folder", {}, "/a/b[c]")),
        ("folder[size=3]:C:/x", Spec("folder", {"size": "3"}, "C:/x")),
        ("inverted:iba[beta=10]", Spec("inverted", {}, "iba[beta=10]")),
        ("own[factory=pkg.net:make]", Spec("own", {"factory": "pkg.net:make"})),
        ("csv[target=species]:wide.csv", Spec("csv", {"target": "species"}, "wide.csv")),
        ("cnn-c[data=folder[classes=F,a=b]:P]", Spec("cnn-c", {"data": "folder[classes=F,a=b]:P"})),
        ("cnn-c[data=m[d=f[c=F]:P]:Q,seed=1]:x[1]", Spec("cnn-c", {"data": "m[d=f[c=F]:P]:Q", "seed": "1"}, "x[1]")),
        ("mosaic:folder[classes=F]:P", Spec("mosaic", {}, "folder[classes=F]:P")),
    ],
)
def test_a_spec_is_read(text: str, spec: Spec) -> None:
    assert registry.parse(text) == spec


GARBLED = (
    "iba[beta=10",
    "iba[beta]",
    "iba[=3]",
    "iba[a=1,a=2]",
    "iba[a=1]x",
    "a[b=c[d=e]",
    "a[b=c]d=e]",
    "a[b=[]",
    "a[",
)


@pytest.mark.parametrize("text", GARBLED)
def test_a_garbled_spec_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UsageError, match="not") as refused:
        registry.parse(text)
    assert repr(text) in str(refused.value)
    assert "\n" not in str(refused.value)


WORDS = st.text("ab7_./-", min_size=1, max_size=4)


def nested(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Specs whose values and arguments are of a strategy."""
    parameters = st.dictionaries(WORDS, inner, max_size=2)
    return st.builds(spelt, WORDS, parameters, st.just("") | inner)


def spelt(name: str, parameters: dict[str, str], argument: str) -> str:
    inside = ",".join(f"{key}={value}" for key, value in parameters.items())
    return name + (f"[{inside}]" if inside else "") + (f":{argument}" if argument else "")


SPECS = st.recursive(WORDS, nested, max_leaves=4)


@given(WORDS, st.dictionaries(WORDS, SPECS, max_size=2), st.just("") | SPECS)
def test_specs_nest_to_any_depth(name: str, parameters: dict[str, str], argument: str) -> None:
    text = spelt(name, parameters, argument)
    assert registry.parse(text) == Spec(name, parameters, argument)
    assert registry.split(f"{text}, {text}") == [text, text]


def test_commas_inside_brackets_do_not_split_a_list() -> None:
    assert registry.split("mire, nif[k=5,beta=5e-4],folder:x") == ["mire", "nif[k=5,beta=5e-4]", "folder:x"]


def test_somebody_elses_plugins_are_found(toy: None) -> None:
    assert "bright" in registry.names("methods")
    assert "upside" in registry.names("methods")
    assert "inside" in registry.names("metrics")
    assert registry.model("quadrants").local == "blur"
    assert registry.data("corners").classes[0] == "top left"


def test_parameters_are_typed_and_a_label_shows_those_that_differ(toy: None) -> None:
    assert registry.explainer("bright[power=2]").parameters.power == 2.0
    assert registry.label(registry.explainer("bright[power=2]")) == "bright[power=2]"
    assert registry.label(registry.explainer("bright[power=1]")) == "bright"


@given(
    steps=st.integers(),
    rate=st.floats(allow_nan=False, allow_infinity=False),
    deep=st.booleans(),
    layers=st.lists(st.from_regex(r"[a-z0-9.]+", fullmatch=True), min_size=1).map(tuple),
    limit=st.none() | st.floats(0, 1e9),
    source=SPECS,
)
def test_a_label_means_the_same_parameters(**values: object) -> None:
    tuned = Tuned(Tuned.Parameters(**values))
    spec = registry.parse(registry.label(tuned))
    assert classes.parameters(Tuned, spec) == tuned.parameters


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("brihgt", "did you mean bright"),
        ("bright[pwer=1]", "no parameter of bright 'pwer'; did you mean power"),
        ("bright[power=soft]", "power=soft.*number"),
        ("bright[power=0]", "power=0.*greater than 0"),
        ("bright[power=nan]", "power=nan.*finite"),
        ("bright:this", "takes no argument"),
        ("noise[seed=1]", "no parameter of noise 'seed'"),
        ("upside", "write upside:METHOD"),
        ("upside:brihgt", "did you mean bright"),
    ],
)
def test_a_wrong_spec_is_answered_with_the_mend(toy: None, text: str, answer: str) -> None:
    with pytest.raises(UsageError, match=answer):
        registry.method(text)


def test_a_wrapper_gives_one_row_and_an_explainer_one_a_map(toy: None) -> None:
    assert list(registry.method("learned").rows) == ["learned", "learned.total"]
    assert list(registry.method("upside:learned").rows) == ["upside:learned"]
    assert registry.method("upside:learned").control
    assert not registry.method("learned").control


def _package(folder: Path, name: str, code: str) -> None:
    (folder / f"{name}.py").write_text(code)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mibench.methods]\n{name} = {name}\n")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import nothing_of_this_name", "'nothing_of_this_name' is not installed"),
        ("raise SystemExit(3)", "SystemExit"),
        ("raise ImportError('libGL.so.1: cannot open shared object file')", "apt install libgl1"),
        (EMPTY.format(""), "does not declare its name"),
        (EMPTY.format("name = 'bright'; title = ''; "), "wants the name 'bright'"),
    ],
)
def test_a_broken_package_is_set_aside_with_its_reason(
    toy: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, reason: str
) -> None:
    name = f"zbroken{abs(hash(code))}"
    _package(tmp_path, name, code)
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    assert any(name in each.origin and reason in each.reason for each in registry.broken())
    assert "bright" in registry.names("methods")
    assert registry.explainer("bright").title == "Brightness"


def test_asking_for_a_broken_plugin_says_why_it_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "halfdone", "import nothing_of_this_name")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.refresh()
    with pytest.raises(UsageError, match=r"nothing_of_this_name.*halfdone"):
        registry.method("halfdone")
    registry.refresh()


def test_naming_the_rooms_does_not_import_the_scorer() -> None:
    code = (
        "import sys; from mibench.plugins import registry; registry.names('metrics'); print('quantus' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"


def test_the_readme_names_every_metric() -> None:
    text = (ROOT / "README.md").read_text("utf-8").split("## Scores")[1].split("\n## ")[0]
    assert [name for name in registry.names("metrics") if f"`{name}`" not in text and f"`{name}:" not in text] == []

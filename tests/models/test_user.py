"""A user's own network needs a factory and the names of two layers; what is wrong with it is said in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mibench.errors import ModelError, UsageError
from mibench.network.probe import OpenProbe, open_probe
from mibench.plugins import registry
from mibench.plugins.contract import Model
from mibench.run import planning
from mibench.run.run import Options, run
from mibench.suites import suite
from mibench.suites.suite import Suite, Task

GOOD = "local=features,representation=avgpool"


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))


def opened(model: Model) -> OpenProbe:
    return open_probe(
        model.load(),
        kind=model.kind,
        local=model.local,
        representation=model.representation,
        depths=model.depths,
        shape=model.shape,
        classes=(),
    )


def test_a_user_s_network_is_built_and_filled(tmp_path: Path) -> None:
    from tests.models.made_networks import Plain

    wanted = Plain()
    save_file(dict(wanted.state_dict()), tmp_path / "mine.safetensors")
    model = registry.model(f"user[{GOOD},shape=3x16x16,weights={tmp_path / 'mine.safetensors'}]:made_networks:build")
    x = torch.rand(2, 3, 16, 16)
    assert torch.equal(model.load()(x), wanted.eval()(x))
    assert (model.shape, model.depths) == ((3, 16, 16), ("features",))


def test_a_factorys_draws_repeat_and_leave_the_generator_alone() -> None:
    state = torch.get_rng_state()
    first, second = (registry.model(f"user[{GOOD}]:made_networks:build").load() for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def test_colour_images_are_normalised_as_for_imagenet_by_default() -> None:
    assert registry.model(f"user[{GOOD}]:m:f").mean == (0.485, 0.456, 0.406)
    assert registry.model(f"user[{GOOD},shape=1x8x8]:m:f").mean == (0.0,)
    told = registry.model(f"user[{GOOD},mean=0.1+0.2+0.3,std=1+2+3]:m:f")
    assert (told.mean, told.std) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0))


def test_a_table_s_network_may_be_a_user_s() -> None:
    model = registry.model("user[local=input,representation=1,kind=columns,shape=4,data=iris]:made_networks:perceptron")
    assert opened(model).grid == (1, 4)


def test_a_layer_that_is_not_there_is_told_the_nearest_names() -> None:
    model = registry.model("user[local=feature,representation=avgpool,shape=3x16x16]:made_networks:build")
    with pytest.raises(ModelError, match="no layer 'feature'; did you mean features"):
        opened(model)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("user", "is written user"),
        (f"user[{GOOD}]:made_networks", "is written user"),
        ("user:made_networks:build", "needs the name of the local layer"),
        ("user[local=features]:made_networks:build", "needs the name of the representation layer"),
        (f"user[{GOOD}]:no_such_module:build", "module 'no_such_module' cannot be imported: ModuleNotFoundError"),
        (f"user[{GOOD}]:made_networks:biuld", "no function 'biuld'; did you mean build"),
        (f"user[{GOOD}]:made_networks:broken", r"broken\(\) failed: OSError: no such place"),
        (f"user[{GOOD}]:made_networks:number", "gave a int, not a torch.nn.Module"),
        (f"user[{GOOD},mean=1+2]:made_networks:build", "mean has 2 values for 3 channels"),
        (f"user[{GOOD},std=1+0+1]:made_networks:build", "std must be above zero"),
        (f"user[{GOOD},depths=a+b]:made_networks:build", r"'features' must be one of depths=a\+b"),
        (f"user[{GOOD},weights=nowhere.pth]:made_networks:build", "nowhere.pth does not exist"),
    ],
)
def test_a_user_s_network_that_cannot_be_had_says_why(spec: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        registry.model(spec).load()


@pytest.mark.parametrize("shape", ["3x224", "big", "0x2x2", "3X8X8"])
def test_a_shape_is_written_with_x(shape: str) -> None:
    with pytest.raises(UsageError, match="shape"):
        registry.model(f"user[{GOOD},shape={shape}]:m:f")


TABLE = "user[local=input,representation=1,kind=columns,shape=4,data=iris,name={}]:made_networks:perceptron"


def one_task(*models: str) -> Suite:
    tasks = tuple(Task(model=model, data="iris") for model in models)
    return Suite(name="mine", tasks=tasks, methods=("saliency",), metrics=("sparseness",), samples=4, gate_samples=0)


def test_a_short_name_and_a_title_replace_spec_and_suite_on_the_page(tmp_path: Path) -> None:
    network = registry.label(registry.model(TABLE.format("mlp-1")))
    said: list[str] = []

    class Watch:
        def preparing(self, tasks: int) -> None: ...
        def prepared(self, task: object) -> None:
            said.append(task.name)  # type: ignore[attr-defined]

        def damaged(self, faults: object) -> None: ...
        def planned(self, engine: object, jobs: list[object], known: object) -> None:
            said.extend(job.name for job in jobs)  # type: ignore[attr-defined]

        def answered(self, job: object, outcomes: object) -> None: ...

    options = Options(tmp_path, "cpu", engine="inline", title="Mine <b>& yours</b>")
    summary = run(one_task(network), options, Watch())  # type: ignore[arg-type]
    assert said
    assert not any("made_networks" in line for line in said)
    assert "iris/mlp-1" in said
    assert set(summary.board.panels) == {("iris", "mlp-1")}
    page = (tmp_path / "leaderboard.html").read_text("utf-8")
    assert "<h1>Mine &lt;b&gt;&amp; yours&lt;/b&gt;: which explainer is right" in page
    assert page.count(network) == 1  # once, among the task's facts: what the name stands for


def test_two_networks_of_the_same_name_are_refused() -> None:
    other = TABLE.replace("representation=1", "representation=0").format("mlp")
    with pytest.raises(UsageError, match="have the same name: give each a name=… of its own"):
        planning.specs(one_task(TABLE.format("mlp"), other))


@pytest.mark.parametrize("name", ["a/b", "a b", "<b>", "é"])
def test_a_short_name_is_letters_digits_and_a_few_signs(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        registry.model(f"user[{GOOD},name={name}]:m:f")


def test_a_changed_suite_describes_what_is_run() -> None:
    declared = suite.load("default")
    user = TABLE.format("mlp-1")
    narrowed = suite.narrow(declared, methods=["saliency"], models=[user], data=["iris"], samples=4)
    for word in ("mlp-1 on iris", "methods saliency", "4 samples", "'default' changed"):
        assert word in narrowed.description
    assert "made_networks" not in narrowed.description
    assert suite.narrow(declared) == declared

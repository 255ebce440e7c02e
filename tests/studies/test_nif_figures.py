"""The figures of NIF are drawn from the shipped table in seconds, and say what they show."""

from __future__ import annotations

import json
from pathlib import Path

import networkx as nx

from leaderboards.studies.nif import figures as nif
from mibench.cli import studies
from mibench.record.cells import TaskSpec
from mibench.run.task import make_task


def test_the_figures_of_a_table_are_drawn(tmp_path: Path) -> None:
    files = {path.name: path for path in studies.draw("nif", tmp_path, model="mlp", say=lambda _: None)}
    drawn = {f"nif-iris-mlp-graph.{kind}" for kind in ("png", "svg", "html", "graphml", "json")}
    assert files.keys() == drawn | {"nif-iris-mlp-pruning.png", "nif-iris-mlp-pruning.svg"}
    text = json.loads(files["nif-iris-mlp-graph.json"].read_text("utf-8"))
    flow = nx.node_link_graph(text, edges="edges")
    assert [about["label"] for _, about in flow.nodes(data=True)][-3:] == ["setosa", "versicolor", "virginica"]
    assert flow.nodes["input:2"]["label"] == "petal length (cm)"
    assert nx.is_directed_acyclic_graph(flow)


def test_chance_is_drawn_several_times_on_every_network_of_a_table() -> None:
    found = nif.repetitions(make_task(TaskSpec("mlp[hidden=6]", "iris", samples=30, calibration=60)))
    assert len(found) == nif.NETWORKS
    assert found[0].network[0].weight.shape == (6, 4)
    curves = [nif.pruned(found[0], "random", "weights", seed) for seed in nif.draws("random")]
    assert len({tuple(curve.tolist()) for curve in curves}) > 1
    assert all(curve[0] == curves[0][0] for curve in curves)

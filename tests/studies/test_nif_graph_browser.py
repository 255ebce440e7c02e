"""What a reader does with the page of a thousand neurons: choose edges, point, search, step, look closer, offline.

Debian's chromium runs headless on a copy of the page with a script at its end that acts and writes what it saw into
the document; the copy is then read back.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

from leaderboards.studies.nif import graph as flow_graph
from leaderboards.studies.nif import graph_drawing
from mibench.information.flow import Neurons
from tests import needs

CHROMIUM = needs.chromium()
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--window-size=1300,900"]  # fmt: skip
SIZES = (784, 200, 10)
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = torch.Generator().manual_seed(0)
    layers = [
        Neurons(name, tuple(f"no. {index}" for index in range(size)), torch.zeros(2, size))
        for name, size in zip(("input", "hidden", "classes"), SIZES, strict=True)
    ]
    weights = [torch.rand(a, b, generator=random) for a, b in itertools.pairwise(SIZES)]
    graph = flow_graph.build(layers, weights)
    for number, about in enumerate(graph.nodes.values()):  # what `analyse` says, without its time
        about.update(centrality=1 / (1 + number), community=number % 3, strength_in=1.0, strength_out=1.0)
    return graph_drawing.page(graph, tmp_path_factory.mktemp("flow") / "flow.html", "a thousand neurons")


def seen(page: Path, script: str, folder: Path) -> Any:
    """What a script returns that runs at the end of the page."""
    acting = (
        "<script>addEventListener('load', () => { let saw; try { saw = (() => {" + script + "})(); } "
        "catch (error) { saw = String(error); } "
        "document.body.innerHTML = ''; document.body.dataset.saw = JSON.stringify(saw); });</script></body>"
    )
    copy = folder / "copy.html"
    copy.write_text(page.read_text("utf-8").replace("</body>", acting), "utf-8")
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", "--dump-dom", copy.as_uri()]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-saw="(.*?)"', run.stdout)
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(unescape(found[1]))


def test_everything_is_drawn_offline_in_a_fraction_of_a_second(page: Path, tmp_path: Path) -> None:
    script = """
        const times = [1000, links.length].map(edges => {
            count.value = edges; paint();
            const start = performance.now(); for (let i = 0; i < 5; i++) paint();
            pen.getImageData(0, 0, 1, 1); return (performance.now() - start) / 5;
        });
        const all = pen.getImageData(0, 0, canvas.width, canvas.height).data;
        const dots = all.filter((value, i) => i % 4 === 3 && value);
        return {times, shown: document.getElementById("shown").textContent, nodes: nodes.length, links: links.length,
                names: document.querySelectorAll("option").length, dots: dots.length,
                loaded: performance.getEntriesByType("resource").length};
    """
    saw = seen(page, script, tmp_path)
    print(f"a picture of 994 neurons takes {saw['times'][0]:.0f} ms with 1,000 edges, {saw['times'][1]:.0f} with 5,000")
    assert saw["nodes"] == saw["names"] == sum(SIZES)
    assert saw["shown"] == str(saw["links"])
    assert 4000 < saw["links"] <= 5001
    assert saw["dots"] > 50_000
    assert saw["loaded"] == 0
    assert max(saw["times"]) < 500


def test_a_neuron_is_picked_by_pointing_by_name_and_by_keys(page: Path, tmp_path: Path) -> None:
    script = """
        const said = () => document.getElementById("about").textContent.split(";")[0];
        const key = name => canvas.dispatchEvent(new KeyboardEvent("keydown", {key: name}));
        const box = canvas.getBoundingClientRect(), [x, y] = at(nodes[990]);
        canvas.dispatchEvent(new PointerEvent("pointermove", {clientX: box.left + x, clientY: box.top + y}));
        const pointed = said();
        key("ArrowDown"); const next = said();
        find.value = "hidden no. 7"; find.dispatchEvent(new Event("input")); const found = said();
        key("Escape");
        return {pointed, next, found, left: picked};
    """
    saw = seen(page, script, tmp_path)
    assert saw["pointed"].startswith("classes no. 6: centrality")
    assert saw["next"].startswith("classes no. 7: centrality")
    assert saw["found"].startswith("hidden no. 7: centrality")
    assert saw["left"] == -1


def test_the_wheel_zooms_in_at_the_pointer_and_a_press_shows_the_whole(page: Path, tmp_path: Path) -> None:
    script = """
        const box = canvas.getBoundingClientRect(), before = at(nodes[300]);
        canvas.dispatchEvent(new WheelEvent("wheel", {deltaY: -500, clientX: box.left + before[0],
                                                      clientY: box.top + before[1], cancelable: true}));
        const after = at(nodes[300]), scale = view.scale;
        document.getElementById("reset").click();
        return {moved: Math.hypot(after[0] - before[0], after[1] - before[1]), scale, whole: view.scale};
    """
    saw = seen(page, script, tmp_path)
    assert saw["moved"] < 2
    assert saw["scale"] == pytest.approx(2.718, abs=0.01)
    assert saw["whole"] == 1

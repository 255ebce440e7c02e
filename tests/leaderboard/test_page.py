"""The page: whole in one file, safe with any name, and readable by eye, by screen reader and in both colour schemes."""

from __future__ import annotations

import base64
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mibench.errors import RecordError
from mibench.leaderboard import tables
from mibench.leaderboard.cells import number, places, scale, score_cells
from mibench.leaderboard.make import write
from mibench.leaderboard.order import order
from mibench.leaderboard.page import to_html
from mibench.leaderboard.pictures import LARGEST, Point, heatmap, picture, tradeoff
from mibench.leaderboard.publish import index
from mibench.leaderboard.results import Gate
from mibench.leaderboard.tables import Board, board
from tests.leaderboard import made_up

EVIL = '<script>alert("1")</script>'


class Elements(HTMLParser):
    """Every element of a page with its attributes, and the text of all of them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def page() -> str:
    return to_html(board(made_up.whole(), made_up.panel()))


def test_the_page_asks_the_network_for_nothing(page: str) -> None:
    for tag, attributes in Elements(page).found:
        for name in ("src", "href", "data", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:")), (tag, attributes)
    assert "@import" not in page
    assert not re.search(r"url\(", page)
    assert "default-src 'none'" in page


def test_a_paper_s_figures_are_shown_beside_ours() -> None:
    said = (("cnn-m", "mire", "auc", 0.123), ("cnn-m", "not-run", "auc", 0.456))
    text = " ".join(Elements(to_html(board(made_up.results(published=said, published_in="A paper")))).text)
    beside = text[text.index("Comparison with the paper") :].split()
    mine = {(row.method, row.metric): row for row in board(made_up.whole()).on(("mnist", "cnn-m"))}["mire", "auc"]
    assert text.count("Comparison with the paper") == 1
    assert beside.index("0.123") < beside.index(number(mine.value)) < beside.index("0.456")
    assert "not measured" in text


def test_every_name_is_escaped() -> None:
    methods = ("mire", "iba", "gradcam", "saliency", "random", "known-good")
    results = made_up.results(methods=methods)
    evil = {"mire": EVIL, "cnn-m": EVIL, "auc": EVIL, "mnist-0": EVIL, "the map is zero everywhere": EVIL}
    cells = results.cells.replace(evil)
    cells.loc[0, ["status", "reason"]] = "failed", EVIL
    cards = [replace(card, name=evil.get(card.name, card.name), title=EVIL, about=EVIL) for card in results.metrics]
    spoilt = replace(
        results,
        suite=EVIL,
        scores=results.scores.replace(evil),
        cells=cells,
        metrics=tuple(cards),
        methods=tuple(replace(card, name=evil.get(card.name, card.name), title=EVIL) for card in results.methods),
        samples=tuple(
            replace(sample, model=evil.get(sample.model, sample.model), sample=evil.get(sample.sample, sample.sample))
            for sample in results.samples
        ),
        facts={EVIL: EVIL},
        tasks=tuple(replace(card, model=evil.get(card.model, card.model), notices=(EVIL,)) for card in results.tasks),
    )
    page = to_html(board(spoilt))
    assert EVIL not in page
    assert page.count("<strong>Note:</strong> &lt;script&gt;") == len(made_up.TASKS)
    kinds = [attributes.get("type") for tag, attributes in Elements(page).found if tag == "script"]
    assert kinds == ["application/json"] * len(made_up.TASKS) + [None]


def test_every_value_status_and_reason_is_on_the_page(page: str) -> None:
    text = " ".join(Elements(page).text)
    for row in board(made_up.whole(), made_up.panel()).rows:
        assert row.method in text
        if row.status in ("timeout", "crash", "skipped", "gated", "blind"):
            assert row.reason in text
    assert "pixel-flipping is blind here" in text


def test_the_page_begins_with_what_its_tables_say(page: str) -> None:
    brief = html.unescape(page.partition('<h2 id="brief">')[2].partition('<h2 id="task-1">')[0])
    made = board(made_up.whole(), made_up.panel())
    for task in made.panels:
        order = made.order(task)
        (first,) = order.leading("best")
        assert f"The best of {len(order.placed)} methods: {first}; " in brief
        assert ", ".join(order.leading("with the best")) in brief
        assert f"The truth (known-good) would have place {1}" in brief
    assert "pixel-flipping is blind here" in brief
    assert "Not ranked: nif (stopped after 600 s)." in brief


def test_a_page_without_an_order_says_what_the_panel_lacks() -> None:
    brief = " ".join(Elements(to_html(board(made_up.whole()))).text)
    assert "No order: the panel lacks information-error." in brief
    sightless = to_html(board(made_up.whole(), made_up.panel(sightless=[card.name for card in made_up.METRICS])))
    assert "No order: no sight: information-error." in " ".join(Elements(sightless).text)


def test_rows_of_no_class_and_of_one_seed_are_marked_and_others_are_not() -> None:
    cards = made_up.whole().methods
    plain, *others = cards
    page = to_html(board(replace(made_up.whole(), methods=(replace(plain, of_class=False, seeded=False), *others))))
    named = f'<span class="name">{plain.name}</span>'
    assert f'{named} <span class="word">of no class</span> <span class="word">needs no seed</span>' in page
    assert page.count("of no class") == page.count(f'{named} <span class="word">of no class') > 0
    assert 'class="name">mire</span> <span class="word">needs no seed' not in page


def test_a_gate_that_is_not_judged_ranks_its_row_and_has_no_blank_cell() -> None:
    few = "too few samples: 8, at least 9 are needed"
    undecided = Gate("mnist", "cnn-m", "mire", "not random", "undecided", few)
    made = board(replace(made_up.whole(), gates=(*made_up.whole().gates, undecided)))
    (row,) = [row for row in made.rows if (row.data, row.method, row.metric) == ("mnist", "mire", "auc")]
    assert row.status == "ok"
    assert row.rank is not None
    panel = to_html(made).partition('<table class="gates">')[2].partition("</table>")[0]
    assert f'<td>undecided <span class="place">{few}</span></td>' in panel
    assert "<td>not requested</td>" in panel
    assert "<td></td>" not in panel


def test_tables_have_heads_for_columns_and_rows(page: str) -> None:
    heads = [attributes for tag, attributes in Elements(page).found if tag == "th"]
    assert len(heads) > 50
    assert {attributes.get("scope") for attributes in heads} == {"col", "row", "rowgroup"}
    images = [attributes for tag, attributes in Elements(page).found if tag == "img"]
    assert all(attributes.get("alt") for attributes in images)
    assert len(images) == len(made_up.TASKS) * 3 * (1 + len(made_up.QUALITY))


def test_ids_are_unique_and_links_lead_to_them(page: str) -> None:
    found = Elements(page).found
    ids = [attributes["id"] for _, attributes in found if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(attributes["href"])[1:] for tag, attributes in found if tag == "a"} <= set(ids)


def test_the_same_results_give_the_same_page(page: str) -> None:
    assert to_html(board(made_up.whole(), made_up.panel())) == page


def _luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_wants(page: str, scheme: int) -> None:
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", re.findall(r":root \{(.*?)\}", page, re.S)[scheme]))
    for name in ("ink", "soft", "accent", "warn", "bad", "good"):
        for ground in ("paper", "raised"):
            light, dark = sorted((_luminance(colours[name]), _luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (name, ground)


def test_an_empty_board_is_a_page_too() -> None:
    results = made_up.whole()
    cells = results.cells.assign(status="failed", reason="no luck")
    page = to_html(board(replace(results, scores=results.scores.iloc[:0], cells=cells, samples=(), costs={})))
    assert "no luck" in page
    assert "No order: " in page


def test_rows_without_a_score_are_among_the_failures() -> None:
    results = made_up.whole()
    silent = to_html(board(replace(results, scores=results.scores.assign(value=np.nan, reason="nothing to see"))))
    failures = silent.partition('<h2 id="lost">')[2].partition('<h2 id="reading">')[0]
    assert "every cell of the run has a score" not in failures
    assert "no sample has a score: nothing to see" in failures
    scores = results.scores.query("data == 'planted' and metric == 'auc' and method != 'constant'")
    cells = results.cells.query("data == 'planted' and metric == 'auc' and method != 'constant'")
    auc = tuple(card for card in results.metrics if card.name == "auc")
    scored = to_html(board(replace(results, scores=scores, cells=cells, metrics=auc, samples=())))
    assert "every cell of the run has a score" in scored


def test_the_index_counts_rows_without_a_score_as_failed(tmp_path: Path) -> None:
    write(made_up.whole(), tmp_path, "made-up")
    index(tmp_path)
    rows = board(made_up.whole()).rows
    quality = [row for row in rows if row.family != "runtime"]
    failed = [row for row in quality if not np.isfinite(row.value) and row.status != "skipped"]
    assert {row.status for row in failed} == {"timeout", "crash", "incomplete"}
    figures = re.findall(r'<td class="number">(\d+)</td>', (tmp_path / "index.html").read_text())
    skipped = sum(row.status == "skipped" for row in quality)
    assert list(map(int, figures[2:])) == [len(quality) - len(failed) - skipped, len(failed), skipped]


@pytest.mark.parametrize("name", ["leaderboard", "another"])
def test_a_page_names_no_file_that_is_not_beside_it(tmp_path: Path, name: str) -> None:
    write(made_up.whole(), tmp_path, name)
    footer = (tmp_path / f"{name}.html").read_text().partition("<footer>")[2]
    named = re.findall(r"[\w-]+\.csv", footer)
    assert all((tmp_path / file).exists() for file in named)
    assert named or "CSV file of the same name" in footer


def _tied(samples: int) -> Board:
    """Five rows that differ by luck alone, on so many samples, with costs."""
    names = ("gradcam", "iba", "mipin", "occlusion", "saliency")
    results = made_up.results(count=samples, methods=(*names, "random"))
    rng = np.random.default_rng(3)
    return board(
        replace(results, scores=results.scores.assign(value=rng.uniform(size=len(results.scores))), samples=()),
        made_up.panel(),
    )


@pytest.mark.parametrize("samples", [1, 2, 3, 12, 64])
def test_no_row_is_told_that_fewer_samples_than_it_has_would_tell_it_apart(samples: int) -> None:
    made = _tied(samples)
    cells = [cell for task in made.panels.values() for panel in task for cell in score_cells(panel, "random").values()]
    needed = [cell.needed for cell in cells if cell.needed]
    assert bool(needed) == (samples > 1)
    units = {"": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
    for told in needed:
        if told != "more seeds":
            figure, _, unit = told.removeprefix("n ≈ ").partition(" ")
            assert float(figure) * units[unit] > samples


def test_without_intervals_the_points_are_inside_and_no_whisker_is_drawn() -> None:
    points = [Point(f"m{k}", 1 + k, 1.0 + k, np.nan, np.nan) for k in range(5)]
    drawn = tradeoff(points)
    assert all(0 < mark.y < drawn.height and mark.whisker is None for mark in drawn.marks)
    for samples in (1, 12):
        plots = re.findall(r'<svg class="tradeoff".*?</svg>', to_html(_tied(samples)), re.S)
        assert plots
        assert "nan" not in " ".join(plots)
        assert all(('class="whisker"' in plot) == (samples > 1) for plot in plots)
        assert all(0 < float(y) < drawn.height for plot in plots for y in re.findall(r'cy="(.*?)"', plot))


def _opened(uri: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_maps_keep_their_shape_and_signs() -> None:
    signed = np.zeros((28, 28), np.float32)
    signed[0, 0], signed[27, 27] = 1, -1
    image = np.asarray(_opened(heatmap(signed)).convert("RGB")).astype(int)
    assert image.shape == (28, 28, 3)
    assert image[0, 0, 0] > image[0, 0, 2] + 50  # red speaks for the class
    assert image[27, 27, 2] > image[27, 27, 0] + 50
    assert image[14, 14].min() > 230
    assert np.asarray(_opened(heatmap(np.abs(signed))).convert("RGB"))[14, 14].max() < 30


def test_large_pictures_are_scaled_down_and_broken_maps_are_tolerated() -> None:
    assert _opened(picture(np.random.default_rng(0).random((300, 224, 3), np.float32))).size == (84, LARGEST)
    assert _opened(picture(np.ones((28, 28), np.float32))).mode == "L"
    assert _opened(heatmap(np.full((1, 30), np.nan, np.float32))).size == (30, 1)


def test_the_front_is_what_nothing_beats_in_cost_and_standing() -> None:
    points = [Point(name, cost, standing, standing - 0.02, standing + 0.02) for name, cost, standing in
              (("cheap", 1, 0.3), ("both", 3, 0.7), ("dear", 100, 0.8), ("beaten", 4, 0.6), ("same", 3, 0.65))
    ]  # fmt: skip
    drawn = {mark.name: mark for mark in tradeoff(points).marks}
    assert {name for name, mark in drawn.items() if mark.front} == {"cheap", "both", "dear"}
    assert drawn["dear"].x > drawn["both"].x > drawn["cheap"].x
    assert drawn["dear"].y < drawn["both"].y < drawn["cheap"].y


def test_names_in_the_picture_do_not_cover_each_other() -> None:
    points = [Point(f"method-{k}", 10 + k, 3 + 0.3 * k, 2.9 + 0.3 * k, 3.1 + 0.3 * k) for k in range(6)]
    labels = [mark.label for mark in tradeoff(points).marks]
    assert len({(x, y) for x, y, _ in labels}) == 6


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.01234, "0.0123"),
        (8200.0, "8200"),
        (23461888.0, "23.5 M"),
        (4.2e9, "4.2 G"),
        (np.inf, "∞"),
        (999.4, "999"),
        (999.7, "1000"),
        (-999.7, "-1000"),
        (9994.0, "9994"),
        (9996.0, "10 k"),
        (999700.0, "1 M"),
        (5e15, "5000 T"),
    ],
)
def test_figures_of_any_size_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_values_are_as_fine_as_their_intervals() -> None:
    assert scale([(0.70, 0.75, 0.80)]).write(0.7512) == "0.751"
    assert scale([(100.0, 150.0, 200.0)]).write(-151.2) == "−151"
    assert scale([(0.70, 0.75, 0.80)]).write(-0.0001) == "0.000"
    assert places(1, 3) == "1–3"
    assert places(2, 2) == "2"


def test_boards_are_written_and_listed(tmp_path: Path) -> None:
    write(made_up.whole(), tmp_path, "made-up")
    (tmp_path / "speed.csv").write_text("what,seconds\nfit,1\n")
    index(tmp_path)
    listed = (tmp_path / "index.html").read_text()
    assert 'href="made-up.html"' in listed
    assert 'href="speed.csv"' in listed
    assert "2025-01-31 at 37f8e0b" in listed
    assert "mnist / cnn-m" in listed
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "index.html",
        "made-up-agreement.csv",
        "made-up-data.json",
        "made-up.csv",
        "made-up.html",
        "speed.csv",
    ]
    index(tmp_path)
    assert (tmp_path / "index.html").read_text() == listed


def test_an_empty_folder_gets_an_index_too(tmp_path: Path) -> None:
    index(tmp_path)
    assert "No board here yet" in (tmp_path / "index.html").read_text()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RecordError, match="file"):
        index(tmp_path / "file")


def test_the_order_is_worked_out_once_wherever_the_page_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def counted(panels: Any, *others: Any) -> Any:
        asked.append(tuple(panels))
        return order(panels, *others)

    monkeypatch.setattr(tables, "order", counted)
    made = board(made_up.whole(), made_up.panel())
    assert to_html(made) == to_html(made)
    assert len(asked) == len(set(asked)) == 1 + len(made.panels)

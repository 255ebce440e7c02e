"""What a reader does in a browser: sort, follow a number to its maps, read on a narrow screen, stay offline.

Debian's chromium runs headless on a copy of the page with a script at its end that acts and writes what it saw into
the document; the copy is then read back.
"""

from __future__ import annotations

import json
import re
import subprocess
from base64 import b64encode
from hashlib import sha256
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from mibench.leaderboard.make import write
from tests import needs
from tests.leaderboard import made_up

CHROMIUM = needs.chromium()
BOARDS = Path(__file__).parent.parent.parent / "leaderboards"
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write(made_up.whole(), folder, "made-up", made_up.panel())
    return folder / "made-up.html"


def seen(page: Path, script: str, folder: Path, size: str = "1300,900") -> Any:
    """What a script returns that runs at the end of the page."""
    acting = (
        "addEventListener('load', () => { let saw; try { saw = (() => {" + script + "})(); } "
        "catch (error) { saw = String(error); } "
        "document.body.innerHTML = ''; document.body.dataset.saw = JSON.stringify(saw); });"
    )
    allowed = b64encode(sha256(acting.encode()).digest()).decode()  # the page allows its own script alone
    text = page.read_text(encoding="utf-8").replace("script-src ", f"script-src 'sha256-{allowed}' ", 1)
    copy = folder / "copy.html"
    copy.write_text(text.replace("</body>", f"<script>{acting}</script></body>"), encoding="utf-8")
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={folder / 'profile'}", f"--window-size={size}", "--dump-dom"]
    run = subprocess.run([*command, copy.as_uri()], capture_output=True, text=True, timeout=120, check=True)
    found = re.search(r'data-saw="(.*?)"', run.stdout)
    assert found, run.stdout[-2000:] + run.stderr[-2000:]
    return json.loads(unescape(found[1]))


def test_a_press_on_a_head_sorts_and_another_turns_it_round(page: Path, tmp_path: Path) -> None:
    script = """
        const table = document.querySelector("#standings ~ .scroll table");
        const names = () => [...table.tBodies[0].rows].map((row) => row.cells[0].innerText.trim());
        const head = table.tHead.rows[0].cells[0], first = names();
        head.querySelector("button").click(); const up = names(), said = head.getAttribute("aria-sort");
        head.querySelector("button").click(); const down = names(), then = head.getAttribute("aria-sort");
        table.tHead.rows[0].cells[1].querySelector("button").click();
        return {first, up, down, said, then, again: names(), left: head.getAttribute("aria-sort")};
    """
    saw = seen(page, script, tmp_path)
    assert saw["up"] == sorted(saw["first"], key=str.casefold)
    assert saw["down"] == saw["up"][::-1]
    assert (saw["said"], saw["then"], saw["left"]) == ("ascending", "descending", "none")
    assert saw["again"] == saw["first"]


def test_scores_sort_by_number_with_missing_ones_last(page: Path, tmp_path: Path) -> None:
    script = """
        const table = document.querySelector(".families table");
        const column = 3, body = table.tBodies[1];
        const values = () => [...body.rows].slice(1).map((row) => row.cells[column].dataset.v);
        table.tHead.rows[0].cells[column].querySelector("button").click();
        const one = values();
        table.tHead.rows[0].cells[column].querySelector("button").click();
        return {one, other: values(), title: body.rows[0].cells.length};
    """
    saw = seen(page, script, tmp_path)
    for values in (saw["one"], saw["other"]):
        assert values[-1] == ""
    assert saw["title"] == 1


def test_heads_can_be_reached_by_keyboard(page: Path, tmp_path: Path) -> None:
    script = """
        const buttons = [...document.querySelectorAll("th button")];
        buttons[1].focus();
        return {all: buttons.every((button) => button.tabIndex === 0), now: document.activeElement === buttons[1],
                outline: getComputedStyle(buttons[1]).outlineStyle};
    """
    assert seen(page, script, tmp_path) == {"all": True, "now": True, "outline": "solid"}


def test_a_number_leads_to_the_maps_behind_it(page: Path, tmp_path: Path) -> None:
    script = """
        const number = document.querySelector('tr[data-method="mire"] a[data-metric="auc"]');
        number.click();
        const gallery = document.querySelector(number.getAttribute("href"));
        const chosen = [...gallery.querySelectorAll("li.chosen")];
        return {picked: gallery.querySelector("select").value, chosen: chosen.map((item) => item.dataset.method),
                scores: chosen.map((item) => item.querySelector(".value").textContent),
                lost: gallery.querySelector('li[data-method="constant"] .value').textContent};
    """
    saw = seen(page, script, tmp_path)
    assert saw["picked"] == "auc"
    assert saw["chosen"] == ["mire"] * 3
    assert all(0 <= float(score) <= 1 for score in saw["scores"])
    assert saw["lost"] == "no score"


def test_the_page_is_not_wider_than_a_narrow_screen(page: Path, tmp_path: Path) -> None:
    script = "return [document.documentElement.scrollWidth, innerWidth];"
    wide, screen = seen(page, script, tmp_path, "500,900")
    assert wide <= screen


def test_nothing_is_fetched_and_nothing_fails(page: Path, tmp_path: Path) -> None:
    script = """
        const loaded = performance.getEntriesByType("resource").map((entry) => entry.name);
        const broken = [...document.images].filter((image) => image.complete && !image.naturalWidth).length;
        return {loaded: loaded.filter((name) => !name.startsWith("data:")), broken};
    """
    assert seen(page, script, tmp_path) == {"loaded": [], "broken": 0}


def test_a_script_that_is_not_the_pages_own_does_not_run(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "evil.html"
    evil = "<script>document.body.dataset.ran = 'yes';</script></body>"
    copy.write_text(page.read_text(encoding="utf-8").replace("</body>", evil), encoding="utf-8")
    command = [str(CHROMIUM), *QUIET, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", copy.as_uri()]
    dumped = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert 'data-ran="yes"' not in dumped
    assert "Task by task" in dumped


@pytest.mark.parametrize("size", ["1440,900", "500,900"])
def test_every_failure_of_a_real_board_can_be_read(size: str, tmp_path: Path) -> None:
    script = """
        const table = document.querySelector("table.lost"), box = table.parentElement.getBoundingClientRect();
        const rows = [...table.tBodies[0].rows];
        return {rows: rows.length, wide: document.documentElement.scrollWidth, screen: innerWidth,
                covered: rows.filter((row) => row.cells[0].getBoundingClientRect().width > 0.7 * box.width).length,
                blank: rows.filter((row) => !row.cells[4].innerText.trim() || row.cells[4].clientWidth < 60).length};
    """
    saw = seen(BOARDS / "default.html", script, tmp_path, size)
    assert saw["rows"] > 0
    assert saw["wide"] <= saw["screen"]
    assert (saw["covered"], saw["blank"]) == (0, 0)

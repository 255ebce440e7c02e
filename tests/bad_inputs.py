"""Bad inputs by name: pictures, folders, tables, weights, suites, specs, run.json, boards' JSON, command lines.

`python bad_inputs.py FOLDER RESULTS` tries all of them in this one process, each with 2 GiB more memory than it begins
with and with an alarm, and writes what became of each: the kind of error, its message, CPU seconds and peak memory.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import pickle
import resource
import signal
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from mibench.cli import main as cli
from mibench.data.images import read
from mibench.data.tables import Table
from mibench.gate import regression, thresholds
from mibench.leaderboard.row import COLUMNS
from mibench.models import weights
from mibench.plugins import registry
from mibench.plugins.contract import Samples
from mibench.record.about import About
from mibench.record.identity import Identity
from mibench.suites import suite

GIB = 2**30
SECONDS = 120  # until what hangs is given up; CPU seconds are what is judged
Case = Callable[[Path], object]
Kind = Callable[[Path], None]
HUGE = 10**12


class Hung(BaseException):
    """A case did not end."""


# What a path may be ----------------------------------------------------------------------------------------------


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    home = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as end:
        end.bind(path.name)
    os.chdir(home)


def nothing(path: Path) -> None:
    pass


def a_loop(path: Path) -> None:
    path.symlink_to(path)


def holding(content: bytes | str) -> Kind:
    return lambda path: void(path.write_bytes(content if isinstance(content, bytes) else content.encode()))


def sparse(size: int) -> Kind:
    def make(path: Path) -> None:
        with path.open("wb") as file:
            file.truncate(size)

    return make


def void(_: object) -> None:
    pass


PLACES: dict[str, Kind] = {
    "a named pipe": pipe,
    "a device": device,
    "a folder": a_folder,
    "a socket": a_socket,
    "nothing": nothing,
    "a link to itself": a_loop,
}

# Pictures --------------------------------------------------------------------------------------------------------


def png(width: int, height: int, depth: int = 1, data: bytes = b"", chunks: bytes = b"") -> bytes:
    """A grey PNG file with any size in its header."""
    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([depth, 0, 0, 0, 0])
    parts = chunk(b"IHDR", head) + chunks + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


def encoded(kind: str, size: tuple[int, int] = (64, 64), mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.effect_noise(size, 50).convert(mode).save(stream, kind)
    return stream.getvalue()


def cut(kind: str, share: float = 0.3) -> bytes:
    whole = encoded(kind)
    return whole[: int(share * len(whole))]


PICTURES: dict[str, Kind] = PLACES | {
    "empty": holding(b""),
    "text": holding("not a picture"),
    "EPS, which starts a program": holding(
        "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\nshowpage\n%%EOF\n"
    ),
    "PDF": holding("%PDF-1.4\n1 0 obj\n<<>>\nendobj\n"),
    "SVG": holding("<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'/>"),
    "Photoshop's": holding(b"8BPS\x00\x01" + bytes(6) + b"\x00\x03" + bytes(100)),
    "an icon": holding(encoded("ICO")),
    "a cut JPEG": holding(cut("JPEG")),
    "a cut PNG": holding(cut("PNG")),
    "a cut GIF": holding(cut("GIF", 0.02)),
    "a cut TIFF": holding(cut("TIFF", 0.01)),
    "a cut WebP": holding(cut("WEBP")),
    "a PNG with a flipped bit": holding(encoded("PNG")[:60] + b"\x00" + encoded("PNG")[61:]),
    "a PNG of 100,000 x 100,000": holding(png(100_000, 100_000)),
    "a PNG of 20,000 x 20,000": holding(png(20_000, 20_000)),
    "a PNG of no pixel": holding(png(0, 0)),
    "a PNG without pixels": holding(png(64, 64)),
    "a PNG with a text that unpacks to 256 MiB": holding(
        png(64, 64, chunks=chunk(b"zTXt", b"x\0\0" + zlib.compress(bytes(256 * 2**20), 9)))
    ),
    "a PPM of absurd size": holding("P6 99999999999 99999999999 255\n"),
    "a PPM of words": holding("P3 ten ten 255\n"),
    "a BMP of absurd size": holding(b"BM" + bytes(12) + b"\x28\0\0\0" + b"\xff\xff\xff\x7f" * 2 + bytes(28)),
    "a TIFF that points to itself": holding(b"II*\0\x08\0\0\0" + b"\xff\xff" + bytes(20)),
    "one pixel": holding(encoded("PNG", (1, 1))),
    "300 MiB of nothing": sparse(300 * 2**20),
}
GOOD_PICTURES: dict[str, Kind] = {
    "a PNG of 8 x 1,000,000": holding(encoded("PNG", (8, 1_000_000), "L")),
    "a PNG of 1,000,000 x 8": holding(encoded("PNG", (1_000_000, 8), "L")),
    "CMYK": holding(encoded("JPEG", mode="CMYK")),
    "sixteen bits": lambda path: Image.new("I;16", (64, 64), 30_000).save(path, "PNG"),
    "a palette with transparency": lambda path: Image.new("P", (64, 64), 3).save(path, "PNG", transparency=3),
    "a moving GIF": lambda path: Image.new("P", (64, 64)).save(
        path, "GIF", save_all=True, append_images=[Image.new("P", (64, 64), 9)]
    ),
    "a TIFF of two pages": lambda path: Image.new("L", (64, 64)).save(
        path, "TIFF", save_all=True, append_images=[Image.new("L", (64, 64), 9)]
    ),
}


def picture(make: Kind, folder: Path, name: str = "photo.png") -> object:
    make(folder / name)
    return read(folder / name, (3, 224, 224))


# Folders of pictures, boxes, CUB ---------------------------------------------------------------------------------


def classes(folder: Path, *names: str | bytes, pictures: int = 5) -> Path:
    """Class folders of pictures."""
    for name in names:
        home = Path(os.fsdecode(os.path.join(os.fsencode(folder / "pictures"), os.fsencode(name))))
        home.mkdir(parents=True)
        for number in range(pictures):
            Image.new("RGB", (32, 32)).save(home / f"{number}.png")
    return folder / "pictures"


def load(spec: str) -> Samples:
    return registry.data(spec).load("scoring", 4, (3, 32, 32))


def of_classes(first: str | bytes, second: str | bytes, folder: Path) -> object:
    return load(f"folder:{classes(folder, first, second)}")


def with_file(make: Kind, name: str, folder: Path) -> object:
    """Class folders where one thing in a class is no picture."""
    home = classes(folder, "ant", "bee", pictures=0)
    make(home / "ant" / name)
    return load(f"folder:{home}")


def with_list(make: Kind, folder: Path) -> object:
    make(folder / "names.txt")
    return load(f"folder[classes={folder / 'names.txt'}]:{classes(folder, 'ant', 'bee')}")


def with_boxes(text: str, folder: Path) -> object:
    home = classes(folder, "ant")
    for number in range(5):
        (folder / f"{number}.xml").write_text(text)
    return load(f"folder[boxes={folder}]:{home}")


def xml(*corners: object, name: str = "ant", times: int = 1) -> str:
    tags = "".join(
        f"<{tag}>{value}</{tag}>" for tag, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<annotation>{f'<object><name>{name}</name><bndbox>{tags}</bndbox></object>' * times}</annotation>"


def cub(folder: Path, images: str, boxes: str) -> object:
    classes(folder, "ant")
    (folder / "pictures").rename(folder / "images")
    (folder / "images.txt").write_text(images)
    (folder / "bounding_boxes.txt").write_text(boxes)
    return load(f"cub:{folder}")


FOLDERS: dict[str, Case] = {
    "folder: without a path": lambda _: load("folder"),
    "folder: not there": lambda _: load("folder:/nonexistent"),
    "folder: a file": lambda folder: (holding("")(folder / "file"), load(f"folder:{folder / 'file'}")),
    "folder: of nothing": lambda folder: load(f"folder:{folder}"),
    "folder: of empty classes": lambda folder: load(f"folder:{classes(folder, 'ant', 'bee', pictures=0)}"),
    "folder: a path with a zero byte": lambda _: load("folder:a\0b"),
    "folder: a path of 4,000 letters": lambda _: load(f"folder:{'a' * 4000}"),
    "folder: a class that is not UTF-8": partial(of_classes, b"caf\xe9", "bee"),
    "folder: a class of two lines": partial(of_classes, "a\nb", "bee"),
    "folder: a picture that is not UTF-8": partial(with_file, holding(encoded("PNG")), os.fsdecode(b"\xff.png")),
    "folder: a picture that is a named pipe": partial(with_file, pipe, "ant.png"),
    "folder: a picture that is a folder": partial(with_file, a_folder, "ant.png"),
    "folder: a list of classes that is a named pipe": partial(with_list, pipe),
    "folder: a list of classes that is empty": partial(with_list, holding("\n\n")),
    "folder: a list of classes that is binary": partial(with_list, holding(b"\xff\xfe")),
    "folder: a list that names a class twice": partial(with_list, holding("ant\nbee\nant\n")),
    "folder: a list that lacks a class": partial(with_list, holding("ant\n")),
    "folder: boxes that are nowhere": lambda folder: load(f"folder[boxes=/nonexistent]:{classes(folder, 'ant')}"),
    "boxes: no XML": partial(with_boxes, "no XML"),
    "boxes: entities that grow": partial(with_boxes, '<!DOCTYPE a [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><a>&b;</a>'),
    "boxes: 2 MB": partial(with_boxes, "<annotation>" + " " * 2_000_000 + "</annotation>"),
    "boxes: none": partial(with_boxes, "<annotation/>"),
    "boxes: 5,000 of one class": partial(with_boxes, xml(0, 0, 9, 9, times=5000)),
    "boxes: of another class": partial(with_boxes, xml(0, 0, 9, 9, name="bee")),
    "boxes: NaN": partial(with_boxes, xml("nan", 0, 9, 9)),
    "boxes: 1e308": partial(with_boxes, xml("-1e308", 0, "1e308", 9)),
    "boxes: nested 100,000 deep": partial(with_boxes, "<a>" * 100_000 + "</a>" * 100_000),
    "cub: without images": lambda folder: load(f"cub:{folder}"),
    "cub: a figure of 1e308": lambda folder: cub(folder, "1 ant/0.png", "1 1e308 0 1e308 9"),
    "cub: words for figures": lambda folder: cub(folder, "1 ant/0.png", "1 a b c d"),
    "cub: other pictures": lambda folder: cub(folder, "1 bee/0.png", "1 0 0 9 9"),
    "mosaic: of nothing": lambda _: load("mosaic"),
    "mosaic: of what is not there": lambda _: load("mosaic:nowhere"),
    "mosaic: 500 deep": lambda _: load("mosaic:" * 500 + "mnist"),
    "mosaic: an odd size": lambda _: registry.data("mosaic:mnist").load("scoring", 1, (1, 31, 31)),
    "episodes: of more classes than there are": lambda _: load("episodes[ways=99]:mnist"),
    "mnist: not there": lambda _: load("mnist:/nonexistent"),
}

# Tables, weights -------------------------------------------------------------------------------------------------

ROWS = "width,height,kind\n" + "".join(f"{i},{i},{'yes' if i % 2 else 'no'}\n" for i in range(20))
TABLES: dict[str, Kind] = PLACES | {
    "empty": holding(""),
    "a header alone": holding("a,b,kind\n"),
    "one column": holding("kind\nyes\nno\n"),
    "ragged": holding(ROWS + "1,2\n"),
    "a field too many": holding(ROWS + "1,2,3,yes\n"),
    "binary": holding(bytes(range(256)) * 10),
    "UTF-16": holding(ROWS.encode("utf-16")),
    "Latin-1": holding(ROWS.replace("yes", "caf\xe9").encode("latin-1")),
    "a zero byte in a number": holding(ROWS.replace("3,3", "3\0,3")),
    "a zero byte in a class": holding(ROWS.replace("yes", "y\0s")),
    "a class of two lines": holding(ROWS.replace("yes", '"y\ns"')),
    "a field of 200,000 letters": holding(ROWS.replace("3,3", f"{'3' * 200_000},3")),
    "a quote that never ends": holding(ROWS + '"' + "1,2,yes\n" * 100_000),
    "a column twice": holding(ROWS.replace("height", "width")),
    "words for numbers": holding(ROWS.replace("3,3", "3,tall")),
    "infinity": holding(ROWS.replace("3,3", "3,inf")),
    "1e300": holding(ROWS.replace("3,3", "3,1e300")),
    "one class": holding(ROWS.replace("yes", "no")),
    "a class of one row": holding(ROWS + "1,2,maybe\n"),
    "51,000 classes": holding("a,kind\n" + "".join(f"1,{i}\n" for i in range(51_000))),
    "20,000 columns": holding(",".join(f"c{i}" for i in range(20_000)) + "\n"),
    "300 MiB of nothing": sparse(300 * 2**20),
}
GOOD_TABLES: dict[str, Kind] = {
    "20,000 classes": holding("a,kind\n" + "".join(f"{i},{i % 20_000}\n" for i in range(100_000))),
    "a byte order mark": holding("\ufeff" + ROWS),
}


def table(make: Kind, folder: Path, target: str = "") -> object:
    make(folder / "rows.csv")
    data = registry.data(f"csv[target={target}]:{folder / 'rows.csv'}" if target else f"csv:{folder / 'rows.csv'}")
    assert isinstance(data, Table)
    return data.rows()


def holding_itself(path: Path) -> None:
    found: dict[str, Any] = {}
    found["model"] = found
    torch.save(found, path)


WEIGHTS: dict[str, Kind] = PLACES | {
    "empty": holding(b""),
    "text": holding("hello"),
    "code": holding(pickle.dumps(print)),
    "a checkpoint that holds itself": holding_itself,
    "a list": lambda path: torch.save([1, 2], path),
}


def weigh(make: Kind, folder: Path, name: str = "net.pth") -> object:
    make(folder / name)
    return weights.read(folder / name)


# Suites and specs ------------------------------------------------------------------------------------------------

SUITE = 'name = "mine"\nmethods = ["saliency"]\nmetrics = ["sparseness"]\n[[tasks]]\nmodel = "planted"\n'
SUITES: dict[str, Kind] = PLACES | {
    "empty": holding(""),
    "binary": holding(b"\xff\x00"),
    "no TOML": holding("name = "),
    "2 MB": holding("#" * 2_000_000),
    "nested 100,000 deep": holding("x = " + "[" * 100_000),
    "a number of 5,000 digits": holding(f"samples = {'9' * 5000}\n" + SUITE),
    "an unknown key": holding("smaples = 1\n" + SUITE),
    "a key twice": holding("samples = 1\nsamples = 2\n" + SUITE),
    "a name that climbs": holding(SUITE.replace("mine", "../../evil")),
    "a name of two lines": holding(SUITE.replace("mine", "a\\nb")),
    "a name of 200 letters": holding(SUITE.replace("mine", "a" * 200)),
    "no task": holding("tasks = []\nname = 'mine'\n"),
    "a number for tasks": holding("tasks = 3\nname = 'mine'\n"),
    "2,000 methods": holding(SUITE.replace('["saliency"]', str(["saliency"] * 2000))),
    "a number for methods": holding(SUITE.replace('["saliency"]', "3")),
    "a method of 5,000 letters": holding(SUITE.replace("saliency", "s" * 5000)),
    "a method with control characters": holding(SUITE.replace("saliency", "sal\\u001biency")),
    "a description of 100,000 letters": holding(f"description = '{'x' * 100_000}'\n" + SUITE),
    "a published figure that is NaN": holding("published = [['a', 'b', 'c', nan]]\n" + SUITE),
    "more cells than can be planned": holding("samples = 100_000\nshard = 1\nseeds = 1000\n" + SUITE),
    **{
        f"{key} = {value}": holding(f"{key} = {value}\n" + SUITE)
        for key in ("samples", "calibration", "seeds", "shard", "gate_samples", "perturbations", "timed_samples")
        for value in (HUGE, -1)
    },
    "samples = inf": holding("samples = inf\n" + SUITE),
    "samples of a task": holding(SUITE + f"samples = {HUGE}\n"),
}


def declared(make: Kind, folder: Path) -> object:
    make(folder / "mine.toml")
    return suite.check(suite.load(str(folder / "mine.toml")))


SPECS = (
    *("", " ", "[", "]", ":", "iba[beta=", "nif[[k]]", "iba[beta=x]", "iba[beta=nan]", "iba[beta=inf]", "iba[nope=1]"),
    *("iba[beta=1]x", "iba[=1]", "iba[beta=1,beta=2]", "iba[beta=1e999]", "iba:mnist", "inverted", "inverted:nowhere"),
    *("inverted:inverted:iba", "../iba", "iba\n", "iba\x1b[31m", "ib\udcff", "\uff49ba", "iba[" * 500, "x" * 1_000_000),
)
DATA = ("csv:", "csv", "csv[target=a", "nowhere", "planted[grid=99999999999]", "planted[p=nan]", "wired[")
MODELS = ("user", "user:x", "user[local=a,representation=b]:no_such_module:build", "mlp[hidden=]", "mlp[data=planted]")


def opened(spec: str, _: Path) -> object:
    model = registry.model(spec)
    return model.load()


# run.json, boards ------------------------------------------------------------------------------------------------

ABOUT: dict[str, Any] = {
    "schema_number": 2,
    "started": "2026-01-01T00:00:00+00:00",
    "suite": {"name": "mine", "tasks": [{"model": "m", "data": "d"}]},
    "setting": {"device": "cpu", "precision": "fp32", "batch": 0},
    "engine": "local",
    "nodes": [],
    "workers": 2,
    "timeout": 600.0,
    "environment": {
        "mibench": "",
        "python": "3",
        "platform": "Linux",
        "processor": "one",
        "cores": 2,
        "memory_bytes": 1,
        "device": "cpu",
        "libraries": {"torch": "2"},
        "commit": "",
        "command": ["run"],
    },
    "seeds": [0],
    "pictures": 6,
    "tasks": {
        "d/m": {
            "data": "d",
            "model": "m",
            "accuracy": 1.0,
            "classes": ["a", "b"],
            "weights_hash": "0a",
            "recipe": "",
            "data_hash": "0b",
            "drawing": "",
            "facts": {
                "kind": "grid",
                "layer": "relu",
                "grid": [4, 4],
                "pixels": [8, 8],
                "samples": 4,
                "calibration": 4,
                "pictures": "0c",
            },
            "network": "m",
            "notices": [],
            "metrics": ["auc"],
        }
    },
    "lost": {},
    "rows": {"iba": {"method": "iba", "explainer": "iba", "map": "map"}},
    "cards": {
        "methods": [{"name": "iba", "title": "IBA"}],
        "metrics": [
            {"name": "auc", "title": "AUC", "family": "localisation", "direction": "higher", "range": [0.0, 1.0]}
        ],
    },
}
IDENTITY: dict[str, Any] = {
    "schema_number": 2,
    "processor": "one",
    "torch": "2",
    "complete": [],
    "metrics": {"auc": {"version": 1, "low": 0.0, "high": None, "seeds": 1}},
    "tasks": {"d/m": {"data_hash": "0b", "weights_hash": "0a"}},
}
GONE = object()


def edited(whole: dict[str, Any], place: str, value: object) -> str:
    """JSON with another value at a place such as tasks|d/m|accuracy."""
    copy = json.loads(json.dumps(whole))
    inner, parts = copy, [int(part) if part.isdigit() else part for part in place.split("|")]
    for part in parts[:-1]:
        inner = inner[part]
    if value is GONE:
        del inner[parts[-1]]
    else:
        inner[parts[-1]] = value
    return json.dumps(copy)


EDITS: tuple[tuple[str, object], ...] = (
    *(("schema_number", value) for value in (GONE, 1, 99, "2.5")),
    *(("suite|name", value) for value in ("../../evil", "a/b", "", 3, "a\0b", "a" * 500)),
    ("suite", GONE),
    ("suite|samples", HUGE),
    ("suite|surprise", 1),
    ("surprise", 1),
    ("engine", "../local"),
    ("setting|device", "tpu"),
    ("setting|precision", "fp7"),
    ("setting|batch", -1),
    ("timeout", float("nan")),
    ("workers", "two"),
    ("pictures", HUGE),
    ("seeds", "0"),
    ("environment|cores", None),
    ("environment|command", "run"),
    *(("tasks|d/m|accuracy", value) for value in (float("nan"), 2.0, "high")),
    ("tasks|d/m|weights_hash", "not hexadecimal"),
    ("tasks|d/m|facts|pictures", "../../../etc/passwd"),
    ("tasks|d/m|facts|grid", [4]),
    ("tasks|d/m|facts|samples", -4),
    ("tasks|d/m|metrics", ["another"]),
    ("tasks|d/m|model", "another"),
    ("tasks|d/m", []),
    ("rows|nif", {"method": "nif", "explainer": "nif", "map": "map"}),
    ("rows|iba|map", GONE),
    ("cards|metrics|0|range", [1.0, 0.0]),
    ("cards|metrics|0|range", [0.0, float("nan")]),
    ("cards|metrics|0|direction", "sideways"),
    ("cards|methods|0|surprise", 1),
    ("lost|e/n", {"data": "other", "model": "n", "reason": ""}),
)
BOARD_EDITS: tuple[tuple[str, object], ...] = (
    ("schema_number", GONE),
    ("schema_number", 1),
    ("range of auc", "0 to 1"),
    ("metrics|auc|version", "one"),
    ("metrics|auc|low", float("nan")),
    ("tasks|d/m|data_hash", "../.."),
    ("tasks|d/m|accuracy", 7),
    ("complete", ["everything"]),
    ("processor", GONE),
)
TEXTS: dict[str, Kind] = PLACES | {
    "empty": holding(""),
    "a list": holding("[1]"),
    "null": holding("null"),
    "cut": holding('{"schema_number": 2, "suite'),
    "binary": holding(b"\xff\xfe\x00"),
    "nested 100,000 deep": holding('{"a":' * 100_000),
    "half a character": holding('{"schema_number": 2, "started": "\\ud800"}'),
    "100 MiB of nothing": sparse(100 * 2**20),
}


def stored(kind: type[About] | type[Identity], make: Kind, folder: Path) -> object:
    make(folder / "run.json")
    return kind.read_file(folder / "run.json", "run the suite again")


def board(table: Kind, identity: Kind, folder: Path) -> object:
    table(folder / "mine.csv")
    identity(folder / "mine.json")
    return regression.side(folder / "mine.csv")


def limits(make: Kind, folder: Path) -> object:
    make(folder / "mine.toml")
    return thresholds.read_thresholds(folder / "mine.toml")


HEADER = ",".join(COLUMNS) + "\n"
ORDINARY = holding(json.dumps(IDENTITY))

# The command line ------------------------------------------------------------------------------------------------


def command(words: tuple[str, ...], folder: Path) -> object:
    """What the command line prints as its error; it must leave with 2, and with one line unless typer refuses."""
    (folder / "huge.toml").write_text(f"samples = {HUGE}\n" + SUITE)
    (folder / "iba.toml").write_text(SUITE)
    os.mkfifo(folder / "pipe.toml")
    os.mkfifo(folder / "pipe.png")
    said = io.StringIO()
    argv, sys.argv = sys.argv, ["mibench", *(word.replace("HERE", str(folder)) for word in words)]
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            cli.main()
    except SystemExit as end:
        text = said.getvalue().strip()
        raise Refused(end.code, text.rpartition("Error: ")[2] if text.startswith("Usage:") else text) from None
    finally:
        sys.argv = argv
    raise AssertionError("it did not leave")


class Refused(Exception):
    """The command line left with a code and a text."""


RUN = ("run", "default", "--dry-run")
COMMANDS = (
    ("run", "HERE/huge.toml", "--dry-run"),
    ("run", "HERE/pipe.toml", "--dry-run"),
    ("run", "HERE/nowhere.toml"),
    ("run", "defualt"),
    (*RUN, "--samples", str(HUGE)),
    (*RUN, "--samples", "nan"),
    (*RUN, "--seeds", str(HUGE)),
    (*RUN, "--jobs", str(HUGE)),
    (*RUN, "--timeout", "nan"),
    (*RUN, "--timeout", "inf"),
    (*RUN, "--batch", str(HUGE)),
    (*RUN, "--methods", "nif[[k]]"),
    (*RUN, "--methods", "x" * 1_000_000),
    (*RUN, "--methods", "iba[beta="),
    (*RUN, "--device", "cuda:99999999999999999999"),
    ("explain", "HERE/pipe.png", "--model", "planted", "--methods", "saliency"),
    ("explain", "HERE/nowhere.png", "--model", "planted", "--methods", "saliency"),
    ("report", "HERE"),
    ("gate", "HERE", "--baseline", "HERE"),
    ("compare", "HERE/nowhere.csv", "HERE/nowhere.csv"),
    ("score", "HERE", "--metrics", "auc"),
    ("check", "iba[beta="),
    ("study", "../evil"),
    ("figures", "../evil"),
)

# All of them -----------------------------------------------------------------------------------------------------


def cases() -> Iterator[tuple[str, Case]]:
    """Every bad input by its name."""
    for name, make in PICTURES.items():
        yield f"picture: {name}", partial(picture, make)
    for name in (os.fsdecode(b"\xff.png"), "two\nlines.png", f"{'x' * 300}.png"):
        yield f"picture: called {ascii(name)[:40]}", partial(picture, nothing, name=name)
    yield from FOLDERS.items()
    for name, make in TABLES.items():
        yield f"table: {name}", partial(table, make)
    yield "table: a target that is not there", partial(table, holding(ROWS), target="species")
    for name, make in WEIGHTS.items():
        yield f"weights: {name}", partial(weigh, make)
    yield (
        "weights: a header of 2^60 bytes",
        partial(weigh, holding((2**60).to_bytes(8, "little") + b"{}"), name="net.safetensors"),
    )
    for name, make in SUITES.items():
        yield f"suite: {name}", partial(declared, make)
    for spec in SPECS:
        yield f"method: {ascii(spec)[:40]}", partial(lambda spec, _: registry.method(spec), spec)
    for spec in DATA:
        yield f"data: {spec}", partial(lambda spec, _: registry.data(spec).classes, spec)
    for spec in MODELS:
        yield f"model: {spec}", partial(opened, spec)
    for text in ("x," * 500_000, "[" * 100_000):
        yield f"methods: {text[:4]} …", lambda _, text=text: [registry.method(each) for each in registry.split(text)]
    for name, make in TEXTS.items():
        yield f"run.json: {name}", partial(stored, About, make)
        yield f"board: {name}", partial(stored, Identity, make)
    for place, value in EDITS:
        shown = "gone" if value is GONE else ascii(value)[:40]
        yield f"run.json: {place} {shown}", partial(stored, About, holding(edited(ABOUT, place, value)))
    for place, value in BOARD_EDITS:
        shown = "gone" if value is GONE else ascii(value)[:40]
        yield f"board: {place} {shown}", partial(stored, Identity, holding(edited(IDENTITY, place, value)))
    for name, make in (
        PLACES | {"empty": holding(""), "binary": holding(b"\xff"), "without rows": holding(HEADER)}
    ).items():
        yield f"board.csv: {name}", partial(board, make, ORDINARY)
    for name in ("a named pipe", "a device", "a folder"):
        yield f"thresholds: {name}", partial(limits, PLACES[name])
    yield "thresholds: nested 100,000 deep", partial(limits, holding("x = " + "[" * 100_000))
    for words in COMMANDS:
        yield f"command: {' '.join(words)[:80]}", partial(command, words)


def good_cases() -> Iterator[tuple[str, Case]]:
    """What is odd and must be read."""
    for name, make in GOOD_PICTURES.items():
        yield f"picture: {name}", partial(picture, make)
    for name, make in GOOD_TABLES.items():
        yield f"table: {name}", partial(table, make)
    yield "run.json: as it is written", partial(stored, About, holding(json.dumps(ABOUT)))
    yield "board: as it is written", partial(stored, Identity, ORDINARY)
    yield (
        "folder: one class of two empty",
        lambda folder: (
            classes(folder, "bee", pictures=0),
            load(f"folder:{classes(folder, 'ant')}"),
        ),
    )


def tried(case: Case, folder: Path) -> dict[str, object]:
    """What became of one case."""
    folder.mkdir()
    Path("/proc/self/clear_refs").write_text("5")
    before, began = status("VmRSS"), time.process_time()
    kind, message, code = "", "", 0
    signal.alarm(SECONDS)
    try:
        try:
            case(folder)
        finally:
            signal.alarm(0)
    except Refused as refused:
        code, message = refused.args
        kind = "command"
    except BaseException as error:  # all kinds are judged by the test
        kind, message, code = type(error).__name__, str(error), getattr(error, "code", -1)
    grown = status("VmHWM") - before
    return {"kind": kind, "message": message, "code": code, "cpu": time.process_time() - began, "grown": grown}


def status(key: str) -> int:
    """A line of the kernel's account of this process, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{key}:"))
    return 1024 * int(line.split()[1])


def main(folder: Path, results: Path, *words: str) -> None:
    """Try everything; words after the two paths choose the cases whose names hold one of them."""

    def hung(*_: object) -> None:
        raise Hung

    signal.signal(signal.SIGALRM, hung)
    most = status("VmData") + 2 * GIB
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    os.chdir(folder)
    found = {}
    chosen = [each for each in (*cases(), *good_cases()) if not words or any(word in each[0] for word in words)]
    for number, (name, case) in enumerate(chosen):
        found[name] = tried(case, folder / str(number))
    results.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])

"""Episodes keep learned classes, support and queries apart; CUB-200-2011 is read as its archive unpacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from mibench.data.episodes import Episodes
from mibench.errors import DataError
from mibench.plugins import registry

SHAPE = (1, 28, 28)


def episodes(spec: str = "episodes") -> Episodes:
    found = registry.data(spec)
    assert isinstance(found, Episodes)
    return found


@pytest.fixture
def birds(tmp_path: Path) -> Path:
    """Six species of ten pictures of 96 x 80 in CUB's layout; the bird's box is at (16, 8), 32 x 40 pixels large."""
    names, boxes = [], []
    for species in range(6):
        folder = tmp_path / "images" / f"{species + 1:03d}.Bird_{species}"
        folder.mkdir(parents=True)
        for index in range(10):
            picture = Image.new("RGB", (96, 80), "black")
            picture.paste((255, 255, 255), (16, 8, 48, 48))
            picture.save(folder / f"{index}.png")
            names.append(f"{len(names) + 1} {folder.name}/{index}.png")
            boxes.append(f"{len(boxes) + 1} 16.0 8.0 32.0 40.0")
    (tmp_path / "images.txt").write_text("\n".join(names) + "\n")
    (tmp_path / "bounding_boxes.txt").write_text("\n".join(boxes) + "\n")
    return tmp_path


@pytest.mark.parametrize("shots", [1, 5])
def test_an_episode_has_its_shots_of_every_way(shots: int) -> None:
    support = episodes(f"episodes[shots={shots}]").support(SHAPE)
    assert support.label.tolist() == [way for way in range(5) for _ in range(shots)]
    assert len(set(support.ids)) == 5 * shots


def test_queries_are_of_the_episode_s_classes_and_no_support() -> None:
    data = episodes("episodes[ways=3,shots=5]")
    queries, support = data.load("scoring", 50, SHAPE), data.support(SHAPE)
    assert not set(queries.ids) & set(support.ids)
    assert set(queries.label.tolist()) == {0, 1, 2}
    digits = registry.data("mnist").load("scoring", None, SHAPE)
    true = dict(zip(digits.ids, digits.label.tolist(), strict=True))
    assert [data.classes[way] for way in queries.label] == [str(true[name]) for name in queries.ids]


def test_no_episode_shows_a_class_that_is_learned() -> None:
    learned = set(episodes().base("training", SHAPE).label.tolist())
    shown = {int(name) for episode in range(10) for name in episodes(f"episodes[ways=3,episode={episode}]").classes}
    assert learned == {0, 1, 2, 3, 4}
    assert shown == {5, 6, 7, 8, 9}


def test_an_episode_is_the_same_every_time_and_another_one_differs() -> None:
    first, again, other = (episodes(f"episodes[episode={n}]").support(SHAPE) for n in (0, 0, 1))
    assert first.ids == again.ids
    assert first.ids != other.ids


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("episodes[ways=6]", "an episode of 6 ways needs 11 or more"),
        ("episodes:iris", "iris has 3 classes"),
        ("episodes[ways=2,shots=100]:digits", "to draw 100 shots from"),
    ],
)
def test_impossible_episodes_are_refused(spec: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        episodes(spec).support(SHAPE)


def test_of_a_folder_only_the_episode_s_pictures_are_read(birds: Path) -> None:
    (birds / "images" / "001.Bird_0" / "0.png").write_bytes(b"broken, but of a class that is learned")
    data = episodes(f"episodes[ways=3]:folder:{birds / 'images'}")
    assert data.classes == ("004.Bird_3", "005.Bird_4", "006.Bird_5")
    assert len(data.load("scoring", None, (3, 32, 32))) == 6


def test_cub_is_read_with_its_boxes_as_masks(birds: Path) -> None:
    samples = registry.data(f"cub:{birds}").load("scoring", None, (3, 80, 80))
    assert len(samples) == 12
    assert samples.mask is not None
    assert torch.equal(samples.mask, samples.x[:, 0] > 0.5)  # the bird is white and nothing else is


def test_cub_without_boxes_has_no_mask(birds: Path) -> None:
    (birds / "bounding_boxes.txt").unlink()
    assert registry.data(f"cub:{birds}").load("scoring", 2, (3, 80, 80)).mask is None


def test_episodes_of_cub_keep_the_masks(birds: Path) -> None:
    queries = episodes(f"episodes[ways=3]:cub:{birds}").load("scoring", 4, (3, 80, 80))
    assert queries.mask is not None
    assert torch.equal(queries.mask, queries.x[:, 0] > 0.5)


def test_a_folder_that_is_no_cub_is_refused(tmp_path: Path, birds: Path) -> None:
    with pytest.raises(DataError, match="no folder 'images'"):
        registry.data(f"cub:{birds / 'images'}").load("scoring", 1, (3, 80, 80))
    with pytest.raises(DataError, match="cub:PATH"):
        registry.data("cub").load("scoring", 1, (3, 80, 80))


@pytest.mark.parametrize(("text", "message"), [("1 2 3\n", "four figures"), ("1 a b c d\n", "four figures")])
def test_a_broken_list_of_boxes_is_refused(text: str, message: str, birds: Path) -> None:
    (birds / "bounding_boxes.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        registry.data(f"cub:{birds}").load("scoring", 1, (3, 80, 80))

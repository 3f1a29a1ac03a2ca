"""Drawn shapes: the same everywhere, all different, and as files."""

import numpy as np
import pytest

from zoo.data import ImageFolder, Shapes
from zoo.data.split import digest
from zoo.errors import InputError


def test_the_same_pictures_everywhere():
    shapes = Shapes(count=60, size=16)
    data = shapes.open()
    assert data.info.class_names == shapes.kinds and sum(data.info.counts.values()) == 60
    assert data.info.inputs == {"image": ((16, 16, 3), "float32")}
    drawn = b"".join(shapes.draw(i).tobytes() for i in range(6))
    assert digest(drawn).hex().startswith("bef6abe0681e90c7")
    assert len({shapes.draw(i).tobytes() for i in range(60)}) == 60
    assert not np.array_equal(shapes.draw(3), Shapes(size=16, seed=1).draw(3))


def test_a_shape_stands_out_from_its_ground():
    shapes = Shapes(noise=0, size=24)
    for i in range(12):
        one = shapes.draw(i).astype(int)
        colours, counts = np.unique(one.reshape(-1, 3), axis=0, return_counts=True)
        ground, shape = colours[np.argsort(counts)[::-1][:2]]
        assert np.abs(ground - shape).min() >= 60 and 10 < counts.min() + counts.max() < 576


def test_written_as_files_and_predicted(tmp_path):
    shapes = Shapes(kinds=("ring", "cross"), count=40, size=12)
    shapes.write(tmp_path / "pictures")
    files = ImageFolder(str(tmp_path / "pictures"), 12).open()
    assert sum(files.info.counts.values()) == 40 and files.info.class_names == ("cross", "ring")
    data = shapes.open()
    split = data.splits["test"]
    number = int(split.names([0])[0].split()[1])
    file = tmp_path / "pictures" / shapes.kinds[number % 2] / f"{number:05}.png"
    names, batch = shapes.encode([str(file)], data.info)
    assert names == [str(file)]
    np.testing.assert_allclose(batch["image"], split.rows(np.array([0]))["image"], atol=1e-6)
    with pytest.raises(InputError, match="no image was given"):
        shapes.encode([], data.info)


@pytest.mark.parametrize(
    "values", [{"kinds": ("ring",)}, {"kinds": ("ring", "moon")}, {"size": 4}, {"noise": 300}]
)
def test_impossible_values(values):
    with pytest.raises(InputError, match="shapes: "):
        Shapes(**values).open()

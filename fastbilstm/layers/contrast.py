"""AutoContrast and ContrastLimitedAdaptiveHistogramEqualization: grey levels by those of the image itself.

Both compute at inference, too. The specification, in NumPy.
"""

import numpy as np

from ..errors import InputError
from .base import Option, real, register
from .resizing import along
from .windows import DATA_FORMAT, Spatial, sizes


def value_range(value):
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        raise ValueError("expected two numbers")
    return [real(part) for part in value]


FULL = [0.0, 255.0]


def moved(x, source, target):
    """Numbers of the range `source` -> the range `target`, along a line; x itself where both are equal."""
    if source == target:
        return x
    (low, high), (start, end) = np.asarray(source, x.dtype), np.asarray(target, x.dtype)
    return (x - low) / (high - low) * (end - start) + start


class Levels(Spatial):
    exact = True
    rank = 2


@register
class AutoContrast(Levels):
    """The darkest value of each image and channel becomes the lower end of the range, the brightest the upper one.

    Keras reads the axes as channels_last whatever the data_format.
    """

    options = {"value_range": Option(lambda value: sorted(value_range(value)), FULL)}
    ignored = ("data_format", "bounding_box_format")

    def slide(self, x):
        levels = moved(x, self.value_range, FULL)
        low, high = levels.min(axis=(1, 2), keepdims=True), levels.max(axis=(1, 2), keepdims=True)
        scale = 255 / (high - low)
        y = moved(np.clip(levels * scale + -low * scale, 0, 255), FULL, self.value_range)
        return np.where(np.isnan(y), x, y)  # an image of one level stays as it is


@register
class ContrastLimitedAdaptiveHistogramEqualization(Levels):
    """A table of grey levels for each tile of a grid, from its histogram; between tiles the tables are interpolated.

    Keras computes it in float32 whatever the dtype of computation, and cuts levels off to whole numbers; so does this.
    """

    casts_in_wrappers = False
    options = {
        "value_range": Option(value_range, FULL),
        "clip_limit": Option(real, 4.0),
        "tile_grid_size": Option(sizes(2), [8, 8]),
        "data_format": DATA_FORMAT,
    }
    ignored = ("bounding_box_format", "factor")

    def slide(self, x):
        levels = moved(x.astype(np.float32), self.value_range, FULL)
        rows, columns = x.shape[1:3]
        tile = [-(-size // count) for size, count in zip((rows, columns), self.tile_grid_size)]
        missing = [side * count - size for side, count, size in zip(tile, self.tile_grid_size, (rows, columns))]
        if missing[0] > rows or missing[1] > columns:
            raise InputError(
                f"layer {self.name!r} ({self.class_name}): its images of {(rows, columns)} pixels are too small for "
                f"tile_grid_size={self.tile_grid_size}"
            )
        levels = np.pad(levels, [(0, 0), (0, missing[0]), (0, missing[1]), (0, 0)], mode="symmetric")
        y = self.equalized(levels, self.tables(levels, tile), tile)[:, :rows, :columns]
        return moved(y, FULL, self.value_range).astype(x.dtype)

    def tables(self, levels, tile):
        """levels (B, H, W, C) -> (B, grid rows, grid columns, C, 256): the new level of each level in each tile."""
        (batch, _, _, channels), (grid_rows, grid_columns) = levels.shape, self.tile_grid_size
        tiled = levels.reshape(batch, grid_rows, tile[0], grid_columns, tile[1], channels)
        tiled = tiled.transpose(0, 1, 3, 5, 2, 4).reshape(-1, tile[0] * tile[1])
        whole = np.clip(tiled.astype(np.int32), 0, 255) + 256 * np.arange(len(tiled))[:, np.newaxis]
        counts = np.bincount(whole.ravel(), minlength=256 * len(tiled)).reshape(len(tiled), 256).astype(np.float32)
        area = np.float32(tile[0] * tile[1])
        if self.clip_limit > 0:
            clipped = np.clip(counts, 0, np.float32(self.clip_limit * (tile[0] * tile[1]) / 256.0))
            counts = clipped + np.sum(counts - clipped, axis=-1, keepdims=True) / np.float32(256)
        cdf = np.cumsum(counts, axis=-1, dtype=np.float32)
        least = cdf.min(axis=-1, keepdims=True)
        rest = area - least
        table = np.clip((cdf - least) * np.float32(255) / np.where(rest == 0, np.float32(1), rest), 0, 255)
        return table.reshape(batch, grid_rows, grid_columns, channels, 256)

    def equalized(self, levels, tables, tile):
        """Each level by the tables of the four tiles around it, weighted by how near their middles are."""
        tables = np.pad(tables, [(0, 0), (1, 1), (1, 1), (0, 0), (0, 0)], mode="edge")
        whole = np.clip(levels, 0, 255).astype(np.int32)
        first, second, weight = [], [], []
        for size, side, count in zip(levels.shape[1:3], tile, self.tile_grid_size):
            side = np.float32(side)
            place = (np.arange(size, dtype=np.float32) - side / np.float32(2)) / side + np.float32(1)
            before = np.floor(place)
            first.append(np.clip(before, 0, count + 1).astype(int))
            second.append(np.clip(before + 1, 0, count + 1).astype(int))
            weight.append(place - before)
        images = np.arange(len(levels))[:, np.newaxis, np.newaxis, np.newaxis]
        channels = np.arange(levels.shape[-1])

        def looked_up(rows, columns):
            return tables[images, rows[:, np.newaxis, np.newaxis], columns[:, np.newaxis], channels, whole]

        down, right = along(1, weight[0], levels), along(2, weight[1], levels)
        top, bottom = (
            looked_up(rows, first[1]) * (1 - right) + looked_up(rows, second[1]) * right
            for rows in (first[0], second[0])
        )
        return top * (1 - down) + bottom * down

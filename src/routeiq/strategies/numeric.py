"""The small numeric parts that estimators share when they serve: float32, no temporary that can be avoided.

One row of ten to twenty models is so little work that the number of NumPy calls is the cost (about half a
microsecond each), not the arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from .estimator import Arrays, Matrix

LOGIT_LIMIT = 30.0
"""Beyond this a float32 sigmoid is 0 or 1 anyway, and `exp` stays far from overflow."""
EDGE = 1e-3
"""How near to 0 or 1 a probability may come before its logit is taken."""


def sigmoid(z: Matrix) -> Matrix:
    """1 / (1 + exp(-z)), written over `z` and returned; no overflow for any finite input."""
    np.clip(z, -LOGIT_LIMIT, LOGIT_LIMIT, out=z)
    np.negative(z, out=z)
    np.exp(z, out=z)
    z += np.float32(1.0)
    np.reciprocal(z, out=z)
    return z


def logit(p: Matrix, edge: float = EDGE) -> Matrix:
    """log(p / (1 - p)) of probabilities that are first moved `edge` away from 0 and 1; float32."""
    clipped = np.clip(p, edge, 1.0 - edge)
    out: Matrix = np.log(clipped / (1.0 - clipped)).astype(np.float32)
    return out


def softmax(z: Matrix) -> Matrix:
    """exp(z) / sum(exp(z)) over the last axis; a new array."""
    out: Matrix = np.exp(z - z.max(axis=-1, keepdims=True))
    out /= out.sum(axis=-1, keepdims=True)
    return out


def array(
    arrays: Arrays, name: str, shape: tuple[int | None, ...], dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """The array `name`, checked, as it is (a read-only map of a file stays one).

    Args:
        arrays: the artifact's arrays.
        name: which one.
        shape: what it must be; `None` for an axis of any length.
        dtype: what its type must be.

    Raises:
        ValueError: it is missing, or has another shape or type.
    """
    found = arrays.get(name)
    if found is None:
        raise ValueError(f"array {name!r} is missing: the artifact is incomplete, train it again.")
    fits = len(found.shape) == len(shape) and all(
        want is None or have == want for have, want in zip(found.shape, shape, strict=True)
    )
    if not fits or found.dtype != np.dtype(dtype):
        raise ValueError(
            f"array {name!r} is {found.dtype}{list(found.shape)}, expected "
            f"{np.dtype(dtype)}{['any' if s is None else s for s in shape]}: train it again."
        )
    return found


class Calibration:
    """Per model a monotone piecewise-linear curve from what an estimator says to a probability.

    Every curve has its knots at even distances between `low` and `low + (K - 1) / scale`, so that finding the
    segment is one multiplication. Inputs outside are taken to the nearest end.
    """

    __slots__ = ("_base", "_flat", "_rise", "low", "scale", "table", "top")

    def __init__(self, low: Matrix, scale: Matrix, table: Matrix) -> None:
        models, knots = table.shape
        self.low, self.scale, self.table = low, scale, table
        self.top = np.float32(knots - 1)
        rise = np.zeros_like(table)  # the last knot has no segment after it
        np.subtract(table[:, 1:], table[:, :-1], out=rise[:, :-1])
        self._flat, self._rise = table.reshape(-1), rise.reshape(-1)
        self._base = np.arange(models, dtype=np.int32) * np.int32(knots)

    @classmethod
    def identity(cls, models: int, knots: int = 2) -> Self:
        """Probabilities stay what they are."""
        grid = np.linspace(0.0, 1.0, knots, dtype=np.float32)
        ends = np.zeros(models, np.float32), np.full(models, knots - 1, np.float32)
        return cls(*ends, np.tile(grid, (models, 1)))

    def apply(self, raw: Matrix) -> Matrix:
        """Calibrated probabilities of `raw` (rows, models); a new array."""
        place = raw - self.low
        place *= self.scale
        np.maximum(place, np.float32(0.0), out=place)
        np.minimum(place, self.top, out=place)
        segment = place.astype(np.int32)
        place -= segment
        segment += self._base
        place *= self._rise.take(segment)
        place += self._flat.take(segment)
        return place

    def arrays(self, prefix: str = "calibration_") -> dict[str, npt.NDArray[Any]]:
        """What an artifact keeps of it."""
        named = {"low": self.low, "scale": self.scale, "table": self.table}
        return {prefix + name: value for name, value in named.items()}

    @classmethod
    def restore(
        cls, models: int, arrays: Mapping[str, npt.NDArray[Any]], prefix: str = "calibration_"
    ) -> Self:
        """The calibration whose `arrays` these were.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        low = array(arrays, prefix + "low", (models,))
        scale = array(arrays, prefix + "scale", (models,))
        table = array(arrays, prefix + "table", (models, None))
        if table.shape[1] < 2:
            raise ValueError(f"array {prefix + 'table'!r} needs two knots: train it again.")
        return cls(low, scale, table)


class Space:
    """Where distances between prompts are taken: centred, columns weighted, the embedding part of unit length.

    Token embeddings that are averaged share a large common part; without it, neighbours are about the topic. The
    lexical columns come after the first `embedding_dimension` ones. With `axes` (features, r) the result is
    projected to r dimensions.
    """

    __slots__ = ("axes", "embedding_dimension", "mean", "scale")

    def __init__(
        self, mean: Matrix, scale: Matrix, embedding_dimension: int, axes: Matrix | None = None
    ) -> None:
        self.mean, self.scale, self.axes = mean, scale, axes
        self.embedding_dimension = embedding_dimension

    def apply(self, x: Matrix) -> Matrix:
        """Rows of features as points; a new array."""
        z: Matrix = x - self.mean
        z *= self.scale
        part = z[:, : self.embedding_dimension]
        length = np.sqrt(np.einsum("ij,ij->i", part, part))
        length += np.float32(1e-6)
        part /= length[:, None]
        return z if self.axes is None else z @ self.axes

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an artifact keeps of it, besides `embedding_dimension`."""
        kept = {"space_mean": self.mean, "space_scale": self.scale}
        return kept if self.axes is None else kept | {"space_axes": self.axes}

    @classmethod
    def restore(cls, arrays: Arrays, settings: Mapping[str, Any]) -> Self:
        """The space whose `arrays` these were; `settings` has `embedding_dimension`.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        mean = array(arrays, "space_mean", (None,))
        scale = array(arrays, "space_scale", mean.shape)
        axes = None
        if "space_axes" in arrays:
            axes = array(arrays, "space_axes", (len(mean), None))
        return cls(mean, scale, number(settings, "embedding_dimension", int), axes)


class Shrinkage:
    """Turns an estimated residual per model into a quality: mean + shared part + what is the model's own.

    A prompt that is hard for all models moves all of them (`shared`, one factor); what one model does
    differently is estimated from the same few rows with more noise, so that it is shrunk by a factor of its own
    (`own`, per model). Choosing a model rests on the second part alone, which is why the two are kept apart.
    """

    __slots__ = ("_shared_less_own", "mean", "own", "shared")

    def __init__(self, mean: Matrix, shared: float, own: Matrix) -> None:
        self.mean, self.shared, self.own = mean, float(shared), own
        self._shared_less_own: Matrix = (np.float32(shared) - own) / np.float32(len(own))

    def apply(self, residual: Matrix) -> Matrix:
        """Qualities of rows of residuals (rows, models), not yet limited to [0, 1]."""
        out: Matrix = residual * self.own
        out += residual.sum(axis=1, keepdims=True) * self._shared_less_own
        out += self.mean
        return out

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What an artifact keeps of it."""
        shared = np.array([self.shared], np.float32)
        return {"mean": self.mean, "shrink_shared": shared, "shrink_own": self.own}

    @classmethod
    def restore(cls, models: int, arrays: Arrays) -> Self:
        """The shrinkage whose `arrays` these were.

        Raises:
            ValueError: an array is missing or has the wrong shape.
        """
        shared = array(arrays, "shrink_shared", (1,))
        own = array(arrays, "shrink_own", (models,))
        return cls(array(arrays, "mean", (models,)), float(shared[0]), own)


def number(settings: Mapping[str, Any], name: str, kind: type[Any]) -> Any:
    """A setting of an artifact as `kind` (`int` or `float`).

    Raises:
        ValueError: it is missing or no number.
    """
    value = settings.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"setting {name!r} is {value!r}, expected a number: train it again.")
    return kind(value)

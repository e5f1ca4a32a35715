"""How a black box f reads an image and answers, as its manifest declares it; pure arithmetic, shared by all rooms.

    x float32 [N, C, S, S] in [-1, 1]  ->  what f takes  ->  what f gives  ->  probabilities float64 [N, K]

Nothing is guessed from f: a classifier with another size, layout, value range or kind of answer says so in the
manifest. Calling f (a file, an address, a function) is the business of those who hold it.
N: images, C: channels and S: side of the space's images; c and s: those that f reads; K: classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.errors import ClassifierMisfit
from models.manifest import ClassifierInput, ClassifierOutput, ImageSpec
from models.pixels import to_uint8

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Batch = NDArray[Any]
Ask = Callable[[Batch], Batch]

SUM_TOLERANCE = 0.01
"""Probabilities of one image may add up to 1 ± this: half precision rounds that much."""
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""
FILTERS = {name: Image.Resampling[name.upper()] for name in ("nearest", "box", "bilinear", "bicubic", "lanczos")}


class Port(NamedTuple):
    """An input or output as f itself describes it; None, a name or a negative number in a shape is any size."""

    name: str
    dtype: str
    shape: Sequence[int | str | None]


def allows_shape(found: Sequence[int | str | None], wanted: Sequence[int | None]) -> bool:
    """Whether a shape that a network declares for itself allows the wanted one, in which None is any size."""
    return len(found) == len(wanted) and all(
        not isinstance(have, int) or have < 0 or have == want for have, want in zip(found, wanted, strict=True)
    )


class Reading:
    """What f takes and gives, for the images of one space.

    Args:
        image: of the space.
        input: what f reads.
        output: what f answers.
        classes: how many probabilities f is to give, K.

    Raises:
        ClassifierMisfit: mean or std does not have one number for each channel of f.
    """

    def __init__(self, image: ImageSpec, input: ClassifierInput, output: ClassifierOutput, classes: int) -> None:
        self.input, self.output, self.classes = input, output, classes
        self._image = image
        self.channels = {"space": image.channels, "grey": 1, "rgb": 3, "bgr": 3}[input.colour]
        self.size_px = input.size_px or image.size_px
        for name, numbers in (("mean", input.mean), ("std", input.std)):
            if numbers is not None and len(numbers) != self.channels:
                raise ClassifierMisfit(f"{name} has {len(numbers)} numbers for {self.channels} channels")

    @property
    def shape(self) -> tuple[None, int, int, int]:
        """Of what f takes: [N, c, s, s] or [N, s, s, c]; None stands for N."""
        c, s = self.channels, self.size_px
        return (None, c, s, s) if self.input.layout == "NCHW" else (None, s, s, c)

    def check(self, inputs: Sequence[Port], outputs: Sequence[Port]) -> None:
        """Hold what f says of itself against what is declared.

        Args:
            inputs: all that f takes; empty where it does not say.
            outputs: all that f gives, likewise; those beside the declared one are left alone.

        Raises:
            ClassifierMisfit: another name, type or shape.
        """
        if inputs:
            self._check_inputs(inputs)
        if outputs:
            self._check_outputs(outputs)

    def ask(self, call: Ask, x: F32) -> F64:
        """Let f answer about images, at most `max_batch` of them in one call.

        Args:
            call: f itself: a declared input, `shape`, to the declared output.
            x: float32 [N, C, S, S] in [-1, 1].

        Returns:
            Probabilities, float64 [N, K].

        Raises:
            ClassifierMisfit: the answer has another shape, is not finite, or is no set of probabilities.
        """
        batch = self.input.max_batch or max(len(x), 1)
        parts = [x[start : start + batch] for start in range(0, len(x), batch)]
        answers = [self.probabilities(call(self.prepare(part)), len(part)) for part in parts]
        return np.concatenate([np.empty((0, self.classes)), *answers])

    def prepare(self, x: F32) -> Batch:
        """Images float32 [N, C, S, S] in [-1, 1] -> what f takes, `shape`; the default declaration changes nothing."""
        if x.shape[1:] != (self._image.channels, self._image.size_px, self._image.size_px):
            raise ValueError(f"x must be [N, {self._image.channels}, {self._image.size_px}, …], not {list(x.shape)}")
        x = self._coloured(self._resized(np.asarray(x, np.float32)))
        x = self._scaled(x)
        return np.ascontiguousarray(x if self.input.layout == "NCHW" else x.transpose(0, 2, 3, 1))

    def probabilities(self, answer: Batch, n: int) -> F64:
        """What f gave for n images -> float64 [n, K]. Raises ClassifierMisfit as `ask` does."""
        raw = self._columns(np.asarray(answer), n)
        if not np.isfinite(raw).all():
            raise ClassifierMisfit("the classifier answered with values that are not finite")
        if self.output.kind == "softmax":
            raw = np.exp(raw - raw.max(axis=1, keepdims=True))
            return np.asarray(raw / raw.sum(axis=1, keepdims=True))
        if self.output.kind == "sigmoid":
            raw = _sigmoid(raw)
        if self.output.column is not None:
            raw = np.concatenate([1 - raw, raw], axis=1)
        _check_probabilities(raw)
        return raw

    def _check_inputs(self, inputs: Sequence[Port]) -> None:
        wanted = Port(self.input.tensor, self.input.dtype, self.shape)
        if len(inputs) != 1 or inputs[0][:2] != wanted[:2] or not allows_shape(inputs[0].shape[1:], self.shape[1:]):
            raise ClassifierMisfit(f"the classifier takes {_described(inputs)}, not {_described([wanted])}")
        batch = inputs[0].shape[0]
        if isinstance(batch, int) and batch >= 0 and not batch == self.input.max_batch == 1:
            rule = "it must take any number, or 1 with max_batch = 1"
            raise ClassifierMisfit(f"the classifier takes exactly {batch} images at once; {rule}")

    def _check_outputs(self, outputs: Sequence[Port]) -> None:
        answer = next((port for port in outputs if port.name == self.output.tensor), None)
        if answer is None:
            raise ClassifierMisfit(f"the classifier gives {_described(outputs)}, not {self.output.tensor}")
        if not self._gives(answer.shape[1:]):
            raise ClassifierMisfit(f"the classifier gives {_described([answer])}, not {self._wanted('N')}")

    def _resized(self, x: F32) -> F32:
        """[N, C, S, S] -> [N, C, s, s], clipped to [-1, 1], which sharp filters leave."""
        size = self.size_px
        if size == self._image.size_px:
            return x
        planes = x.reshape(-1, *x.shape[2:])
        small = [np.asarray(Image.fromarray(p).resize((size, size), FILTERS[self.input.filter])) for p in planes]
        return np.clip(np.reshape(small, (*x.shape[:2], size, size)), -1, 1).astype(np.float32)

    def _coloured(self, x: F32) -> F32:
        """[N, C, s, s] -> [N, c, s, s]"""
        if self.input.colour == "grey" and x.shape[1] == 3:
            return np.asarray(np.einsum("nchw,c->nhw", x, LUMA)[:, None], np.float32)
        x = np.repeat(x, 3, axis=1) if self.channels > x.shape[1] else x
        return np.asarray(x[:, ::-1]) if self.input.colour == "bgr" else x

    def _scaled(self, x: F32) -> Batch:
        """[-1, 1] -> the declared values and type"""
        if self.input.dtype == "uint8":
            return to_uint8(x)
        low, high = self.input.range
        if (low, high) != (-1.0, 1.0):
            x = np.asarray((x + 1) * np.float32((high - low) / 2) + np.float32(low), np.float32)
        for numbers, apply in ((self.input.mean, np.subtract), (self.input.std, np.divide)):
            if numbers is not None:
                x = np.asarray(apply(x, np.asarray(numbers, np.float32)[:, None, None]))
        return x

    def _columns(self, answer: Batch, n: int) -> F64:
        """f's own numbers for n images, float64: [n, K], or [n, 1] where one column is taken."""
        column = self.output.column
        if answer.dtype.kind not in "fiu":
            raise ClassifierMisfit(f"the classifier answered with {answer.dtype}, not with numbers")
        if answer.ndim == 0 or len(answer) != n or not self._gives(answer.shape[1:]):
            raise ClassifierMisfit(f"the classifier answered with shape {list(answer.shape)}, not {self._wanted(n)}")
        table = answer.reshape(n, -1)
        return np.asarray(table if column is None else table[:, column : column + 1], np.float64)

    def _gives(self, shape: Sequence[int | str | None]) -> bool:
        """Whether one image's answer may have this shape."""
        column = self.output.column
        if column is None:
            return allows_shape(shape, (self.classes,))
        numbers = shape[0] if len(shape) == 1 else 1
        return len(shape) <= 1 and (not isinstance(numbers, int) or numbers < 0 or numbers > column)

    def _wanted(self, n: int | str) -> str:
        column = self.output.column
        return f"[{n}, {self.classes}]" if column is None else f"[{n}, more than {column}]"


def _described(ports: Sequence[Port]) -> str:
    return ", ".join(f"{port.name} {port.dtype} {list(port.shape)}" for port in ports) or "nothing"


def _sigmoid(logits: F64) -> F64:
    return np.asarray(np.where(logits >= 0, 1, np.exp(-np.abs(logits))) / (1 + np.exp(-np.abs(logits))))


def _check_probabilities(p: F64) -> None:
    low, high = float(p.min(initial=0)), float(p.max(initial=0))
    if low < -SUM_TOLERANCE or high > 1 + SUM_TOLERANCE:
        raise ClassifierMisfit(f"the classifier answered with {low:.3g} to {high:.3g}; probabilities lie in 0..1")
    off = float(np.abs(p.sum(axis=1) - 1).max(initial=0))
    if off > SUM_TOLERANCE:
        raise ClassifierMisfit(
            f"the classifier's probabilities add up to 1 ± {off:.3g}: are they logits, or independent?"
        )

"""Which evidence maps a job gets, from which calls of f, and how they are scored where that is asked for.

The strip map needs no call of f, GradCAM none beside the one that asks about the input anyway, occlusion one batch of
its own. The arithmetic is in `heatmaps`, `occlusion` and `scores`, the pictures are `overlay`'s.
C: channels, S: side of the images, c, h, w: channels and sides of f's feature map.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.aim import read
from models.manifest import Aim, Gate, ImageSpec
from models.pixels import to_float
from models.traversal import Direction, Latent
from workers.calls import Aborted
from workers.explain import Explanation, ImpossibleRequest
from workers.heatmaps import gradcam, strip_map
from workers.jobs import Heatmap
from workers.networks import Networks
from workers.occlusion import occlusion_map
from workers.scores import MapScores, score_maps

U8 = NDArray[np.uint8]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
MapName = Literal["strip", "gradcam", "occlusion"]


@dataclass(frozen=True, eq=False)
class Evidence:
    """The maps of one image."""

    maps: Mapping[MapName, F32]
    """float32 [S, S] each, in the order in which they are shown"""
    places: tuple[int, int] | None = None
    """rows and columns of the feature map that GradCAM was made of"""
    counterfactual: int | None = None
    """the frame that the input was turned into for the scores; None where none were asked for"""
    scores: Mapping[MapName, MapScores] | None = None


class Onlooker:
    """A model that keeps what f sees in one image, the moment it is asked about it: a `workers.calls.Model`.

    Explained through it, an input costs f no second look. Where f cannot be looked into it is the model, no more.

    Args:
        networks: the model.
        pixels: the image to look out for, uint8 [C, S, S].
    """

    def __init__(self, networks: Networks, pixels: U8) -> None:
        self._networks, self._input = networks, to_float(pixels)
        self._features: F32 | None = None

    @property
    def image(self) -> ImageSpec:
        """The images that all three networks speak of."""
        return self._networks.image

    @property
    def latent(self) -> Latent:
        """Where the space ends."""
        return self._networks.latent

    @property
    def directions(self) -> Mapping[str, Direction]:
        """The classifier's directions by name."""
        return self._networks.directions

    @property
    def gate(self) -> Gate | None:
        """How the space tells strange images."""
        return self._networks.gate

    def aim(self, direction: str) -> Aim:
        """What a direction is to change, and where f's decision about it turns."""
        return self._networks.aim(direction)

    def look(self, x: F32) -> F32:
        """Images [N, C, S, S] in [-1, 1] -> what the gate's network sees, [N, 2]."""
        return self._networks.look(x)

    def encode(self, x: F32) -> F32:
        """Images [N, C, S, S] in [-1, 1] -> latents [N, D]."""
        return self._networks.encode(x)

    def synthesise(self, w: F32) -> F32:
        """Latents [N, D] -> images [N, C, S, S], roughly in [-1, 1]."""
        return self._networks.synthesise(w)

    def classify(self, x: F32, direction: str = "main") -> F64:
        """Images [N, C, S, S] in [-1, 1] -> the number that the direction is to change, 0..1, [N]."""
        if self._networks.head is None or self._features is not None or not np.array_equal(x[0], self._input):
            return self._networks.classify(x, direction)
        probabilities, features = self._networks.examine(x)
        self._features = features[0]
        return read(self.aim(direction), probabilities)

    def features(self) -> F32:
        """f's feature map of the image, [c, h, w]; f is asked now if it has not been asked about it yet."""
        if self._features is None:
            self._features = self._networks.examine(self._input[None])[1][0]
        return self._features


def wanted_maps(heatmap: Heatmap, sees: bool) -> tuple[MapName, ...]:
    """The maps that a request means.

    Args:
        heatmap: as it was asked for.
        sees: whether f can be looked into.

    Raises:
        ImpossibleRequest: GradCAM was asked for, of an f that cannot be looked into.
    """
    match heatmap:
        case "none":
            return ()
        case "both":
            return ("strip", "gradcam" if sees else "occlusion")
        case "gradcam" if not sees:
            raise ImpossibleRequest("gradcam needs a classifier with a feature map; ask for occlusion")
        case _:
            return (heatmap,)


def gather(
    networks: Networks,
    onlooker: Onlooker,
    explanation: Explanation,
    pixels: U8,
    names: tuple[MapName, ...],
    *,
    scores: bool = False,
    should_abort: Callable[[], bool] = lambda: False,
) -> Evidence:
    """Make maps, and score them if that is asked for.

    Args:
        networks: what was explained.
        onlooker: the model through which it was explained.
        explanation: what was found.
        pixels: the input, uint8 [C, S, S].
        names: which maps, as `wanted_maps` told.
        scores: whether to score them: 45 images for f for each map, and 4 more.
        should_abort: asked before f is.

    Raises:
        Aborted: `should_abort` said so.
    """

    def ask(batch: U8) -> F64:
        if should_abort():
            raise Aborted
        return networks.classify(to_float(batch), explanation.direction)

    makers: dict[MapName, Callable[[], F32]] = {
        "strip": lambda: strip_map(
            np.stack([frame.pixels for frame in explanation.frames]), [f.probability for f in explanation.frames]
        ),
        "gradcam": lambda: _gradcam(networks, onlooker, explanation, pixels.shape[-1]),
        "occlusion": lambda: occlusion_map(pixels, explanation.input_probability, ask),
    }
    maps = {name: makers[name]() for name in names}
    rows, columns = onlooker.features().shape[1:] if "gradcam" in maps else (0, 0)
    places = (rows, columns) if rows else None
    if not (scores and maps):
        return Evidence(maps, places)
    other = counterfactual(explanation)
    start, end = (explanation.frames[index].pixels for index in (explanation.start_index, other))
    found = score_maps(maps, pixels, start, end, decided=explanation.input_decision, ask=ask)
    return Evidence(maps, places, other, found)


def _gradcam(networks: Networks, onlooker: Onlooker, explanation: Explanation, size_px: int) -> F32:
    assert networks.head is not None, "wanted_maps names GradCAM only where there is a head"
    aim, decided = networks.aim(explanation.direction), explanation.input_decision
    return gradcam(onlooker.features(), networks.head, aim, decided=decided, size_px=size_px)


def counterfactual(explanation: Explanation) -> int:
    """The frame on which f is surest of the other decision: the end of the strip on that side.

    Not the flip: there f has barely changed its mind, and how early it does so could hardly be told.
    """
    return 0 if explanation.input_decision else len(explanation.frames) - 1

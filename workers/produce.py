"""What one request makes of one image: the explanation, everything delivered with it, and how long each stage took.

explain -> evidence maps -> verdict -> frames, full resolution, strip, animation. Pure but for the clock: the networks,
whoever wants to stop and whoever listens come in as arguments, so that an attempt and a replay make the same.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from models.pixels import PreparedImage, encode_png
from workers.animation import render_animation
from workers.evidence import Evidence, Onlooker, gather, wanted_maps
from workers.explain import Explanation, explain
from workers.full_resolution import full_parts, original_for
from workers.jobs import JobRequest
from workers.networks import Networks
from workers.overlay import map_parts
from workers.strip import render_strip
from workers.verdict import Quality, judge
from workers.wording import Wording


@dataclass(frozen=True, eq=False)
class Produced:
    """All that a job delivers, and all that its report tells of the making."""

    request: JobRequest
    explanation: Explanation
    evidence: Evidence
    quality: Quality
    parts: Mapping[str, bytes]
    """the files of the result by name, such as "strip.png" """
    timing_ms: Mapping[str, float] = field(default_factory=dict)
    """milliseconds by which every stage, the explanation's own among them, has made the whole longer"""


class Stopwatch:
    """Milliseconds spent in each stage, by its name."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._begun = clock, clock()
        self.timing_ms: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """What has passed since the last lap was spent in this stage."""
        now = self._clock()
        self.timing_ms[stage] = self.timing_ms.get(stage, 0.0) + (now - self._begun) * 1000
        self._begun = now


def produce(
    networks: Networks,
    image: PreparedImage,
    request: JobRequest,
    *,
    clock: Callable[[], float] = time.perf_counter,
    should_abort: Callable[[], bool] = lambda: False,
    progress: Callable[[str, int], None] = lambda *_: None,
) -> Produced:
    """Explain an image and make everything that the request asks for.

    Args:
        networks: of the classifier that the request names.
        image: as the decoder handed it out.
        request: what to explain and how.
        clock: seconds, for the timing.
        should_abort: asked before each network call; True stops the work.
        progress: told the stage and per cent of the whole.

    Raises:
        ImpossibleRequest: the request does not fit the classifier or the image.
        TooLargeForFullResolution: so many frames of this image are not delivered at its own resolution.
        Aborted: `should_abort` said so.
    """
    original = original_for(request, image)
    names = wanted_maps(request.heatmap, sees=networks.head is not None)
    onlooker = Onlooker(networks, image.pixels)
    explanation = explain(
        onlooker,
        image.pixels,
        frames=request.frames,
        span=request.span,
        targets=request.targets,
        mode=request.mode,
        direction=request.direction,
        clock=clock,
        should_abort=should_abort,
        progress=progress,
    )
    watch = Stopwatch(clock)
    evidence = gather(
        networks,
        onlooker,
        explanation,
        image.pixels,
        names,
        scores=request.scores,
        should_abort=should_abort,
    )
    drawn_maps = map_parts(evidence, image.pixels, explanation, networks.classifier.manifest)
    watch.lap("evidence")
    words = Wording.of(networks.aim(request.direction))
    quality = judge(networks, explanation, image.pixels, words=words, should_abort=should_abort)
    watch.lap("verdict")
    progress("render", 85)
    parts = drawn_maps | {f"frames/{frame.index}.png": encode_png(frame.pixels) for frame in explanation.frames}
    if explanation.flip.frame is None and explanation.flip.pixels is not None:
        parts["flip.png"] = encode_png(explanation.flip.pixels)
    watch.lap("render")
    if original is not None:
        parts |= full_parts(explanation, image.pixels, original, networks.image, should_abort, networks.threads)
        watch.lap("full_resolution")
    with ThreadPoolExecutor(1, thread_name_prefix="animation") as beside:  # its encoder leaves Python to the strip
        moving = beside.submit(render_animation, explanation, words) if request.animation else None
        parts["strip.png"] = render_strip(explanation, image.pixels, networks.classifier.manifest, quality)
        watch.lap("render")
        if moving is not None:
            parts["animation.webp"] = moving.result()
            watch.lap("animation")
    return Produced(request, explanation, evidence, quality, parts, {**explanation.timing_ms, **watch.timing_ms})

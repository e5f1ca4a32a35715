"""Two reports held against each other, fact by fact: what one tells and the other tells otherwise. Pure.

A fact has a name in words, so that a difference can be said as a sentence. What a report does not tell, such as one
from before there were verdicts, is not compared; `untold` says what that is.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from workers.jobs import (
    FlipReport,
    FrameReport,
    HeatmapDigests,
    HeatmapsReport,
    InputReport,
    Provenance,
    QualityReport,
    ReconstructionReport,
    ScoresReport,
    Value,
)

TOLERANCE = 1e-5
"""Numbers this close are the same: room for another order of the same sums, far below what shows."""
STEP_TOLERANCE = 1e-4
"""λ this close are the same step. They are read off f's answers, and a logit is several times as sensitive."""

SENTENCE = "The sentence for"
"""How the names of facts begin that are about words alone."""
FRAMES, FLIP, SCORES, VERDICT = "the pixels of the frames", "the pixels of the flip", "the scores", "the verdict"
"""Parts of an explanation that a report may be silent about; a map is another, `map_part`."""


class Told(Value):
    """What a replay needs of a report."""

    input: InputReport
    reconstruction: ReconstructionReport
    frames: tuple[FrameReport, ...]
    flip: FlipReport
    quality: QualityReport | None = None
    heatmaps: HeatmapsReport = HeatmapsReport()
    heatmaps_sha256: HeatmapDigests | None = None
    scores: ScoresReport | None = None
    provenance: Provenance


@dataclass(frozen=True)
class Fact:
    """One thing that a report tells.

    Attributes:
        value: a number, a digest, a word, or None for what the report says is not known.
        room: how far apart two numbers may be that count as the same; 0 where nothing may be.
    """

    value: float | str | None
    room: float = 0.0

    def apart(self, other: "Fact") -> float:
        """How far apart two numbers are; infinitely, where only one of both is a number, and of words that differ."""
        mine, theirs = self.value, other.value
        if isinstance(mine, int | float) and isinstance(theirs, int | float):
            return abs(mine - theirs)
        return 0.0 if mine == theirs else float("inf")

    def __str__(self) -> str:
        if self.value is None:
            return "unknown"
        return f"{self.value:.6f}" if self.room else str(self.value)


Facts = dict[str, Fact]


def differences(told: Told, found: Told, *, words: bool = True) -> Iterator[str]:
    """A sentence for each thing that comes out otherwise than a report tells: what came out, and what was told.

    Args:
        told: the report.
        found: what it would tell now.
        words: whether the sentences of the verdict are held against each other too, beside their codes.
    """
    if len(told.frames) != len(found.frames):
        yield f"The strip has {len(found.frames)} frames, not {len(told.frames)}."
        return
    expected, came = facts(told), facts(found)
    for what, fact in expected.items():
        if what.startswith(SENTENCE) and not words:
            continue
        now = came.get(what)
        if now is None:
            yield f"{what} was {fact}, and is not there now."
        elif not fact.apart(now) <= fact.room:
            yield f"{what} is {now}, not {fact}."


def largest_difference(told: Told, found: Told) -> float:
    """Between two numbers that both reports tell of f, of the surrogate, and of all that is measured on them."""
    expected, came = facts(told), facts(found)
    pairs = [(fact, came[what]) for what, fact in expected.items() if fact.room == TOLERANCE and what in came]
    return max((a.apart(b) for a, b in pairs if a.value is not None and b.value is not None), default=0.0)


def untold(report: Told) -> Iterator[str]:
    """What cannot be compared with this report, because it does not tell of it."""
    if any(frame.pixels_sha256 is None for frame in report.frames):
        yield FRAMES
    if report.flip.reached and report.flip.pixels_sha256 is None:
        yield FLIP
    for name in map_names(report):
        if getattr(report.heatmaps_sha256, name, None) is None:
            yield map_part(name)
    if report.scores is None and report.provenance.request is not None and report.provenance.request.scores:
        yield SCORES
    if report.quality is None:
        yield VERDICT


def map_part(name: str) -> str:
    """What a map is called as a part of an explanation."""
    return f"the map {name}"


def map_names(report: Told) -> list[str]:
    """The evidence maps that a report tells of."""
    return [name for name, place in report.heatmaps if place is not None]


def facts(report: Told) -> Facts:
    """All that a report tells and a replay can make again, by its name in words."""
    parts = chain(_input(report), _frames(report), _flip(report.flip), _maps(report), _scores(report), _quality(report))
    return dict(parts)


# --- What the parts of a report tell -------------------------------------------------------------------------------


def _input(report: Told) -> Iterator[tuple[str, Fact]]:
    again = report.reconstruction
    yield "The probability of the input", _number(report.input.probability)
    yield "The decision on the input", _yes_or_no(report.input.decision)
    yield "The probability of the reconstruction", _number(again.probability)
    yield "The probability of the surrogate on the reconstruction", _number(again.surrogate_probability)
    yield "Whether the reconstruction keeps the decision", _yes_or_no(again.agrees)
    yield "The mean error of the reconstruction", _number(again.mae)
    yield "The MS-SSIM of the reconstruction", _number(again.ms_ssim)


def _frames(report: Told) -> Iterator[tuple[str, Fact]]:
    for frame in report.frames:
        yield f"The λ of frame {frame.index}", Fact(frame.lambda_, STEP_TOLERANCE)
        yield f"The probability asked of frame {frame.index}", _number(frame.asked)
        yield f"The probability on frame {frame.index}", _number(frame.probability)
        yield f"The probability of the surrogate on frame {frame.index}", _number(frame.surrogate_probability)
        yield f"Whether frame {frame.index} reached what was asked", _yes_or_no(frame.reached)
        if frame.pixels_sha256 is not None:
            yield f"The SHA-256 of the pixels of frame {frame.index}", Fact(frame.pixels_sha256)


def _flip(flip: FlipReport) -> Iterator[tuple[str, Fact]]:
    yield "The flip", Fact(_place(flip))
    if not flip.reached:
        return
    yield "The λ of the flip", Fact(flip.lambda_, STEP_TOLERANCE)
    yield "The probability of the flip", _number(flip.probability)
    yield "The share of pixels that the flip changes", _number(flip.changed_pixels)
    if flip.pixels_sha256 is not None:
        yield "The SHA-256 of the pixels of the flip", Fact(flip.pixels_sha256)


def _place(flip: FlipReport) -> str:
    if not flip.reached:
        return "nowhere on the walk"
    return "between or beyond the frames" if flip.frame is None else f"frame {flip.frame}"


def _maps(report: Told) -> Iterator[tuple[str, Fact]]:
    for name in map_names(report):
        yield f"The map {name}", Fact("made")
        digest = getattr(report.heatmaps_sha256, name, None)
        if digest is not None:
            yield f"The SHA-256 of the map {name}", Fact(digest)


def _scores(report: Told) -> Iterator[tuple[str, Fact]]:
    if report.scores is None:
        return
    yield "The frame that the maps are scored with", Fact(str(report.scores.counterfactual))
    for name, scores in report.scores:
        if name != "counterfactual" and scores is not None:
            for score, value in scores:
                yield f"The score {score} of the map {name}", _number(value)


def _quality(report: Told) -> Iterator[tuple[str, Fact]]:
    if report.quality is None:
        return
    quality = report.quality
    yield "The verdict", Fact(quality.verdict)
    yield "What the verdict rests on", Fact(", ".join(reason.code for reason in quality.reasons) or "nothing")
    for reason in quality.reasons:
        yield f"{SENTENCE} {reason.code}", Fact(f"“{reason.sentence}”")
    for name, value in quality:
        if name not in ("verdict", "reasons"):
            yield f"The verdict's figure {name}", _number(value)


def _number(value: float | None) -> Fact:
    return Fact(value, TOLERANCE)


def _yes_or_no(value: bool) -> Fact:
    return Fact("yes" if value else "no")

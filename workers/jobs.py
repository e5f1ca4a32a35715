"""What a job is: its request, its state, its report. Frozen values without a connection inside.

The record is the truth about a job; the queue only carries its id. Neither HTTP shapes nor links live here (the app's),
nor storage (`jobstore`). Reading this module loads neither numpy nor a network.
"""

from datetime import datetime, timedelta
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from models.manifest import Mode

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Status = Literal["queued", "running", "succeeded", "failed", "canceled"]
Priority = Literal["interactive", "batch"]
Stage = Literal["queued", "decode", "encode", "traverse", "predict", "render", "deliver"]
Heatmap = Literal["none", "strip", "gradcam", "occlusion", "both"]


class Value(BaseModel):
    """A frozen value that knows exactly its own fields; `lambda` stands in JSON where Python needs `lambda_`."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True)


# --- What is asked -------------------------------------------------------------------------------------------------


class JobRequest(Value):
    """What to explain and how: fully resolved, so that a later version or default cannot change a waiting job.

    Attributes:
        frames: How many frames; odd, 3 to 33. Their asked probabilities are spread evenly over `span`.
        targets: Probabilities to show instead of evenly spread ones, rising.
        span: Probabilities (low, high) at the strip's ends.
        mode: How frames are made: drawn by the generator, or the input with the generator's change added.
        direction: One of the classifier's named directions.
        heatmap: Which evidence maps: one of them, none, or "both": the strip's, and GradCAM where f can be looked into,
            else occlusion.
        scores: Whether the maps are scored against each other, which takes many calls of f.
        full_resolution: Whether the change is also added to the image in its own size; residual only.
        animation: Whether the strip is also delivered in motion.
    """

    classifier_id: str
    classifier_version: int
    frames: int = Field(default=9, ge=3, le=33)
    targets: tuple[Probability, ...] | None = None
    span: tuple[Probability, Probability] = (0.05, 0.95)
    mode: Mode = "generated"
    direction: str = "main"
    heatmap: Heatmap = "both"
    scores: bool = False
    full_resolution: bool = False
    animation: bool = False


# --- What is answered ----------------------------------------------------------------------------------------------


class InputReport(Value):
    """The image that was sent, and what f says about it. `sha256` is that of the uploaded bytes."""

    probability: Probability
    decision: bool
    sha256: str
    rows: int
    columns: int
    kind: Literal["png", "jpeg", "tiff", "dicom"]


class ClassifiedReport(Value):
    """What f was given for every probability in the report, as the classifier's manifest declares it.

    Attributes:
        width: In pixels.
        height: In pixels.
        channels: 1 is grey, 3 is colour, or grey three times.
        dtype: Of each value.
        range: What black and white were made, before `mean` and `std`.
        mean: Subtracted per channel; null where nothing is.
        std: Divided by per channel; null where nothing is.
    """

    width: int
    height: int
    channels: int
    dtype: Literal["float32", "uint8"]
    range: tuple[float, float]
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


class ReconstructionReport(Value):
    """How well the generator holds the image: always about G(E(x)).

    Attributes:
        probability: f(G(E(x))).
        surrogate_probability: f̃(E(x)).
        agrees: Whether f decides the same on G(E(x)) as on x.
        mae: Mean absolute difference, as a share of the value range.
        ms_ssim: Multi-scale structural similarity; 1 is identical.
    """

    probability: Probability
    surrogate_probability: Probability
    agrees: bool
    mae: float
    ms_ssim: float


class StartReport(Value):
    """The delivered frame at λ = 0."""

    frame: int
    probability: Probability
    lambda_: float = Field(alias="lambda")


class FrameReport(Value):
    """One frame of the strip; `asked` is null at the start, `reached` means |probability − asked| ≤ 0.05."""

    index: int
    lambda_: float = Field(alias="lambda")
    asked: Probability | None
    probability: Probability
    surrogate_probability: Probability
    reached: bool
    pixels_sha256: str | None = Field(
        default=None, description="SHA-256 of the frame's pixels, one byte for each value, row by row, channels last."
    )


class FlipReport(Value):
    """Where the decision changes: the step of the walk at the smallest |λ| on which f decides otherwise than on the
    input, looked for until its probability is within 0.02 of the threshold; all null if there is none.

    `frame` is the frame that it is; null where it stands between frames or beyond them, and then it has a picture of
    its own. `changed_pixels` is the share of pixels that differ from the start by more than a tenth of the range.
    """

    reached: bool
    lambda_: float | None = Field(default=None, alias="lambda")
    probability: Probability | None = None
    frame: int | None = None
    changed_pixels: float | None = None
    pixels_sha256: str | None = Field(
        default=None, description="SHA-256 of the flip's pixels, taken as that of a frame's."
    )


class ReasonReport(Value):
    """One thing that counts against the explanation: a stable code, and the sentence for a reader."""

    code: str
    sentence: str


class QualityReport(Value):
    """Whether the explanation can be trusted, why not, and what was measured to say so.

    A figure is null where it could not be measured, or where the bundle holds nothing against it. Shares of val images
    are of those that the space's gate was fitted on.

    Attributes:
        verdict: `ok`; `caution`: read the reasons first; `unreliable`: do not rely on it.
        reasons: The heaviest first.
        typicality: Share of val images whose code lies further out in the space.
        strangeness: Share of val images that look less strange to the space's gate.
        reconstruction_percentile: Share of val images that the generator redraws better.
        gap: |f(G(E(x))) − f(x)|.
        monotonicity: Rank correlation of λ and f over all steps between the strip's ends.
        reached: Share of the asked probabilities that were reached.
        surrogate_error: Mean |f̃ − f| over the frames.
        second_opinion: How far an independently trained classifier moves along the strip, as a share of f's way.
        survival: Share of f's change that is left under light blur, grain or JPEG compression, the worst of the three.
    """

    verdict: Literal["ok", "caution", "unreliable"]
    reasons: tuple[ReasonReport, ...] = ()
    typicality: Probability | None = None
    strangeness: Probability | None = None
    reconstruction_percentile: Probability | None = None
    gap: Probability
    monotonicity: float | None = None
    reached: Probability
    surrogate_error: float
    second_opinion: float | None = None
    survival: float | None = None


class HeatmapsReport(Value):
    """The evidence maps that were made: where each one's picture is; null for the others.

    The numbers of a map, float32 [S, S], lie beside its picture, with the ending `.npy`.
    """

    strip: str | None = None
    gradcam: str | None = None
    occlusion: str | None = None


class HeatmapDigests(Value):
    """SHA-256 of the numbers of each evidence map: float32, little-endian, row by row, as its `.npy` holds them."""

    strip: str | None = None
    gradcam: str | None = None
    occlusion: str | None = None


class MapScoresReport(Value):
    """How well one map orders the pixels of this image.

    Attributes:
        cout: Counterfactual transition score, −1 to 1; more is better.
        insertion: Area under the classifier's answer while pixels are put into a blurred image; more is better.
        deletion: The same while they are taken out of the input; less is better.
    """

    cout: float
    insertion: Probability
    deletion: Probability


class ScoresReport(Value):
    """The scores of every map that was made, on the same image with the same counterfactual.

    Attributes:
        counterfactual: Index of the frame that the input was turned into: the end of the strip on the other decision's
            side.
    """

    counterfactual: int
    strip: MapScoresReport | None = None
    gradcam: MapScoresReport | None = None
    occlusion: MapScoresReport | None = None


class SpaceProvenance(Value):
    """The space that made the frames, told by the digest of its manifest."""

    id: str
    version: int
    sha256: str


class ClassifierProvenance(Value):
    """The classifier that was explained, told by the digest of its manifest; the job names it."""

    sha256: str
    endpoint: str | None = Field(default=None, description="Where it answered; null when it is part of the bundle.")
    model: str | None = Field(default=None, description="Its name at that endpoint.")
    model_version: str | None = Field(default=None, description="Its version, as the endpoint named it.")


class DirectionProvenance(Value):
    """The direction that was walked, told by the digest of its file."""

    name: str
    sha256: str


class Provenance(Value):
    """Everything that made this report, so that it can be made again."""

    space: SpaceProvenance
    classifier: ClassifierProvenance
    direction: DirectionProvenance
    runtime: str
    software: str
    request: JobRequest | None = Field(default=None, description="What was asked, fully resolved.")


class TimingMs(Value):
    """Where the time went, in milliseconds; `queued` is the wait, `total` the work after it."""

    queued: float
    decode: float
    encode: float
    traverse: float
    synthesise: float
    predict: float
    evidence: float = 0.0
    verdict: float = 0.0
    render: float
    full_resolution: float = 0.0
    animation: float = 0.0
    total: float


class Report(Value):
    """One explanation. `lambda` rises along `frames`; every probability is f's own on the delivered 8-bit pixels.

    `answer` says what every probability here is: the target's, or, along a direction for grades, the expected grade as
    a share of the scale.
    """

    mode: Mode
    target_class: str
    answer: Literal["probability", "expected_grade"] = "probability"
    grades: tuple[str, ...] | None = Field(
        default=None,
        description="Along a direction for grades, their names in rising order: the number `n` stands for the grade "
        "`n * (len(grades) - 1)`, counted from 0.",
    )
    threshold: Probability
    input: InputReport
    classified: ClassifiedReport | None = Field(
        default=None,
        description="The pixels that f was given: an image of the space, such as a frame or the flip, brought to the "
        "size and range that f reads; never the image as it was sent, nor a picture at full resolution. Null in "
        "reports of versions that did not tell.",
    )
    reconstruction: ReconstructionReport
    start: StartReport
    frames: tuple[FrameReport, ...]
    flip: FlipReport
    quality: QualityReport | None = Field(
        default=None, description="The verdict on this explanation; null in reports of versions that gave none."
    )
    heatmaps: HeatmapsReport = HeatmapsReport()
    heatmaps_sha256: HeatmapDigests | None = Field(
        default=None, description="What proves the maps' numbers; null where there are none."
    )
    scores: ScoresReport | None = Field(default=None, description="How good the maps are, where that was asked for.")
    full_resolution: bool = Field(
        default=False,
        description="Whether the change of every frame, and of the flip, was also added to the image at its own "
        "resolution. Every probability is f's on the frames themselves, never on those pictures.",
    )
    provenance: Provenance
    timing_ms: TimingMs


# --- Where it stands -----------------------------------------------------------------------------------------------


class Progress(Value):
    """How far a job is: the stage it works on, and per cent of the whole."""

    stage: Stage = "queued"
    percent: int = Field(default=0, ge=0, le=100)


class JobError(Value):
    """Why a job failed: a stable code, the code in words, and what happened this time."""

    code: str
    title: str
    detail: str


class JobRecord(Value):
    """One job from its acceptance to its expiry.

    `attempts` counts its starts and is the fencing token of the attempt that runs: whoever holds a smaller number has
    been replaced and may write nothing more. `losses` counts the attempts that ended without a word; an attempt that
    was handed back is none.

    Attributes:
        owner: Who may see the job, the client's name; None where there are no keys.
        callback: The configured webhook to tell when the job ends.
        traceparent: The trace that the job belongs to, as W3C writes it.
        remembered: Where the client's Idempotency-Key is remembered, so that it is erased with the job.
        input_bytes: What the upload takes in the store; 0 once it is erased.
        result_bytes: What the results take.
    """

    id: str
    status: Status = "queued"
    request: JobRequest
    owner: str | None = None
    priority: Priority = "interactive"
    callback: str | None = None
    traceparent: str | None = None
    remembered: str | None = None
    progress: Progress = Progress()
    attempts: int = 0
    losses: int = 0
    input_bytes: int = 0
    result_bytes: int = 0
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    expires_at: datetime | None = None
    report: Report | None = None
    error: JobError | None = None

    @classmethod
    def read(cls, stored: bytes | str) -> Self:
        """The record in its stored form. What a later version wrote into it is left out, so that versions can work
        side by side while they are exchanged.
        """
        return cls.model_validate_json(stored, extra="ignore")

    @property
    def is_over(self) -> bool:
        """Whether the job ended; an ended job never changes again."""
        return self.status in ("succeeded", "failed", "canceled")

    def started(self, at: datetime) -> Self:
        """The record of the next attempt, which begins at `at`."""
        progress = Progress(stage="decode")
        change = {"status": "running", "attempts": self.attempts + 1, "started_at": at, "progress": progress}
        return self.model_copy(update=change)

    def progressed(self, progress: Progress) -> Self:
        """The record with news from the running attempt."""
        return self.model_copy(update={"progress": progress})

    def handed_back(self) -> Self:
        """The record of a job that waits again, because whoever worked on it gave it up in order."""
        return self.model_copy(update={"status": "queued", "started_at": None, "progress": Progress()})

    def lost(self) -> Self:
        """The record of a job that waits again, because whoever worked on it fell silent."""
        return self.handed_back().model_copy(update={"losses": self.losses + 1})

    def succeeded(self, report: Report, at: datetime, ttl: timedelta) -> Self:
        """The record of a job that ended well at `at` and is kept for `ttl`."""
        done = Progress(stage="deliver", percent=100)
        return self._ended(at, ttl, {"status": "succeeded", "report": report, "progress": done})

    def failed(self, error: JobError, at: datetime, ttl: timedelta) -> Self:
        """The record of a job that ended without a report at `at` and is kept for `ttl`."""
        return self._ended(at, ttl, {"status": "failed", "error": error})

    def canceled(self, at: datetime, ttl: timedelta) -> Self:
        """The record of a job that its owner stopped at `at`."""
        return self._ended(at, ttl, {"status": "canceled"})

    def _ended(self, at: datetime, ttl: timedelta, change: dict[str, object]) -> Self:
        return self.model_copy(update={"finished_at": at, "expires_at": at + ttl, **change})


class Tombstone(Value):
    """What is left of an expired job for a while: that it was there, and whose it was."""

    id: str
    owner: str | None

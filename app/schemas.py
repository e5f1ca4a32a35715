"""The HTTP shapes: what a form may say, and what a job, a classifier and a space look like from outside.

The workers' values (`workers.jobs`) and the bundles' manifests (`models.manifest`) appear as they are where the
contract shows them so; links and addresses are added here. Field names are the contract's, with `lambda` in JSON.
"""

import itertools
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from fastapi import UploadFile
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic.json_schema import SkipJsonSchema

from models.bundle import Bundle
from models.manifest import ClassifierManifest, Mode, SpaceManifest, Walk
from workers.jobs import (
    FlipReport,
    FrameReport,
    Heatmap,
    JobError,
    JobRecord,
    JobRequest,
    Priority,
    Progress,
    Report,
    Status,
)

FEWEST_FRAMES, MOST_FRAMES = 3, 33

# --- What is asked -------------------------------------------------------------------------------------------------


def _odd(frames: int) -> int:
    if frames % 2 == 0:
        raise ValueError("must be odd, so that the start has as many places on either side")
    return frames


def _true_or_false(value: Any) -> Any:
    """A form knows no types: pydantic alone would also take 0, yes and on, of which the document says nothing."""
    if isinstance(value, str) and value.lower() not in ("true", "false"):
        raise ValueError("must be true or false")
    return value


def _span(text: str) -> str:
    if len(_rising_probabilities(text)) != 2:
        raise ValueError("must be two numbers: low,high")
    return text


def _targets(text: str) -> str:
    if len(_rising_probabilities(text)) >= MOST_FRAMES:
        raise ValueError(f"must be {MOST_FRAMES - 1} numbers at most")
    return text


def _rising_probabilities(text: str) -> tuple[float, ...]:
    """ "0.05,0.95" -> (0.05, 0.95)"""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ValueError("must be numbers with commas between them") from None
    if not all(0 <= value <= 1 for value in values):
        raise ValueError("must lie between 0 and 1")
    if any(low >= high for low, high in itertools.pairwise(values)):
        raise ValueError("must rise from left to right")
    return values


class ExplainForm(BaseModel):
    """An image, the classifier to explain, and how the strip should look. Unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")

    image: UploadFile = Field(description="One image as PNG, JPEG, TIFF or DICOM; told by its content, never its name.")
    classifier_id: str = Field(description="Which classifier to explain, by its `id`.", examples=["knee-oa"])
    classifier_version: Annotated[int, Field(ge=1)] | SkipJsonSchema[None] = Field(
        default=None,
        description="Which version of it; unless said, the one that is served: the promoted, else the highest.",
    )
    frames: Annotated[int, AfterValidator(_odd)] = Field(
        default=9,
        ge=FEWEST_FRAMES,
        le=MOST_FRAMES,
        description="How many frames; odd. The probabilities asked of them are spread evenly over `span`, and the one "
        "nearest to the start's gives its place to the start.",
    )
    span: Annotated[str, AfterValidator(_span)] = Field(
        default="0.05,0.95", description="The probabilities at the strip's ends: `low,high`."
    )
    targets: Annotated[str, AfterValidator(_targets)] | SkipJsonSchema[None] = Field(
        default=None,
        description="The probabilities to show, rising, with commas between them, in place of `frames` and `span`; the "
        "start stands among them as one frame more.",
        examples=["0.1,0.5,0.9"],
    )
    mode: Mode | SkipJsonSchema[None] = Field(
        default=None,
        description="How frames are made: `generated` are drawn by the generator, `residual` are the image that was "
        "sent, with only the generator's change added. The classifier's own unless said.",
    )
    full_resolution: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        default=False,
        description="In residual mode, also add the change to the image at its own resolution, for people: "
        "`frames[].full_url` and `flip.full_url`.",
    )
    target_class: Annotated[str, Field(max_length=200)] | SkipJsonSchema[None] = Field(
        default=None,
        description="What is to become more or less probable, where the classifier has directions for several classes: "
        "a class by name or index, or a target by its name. The bundle's own target if empty or left out.",
        examples=["osteoarthritis (KL 2-4)"],
    )
    direction: str = Field(
        default="main",
        description="One of the classifier's named directions; `GET /classifiers/{id}` lists them. It must be about "
        "`target_class`, where that is sent too.",
    )
    heatmap: Heatmap = Field(
        default="both",
        description="Which evidence maps: `strip` (what changes along the strip), `gradcam`, `occlusion`, `none`; "
        "`both` is the strip's and GradCAM's, or occlusion's where the classifier cannot be looked into.",
    )
    scores: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        default=False,
        description="Also score the maps (COUT, insertion, deletion): 45 more questions to the classifier for each.",
    )
    animation: Annotated[bool, BeforeValidator(_true_or_false)] = Field(
        default=False, description="Also deliver the strip in motion, as a WebP that runs from end to end and back."
    )
    priority: Priority | SkipJsonSchema[None] = Field(
        default=None,
        description="`batch` lets interactive jobs go first; the key's own unless said. A batch key has batch jobs.",
    )
    callback: str | SkipJsonSchema[None] = Field(
        default=None, description="The name of a configured webhook that is told when the job has ended."
    )

    @model_validator(mode="after")
    def _one_way_to_ask(self) -> Self:
        if self.targets is not None and self.model_fields_set & {"frames", "span"}:
            raise ValueError("send targets, or frames and span, but not both")
        return self

    @property
    def named_direction(self) -> str | None:
        """The direction, where the form names one."""
        return self.direction if "direction" in self.model_fields_set else None

    def job_request(self, version: int, direction: str, mode: Mode) -> JobRequest:
        """The job's request, with the version, the direction and the mode that were chosen."""
        low, high = _rising_probabilities(self.span)
        return JobRequest(
            classifier_id=self.classifier_id,
            classifier_version=version,
            frames=self.frames,
            targets=None if self.targets is None else _rising_probabilities(self.targets),
            span=(low, high),
            mode=mode,
            direction=direction,
            animation=self.animation,
            heatmap=self.heatmap,
            scores=self.scores,
            full_resolution=self.full_resolution,
        )


# --- A job ---------------------------------------------------------------------------------------------------------


class VersionedId(BaseModel):
    """One version of a classifier or space."""

    id: str
    version: int


class JobLinks(BaseModel):
    """Where the job and its parts are; `strip` and `report` answer once the job has succeeded."""

    self: str
    cancel: str
    events: str
    strip: str
    animation: str | None = Field(description="The strip in motion; null where it was not asked for.")
    report: str
    view: str = Field(description="The viewer's page of this job, for people.")

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        """The addresses of one job."""
        path = job_path(record.id)
        return cls(
            self=path,
            cancel=f"{path}/cancel",
            events=f"{path}/events",
            strip=f"{path}/strip.png",
            animation=f"{path}/animation.webp" if record.request.animation else None,
            report=f"{path}/report.json",
            view=f"/#job={record.id}",
        )


class Frame(FrameReport):
    """One frame of the strip. `url` holds exactly the pixels that f was asked about."""

    url: str
    full_url: str | None = Field(
        default=None, description="The same change at the image's own resolution; f has not seen this picture."
    )


class Flip(FlipReport):
    """Where the decision changes. `url` holds exactly the pixels that f was asked about there."""

    url: str | None = None
    full_url: str | None = Field(
        default=None, description="The flip's change at the image's own resolution; f has not seen this picture."
    )


class JobReport(Report):
    """One explanation. `lambda` rises along `frames`; every probability is f's own on the delivered 8-bit pixels."""

    frames: tuple[Frame, ...]
    flip: Flip


class JobSummary(BaseModel):
    """One explanation on its way: where it stands."""

    id: str
    status: Status
    progress: Progress
    attempts: int = Field(description="How often a worker has begun this job.")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="When every byte of the job is erased; known once it is finished.")
    classifier: VersionedId
    error: JobError | None = Field(description="Why the job failed, where it did.")
    links: JobLinks

    @classmethod
    def of(cls, record: JobRecord) -> Self:
        """The job that a record tells of."""
        return cls(**_told(record))


class Job(JobSummary):
    """One explanation on its way: where it stands, and what became of it."""

    queue_position: int | None = Field(description="The place among those that wait, 1 being next; null once started.")
    report: JobReport | None = Field(description="The explanation, once the job has succeeded.")

    @classmethod
    def of(cls, record: JobRecord, queue_position: int | None = None) -> Self:
        """The job that a record tells of."""
        report = record.report and job_report(record.id, record.report)
        return cls(**_told(record), queue_position=queue_position, report=report)


class JobList(BaseModel):
    """Some of the caller's jobs, newest first."""

    jobs: list[JobSummary]
    next: str | None = Field(description="Where the next ones are; null at the end.")


def _told(record: JobRecord) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in _SHOWN_AS_THEY_ARE},
        "classifier": VersionedId(id=record.request.classifier_id, version=record.request.classifier_version),
        "links": JobLinks.of(record),
    }


_SHOWN_AS_THEY_ARE = (
    "id",
    "status",
    "progress",
    "attempts",
    "created_at",
    "started_at",
    "finished_at",
    "expires_at",
    "error",
)


def job_path(job_id: str) -> str:
    """The address of a job."""
    return f"/jobs/{job_id}"


def job_report(job_id: str, report: Report) -> JobReport:
    """The report with the address of every picture."""
    path = job_path(job_id)
    maps = {name: part and f"{path}/{part}" for name, part in report.heatmaps.model_dump().items()}
    frames = [
        Frame(
            **frame.model_dump(by_alias=False),
            url=f"{path}/frames/{frame.index}.png",
            full_url=f"{path}/full/{frame.index}.png" if report.full_resolution else None,
        )
        for frame in report.frames
    ]
    named = "flip.png" if report.flip.frame is None else f"frames/{report.flip.frame}.png"
    full = "full/flip.png" if report.flip.frame is None else f"full/{report.flip.frame}.png"
    flip = Flip(
        **report.flip.model_dump(by_alias=False),
        url=f"{path}/{named}" if report.flip.reached else None,
        full_url=f"{path}/{full}" if report.full_resolution and report.flip.pixels_sha256 else None,
    )
    told = report.model_dump(by_alias=False)
    return JobReport.model_validate({**told, "frames": frames, "flip": flip, "heatmaps": maps})


# --- What can be explained -----------------------------------------------------------------------------------------


class DirectionDetail(BaseModel):
    """One way to walk: what changes along it, and how it was made."""

    name: str = Field(description="What `direction` of a request may say.")
    target_class: str = Field(description="The answer that changes.")
    answer: Literal["probability", "expected_grade"] = Field(
        description="The strip's numbers: the target's probability, or the expected grade, as a share of the scale."
    )
    classes: list[str] = Field(description="The classes behind it: those whose probabilities are added, or the grades.")
    against: list[str] | None = Field(description="The classes that it is held against; null for all others.")
    threshold: float = Field(description="The decision is `probability >= threshold`.")
    walk: Walk = Field(description="How its step was made: the paper's walk, natural, a blend, or the space's own.")
    share: float | None = Field(
        description="Of an attribute: its share of the effect that directions of its kind have; null for all others."
    )


class ClassifierSummary(BaseModel):
    """A classifier that can be explained, in the version that is served: the promoted, else the highest."""

    id: str
    version: int
    versions: list[int] = Field(description="Every version that can be asked for.")
    title: str
    target_class: str = Field(description="The answer whose probability a strip shows.")
    threshold: float = Field(description="The decision is `probability >= threshold`.")
    directions: list[DirectionDetail] = Field(description="Every way to walk, `main` first.")
    space: VersionedId
    url: str


class ClassifierList(BaseModel):
    """Every classifier that can be explained."""

    classifiers: list[ClassifierSummary]


class ClassifierDetail(BaseModel):
    """One version of a classifier: its manifest with every metric, and its card."""

    loaded: bool | None = Field(
        description="Whether a worker has it in memory and answers at once; null while the broker is away."
    )
    versions: list[int] = Field(description="Every version that can be asked for.")
    sha256: str = Field(description="Digest of the manifest, and so of every file it lists.")
    directions: list[DirectionDetail] = Field(description="Every way to walk, `main` first.")
    manifest: ClassifierManifest
    card: str | None = Field(description="The model card, in Markdown.")


class SpaceSummary(BaseModel):
    """A space, in the version that is served: the promoted, else the highest."""

    id: str
    version: int
    versions: list[int] = Field(description="Every version that there is.")
    title: str
    modality: str
    size_px: int = Field(description="The side of its square images.")
    url: str


class SpaceList(BaseModel):
    """Every space."""

    spaces: list[SpaceSummary]


class SpaceDetail(BaseModel):
    """One version of a space: its manifest with every metric, and its card."""

    loaded: bool | None = Field(
        description="Whether a worker has it in memory, with a classifier of it; null while the broker is away."
    )
    versions: list[int] = Field(description="Every version that there is.")
    sha256: str = Field(description="Digest of the manifest, and so of every file it lists.")
    manifest: SpaceManifest
    card: str | None = Field(description="The model card, in Markdown.")


def directions_of(manifest: ClassifierManifest) -> list[DirectionDetail]:
    """Every direction of a classifier, in the manifest's order."""
    shares = {attribute.name: attribute.share for attribute in manifest.attributes}

    def one(name: str) -> DirectionDetail:
        aim = manifest.aim(name)
        against = aim.target.against
        return DirectionDetail(
            name=name,
            target_class=aim.target.name,
            answer=aim.kind,
            classes=[manifest.classes[index] for index in aim.target.classes],
            against=None if against is None else [manifest.classes[index] for index in against],
            threshold=aim.threshold,
            walk=manifest.walk[name],
            share=shares.get(name),
        )

    return [one(name) for name in manifest.directions]


def card_of(bundle: Bundle[ClassifierManifest] | Bundle[SpaceManifest]) -> str | None:
    """The bundle's card, if it has one."""
    return bundle.file("card.md").read_text() if "card.md" in bundle.manifest.files else None


# --- Health --------------------------------------------------------------------------------------------------------


class Live(BaseModel):
    """The process answers."""

    status: Literal["live"] = "live"


class UnusableBundle(BaseModel):
    """A folder in the store that is not served, or a pin that cannot be followed, and why."""

    bundle: str = Field(examples=["classifiers/knee-oa/5"])
    code: str = Field(examples=["bundle-damaged"])


class Ready(BaseModel):
    """Explanations are being made."""

    status: Literal["ready"] = "ready"
    workers: int = Field(description="Workers that have replayed their golden pairs and are alive.")
    waiting: int = Field(description="Jobs that wait or are being worked on.")
    unusable_bundles: list[UnusableBundle]
    unreachable_classifiers: list[str] = Field(
        description="Remote classifiers, `id/version`, that a worker cannot reach. Their jobs fail; all others run.",
        examples=[["knee-gbt/1"]],
    )

"""The manifest of a bundle: what the artifacts are, for which images, how good, from where.

Frozen values that are written by training and read by workers and app. Reading and writing files is `models.bundle`.
"""

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

SCHEMA_VERSION: Literal[1] = 1

Identifier = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Walk = Literal["paper", "natural", "blend", "eigen"]
Mode = Literal["generated", "residual"]
"""How a strip's frames are made: drawn by the generator, or the input with the generator's change added."""
EndpointId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=63)]
"""Lower case with single underscores, so that it can end the name of an environment variable."""
ModelName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")]


class Value(BaseModel):
    """A frozen value; unknown keys, infinities and NaN are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FileEntry(Value):
    """Digest and size of one file of a bundle."""

    sha256: Sha256
    bytes: int = Field(ge=0)


class Preprocessing(Value):
    """How any image becomes a square one of the space's size; carried out by `models.pixels.prepare`."""

    fit: Literal["crop", "pad", "squash"]
    """crop: the centre square; pad: black margins; squash: both axes scaled on their own."""
    filter: Literal["lanczos"] = "lanczos"
    note: str = ""


class ImageSpec(Value):
    """The images a space draws and a classifier reads: [channels, size_px, size_px]."""

    size_px: int = Field(ge=8, le=2048)
    channels: Literal[1, 3]
    modality: str
    preprocessing: Preprocessing


class Provenance(Value):
    """Where a bundle comes from and what it is for."""

    dataset: str
    licence: str
    attribution: str
    images: int = Field(ge=0)
    """Real images that were trained on."""
    kimg: float | None = None
    """Thousands of images shown in training, repeats counted."""
    config_sha256: str
    code_version: str
    hardware: str
    hours: float = Field(ge=0)
    intended_use: str


class Metric(Value):
    """One measured figure, with the bar it was held against."""

    value: float
    ci95: tuple[float, float] | None = None
    n: int | None = Field(default=None, ge=0)
    bar: float | None = None
    met: bool | None = None


Quantiles = Annotated[tuple[float, ...], Field(min_length=2)]
"""Of val images, at equal shares from the least (0) to the greatest (1)."""
GatePartName = Literal["code", "mae", "ms_ssim", "detector", "density"]


class GatePart(Value):
    """One thing that the gate measures on an image; what each is, `models.gate` tells."""

    mean: float
    """of val images and foreign ones, so that parts can be weighed against each other"""
    std: float = Field(gt=0)
    weight: float


class Gate(Value):
    """How a space tells whether an image is one of its kind; fitted on val, carried out by `models.gate`.

    The score is `intercept + Σ weight·(part − mean)/std`: the higher, the stranger.
    """

    parts: dict[GatePartName, GatePart] = Field(min_length=1)
    intercept: float
    caution: float
    """Above this score an image is unusual."""
    unreliable: float
    """Above this score an image is taken for one of another kind."""
    images: int = Field(ge=1)
    """Val images that the thresholds and quantiles rest on."""
    scores: Quantiles
    codes: Quantiles
    """Squared Mahalanobis distance of E(x): codes of real images lie further out than sampled ones."""
    maes: Quantiles
    """Mean absolute difference of image and reconstruction, a share of the range."""
    ms_ssims: Quantiles
    """Multi-scale structural similarity of the two."""

    @model_validator(mode="after")
    def _thresholds_rise(self) -> Self:
        if self.caution > self.unreliable:
            raise ValueError(f"caution must not begin beyond unreliable: {self.caution} > {self.unreliable}")
        return self


class SpaceManifest(Value):
    """A space: generator and encoder for one kind of image."""

    kind: Literal["space"] = "space"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: Identifier
    version: int = Field(ge=1)
    title: str
    image: ImageSpec
    latent_size: int = Field(ge=1)
    files: dict[FileName, FileEntry] = {}
    """Filled in by `models.bundle.write_bundle`."""
    golden_tolerance: float = Field(gt=0)
    """Largest difference allowed when golden pairs are replayed: of x on [-1, 1]; of w in standard deviations."""
    gate: Gate | None = None
    """None: no image is refused, and none is vouched for."""
    metrics: dict[str, Metric]
    provenance: Provenance


class SpaceRef(Value):
    """The space a classifier's direction was fitted in."""

    id: Identifier
    version: int = Field(ge=1)


class Target(Value):
    """The answer that is explained: its classes against others, P(classes) / (P(classes) + P(against))."""

    name: str
    classes: tuple[int, ...] = Field(min_length=1)
    """Their probabilities are added."""
    against: tuple[int, ...] | None = Field(default=None, min_length=1)
    """None: all other classes."""

    @model_validator(mode="after")
    def _sides_differ(self) -> Self:
        both = (*self.classes, *(self.against or ()))
        if len(set(both)) != len(both):
            raise ValueError(f"target classes must be distinct, and none against itself, not {both}")
        return self


class Aim(Value):
    """What a walk along one direction is to change: one number in 0..1, read from f's answer by `models.aim`."""

    kind: Literal["probability", "expected_grade"] = "probability"
    """probability: of the target. expected_grade: the mean place in `target.classes`, which are grades in rising order,
    over the highest place; 0 is the first grade, 1 the last."""
    target: Target
    threshold: float = Field(gt=0, lt=1)
    """The decision is `number >= threshold`."""

    @model_validator(mode="after")
    def _grades_stand_alone(self) -> Self:
        if self.kind == "expected_grade" and (len(self.target.classes) < 2 or self.target.against is not None):
            raise ValueError("an expected grade needs two grades or more, and nothing against them")
        return self


class OnnxSource(Value):
    """f is the bundle's classifier.onnx."""

    kind: Literal["onnx"] = "onnx"


class EndpointSource(Value):
    """f answers over HTTP, by the Open Inference Protocol v2, at the address that the service's settings hold."""

    kind: Literal["endpoint"] = "endpoint"
    endpoint: EndpointId
    model: ModelName
    model_version: ModelName | None = None
    """None: whichever the server serves."""


Source = Annotated[OnnxSource | EndpointSource, Field(discriminator="kind")]


class ClassifierInput(Value):
    """What f reads, and how it is made of an image of the space; carried out by `models.reading`.

    In this order: resized to `size_px`, brought to `colour`, brought to `range`, mean and std per channel, laid out.
    """

    tensor: str = Field(default="x", min_length=1)
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    dtype: Literal["float32", "uint8"] = "float32"
    range: tuple[float, float] = (-1.0, 1.0)
    """What black and white become; uint8 is always 0..255."""
    mean: tuple[float, ...] | None = None
    """Subtracted per channel of f, in units of `range`."""
    std: tuple[float, ...] | None = None
    """Divided by per channel of f."""
    size_px: int | None = Field(default=None, ge=1, le=4096)
    """None: the space's size."""
    filter: Literal["nearest", "box", "bilinear", "bicubic", "lanczos"] = "bilinear"
    """Pillow's, used where f reads another size than the space draws."""
    colour: Literal["space", "grey", "rgb", "bgr"] = "space"
    """space: as it is drawn; rgb and bgr repeat a grey image three times; grey takes the luma of a coloured one."""
    max_batch: int | None = Field(default=None, ge=1)
    """The most images f takes in one call; None: any number."""

    @model_validator(mode="after")
    def _numbers_make_sense(self) -> Self:
        if self.dtype == "uint8" and (self.mean or self.std or self.range != (-1.0, 1.0)):
            raise ValueError("uint8 is always 0..255: give no range, mean or std")
        if self.range[0] >= self.range[1]:
            raise ValueError(f"range must rise, not {self.range}")
        if self.std is not None and min(self.std) <= 0:
            raise ValueError(f"std must be positive, not {self.std}")
        return self


class ClassifierOutput(Value):
    """What f answers, and how it becomes a probability for each class."""

    tensor: str = Field(default="probabilities", min_length=1)
    kind: Literal["probabilities", "softmax", "sigmoid"] = "probabilities"
    """As they are; logits that need a softmax; logits of independent labels, which need a sigmoid."""
    column: int | None = Field(default=None, ge=0)
    """For binary classifiers and independent labels: where the second class stands; the first gets the rest."""

    @model_validator(mode="after")
    def _kind_and_column_agree(self) -> Self:
        if self.kind == "sigmoid" and self.column is None:
            raise ValueError("sigmoid answers are independent of each other: say which column is explained")
        if self.kind == "softmax" and self.column is not None:
            raise ValueError("softmax gives every class its probability: leave column out")
        return self


class Attribute(Value):
    """One separate thing about an image that f answers to: a direction of its own, with its share of the effect."""

    name: Identifier
    """of the direction, `attribute-1` and on"""
    share: float = Field(ge=0, le=1)
    """of the effect on f that all directions of the same kind have, such as all eigen directions of the space"""


class FeatureMap(Value):
    """The feature map of a classifier.onnx whose head is a mean over places and one linear layer; its head lies in
    `head.npz`: weight [K, c] and bias [K], so that softmax(weight · mean + bias) are the K classes' probabilities.
    """

    tensor: str = Field(min_length=1)
    """Name of the output of classifier.onnx that is the feature map."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"


CheckName = Literal["gap", "monotonicity", "reached", "surrogate_error", "second_opinion", "survival"]


class Bounds(Value):
    """Where a figure gives cause for caution, and where it makes an explanation unreliable; None: nowhere.

    Which side of a bound is the bad one is the rule table's to say (`workers.rules`).
    """

    caution: float | None = None
    unreliable: float | None = None


class Checks(Value):
    """What is demanded of every explanation of a classifier; bounds fitted on val images along `main`."""

    images: int = Field(ge=1)
    """How many these were, in each mode."""
    bounds: dict[Mode, dict[CheckName, Bounds]]
    """For explanations in this mode. A check that has no bounds is left out."""


class ClassifierManifest(Value):
    """A classifier with the directions that were fitted to it in one space."""

    kind: Literal["classifier"] = "classifier"
    schema_version: Literal[1] = SCHEMA_VERSION
    id: Identifier
    version: int = Field(ge=1)
    title: str
    space: SpaceRef
    classes: tuple[str, ...] = Field(min_length=2)
    target: Target
    threshold: float = Field(gt=0, lt=1)
    """The decision is `probability >= threshold`."""
    source: Source = OnnxSource()
    """Where f is."""
    input: ClassifierInput = ClassifierInput()
    output: ClassifierOutput = ClassifierOutput()
    feature_map: FeatureMap | None = None
    """Where f can be asked what it sees where; None: f is a black box throughout."""
    mode: Mode = "generated"
    """How frames are made unless a request says otherwise: whichever measured better on val."""
    directions: tuple[Identifier, ...] = Field(min_length=1)
    walk: dict[Identifier, Walk]
    """For each direction, how its step was made from α (METHOD.md, section 4); eigen: it is one of the space's own."""
    aims: dict[Identifier, Aim] = {}
    """What a direction is to change, where that is not the probability of `target` against `threshold`."""
    attributes: tuple[Attribute, ...] = ()
    """Directions that take `main` apart, the strongest first."""
    checks: Checks | None = None
    """None: no explanation is vouched for."""
    files: dict[FileName, FileEntry] = {}
    """Filled in by `models.bundle.write_bundle`."""
    golden_tolerance: float = Field(gt=0)
    """Largest difference of probabilities allowed when golden pairs are replayed."""
    metrics: dict[str, Metric]
    provenance: Provenance

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.directions[0] != "main" or len(set(self.directions)) != len(self.directions):
            raise ValueError(f"directions must be distinct and begin with 'main', not {self.directions}")
        if set(self.walk) != set(self.directions):
            raise ValueError(f"walk must name exactly the directions {self.directions}, not {sorted(self.walk)}")
        if strangers := set(self.aims) - set(self.directions):
            raise ValueError(f"aims must belong to directions, not to {sorted(strangers)}")
        if strangers := {attribute.name for attribute in self.attributes} - set(self.directions):
            raise ValueError(f"attributes must be directions, not {sorted(strangers)}")
        for target in (self.target, *(aim.target for aim in self.aims.values())):
            named = (*target.classes, *(target.against or ()))
            if not all(0 <= index < len(self.classes) for index in named):
                raise ValueError(f"target classes must lie in 0..{len(self.classes) - 1}, not {named}")
        if self.feature_map is not None and self.source.kind != "onnx":
            raise ValueError("a feature map is an output of classifier.onnx, and f is elsewhere")
        if self.output.column is not None and len(self.classes) != 2:
            raise ValueError(f"an output column answers between two classes, not {len(self.classes)}")
        return self

    def aim(self, direction: str) -> Aim:
        """What a direction is to change."""
        return self.aims.get(direction) or Aim(target=self.target, threshold=self.threshold)


Manifest = SpaceManifest | ClassifierManifest

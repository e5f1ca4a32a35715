"""One frozen run config: everything that decides what a training run makes. Read from TOML; unknown keys are errors."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from models.manifest import Aim, Target
from training.black_box_config import BlackBoxConfig, ProvenanceConfig
from training.errors import ConfigError
from training.section import Section

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
AboveZero = Annotated[float, Field(gt=0)]
FromZero = Annotated[float, Field(ge=0)]
Words = Annotated[dict[str, str], Field(default_factory=dict)]
Stem = Literal["coarse", "fine"]
Block = Literal["bottleneck", "basic"]
"""A ResNet's first convolution. coarse: 7 x 7 with stride 2, as published for 224 px. fine: 3 x 3 with stride 1, for
images so small that the published one throws away what matters; it makes four times the work for all that follows."""
Transform = Literal["blit", "geometry", "colour", "filter", "noise", "cutout"]


def _power_of_two(value: int) -> int:
    if value & (value - 1):
        raise ValueError(f"must be a power of two, not {value}")
    return value


SizePx = Annotated[int, Field(ge=8, le=2048), AfterValidator(_power_of_two)]


class SourceConfig(Section):
    """One batch of images: a zip file or a folder, and the CSV that describes them (both relative to `data.root`)."""

    images: str
    labels: str
    image_split: str | None = None  # takes only the CSV rows of this split; None takes every row


class DataConfig(Section):
    """The images a run works on, and what is known about them."""

    root: Path
    sources: tuple[SourceConfig, ...]
    size_px: SizePx
    channels: Literal[1, 3]
    classes: tuple[str, ...]  # the label column holds their names, or whole numbers in their order
    labelled: bool = True  # false: no label column is read, and the classes are those that a black box answers
    splits: dict[Literal["train", "val", "test"], tuple[str, ...]]
    left_out: tuple[str, ...] = ()  # words of the split column whose rows are not used; any other must be in splits
    file_column: str = "file"
    split_column: str = "split"
    label_column: str = "label"
    label_classes: Words  # the class that a word of the label column means: {"0" = "KL 0-1", …}
    patient_column: str = "patient"
    mirror: bool  # left-right flips are allowed: true for knees, false for chests
    quarter_turns: bool = False  # turns by 90 degrees are allowed: true for histology
    fit: Literal["crop", "pad", "squash"] = "crop"  # how an image becomes square, here and in the service
    max_corrupt: Annotated[int, Field(ge=0)] = 0
    dataset: str
    modality: str
    licence: str
    attribution: str
    preprocessing_note: str = ""

    @model_validator(mode="after")
    def _words_mean_one_thing(self) -> Self:
        words = Counter([*(word for words in self.splits.values() for word in words), *self.left_out])
        if twice := [word for word, n in words.items() if n > 1]:
            raise ValueError(f"{twice[0]!r} stands twice among the words of splits and left_out")
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must be two or more, each of another name")
        if strange := [name for name in self.label_classes.values() if name not in self.classes]:
            raise ValueError(f"label_classes names {strange[0]!r}, which is none of the classes")
        return self


class ClassifierConfig(Section):
    """The reference classifier f, where no black box is brought, and the smaller domain network of every run."""

    id: str
    title: str
    target: str
    target_classes: tuple[int, ...]
    against_classes: tuple[int, ...] | None = None  # None: all others; images of neither side are left out of figures
    threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    block: Block = "bottleneck"
    layers: tuple[Positive, Positive, Positive, Positive] = (3, 4, 6, 3)  # of bottleneck blocks: ResNet50
    width: Positive = 64
    stem: Stem = "coarse"  # fine for images of 64 px and less
    teacher_passes: Annotated[int, Field(ge=0)] = (
        0  # of a network like the domain network, whose answers f is taught too
    )
    teacher_share: Share = 0.7  # of them in what f is taught; the labels are the rest
    passes: Positive = 30
    batch: Positive = 64
    lr: AboveZero = 1e-3
    weight_decay: FromZero = 0.05
    label_smoothing: Share = 0.05
    domain_passes: Positive = 20
    domain_width: Positive = 32
    domain_stem: Stem = "coarse"
    student_images: Positive = 20_000  # of train that a black box is asked about, at most, where there are no labels

    @property
    def aim(self) -> Aim:
        """What the main direction is to change."""
        target = Target(name=self.target, classes=self.target_classes, against=self.against_classes)
        return Aim(target=target, threshold=self.threshold)


class GanConfig(Section):
    """Generator and discriminator (METHOD: StyleGAN2 with adaptive augmentation)."""

    imported: Path | None = None  # a folder that `import-generator` wrote; its generator is used, none is trained
    latent_size: Positive = 512
    mapping_layers: Positive = 8
    channel_base: Positive = 16384
    channel_max: Positive = 512
    batch: Positive = 32  # real images
    fake_batch: Positive | None = None  # generated images beside them; None: as many
    total_kimg: AboveZero = 25000
    lr: AboveZero = 0.0025
    r1_gamma: FromZero = 0.05
    r1_interval: Positive = 16
    path_length_weight: FromZero = 2.0
    path_length_interval: Positive = 4
    path_length_shrink: Positive = 2  # the penalty runs on batch / shrink generated images
    style_mixing: Share = 0.9
    reuse_fakes: bool = True  # both steps use the same generated images; false: afresh, as the paper does
    accumulate: Positive = 1  # a process takes its share of the batch in so many pieces, to save memory
    ema_rampup: FromZero | None = 0.05
    ada_transforms: tuple[Transform, ...] = ("blit", "geometry", "colour")
    ada_target: Share = 0.6
    ada_kimg: AboveZero = 500
    ada_interval: Positive = 4
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    compile: bool = False  # torch.compile for the two main steps
    snapshots: Positive = 10  # generators kept, and measured, over the whole run
    checkpoint_kimg: AboveZero = 4
    sample_kimg: AboveZero = 10

    @property
    def fakes(self) -> int:
        """Generated images in a batch."""
        return self.fake_batch or self.batch

    @property
    def ema_kimg(self) -> float:
        """Half-life of the averaged generator, in thousands of images."""
        return self.batch * 10 / 32


class EncoderConfig(Section):
    """The ResNet50 encoder. Stage A: synthetic pairs, squared error on standardised w. Stage B: real images."""

    begin_with: Path | None = None  # folder of a published space, whose encoder stage B goes on with; no stage A then
    layers: tuple[Positive, Positive, Positive, Positive] = (3, 4, 6, 3)
    width: Positive = 64
    stem: Stem = "coarse"
    batch: Positive = 64
    total_kimg: AboveZero = 1000
    lr: AboveZero = 1e-3
    weight_decay: FromZero = 0.01
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    checkpoint_kimg: AboveZero = 10
    real_kimg: FromZero = 0  # real images shown in stage B; 0 leaves it out
    real_lr: AboveZero = 3e-4
    synthetic_weight: FromZero = 0.3
    pixel_weight: FromZero = 1.0
    feature_weight: FromZero = 1.0
    logit_weight: FromZero = 0.3
    latent_weight: FromZero = 0.3
    refinement_passes: Annotated[int, Field(ge=0, le=5)] = (
        0  # looks at its own drawing, each of which corrects the code
    )
    refinement_kimg: FromZero = 0  # real images that the corrector is trained on
    refinement_layers: tuple[Positive, Positive, Positive, Positive] = (1, 1, 1, 1)
    refinement_width: Positive = 32


class DirectionConfig(Section):
    """The surrogate on f's answers, the walk along it, and further directions beside `main`."""

    samples: Positive = 20000  # the most images f is asked about in all: fitting, checking, trying walks
    check_samples: Positive = 2000  # of them, for figures on images that nothing was fitted to
    real_images: Annotated[int, Field(ge=0)] = 5000  # train images whose codes are fitted too; at most a quarter of all
    val_images: Positive = 60  # on which the walks are tried
    settled_cosine: Share = 0.97  # no more samples once twice as many turned the direction by less than this
    surrogates: tuple[Literal["logistic", "ridge"], ...] = ("logistic", "ridge")
    blends: tuple[Share, ...] = (0.0, 0.1, 0.25, 0.5, 1.0)  # 0 the paper's walk, 1 the natural, between: Σ shrunk
    one_vs_rest: bool = False  # a direction for each class against all others
    ordinal: bool = False  # the classes are grades in rising order: a direction for the expected grade
    ordinal_threshold: float | None = None  # in grades; None: midway between the target's lowest and the grade below
    nuisances: tuple[str, ...] = ()  # label columns whose own directions are fitted and compared with main
    project_out: tuple[str, ...] = ()  # of these, what a further direction must not change
    project_out_of_main: bool = False  # main itself must not; as it was, it stays under the name `unprojected`
    attribute_samples: int = Field(default=8000, ge=0)  # the most images f is asked about for attributes; 0: find none
    mode_images: Positive = 100  # val images that are explained in both modes, to choose the bundle's own
    nuisance_images: Positive = 4000  # real train images that the nuisances are fitted on, at most


class EvaluateConfig(Section):
    """How many images and draws the report's figures rest on."""

    surrogate_samples: Positive = 5000
    bootstrap: Positive = 1000
    max_images: Positive | None = None  # None: the whole test split
    direction_images: Positive | None = 200  # for each named direction beside main; None: the whole test split
    map_images: Positive | None = 200  # whose evidence maps are scored; None: the whole test split


class AuditConfig(Section):
    """The small classifiers that the audits train, and what they are asked."""

    train_images: Positive = 4000  # drawn from train; fewer where there are fewer
    passes: Positive = 4
    val_images: Positive = 96  # that probes are put on, half of each side
    draws: Positive = 12  # natural edits beside every probe
    shuffles: Positive = 8  # one alone lies anywhere between 0.3 and 0.7
    samples: Positive = 4000  # generated images that each shuffled classifier is asked about


class ChecksConfig(Section):
    """How the bounds are fitted that explanations of a classifier are held against."""

    check_images: Positive = 200  # of val that are explained in each mode, at most
    doubted: Share = 0.05  # of accepted val explanations that each check gives a caution, about
    most_refused: Share = 0.5  # of val explanations that may be given up to keep gap_0 among the rest at its bar


class GateConfig(ChecksConfig):
    """What tells images and explanations that cannot be trusted from those that can (`training fit-gate`)."""

    faults: Words  # label column → its word for damaged images, which are no examples of right ones
    train_images: Positive = 6000  # that the detector learns from, at most
    passes: Positive = 4
    width: Positive = 8  # of the detector
    val_images: Positive = 600  # that the gate's weights and thresholds are fitted on, at most
    refused: Share = 0.03  # of val images that the gate calls foreign; bounds what it refuses of right ones
    cautioned: Share = 0.05  # of val images that it calls unusual, besides
    others: Words  # images of other kinds, to measure the gate on alone: name → zip file below `root`
    test_images: Positive = 300  # of each foreign kind that it is measured on, at most


class SpaceConfig(Section):
    """Name and purpose of the space that the run makes."""

    id: str
    title: str
    intended_use: str


class RunConfig(Section):
    """A whole run, from a folder of images to two bundles; with a black box, it is that which the run explains."""

    name: str
    seed: int = 0
    version: Positive = 1
    space: SpaceConfig
    data: DataConfig
    classifier: ClassifierConfig
    black_box: BlackBoxConfig | None = None  # None: a reference classifier is trained on the labels
    provenance: ProvenanceConfig | None = None  # of the black box
    gan: GanConfig
    encoder: EncoderConfig
    direction: DirectionConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    audit: AuditConfig = AuditConfig()
    gate: GateConfig = GateConfig()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if lacking := [split for split in ("train", "val", "test") if not self.data.splits.get(split)]:
            raise ValueError(f"data.splits: a run needs train, val and test; {', '.join(lacking)} is missing")
        c, count = self.classifier, len(self.data.classes)
        sides = (*c.target_classes, *(c.against_classes or ()))
        if outside := [index for index in sides if not 0 <= index < count]:
            raise ValueError(f"classifier: class {outside[0]} does not exist: there are {count}, from 0")
        if not c.target_classes or c.against_classes == () or len(set(sides)) < len(sides):
            raise ValueError("classifier: target_classes and against_classes must name classes, each once")
        if c.against_classes is None and len(sides) == count:
            raise ValueError("classifier: target_classes are all classes; none is left against them")
        if self.black_box is not None:
            self.black_box.refuse_classes(count)
        if self.black_box is None and not self.data.labelled:
            raise ValueError("data.labelled = false needs [black_box]: no classifier can be trained without labels")
        if self.black_box is None and self.provenance is not None:
            raise ValueError("[provenance] tells what a black box was trained on, and there is no [black_box]")
        return self

    @property
    def sha256(self) -> str:
        """Digest of the config's canonical JSON."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class DataSetConfig(Section):
    """A data set alone: all that measuring a published bundle needs."""

    name: str
    seed: int = 0
    data: DataConfig
    evaluate: EvaluateConfig = EvaluateConfig()
    audit: AuditConfig = AuditConfig()
    gate: GateConfig = GateConfig()


def load_config(path: Path) -> RunConfig:
    """Reads and checks a TOML run config; a relative `data.root` is taken from the current folder.

    Raises:
        ConfigError: unreadable file, bad TOML, an unknown key, or a value out of range; names the key.
    """
    return load_toml(path, lambda _: RunConfig)


def load_data_set(path: Path) -> RunConfig | DataSetConfig:
    """Reads a run config, or one that holds a data set alone: `name`, `seed`, `[data]`, and how it is measured.

    Raises:
        ConfigError: as `load_config`.
    """
    return load_toml(path, lambda content: RunConfig if "gan" in content else DataSetConfig)


def load_toml(path: Path, form: Callable[[dict[str, Any]], type[Any]]) -> Any:
    """Reads a TOML file as the section that `form` finds for its content; errors as of `load_config`."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
        return form(content).model_validate(content)
    except OSError as e:
        raise ConfigError(f"cannot read {path.name}: {e.strerror}") from e
    except UnicodeDecodeError:
        raise ConfigError(f"{path.name} is not UTF-8: save it with that encoding") from None
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path.name} is not TOML: {e}") from e
    except ValidationError as e:
        faults = "; ".join(_fault(x["loc"], x["msg"]) for x in e.errors())
        raise ConfigError(f"{path.name}: {faults}") from e


def _fault(place: tuple[int | str, ...], message: str) -> str:
    where = ".".join(map(str, place))
    said = message.removeprefix("Value error, ")
    return f"{where}: {said}" if where else said

"""Which settings each step of a run depends on, and which finished steps a changed config leaves out of date. Pure.

Data, generator and seed are not told here: a run folder belongs to them (`training.runfolder`). A black box counts as
a setting. It is told by a digest, since a file may change under its name, and not by its place.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from training.config import DirectionConfig, GateConfig, RunConfig

Settings = Mapping[str, Any]  # by dotted name: {"classifier.lr": 0.001, …}


@dataclass(frozen=True)
class Step:
    """What a step's output depends on.

    Attributes:
        settings: dotted names, or whole sections.
        lengths: of its training. It goes on from a shorter one, but what comes after is out of date.
        after: the steps whose output it takes.
        leaves: what is there once the step is made, in the run folder.
        verb: makes it again from nothing; "" for a training, which goes on from its checkpoint.
        trained_by: the verb of a training.
        reused: a file that would be used again, and must go first.
    """

    settings: tuple[str, ...]
    lengths: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    leaves: str = ""
    verb: str = ""
    trained_by: str = ""
    reused: str = ""


def _names(section: str, *keys: str) -> tuple[str, ...]:
    return tuple(f"{section}.{key}" for key in keys)


def _all_but(section: str, form: type[BaseModel], *keys: str) -> tuple[str, ...]:
    return _names(section, *(key for key in form.model_fields if key not in keys))


BLACK_BOX = "black_box"
WHOLE = {"provenance"}  # sections that may be missing, kept as one value
NEVER_BEFORE = {
    f"{BLACK_BOX}.f": None,
    "encoder.begin_with": None,
}  # what earlier versions made, which did not tell, they made without
LABELS = _names("classifier", "target_classes", "against_classes", "batch", "lr", "weight_decay", "label_smoothing")
SMALL = LABELS + _names("classifier", "domain_width", "domain_stem")
STUDENT = (*_names("classifier", "student_images"), BLACK_BOX)  # of the domain network, where there are no labels
F = LABELS + _names("classifier", "block", "layers", "width", "stem", "teacher_passes", "teacher_share")
ENCODER = _names("encoder", "begin_with", "layers", "width", "stem", "batch", "lr", "weight_decay", "dtype")
REAL = _names("encoder", "real_lr", *(f"{of}_weight" for of in ("synthetic", "pixel", "feature", "logit", "latent")))
CORRECTOR = _names("encoder", "refinement_passes", "refinement_layers", "refinement_width")
DIRECTION = (
    *_all_but("direction", DirectionConfig, "attribute_samples", "mode_images"),
    *_names("classifier", "id", "title", "target", "threshold"),
    *_names("data", "fit", "dataset", "modality", "licence", "attribution", "preprocessing_note"),
    *("space", "version", BLACK_BOX, "provenance"),
)


def _training(name: str, settings: tuple[str, ...], length: str, *after: str) -> Step:
    checkpoint, verb = f"checkpoints/{name}.pt", "train-encoder" if name.startswith("encoder") else "train-classifier"
    return Step(settings, (length,), after, leaves=checkpoint, trained_by=verb, reused=checkpoint)


STEPS = {
    "teacher": _training("teacher", SMALL, "classifier.teacher_passes"),
    "classifier": _training("classifier", F, "classifier.passes", "teacher"),
    "domain": _training("domain", SMALL, "classifier.domain_passes"),
    "encoder": _training("encoder", ENCODER, "encoder.total_kimg"),
    "encoder-real": _training("encoder-real", REAL, "encoder.real_kimg", "encoder", "domain"),
    "encoder-refined": _training("encoder-refined", CORRECTOR, "encoder.refinement_kimg", "encoder-real"),
    "export": Step((), after=("classifier", "encoder-refined"), leaves="onnx/drift.json", verb="export"),
    "direction": Step(DIRECTION, after=("export",), leaves="direction/choice.json", verb="fit-direction"),
    "gate": Step(
        _all_but("gate", GateConfig, "others", "test_images"),
        after=("direction",),
        leaves="candidates",
        verb="fit-gate",
        reused="onnx/gate.onnx",
    ),
    "attributes": Step(
        ("direction.attribute_samples",), after=("gate",), leaves="direction/attributes.json", verb="find-attributes"
    ),
    "mode": Step(("direction.mode_images",), after=("gate",), leaves="direction/mode.json", verb="choose-mode"),
    "evaluate": Step(
        ("evaluate", "gate.others", "gate.test_images"),
        after=("attributes", "mode"),
        leaves="report.json",
        verb="evaluate",
    ),
    "audit": Step(("audit",), after=("direction",), leaves="audit.json", verb="audit"),
}


def steps_before(config: RunConfig, name: str) -> Iterator[str]:
    """All steps whose output a step takes, directly or by way of others."""
    for before in STEPS[name].after:
        if before not in left_out(config):
            yield before
            yield from steps_before(config, before)


def left_out(config: RunConfig) -> set[str]:
    """The trainings that a config has no need of: a teacher, and, where a black box is brought, any classifier."""
    if config.black_box is not None:
        return {"teacher", "classifier"}
    return set() if config.classifier.teacher_passes else {"teacher"}


def depends_on(config: RunConfig, name: str, f: str | None = None) -> dict[str, Any]:
    """The settings that a step's output rests on: its own, and those of all steps before it with their lengths.

    Args:
        config: that the step is made with.
        name: of the step.
        f: digest of the black box; None where the config brings none.
    """
    found = dict(_pick(config, settings_of(config, name), f))
    for before in steps_before(config, name):
        found |= _pick(config, settings_of(config, before) + STEPS[before].lengths, f)
    return found


def settings_of(config: RunConfig, name: str) -> tuple[str, ...]:
    """A step's own settings: without labels, the domain network learns a black box's answers."""
    student = name == "domain" and not config.data.labelled
    return STEPS[name].settings + (STUDENT if student else ())


def changes(config: RunConfig, name: str, made_with: Settings, f: str | None = None) -> dict[str, tuple[Any, Any]]:
    """What a step was made with and what the config says now, where they differ; a key that is newer does not count."""
    now, was_made = depends_on(config, name, f), {**NEVER_BEFORE, **made_with}
    return {key: (was, now[key]) for key, was in was_made.items() if key in now and now[key] != was}


def remedy(outdated: Mapping[str, Mapping[str, tuple[Any, Any]]]) -> str:
    """In words: what changed, which steps it leaves out of date, and what to do.

    Args:
        outdated: `changes` of every step that is out of date, in the order of `STEPS`.
    """
    changed = {key: pair for found in outdated.values() for key, pair in found.items()}
    told = [f"{key} was {was!r} and is {now!r}" for key, (was, now) in changed.items()]
    files = [STEPS[name].reused for name in outdated if STEPS[name].reused]
    verbs = dict.fromkeys(STEPS[name].verb or STEPS[name].trained_by for name in outdated)
    anew = [f"remove {', '.join(files)}"] * bool(files) + [f"run {', '.join(verbs)} again"]
    return (
        f"{'; '.join(told)}: so {', '.join(outdated)} in this run folder would be of another config. "
        f"Put it back, choose another name for the run, or {' and '.join(anew)}"
    )


def _pick(config: RunConfig, names: tuple[str, ...], f: str | None) -> dict[str, Any]:
    stored = config.model_dump(mode="json")
    declared = {key: value for key, value in (stored[BLACK_BOX] or {}).items() if key != "source"}
    stored[BLACK_BOX] = {"f": f, **declared}
    found = {}
    for name in names:
        section, _, key = name.partition(".")
        value = stored[section]
        if name in WHOLE:
            found[name] = value
        elif key:
            found[name] = value[key]
        elif isinstance(value, dict):
            found |= {f"{section}.{key}": inner for key, inner in value.items()}
        else:
            found[name] = value
    return found

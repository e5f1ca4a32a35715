"""Two audits that train small classifiers of their own: does a label leak past f, and is a planted shortcut found?

They say how far the method may be trusted, and put the same probes to the run's own classifier. Probes edit real val
images: a cue that the generator never saw cannot be drawn, and no strip would show it. Run again to resume: a trained
classifier is kept.
Letters: N images.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from zlib import crc32

import numpy as np
from monai.networks.nets.resnet import ResNet

from models.aim import read, truth
from models.manifest import Aim, Metric
from models.pixels import to_float, to_uint8
from training import metrics
from training.add_classifier import open_space
from training.config import AuditConfig, RunConfig
from training.data import ImageSet
from training.device import choose_device
from training.direction import Coordinates, fit_ridge
from training.errors import DataError
from training.evaluate import batches, open_model
from training.fit_direction import candidates
from training.prepare import load_split
from training.probes import DEVIATIONS, LEAST_CHANGE, Answer, Ask, Probe, answers, library, named
from training.questions import Space
from training.report import AUDIT, Audit
from training.runfolder import RunFolder, progress, write_atomically
from training.small_classifier import build, probability, train_small
from training.train_classifier import load_network, probabilities

PLANTED = ("marker upper left", "brighter", "disc")
LEARNED = 0.9  # AUC on planted val images from which a cue counts as taken up
FRESH_SEED = 8_191  # latents that no fit ever saw
LEAST_OF_EACH = 8  # val images of each side


class Sided:
    """Images of the two sides of the question; those of neither left out.

    Attributes:
        images: uint8 [N, C, S, S].
        positive: bool [N].
        patients: [N].
    """

    def __init__(self, images: ImageSet, aim: Aim) -> None:
        side = truth(aim, images.labels)
        known = ~np.isnan(side)
        self.images, self.patients = images.images[known], images.patients[known]
        self.positive = side[known] == 1

    def some(self, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """At most so many of them, drawn at random: images and sides."""
        index = np.random.default_rng(seed).permutation(len(self.images))[:most]
        return self.images[index], self.positive[index]

    def balanced(self, most: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """As many of each side, together at most so many: images and sides.

        Raises:
            DataError: a side has too few.
        """
        rng = np.random.default_rng(seed)
        sides = [rng.permutation(np.flatnonzero(self.positive == side)) for side in (False, True)]
        n = min(most // 2, *map(len, sides))
        if n < LEAST_OF_EACH:
            raise DataError(f"val holds {n} images of the rarer side; an audit needs {LEAST_OF_EACH}")
        index = np.concatenate([side[:n] for side in sides])
        return self.images[index], self.positive[index]


def audit(config: RunConfig, run: RunFolder) -> Audit:
    """Both audits; leaves `audit.json` in the run folder, from where `evaluate`, `card` and `publish` take it.

    Raises:
        StepMissing: an earlier step of the run has not been made.
        DataError: val holds too few images of one side.
    """
    choose_device()
    aim, settings = config.classifier.aim, config.audit
    train, val, test = (Sided(load_split(run, split), aim) for split in ("train", "val", "test"))
    model = open_model(candidates(run), config.classifier.id, config.version)
    trials = [plain_trial(config, run, val), *(planted_trial(config, run, name, train, val) for name in PLANTED)]
    own = ask_probes(settings, config.seed, lambda x: np.concatenate([model.classify(b) for b in batches(x)]), val)
    leak, each = shuffled(config, run, open_space(model.space), train, test)
    right = np.array([trial["right"] for trial in trials])
    cues = Metric(value=float(right.mean()), ci95=metrics.share_interval(right), n=len(right))
    found = Audit(
        figures={"planted_cue": cues, "random_label_auc": leak},
        details={
            "planted_cue": {"trials": trials},
            "random_label_auc": {"each": each, "samples": settings.samples},
            "classifier": {"named": [a.probe for a in named(own)], **told(own)},
        },
        notes=audit_notes(own),
    )
    write_atomically(run.file(AUDIT), found.model_dump_json(indent=1).encode())
    run.log("audit", planted_cue=found.figures["planted_cue"].value, random_label_auc=leak.value)
    return found


def plain_trial(config: RunConfig, run: RunFolder, val: Sided) -> dict[str, Any]:
    """The domain network, in which nothing was planted: the audit has to name nothing."""
    domain, aim = load_network(config, run, "domain"), config.classifier.aim
    found = ask_probes(config.audit, config.seed, lambda x: read(aim, probabilities(domain, to_uint8(x))), val)
    return {"planted": "nothing", "named": [a.probe for a in named(found)], "right": not named(found), **told(found)}


def planted_trial(config: RunConfig, run: RunFolder, name: str, train: Sided, val: Sided) -> dict[str, Any]:
    """A small classifier whose positive images all carried a cue: the audit has to name it before all else."""
    settings, seed = config.audit, config.seed
    cue = next(probe for probe in library(config.data.size_px) if probe.name == name)
    images, positive = train.some(settings.train_images, seed)
    f = small(config, run, f"audit-{name.replace(' ', '-')}", planted(images, positive, cue), positive)
    shown, sides = val.balanced(settings.val_images, seed)
    learned = metrics.auc(sides, probability(f, to_float(planted(shown, sides, cue))))
    found = ask_probes(settings, seed, lambda x: probability(f, x), val)
    families = [answer.family for answer in named(found)]
    return {
        "planted": name,
        "named": [answer.probe for answer in named(found)],
        "right": bool(learned >= LEARNED and families[:1] == [cue.family]),
        "learned_auc": learned,
        **told(found),
    }


def planted(images: np.ndarray, positive: np.ndarray, cue: Probe) -> np.ndarray:
    """The images, uint8 [N, C, S, S], with the cue on the positive ones."""
    marked = images.copy()
    marked[positive] = to_uint8(cue.edit(to_float(images[positive])))
    return marked


def ask_probes(settings: AuditConfig, seed: int, ask: Ask, val: Sided) -> list[Answer]:
    """What a classifier makes of every probe on val images, half of each side."""
    images, positive = val.balanced(settings.val_images, seed)
    return answers(ask, to_float(images), positive, library(images.shape[-1]), settings.draws, seed)


def shuffled(config: RunConfig, run: RunFolder, space: Space, train: Sided, test: Sided) -> tuple[Metric, list[float]]:
    """`random_label_auc`, and the AUC of the surrogate of each small classifier that learned shuffled labels."""
    settings, seed = config.audit, config.seed
    images, positive = train.some(settings.train_images, seed)
    fs = []
    for number in range(settings.shuffles):
        labels = shuffle(positive, np.random.default_rng([seed, number]))
        fs.append(small(config, run, f"audit-shuffled-{number}", images, labels))
    w = space.draw(settings.samples, FRESH_SEED)
    numbers = asked_together(space, fs, w)
    coordinates, codes = Coordinates.of(space.mean, space.covariance), space.encode_pixels(test.images)
    scores = [
        fit_ridge(coordinates, w, column, float(np.median(column)), seed).surrogate.logit(codes) for column in numbers
    ]

    def mean_auc(index: np.ndarray, chosen: np.ndarray) -> float:
        return float(np.mean([metrics.auc(test.positive[index], scores[k][index]) for k in chosen]))

    rng, all_of_them = np.random.default_rng(seed), np.arange(len(scores))
    drawn = metrics.resamples(test.patients, config.evaluate.bootstrap, seed)
    ci95 = metrics.interval([mean_auc(index, rng.choice(all_of_them, len(scores))) for index in drawn])
    each = [metrics.auc(test.positive, score) for score in scores]
    return Metric(value=float(np.mean(each)), ci95=ci95, n=len(codes)), each


def shuffle(positive: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Labels drawn at random, as many of them positive as before, and the same share of them on both true sides.

    A plain permutation keeps some correlation with the truth by chance; where the truth is what images differ most by,
    a classifier finds it, and its surrogate is far from a half in one direction or the other.
    """
    labels = np.zeros(len(positive), bool)
    for side in (False, True):
        members = rng.permutation(np.flatnonzero(positive == side))
        labels[members[: round(len(members) * positive.mean())]] = True
    return labels


def asked_together(space: Space, fs: list[ResNet], w: np.ndarray) -> np.ndarray:
    """The answers of several classifiers on the delivered pixels of G(w), each image drawn once: float64 [F, N]."""
    columns: list[list[np.ndarray]] = [[] for _ in fs]
    with progress("asking shuffled classifiers", len(w)) as advance:
        for part in batches(w):
            x = to_float(space.render(part))
            for column, f in zip(columns, fs, strict=True):
                column.append(probability(f, x))
            advance(len(part))
    return np.stack([np.concatenate(column) for column in columns])


def small(config: RunConfig, run: RunFolder, name: str, images: np.ndarray, labels: np.ndarray) -> ResNet:
    """A small classifier of these images and labels, trained or, where it has been trained already, read."""
    recipe = {"passes": config.audit.passes, "images": crc32(images.tobytes()), "labels": crc32(labels.tobytes())}
    state = run.load(name)
    if state is not None and state["recipe"] == recipe:
        network = build(config.data.channels)
        network.load_state_dict(state["network"])
        return network.eval().to(choose_device())
    network = train_small(images, labels, config.audit.passes, config.seed, config.data.mirror, name)
    run.save(name, {"network": network.state_dict(), "recipe": recipe})
    return network


def told(found: list[Answer]) -> dict[str, Any]:
    """Answers to probes as JSON values, with what they mean."""
    explanation = (
        f"Right of the dashed line a probe is named: it moves the logit {DEVIATIONS:g} times as far as natural edits "
        f"of the same energy and extent, and the probability by {LEAST_CHANGE:g} or more."
    )
    return {
        "answers": [{k: v if isinstance(v, str) else round(v, 4) for k, v in asdict(a).items()} for a in found],
        "explanation": explanation,
    }


def audit_notes(own: list[Answer]) -> tuple[str, ...]:
    """What the probes say of the run's own classifier, in a sentence."""
    if not (found := named(own)):
        return ("No probe of the audit moves the classifier further than natural edits of the same energy do.",)
    moves = ", ".join(f"{a.probe} ({a.change:+.2f} of the probability)" for a in found)
    return (f"The classifier answers to changes that no finding makes: {moves}.",)

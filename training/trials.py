"""The trials of an audit: is a planted shortcut found, is none found where none is, does a label leak past f?

Each trains small classifiers of its own. Probes edit real val images: a cue that the generator never saw cannot be
drawn, and no strip would show it. What is audited, and where the images come from, is `training.audit`'s.
Letters: N images, F classifiers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from monai.networks.nets.resnet import ResNet

from models.aim import truth
from models.manifest import Aim, Metric
from models.pixels import to_float, to_uint8
from training import metrics
from training.config import DataSetConfig, RunConfig
from training.data import ImageSet
from training.direction import Coordinates, fit_ridge
from training.direction_search import LARGEST_REAL
from training.errors import DataError
from training.evaluate import batches
from training.probes import DEVIATIONS, LEAST_CHANGE, Answer, Ask, Probe, answers, library, named
from training.questions import Space
from training.report import DOMAIN, Audit
from training.runfolder import progress
from training.small_classifier import SmallClassifiers, probability

PLANTED = ("marker upper left", "brighter", "disc")
LEARNED = 0.9  # AUC on planted val images from which a cue counts as taken up
FRESH_SEED = 8_191  # latents that no fit ever saw
LEAST_OF_EACH = 8  # val images of each side
PLAIN = "a small classifier that learned the labels, since the domain network of a run was not at hand"


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


@dataclass(frozen=True)
class Trials:
    """An audit's material.

    Attributes:
        config: seed, size and symmetries of the images, and how much of everything.
        space: in which the classifiers that learned shuffled labels are explained.
        train, val, test: images by their side of the question.
        small: makes and keeps the small classifiers.
    """

    config: RunConfig | DataSetConfig
    space: Space
    train: Sided
    val: Sided
    test: Sided
    small: SmallClassifiers

    def ask_probes(self, ask: Ask) -> list[Answer]:
        """What a classifier makes of every probe on val images, half of each side."""
        settings, seed = self.config.audit, self.config.seed
        images, positive = self.val.balanced(settings.val_images, seed)
        return answers(ask, to_float(images), positive, library(images.shape[-1]), settings.draws, seed)

    def taught(self) -> tuple[np.ndarray, np.ndarray]:
        """The train images that every small classifier learns from, and their sides."""
        return self.train.some(self.config.audit.train_images, self.config.seed)


def audit_of(trials: Trials, ask: Ask, domain: Ask | None) -> Audit:
    """All trials, and the same probes put to the classifier itself.

    Args:
        trials: the material.
        ask: the classifier.
        domain: the domain network of the run that made it; None: a small classifier learns the labels in its place.

    Raises:
        DataError: val holds too few images of one side.
    """
    plain = plain_trial(trials, domain)
    cues = [plain, *(planted_trial(trials, name) for name in PLANTED)]
    own = trials.ask_probes(ask)
    leak, each = shuffled(trials)
    right = np.array([trial["right"] for trial in cues])
    return Audit(
        figures={
            "planted_cue": Metric(value=float(right.mean()), ci95=metrics.share_interval(right), n=len(right)),
            "random_label_auc": leak,
        },
        details={
            "planted_cue": {"trials": cues, "plain": DOMAIN if domain is not None else PLAIN},
            "random_label_auc": {"each": each, "samples": trials.config.audit.samples},
            "classifier": {"named": [a.probe for a in named(own)], **told(own)},
        },
        notes=audit_notes(own),
    )


def plain_trial(trials: Trials, domain: Ask | None) -> dict[str, Any]:
    """A classifier in which nothing was planted: the audit has to name nothing."""
    learned = {}
    if domain is None:
        f = trials.small.learn("audit-plain", *trials.taught())
        shown, sides = trials.val.balanced(trials.config.audit.val_images, trials.config.seed)
        learned["learned_auc"] = metrics.auc(sides, probability(f, to_float(shown)))
        found = trials.ask_probes(lambda x: probability(f, x))
    else:
        found = trials.ask_probes(domain)
    names = [answer.probe for answer in named(found)]
    return {"planted": "nothing", "named": names, "right": not names, **learned, **told(found)}


def planted_trial(trials: Trials, name: str) -> dict[str, Any]:
    """A small classifier whose positive images all carried a cue: the audit has to name it before all else."""
    settings, seed = trials.config.audit, trials.config.seed
    cue = next(probe for probe in library(trials.config.data.size_px) if probe.name == name)
    images, positive = trials.taught()
    f = trials.small.learn(f"audit-{name.replace(' ', '-')}", planted(images, positive, cue), positive)
    shown, sides = trials.val.balanced(settings.val_images, seed)
    learned = metrics.auc(sides, probability(f, to_float(planted(shown, sides, cue))))
    found = trials.ask_probes(lambda x: probability(f, x))
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


def shuffled(trials: Trials) -> tuple[Metric, list[float]]:
    """`random_label_auc`, and the AUC of the surrogate of each small classifier that learned shuffled labels."""
    settings, seed, space, test = trials.config.audit, trials.config.seed, trials.space, trials.test
    images, positive = trials.taught()
    fs = []
    for number in range(settings.shuffles):
        labels = shuffle(positive, np.random.default_rng([seed, number]))
        fs.append(trials.small.learn(f"audit-shuffled-{number}", images, labels))
    w = space.draw(settings.samples, FRESH_SEED)
    numbers = asked_together(space, fs, w)
    some = np.random.default_rng(seed).permutation(len(images))[: int(settings.samples * LARGEST_REAL)]
    real = images[np.sort(some)]  # as every direction is fitted
    w = np.concatenate([w, space.encode_pixels(real)])
    numbers = np.concatenate([numbers, [probability(f, to_float(real)) for f in fs]], axis=1)
    coordinates, codes = Coordinates.of(space.mean, space.covariance), space.encode_pixels(test.images)
    scores = [
        fit_ridge(coordinates, w, column, float(np.median(column)), seed).surrogate.logit(codes) for column in numbers
    ]

    def mean_auc(index: np.ndarray, chosen: np.ndarray) -> float:
        return float(np.mean([metrics.auc(test.positive[index], scores[k][index]) for k in chosen]))

    rng, all_of_them = np.random.default_rng(seed), np.arange(len(scores))
    drawn = metrics.resamples(test.patients, trials.config.evaluate.bootstrap, seed)
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

"""Every figure of a space and a classifier, held against the bars: METHOD.md, section 6, on the test split only.

The two programs behind `python -m training evaluate`: one measures a run's candidates, one a published bundle.
Letters: N images.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.aim import truth
from models.manifest import Aim, ImageSpec, Manifest, Metric
from models.pixels import to_float, to_uint8
from models.store import Store
from models.traversal import logit
from training import metrics
from training.attributes import CHOICE, search_time
from training.bars import held_to_bars
from training.card import card_html
from training.config import DataSetConfig, EvaluateConfig, RunConfig
from training.data import ImageSet, read_splits
from training.direction import LOGIT_CLIP, Surrogate, score_surrogate
from training.errors import ConfigError, DataError
from training.evaluate import FRESH_SEED, PAIRS, Networks, ask, drawn, explain_all, open_model, picture, show, starts
from training.feature_network import describe, export_features, features_of
from training.fit_direction import candidates
from training.gate_figures import gate_figures, verdict_figures
from training.image_sets import set_figures, strip_fid_ratio
from training.map_figures import map_figures
from training.mode_figures import explain_otherwise, marker_figures, mode_figures, other_mode, residual_figures
from training.notes import run_notes, unlabelled_notes
from training.onnx_networks import Network, open_network
from training.outcomes import (
    SPACE_FIGURES,
    Outcome,
    along_the_walk,
    asked_against_delivered,
    attribute_figures,
    by_class,
    change_of_the_walk,
    figures_over,
    grade_figures,
    with_intervals,
)
from training.pictures import Pictures
from training.prepare import load_split
from training.report import Report, digests, load, save
from training.run_model import open_candidates
from training.runfolder import RunFolder, read_log, write_atomically

SURROGATE_DRAWS = 200
SCATTER_POINTS = 600
PICTURES = "pictures.npz"


def evaluate(model: Networks, test: ImageSet, settings: EvaluateConfig, seed: int, features: Network | None) -> Report:
    """Every figure of a space and a classifier, held against the bars, without the audits and the pictures.

    Args:
        model: both bundles, opened.
        test: the test split.
        settings: how many images and draws.
        seed: of every draw.
        features: the feature network; without it, distances between image sets are left out.
    """
    test = some_of(test, settings.max_images, seed)
    aim, draws = model.aim("main"), settings.bootstrap
    right = truth(aim, test.labels)
    outcomes = explain_all(model, test.images, features=features)
    figures = figures_over(outcomes, right, aim.threshold) | verdict_figures(outcomes)
    found = with_intervals(figures, test.patients, draws, seed)
    space = {name: found.pop(name) for name in SPACE_FIGURES}
    index = some_indices(len(test), settings.direction_images, seed)
    part, beside = some_of(test, settings.direction_images, seed), explain_beside(model, test.images[index])
    attributes = {a.name: a.share for a in model.classifier.manifest.attributes}
    coverage = attribute_figures([outcomes[i] for i in index], [beside[name] for name in attributes])
    found |= with_intervals(coverage, part.patients, draws, seed)
    mode = model.classifier.manifest.mode
    otherwise = explain_otherwise(model, test.images, features)
    residual = outcomes if mode == "residual" else otherwise
    compared = mode_figures(otherwise, other_mode(mode), aim.threshold) | residual_figures(residual)
    found |= with_intervals(compared, test.patients, draws, seed)
    kept = marker_figures(model, part.images, [residual[i] for i in index], seed)
    found |= with_intervals(kept, part.patients, draws, seed)
    mapped = some_of(test, settings.map_images, seed)
    found |= map_figures(model, mapped.images, mapped.patients, draws, seed)
    surrogate, scatter = surrogate_figures(model, settings, seed)
    if features is not None:
        real = describe(features, test.images)
        space |= set_figures(real, describe(features, drawn(model, len(test))), test.patients, draws, seed)
        found |= flip_figure(outcomes, aim.threshold, real, right, test.patients, seed)
        fid = flip_figure(otherwise, aim.threshold, real, right, test.patients, seed)
        found |= {f"{name}_{other_mode(mode)}": metric for name, metric in fid.items()}
    classes = model.classifier.manifest.classes
    return Report(
        measured=digests(model.space, model.classifier),
        space=held_to_bars(space),
        classifier=held_to_bars({**found, **surrogate}),
        by_class=by_class(outcomes, test.labels, classes, test.patients, aim.threshold, draws, seed),
        directions={
            name: direction_figures(model.aim(name), taken, part, settings, seed)
            | ({"effect_share": Metric(value=attributes[name])} if name in attributes else {})
            for name, taken in beside.items()
        },
        curves={
            "asked_against_delivered": asked_against_delivered(outcomes),
            "along_the_walk": along_the_walk(outcomes),
            "surrogate_against_classifier": scatter,
            "change": change_of_the_walk(outcomes, test.patients, draws, seed),
        },
    )


def with_gate(report: Report, model: Networks, test: ImageSet, config: RunConfig | DataSetConfig) -> Report:
    """The report with the figures of the space's gate among the space's, where it has one."""
    found = gate_figures(model, some_of(test, config.evaluate.max_images, config.seed), config)
    return report.model_copy(update={"space": {**report.space, **held_to_bars(found)}})


def with_search_time(report: Report, known: Mapping[str, Metric]) -> Report:
    """The report with `attributes_seconds` of what is known of a classifier, where that was timed."""
    timed = {name: known[name] for name in known if name == "attributes_seconds"}
    return report.model_copy(update={"classifier": {**report.classifier, **held_to_bars(timed)}})


def some_of(images: ImageSet, most: int | None, seed: int) -> ImageSet:
    """The whole set, or as many of it as are wanted, drawn at random."""
    index = some_indices(len(images), most, seed)
    if len(index) == len(images):
        return images
    extras = {name: column[index] for name, column in images.extras.items()}
    return ImageSet(images.images[index], images.labels[index], images.patients[index], images.files[index], extras)


def some_indices(n: int, most: int | None, seed: int) -> np.ndarray:
    """All indices below n, or as many as are wanted, drawn at random; rising."""
    if most is None or most >= n:
        return np.arange(n)
    return np.sort(np.random.default_rng(seed).permutation(n)[:most])


def flip_figure(
    outcomes: list[Outcome], threshold: float, real: np.ndarray, right: np.ndarray, patients: np.ndarray, seed: int
) -> dict[str, Metric]:
    """`strip_fid_ratio`, where there are enough flips; `real` are the test images' features, `right` their truth."""
    flips = [o for o in outcomes if o.flip_features is not None]
    if not flips:
        return {}
    to_positive = np.array([o.input_probability < threshold for o in flips])
    known = ~np.isnan(right)
    metric = strip_fid_ratio(
        np.stack([o.flip_features for o in flips if o.flip_features is not None]),
        to_positive,
        real[known],
        right[known] == 1,
        patients[known],
        seed,
    )
    return {} if metric is None else {"strip_fid_ratio": metric}


def explain_beside(model: Networks, images: np.ndarray) -> dict[str, list[Outcome]]:
    """Images explained along every direction beside main, by its name."""
    beside = [name for name in model.classifier.manifest.directions if name != "main"]
    return {name: explain_all(model, images, name, f"explaining {name}") for name in beside}


def direction_figures(
    aim: Aim, outcomes: list[Outcome], part: ImageSet, settings: EvaluateConfig, seed: int
) -> dict[str, Metric]:
    """The figures of one direction beside main, on part of the test images: those of main, and the grades' own."""
    figures = figures_over(outcomes, truth(aim, part.labels), aim.threshold)
    figures = {key: figure for key, figure in figures.items() if key not in SPACE_FIGURES}
    if aim.kind == "expected_grade":
        place = {k: float(grade) for grade, k in enumerate(aim.target.classes)}
        grades = np.array([place.get(int(k), float("nan")) for k in part.labels])
        figures |= grade_figures(outcomes, grades)
    return held_to_bars(with_intervals(figures, part.patients, settings.bootstrap, seed))


def surrogate_figures(
    model: Networks, settings: EvaluateConfig, seed: int
) -> tuple[dict[str, Metric], dict[str, list[float]]]:
    """How well f̃ stands in for f on fresh latents: AUC and R², and both logits of some of them for a plot."""
    n = settings.surrogate_samples
    w, p = ask(model, n, FRESH_SEED)
    direction, threshold = model.directions["main"], model.aim("main").threshold
    surrogate = Surrogate(direction.alpha, direction.beta)
    scores = score_surrogate(surrogate, w, p, threshold)
    redrawn = metrics.resamples(np.arange(n), SURROGATE_DRAWS, seed)
    again = np.array([score_surrogate(surrogate, w[i], p[i], threshold) for i in redrawn])
    found = {
        name: Metric(value=scores[place], ci95=metrics.interval(again[:, place]), n=n)
        for place, name in enumerate(("surrogate_auc", "surrogate_r2"))
    }
    shown = slice(0, SCATTER_POINTS)
    scatter = {"surrogate": surrogate.logit(w[shown]), "classifier": np.clip(logit(p[shown]), -LOGIT_CLIP, LOGIT_CLIP)}
    return found, {name: np.round(values, 3).tolist() for name, values in scatter.items()}


def measure_run(config: RunConfig, run: RunFolder) -> Report:
    """Measures a run's candidates; leaves `report.json` and `pictures.npz` in its folder.

    Raises:
        StepMissing: an earlier step of the run has not been made.
        StepOutdated: one was made with other settings.
    """
    run.refuse_outdated("attributes", "mode", "gate")
    model = open_candidates(config, run)
    features = open_network(export_features(config, run))
    test = load_split(run, "test")
    report = with_gate(evaluate(model, test, config.evaluate, config.seed, features), model, test, config)
    choice = json.loads(run.need("direction", "choice.json", verb="fit-direction").read_text())
    training, surrogates = training_curve(run.path / "log.jsonl"), choice.get("surrogates", {})
    curves = {**report.curves, "training": training, "surrogates": surrogates}
    attributes = run.path / "direction" / CHOICE
    report = with_search_time(report, search_time(json.loads(attributes.read_text())) if attributes.exists() else {})
    report = report.model_copy(update={"curves": curves, "notes": tuple(run_notes(config, run))})
    kept = keep(run.path, model, report)
    run.log("evaluate", images=len(test))
    return kept


def measure_published(config: RunConfig | DataSetConfig, bundles: Path, bundle: str, folder: Path) -> Report:
    """Measures a published bundle on the test split of a data set; leaves report, pictures and cards in a folder.

    Args:
        config: the data set's.
        bundles: the store.
        bundle: "id" or "id/version"; the highest version unless one is given.
        folder: for what is left.

    Raises:
        ConfigError: the bundle's name is none.
        BundleNotFound: there is no such bundle.
        DataError: the images are not those of the bundle's space.
    """
    model = open_model(bundles, *named(bundle))
    fitting(config, model)
    test = read_splits(config.data, only=("test",))["test"]
    features = features_of(model.space)
    report = with_gate(evaluate(model, test, config.evaluate, config.seed, features), model, test, config)
    report = with_search_time(report, model.classifier.manifest.metrics)
    absent = "The space was published without its feature network: no distance between sets of images is measured."
    notes = (*((absent,) if features is None else ()), *unlabelled_notes(config.data))
    return keep(folder, model, report.model_copy(update={"notes": notes}))


def named(bundle: str) -> tuple[str, int | None]:
    """ "id" or "id/version" as a pair; ConfigError when the version is no whole number."""
    name, _, version = bundle.partition("/")
    if version and not version.isdecimal():
        raise ConfigError(f"a bundle is named ID or ID/VERSION, not {bundle!r}")
    return name, int(version) if version else None


def evaluation_folder(runs: Path, config: RunConfig | DataSetConfig, bundle: str) -> Path:
    """Where the measurements of a published bundle on a data set are kept, beside the runs."""
    return runs / config.name / "evaluations" / bundle.replace("/", "-")


def keep(folder: Path, model: Networks, report: Report) -> Report:
    """Adds the strips that a card shows, and writes report and pictures into a folder."""
    pictures, strips = picture(model)
    report = report.model_copy(update={"strips": strips})
    folder.mkdir(parents=True, exist_ok=True)
    pictures.save(folder / PICTURES)
    save(folder, report)
    write_cards(folder, model.space.manifest, model.classifier.manifest)
    return report


def write_cards(folder: Path, *manifests: Manifest) -> list[Path]:
    """Writes the cards of space and classifier, as they would be published, from what lies in a folder."""
    report, pictures, written = load(folder), Pictures.load(folder / PICTURES), []
    for manifest in manifests:
        path = folder / f"card-{manifest.kind}.html"
        write_atomically(path, card_html(manifest, report, pictures).encode())
        written.append(path)
    return written


def write_run_cards(config: RunConfig, run: RunFolder) -> list[Path]:
    """Writes the cards of a run's candidates into its folder; StepMissing when nothing has been measured yet."""
    store = Store(candidates(run))
    space = store.open_space(config.space.id, config.version)
    return write_cards(run.path, space.manifest, store.open_classifier(config.classifier.id, config.version).manifest)


def write_local_cards(config: RunConfig, run: RunFolder) -> list[Path]:
    """Writes cards that show real test images, for the run folder alone.

    Raises:
        StepMissing: nothing has been measured yet.
    """
    model = open_candidates(config, run)
    report, test = load(run.path), load_split(run, "test")
    p = model.classify(to_float(test.images))
    inputs = test.images[starts(p, model.aim("main").threshold)]
    shown = some_of(test, PAIRS, config.seed).images
    again = to_uint8(model.synthesise(model.encode(to_float(shown))))
    pictures, strips = show(model, inputs, Pictures.load(run.need(PICTURES, verb="evaluate")).samples, again)
    pictures = replace(pictures, originals=shown)
    report, written = report.model_copy(update={"strips": strips}), []
    for manifest in (model.space.manifest, model.classifier.manifest):
        path = run.file(f"card-{manifest.kind}-with-real-images.html")
        write_atomically(path, card_html(manifest, report, pictures, real=True).encode())
        written.append(path)
    return written


def fitting(config: RunConfig | DataSetConfig, model: Networks) -> None:
    """Raises DataError unless the data set has the classes, size and channels of a bundle, and a test split."""
    wanted: ImageSpec = model.space.manifest.image
    if (config.data.size_px, config.data.channels) != (wanted.size_px, wanted.channels):
        given = f"{config.data.size_px} px with {config.data.channels} channel(s)"
        raise DataError(f"the space draws {wanted.size_px} px with {wanted.channels} channel(s), not {given}")
    if config.data.classes != (classes := model.classifier.manifest.classes):
        raise DataError(f"the classifier knows the classes {', '.join(classes)}, not {', '.join(config.data.classes)}")
    if "test" not in config.data.splits:
        raise DataError("[data.splits] names no test split")


def training_curve(log: Path) -> list[dict[str, float]]:
    """FID, recall and precision at every logged snapshot of a training, by images seen; empty where there is none."""
    wanted = ("images", "fid", "recall", "precision")
    found = [line for line in read_log(log) if line["step"] == "snapshot" and "fid" in line and "images" in line]
    return [{name: line[name] for name in wanted if name in line} for line in found]

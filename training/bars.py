"""The names of all figures: what each one means, and the bars that we hold ourselves to (METHOD.md, section 6)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from models.manifest import Metric

MEANINGS = {
    "agreement_0": "share of test images whose decision is the same on the reconstruction",
    "agreement_0_accepted": "the same, of those not called unreliable; 1 by construction, for losing it is a reason",
    "attributes_coverage": "share of the flips along main that one attribute alone reaches as well",
    "attributes_coverage_close": "the same, changing the image no more than main's flip does",
    "attributes_seconds": "how long the attributes were looked for, in seconds, on the machine that made the bundle",
    "classifier_auc": "AUC of the classifier against ground truth",
    "effect_share": "share of the effect of all eigen directions that were asked about (attributes)",
    "cout_gradcam": "Counterfactual transition score of GradCAM, -1 to 1",
    "cout_occlusion": "the same of occlusion",
    "cout_strip": "the same of the strip map",
    "cout_strip_wins": "share of images on which the strip map's is above GradCAM's (occlusion's for black boxes)",
    "cout_strip_wins_occlusion": "share of images on which it is above occlusion's",
    "deletion_gradcam": "area under the decision while pixels are blurred in the order of GradCAM; less is better",
    "deletion_occlusion": "the same in the order of occlusion",
    "deletion_strip": "the same in the order of the strip map",
    "fid": "Fréchet distance of generated from real images in the domain network's features",
    "fid_ratio": "that distance over the one between two halves of the real images",
    "flip_close": "share of flips found to within 0.02 of the threshold, of those along the walk",
    "flip_rate": "share of test images whose strip shows the decision change",
    "flip_rate_from_negative": "the same, of images that the classifier calls negative",
    "flip_rate_from_positive": "the same, of images that it calls positive",
    "gap_0": "mean difference of the probabilities of input and reconstruction",
    "gap_0_accepted": "the same, of those not called unreliable; a bound on val holds it",
    "gate_auroc": "AUC of the gate for foreign images against right ones, of the kind that it tells worst",
    "gate_auroc_blank": "the same of blank images",
    "gate_auroc_blurred": "the same of heavily blurred images",
    "gate_auroc_cropped": "the same of images of which half to two thirds of the side are left",
    "gate_auroc_damaged": "the same of the test images that the data set itself calls damaged",
    "gate_auroc_inverted": "the same of images with black for white",
    "gate_auroc_noise": "the same of images under heavy grain",
    "gate_auroc_other": "the same of another modality, of those at hand the one told worst; the gate was taught none",
    "gate_auroc_photo": "the same of photographs; the gate was taught none",
    "gate_auroc_rotated": "the same of images turned by 90 degrees",
    "gate_caught": "share of foreign images that the gate refuses, of the kind that it refuses least",
    "gate_refusal": "share of right images that the gate refuses",
    "grade_correlation": "rank correlation of the classifier's expected grade with the true one (ordinal directions)",
    "insertion_gradcam": "area under the decision while pixels are sharpened in GradCAM's order; more is better",
    "insertion_occlusion": "the same in the order of occlusion",
    "insertion_strip": "the same in the order of the strip map",
    "kid": "kernel distance of generated from real images in the same features",
    "marker_flip_drop": "by how much the flip rate of residual strips falls when a marker is drawn on the images",
    "marker_kept": "share of residual strips that show a drawn marker on every frame",
    "monotonicity": "median rank correlation of step and probability",
    "planted_cue": "share of classifiers, with a planted cue or without one, that the audit tells rightly",
    "precision": "share of generated images that look real",
    "proximity_mean": "mean change of a pixel at the flip, share of the range",
    "proximity_pixels": "share of pixels that change by more than a tenth at the flip",
    "random_label_auc": "AUC of the surrogate against ground truth when the classifier learned shuffled labels",
    "range_reached": "share of the scale that a strip runs through (ordinal directions)",
    "reachable": "share of asked probabilities reached within 0.05",
    "recall": "share of real images that could be generated",
    "reconstruction_auc": "AUC of the classifier on reconstructions against ground truth",
    "reconstruction_mae": "mean difference of a pixel between input and reconstruction",
    "reconstruction_ms_ssim": "structural similarity of input and reconstruction",
    "residual_ms_ssim_0": "structural similarity of input and start in residual mode",
    "second_opinion": "how far an independent classifier moves along the walk, as a share of how far this one does",
    "strip_fid_ratio": "FID of flip frames against real images of the class flipped to, over that of two halves",
    "surrogate_auc": "AUC of the surrogate against the classifier's decision on generated images",
    "surrogate_auc_real": "AUC of the surrogate on encoded test images against ground truth",
    "surrogate_grade_correlation": "rank correlation of the surrogate on encoded images with the true grade",
    "surrogate_r2": "share of the classifier's logit that the surrogate explains",
    "survival": "share of the classifier's change that is left under the worst of light blur, grain and JPEG",
    "target_error": "mean distance of a frame's probability from the one asked",
    "verdict_caution": "share of test images whose explanation is given with caution",
    "verdict_ok": "share of test images whose explanation is given without a reason against it",
    "verdict_unreliable": "share of test images whose explanation is called unreliable",
}
MODES = {"generated": "generated frames", "residual": "residual frames"}
IN_BOTH_MODES = (
    "flip_rate",
    "monotonicity",
    "proximity_mean",
    "proximity_pixels",
    "reachable",
    "strip_fid_ratio",
    "target_error",
)
for _name in IN_BOTH_MODES:
    MEANINGS |= {f"{_name}_{_mode}": f"{MEANINGS[_name]}, with {_frames}" for _mode, _frames in MODES.items()}


LEAST = {
    "flip_close": 0.95,
    "flip_rate": 0.95,
    "agreement_0": 0.97,
    "marker_kept": 0.95,
    "residual_ms_ssim_0": 1.0,
    "attributes_coverage": 0.90,
    "agreement_0_accepted": 0.97,
    "gate_auroc": 0.95,
    "cout_strip_wins": 0.80,
    "reachable": 0.90,
    "monotonicity": 0.98,
    "surrogate_auc": 0.95,
    "surrogate_r2": 0.75,
    "reconstruction_ms_ssim": 0.85,
    "precision": 0.7,
    "recall": 0.5,
    "planted_cue": 1.0,
}
MOST = {
    "attributes_seconds": 300,
    "gap_0": 0.05,
    "gap_0_accepted": 0.05,
    "gate_refusal": 0.05,
    "marker_flip_drop": 0.03,
    "target_error": 0.06,
    "verdict_unreliable": 0.05,
}
BETWEEN = {"random_label_auc": (0.45, 0.55)}
SURROGATE_AUC_REAL_MARGIN = 0.03  # surrogate_auc_real may lie this far below classifier_auc
RELEASE_MARGIN = 0.05
RELEASE_FLIP_RATE_ON_CPU = 0.90
RELEASE_KNEE_AUC = 0.89


@dataclass(frozen=True)
class Bars:
    """What figures are held against, by name; those of the other mode have the bar of the bundle's own.

    Attributes:
        least, most, between: the bars.
        margin: how far `surrogate_auc_real` may lie below `classifier_auc`.
    """

    least: Mapping[str, float]
    most: Mapping[str, float]
    between: Mapping[str, tuple[float, float]]
    margin: float

    def hold(self, name: str, metric: Metric, figures: Mapping[str, Metric]) -> Metric:
        """The figure with its bar and whether it is met, beside all `figures`; as it is where there is no bar."""
        kind, value = kind_of(name), metric.value
        if kind in self.between:
            low, high = self.between[kind]
            return metric.model_copy(update={"met": bool(low <= value <= high)})
        if kind in self.most:
            return metric.model_copy(update={"bar": self.most[kind], "met": bool(value <= self.most[kind])})
        bar = self.least.get(kind)
        if kind == "surrogate_auc_real" and "classifier_auc" in figures:
            bar = round(figures["classifier_auc"].value - self.margin, 4)
        return metric if bar is None else metric.model_copy(update={"bar": bar, "met": bool(value >= bar)})

    @property
    def names(self) -> set[str]:
        """Every figure that has a bar, in the bundle's own mode."""
        return {*self.least, *self.most, *self.between, "surrogate_auc_real"}


OURS = Bars(LEAST, MOST, BETWEEN, SURROGATE_AUC_REAL_MARGIN)


def bars_of_release(modality: str, hardware: str) -> Bars:
    """What a bundle must reach to be shipped: our own bars, but for three that were agreed on otherwise.

    Args:
        modality: of the space's images.
        hardware: that the space was trained on, in the words of `training.device.describe_device`.
    """
    least = dict(LEAST)
    if hardware.startswith("CPU"):
        least["flip_rate"] = RELEASE_FLIP_RATE_ON_CPU
    if "knee" in modality:
        least["classifier_auc"] = RELEASE_KNEE_AUC
    return replace(OURS, least=least, margin=RELEASE_MARGIN)


def held_to_bars(figures: Mapping[str, Metric], bars: Bars = OURS) -> dict[str, Metric]:
    """The same figures, each with its bar and whether it is met; a missed bar stays in."""
    return {name: bars.hold(name, metric, figures) for name, metric in figures.items()}


def kind_of(name: str) -> str:
    """The figure whose bar this one has: without its mode, and `gate_auroc` for each kind of foreign image."""
    if name.startswith("gate_auroc_"):
        return "gate_auroc"
    kind, _, mode = name.rpartition("_")
    return kind if kind in IN_BOTH_MODES and mode in MODES else name


def bar_in_words(name: str, metric: Metric) -> str:
    """The bar of a figure as a card prints it; nothing where there is none."""
    kind = kind_of(name)
    if kind in BETWEEN:
        return "{:g} to {:g}".format(*BETWEEN[kind])
    if metric.bar is None:
        return ""
    return f"at most {metric.bar:g}" if kind in MOST else f"{metric.bar:g}"

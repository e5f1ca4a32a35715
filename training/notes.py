"""Facts of a run that a reader of its figures needs, in sentences."""

from __future__ import annotations

import json

from training.attributes import CHOICE as ATTRIBUTES
from training.attributes import attribute_notes
from training.choose_mode import CHOICE as MODE
from training.choose_mode import mode_note
from training.config import RunConfig
from training.errors import StepMissing
from training.fit_direction import direction_notes
from training.prepare import skipped_images
from training.resnet import DOMAIN_LAYERS
from training.runfolder import RunFolder


def run_notes(config: RunConfig, run: RunFolder) -> list[str]:
    """What was chosen on val, what compact weights cost, in which features sets are compared, what cannot be drawn."""
    drift = json.loads(run.need("onnx", "drift.json", verb="export").read_text())
    choice = json.loads(run.need("direction", "choice.json", verb="fit-direction").read_text())
    if "curve" not in choice:
        raise StepMissing("choice.json is of an older form: run `python -m training fit-direction` again")
    attributes = run.path / "direction" / ATTRIBUTES
    mode = run.path / "direction" / MODE
    notes = [
        *direction_notes(choice),
        *([mode_note(json.loads(mode.read_text()))] if mode.exists() else ()),
        *(attribute_notes(json.loads(attributes.read_text())) if attributes.exists() else ()),
        "Weights are stored in 8 bits, those of the classifier in 10. Against float32, the classifier's answer on val "
        f"images drifts by {drift['classifier_mean']:.4f} on average and {drift['classifier_max']:.4f} at most, the "
        f"generator's pixels by {drift['generator_mean']:.4f} of the range and the encoder's w by "
        f"{drift['encoder_mean']:.3f} standard deviations on average.",
        "FID, KID, precision and recall are measured in the features of the domain network, a small ResNet trained on "
        f"the data set's own labels with {_independence(config)} than the classifier's.",
        "What the generator cannot draw (screws, markers, text, unusual exposure) is missing from generated frames; "
        "residual frames leave the places alone where it differs from the input.",
    ]
    if skipped := skipped_images(run):
        notes.append(f"{skipped} images of the data set could not be read, and are in no split.")
    if config.data.preprocessing_note:
        notes.append(config.data.preprocessing_note)
    return notes


def _independence(config: RunConfig) -> str:
    """In what the domain network, which is the second opinion too, differs from the reference classifier."""
    c = config.classifier
    alike = (c.block, c.layers, c.width, c.stem) == ("basic", DOMAIN_LAYERS, c.domain_width, c.domain_stem)
    return "another seed, though the same architecture," if alike else "another seed and architecture"

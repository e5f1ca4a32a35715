"""Everything that can go wrong offline, each with a stable code.

TrainingError
├── ConfigError        the run config says something it may not
│   └── ClassifierReplaced  a black box is another than the one whose answers are kept
├── DataError          images or labels cannot be used
│   ├── LeakageError   a patient stands in two splits
│   └── Unusable       a raw file gives no image
├── WeightsRefused     weights of another's generator, or published ones, cannot be taken over
├── OutputExists       what a verb would write is there already
├── StepMissing        a verb needs what an earlier verb makes
├── StepOutdated       a step was made with other settings than the config has now
├── CheckpointForeign  a run folder belongs to another config
├── RunCollapsed       the generator makes one image, or none
└── ExportMismatch     the exported network computes something else
"""


class TrainingError(Exception):
    """The training run cannot go on."""

    code = "training-error"


class ConfigError(TrainingError):
    """The run config cannot be used."""

    code = "config-error"


class ClassifierReplaced(ConfigError):
    """A black box answers otherwise than it did."""

    code = "classifier-replaced"


class DataError(TrainingError):
    """The images or their labels cannot be used."""

    code = "data-error"


class LeakageError(DataError):
    """A patient stands in more than one split."""

    code = "patient-leakage"


class Unusable(DataError):
    """A raw file that gives no image; named, and skipped up to the limit."""

    code = "unusable-file"


class WeightsRefused(TrainingError):
    """Weights of an existing generator cannot be taken over."""

    code = "weights-refused"


class OutputExists(TrainingError):
    """What a verb would write is there already; nothing is ever overwritten."""

    code = "output-exists"


class StepMissing(TrainingError):
    """An earlier step of the run has not been made yet."""

    code = "step-missing"


class StepOutdated(TrainingError):
    """A step of the run was made with other settings than the config has now."""

    code = "step-outdated"


class CheckpointForeign(TrainingError):
    """The run folder was made with another config."""

    code = "checkpoint-foreign"


class RunCollapsed(TrainingError):
    """The generator has lost its variety or its numbers."""

    code = "run-collapsed"


class ExportMismatch(TrainingError):
    """The exported network does not compute what the trained one does."""

    code = "export-mismatch"

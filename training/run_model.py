"""A run's candidate bundles, opened as a worker opens them; a black box is asked about no image twice."""

from __future__ import annotations

from models.store import Store
from training.black_box_config import PythonCallable
from training.config import RunConfig
from training.evaluate import AskedNetworks, KeptNetworks, Networks, open_model
from training.fit_direction import candidates
from training.run_classifier import open_own_black_box
from training.runfolder import RunFolder


def open_candidates(config: RunConfig, run: RunFolder) -> Networks:
    """The networks of the run's space and classifier, verified and replayed.

    Raises:
        BundleNotFound: `fit-direction` has not been run yet.
        StepOutdated: the candidates were made with other settings.
        ConfigError, ClassifierMisfit, ClassifierUnreachable, CheckpointForeign: as `open_own_black_box`.
    """
    if config.black_box is None:
        return open_model(candidates(run), config.classifier.id, config.version)
    store = Store(candidates(run))
    classifier = store.open_classifier(config.classifier.id, config.version)
    space = store.open_space(config.space.id, config.version)
    f = open_own_black_box(config, run)
    if isinstance(config.black_box.source, PythonCallable):
        model: Networks = AskedNetworks(f.ask, space, classifier)
    else:
        model = KeptNetworks(f.kept, space, classifier)
    model.replay_golden()
    return model

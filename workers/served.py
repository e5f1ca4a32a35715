"""The classifiers that a worker serves: opened when they are needed, proven before they are used, few held at a time.

A bundle whose golden pairs do not come out again is refused by name, and the good ones beside it still serve. One whose
classifier is remote and does not answer now is not refused: it is proven when it is first asked for and answers.
"""

import logging
from functools import lru_cache

from models.errors import ModelsError
from models.store import Store
from workers.errors import ClassifierUnreachable, WorkerError
from workers.networks import Networks
from workers.settings import Settings

log = logging.getLogger(__name__)

HELD_OPEN = 2
"""How many classifiers keep their networks in memory."""


class ServedNetworks:
    """The store's classifiers as networks that are ready to run; to be opened in the process that runs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.BUNDLES_DIR)
        self.open = lru_cache(maxsize=HELD_OPEN)(self._open)

    def prove_all(self) -> int:
        """Open every classifier of the store and replay its golden pairs; return how many did, or may yet."""
        for fault in self._store.faults():
            log.error("bundle refused (%s): %s", fault.code, fault.detail)
        served = [(id_, version) for id_, versions in self._store.classifiers().items() for version in versions]
        return sum(self._is_proven(id_, version) for id_, version in served)

    def _is_proven(self, id_: str, version: int) -> bool:
        try:
            networks = self.open(id_, version)
        except ClassifierUnreachable as error:
            log.warning("classifier %s/%d cannot be proven yet (%s): %s", id_, version, error.code, error)
            return True
        except (ModelsError, WorkerError) as error:
            log.error("classifier %s/%d refused (%s): %s", id_, version, error.code, error)
            return False
        log.info("classifier %s/%d answers as it was exported, on %s", id_, version, networks.runtime)
        return True

    def _open(self, id_: str, version: int) -> Networks:
        """Networks of a classifier and its space, their golden pairs replayed; `open` is this with a memory.

        Raises:
            BundleError: no such classifier or space, or one that is not as it was exported.
            DeviceUnavailable: the device of the settings cannot be used here.
            ClassifierUnreachable: the classifier is remote and does not answer.
            ClassifierMisfit: it is remote and is not the one that was measured.
        """
        classifier = self._store.open_classifier(id_, version)
        space = self._store.open_space(classifier.manifest.space.id, classifier.manifest.space.version)
        networks = Networks.open(
            space, classifier, self._settings.DEVICE, self._settings.THREADS, endpoints=self._settings
        )
        networks.replay_golden()
        return networks

"""The classifiers that a worker serves: opened when they are needed, proven before they are used, held while they fit.

Those used last are held within a budget of memory; classifiers of one space share its networks. A version that comes
into the store while the worker runs is served like any other.

A bundle whose golden pairs do not come out again is refused by name, and the good ones beside it still serve. One whose
classifier is remote and does not answer now is not refused: it is proven when it is first asked for and answers.
"""

import logging
from collections import OrderedDict
from typing import Any

from models.bundle import Bundle
from models.errors import ModelsError
from models.store import Store
from workers.errors import ClassifierUnreachable, WorkerError
from workers.networks import Networks
from workers.settings import Settings

log = logging.getLogger(__name__)

NETWORKS = ("encoder.onnx", "generator.onnx", "gate.onnx", "classifier.onnx", "second_opinion.onnx")
"""The files of a bundle that a worker loads; mapping.onnx is for the offline package."""
EXPANSION = 5
"""Bytes of memory per byte of a network's file: weights are stored in 8 to 16 bits and expanded to 32, and more."""


class ServedNetworks:
    """The store's classifiers as networks that are ready to run; to be opened in the process that runs them."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.BUNDLES_DIR)
        self._held: OrderedDict[tuple[str, int], Networks] = OrderedDict()

    def open(self, id_: str, version: int) -> Networks:
        """Networks of a classifier and its space, their golden pairs replayed when they were loaded.

        Raises:
            BundleError: no such classifier or space, or one that is not as it was exported.
            DeviceUnavailable: the device of the settings cannot be used here.
            ClassifierUnreachable: the classifier is remote and does not answer.
            ClassifierMisfit: it is remote and is not the one that was measured.
        """
        key = (id_, version)
        if key not in self._held:
            self._held[key] = self._load(id_, version)
        self._held.move_to_end(key)
        return self._held[key]

    def held(self) -> list[str]:
        """The classifiers in memory, `id/version`, the one used last at the end."""
        return [f"{id_}/{version}" for id_, version in list(self._held)]

    def prove_one(self) -> int:
        """Like `prove_all`, but enough is enough: for a process that takes the place of one that has proven all."""
        return int(any(self._is_proven(*known) for known in reversed(self._known())))

    def prove_all(self) -> int:
        """Open every classifier of the store and replay its golden pairs; return how many did, or may yet."""
        for fault in self._store.faults():
            log.error("bundle refused (%s): %s", fault.code, fault.detail)
        return sum([self._is_proven(*known) for known in self._known()])

    def _known(self) -> list[tuple[str, int]]:
        """All good classifiers, those last whose version is served, for they are to be held in the end."""
        store = self._store
        known = [(id_, version) for id_, versions in store.classifiers().items() for version in versions]
        return sorted(known, key=lambda found: found[1] == _served(store, found[0]))

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

    def _load(self, id_: str, version: int) -> Networks:
        classifier = self._store.open_classifier(id_, version)
        space = self._store.open_space(classifier.manifest.space.id, classifier.manifest.space.version)
        self._make_room(space, classifier)
        beside = next((held for held in self._held.values() if held.space.sha256 == space.sha256), None)
        settings = self._settings
        networks = Networks.open(
            space, classifier, settings.DEVICE, settings.THREADS, endpoints=settings, beside=beside
        )
        networks.replay_golden()
        return networks

    def _make_room(self, *coming: Bundle[Any]) -> None:
        """Let go of those used longest ago until what is held fits into the budget, with what comes."""
        while self._held and _memory_bytes([*self._bundles(), *coming]) > self._settings.MODEL_MEMORY_BYTES:
            (id_, version), _ = self._held.popitem(last=False)
            log.info("classifier %s/%d makes room for another", id_, version)

    def _bundles(self) -> list[Bundle[Any]]:
        return [bundle for held in self._held.values() for bundle in (held.space, held.classifier)]


def _memory_bytes(bundles: list[Bundle[Any]]) -> int:
    """What the networks of these bundles take in memory, those that are named twice counted once."""
    different = {bundle.sha256: bundle for bundle in bundles}.values()
    sizes = (entry.bytes for bundle in different for name, entry in bundle.manifest.files.items() if name in NETWORKS)
    return EXPANSION * int(sum(sizes))


def _served(store: Store, id_: str) -> int | None:
    try:
        return store.served("classifier", id_)
    except ModelsError as error:
        log.error("classifier %s: %s", id_, error)
        return None

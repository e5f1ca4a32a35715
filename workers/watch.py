"""Asks every remote classifier now and then whether it can answer, and tells the broker; in a thread of its own."""

import logging
import os
import socket
import threading

from models.errors import ModelsError
from models.manifest import ClassifierManifest
from models.reading import Reading
from models.store import Store
from workers.broker import BROKER_ERRORS, redis_client
from workers.errors import ClassifierUnreachable
from workers.remote import RemoteClassifier
from workers.settings import Settings
from workers.unreachable import report_unreachable

log = logging.getLogger(__name__)

EVERY_S = 10.0


class RemoteWatch:
    """Watches the remote classifiers of a store; does nothing where there are none."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._store = Store(settings.BUNDLES_DIR)
        self._remotes: dict[str, tuple[str, RemoteClassifier | None]] = {}
        """By name `<id>/<version>`: the bundle's digest and whom to ask; None where no address is configured."""

    def start(self) -> None:
        """Watch from now on, until the process ends."""
        threading.Thread(target=self._watch, name="remote-watch", daemon=True).start()

    def look(self) -> dict[str, bool]:
        """Ask each once: whether it can answer, by `<id>/<version>`."""
        self._refresh()
        return {name: remote is not None and remote.is_ready() for name, (_, remote) in self._remotes.items()}

    def _watch(self) -> None:
        client, worker = redis_client(self._settings), f"{socket.gethostname()}:{os.getpid()}"
        known: dict[str, bool] = {}
        pause = threading.Event()
        while True:
            found = self.look()
            for name in sorted(found):
                if found[name] != known.get(name, True):
                    log.warning("classifier %s %s", name, "answers again" if found[name] else "cannot be reached")
            known = found
            silent, answering = ([name for name, ok in found.items() if ok is wanted] for wanted in (False, True))
            try:
                if found:
                    report_unreachable(client, worker, silent, answering)
            except BROKER_ERRORS as error:
                log.debug("broker away (%s); unreachable classifiers are told when it is back", type(error).__name__)
            pause.wait(EVERY_S)

    def _refresh(self) -> None:
        """Follow the store: bundles come, go and are replaced while a worker runs."""
        found: dict[str, tuple[str, RemoteClassifier | None]] = {}
        for id_, versions in self._store.classifiers().items():
            for version in versions:
                try:
                    bundle = self._store.open_classifier(id_, version)
                except ModelsError:
                    continue
                name, known = f"{id_}/{version}", self._remotes.get(f"{id_}/{version}")
                if known is not None and known[0] == bundle.sha256:
                    found[name] = known
                elif bundle.manifest.source.kind == "endpoint":
                    found[name] = (bundle.sha256, self._remote(bundle.manifest))
        self._remotes = found

    def _remote(self, manifest: ClassifierManifest) -> RemoteClassifier | None:
        try:
            space = self._store.open_space(manifest.space.id, manifest.space.version).manifest
            reading = Reading(space.image, manifest.input, manifest.output, len(manifest.classes))
            assert manifest.source.kind == "endpoint"
            return RemoteClassifier(manifest.source, reading, self._settings)
        except (ModelsError, ClassifierUnreachable):
            return None

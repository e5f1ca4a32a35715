"""The verbs that say which version of a classifier is served: while the service runs, without touching it.

    python -m workers served                    what is served now, and what else is there
    python -m workers promote knee-oa 2         serve version 2 from now on, once its golden pairs came out right here
    python -m workers rollback knee-oa          serve again what was served before
    python -m workers follow knee-oa            serve the highest version again, and every new one as it comes

A classifier names the version of its space, so a space is promoted with its classifiers.
"""

import argparse
from collections.abc import Callable

from models.store import Store
from workers.served import ServedNetworks
from workers.settings import Settings


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """Let a command line take these verbs; `verb` is None where it has none."""
    verbs = parser.add_subparsers(dest="verb", metavar="served | promote | rollback | follow")
    verbs.add_parser("served", help="which version of each classifier is served")
    promote = verbs.add_parser("promote", help="serve one version from now on, if it answers as it was exported")
    rollback = verbs.add_parser("rollback", help="serve again what was served before")
    follow = verbs.add_parser("follow", help="serve the highest version, whichever that is")
    for verb in (promote, rollback, follow):
        verb.add_argument("classifier_id")
    promote.add_argument("version", type=int)


def carry_out(chosen: argparse.Namespace, settings: Settings) -> int:
    """Do what a verb says, and print what is served after it; return the exit status.

    Raises:
        BundleError: There is no such classifier or version, or it is not good; what was served is served on.
        WorkerError: It cannot be run here.
    """
    store = Store(settings.BUNDLES_DIR)
    verbs: dict[str, Callable[[], object]] = {
        "served": lambda: None,
        "promote": lambda: _promote(store, settings, chosen.classifier_id, chosen.version),
        "rollback": lambda: store.roll_back("classifier", chosen.classifier_id),
        "follow": lambda: store.follow("classifier", chosen.classifier_id),
    }
    verbs[chosen.verb]()
    for id_, versions in store.classifiers().items():
        others = ", ".join(str(version) for version in versions)
        print(f"{id_}: version {store.served('classifier', id_)} is served; there are {others}")
    return 0


def _promote(store: Store, settings: Settings, classifier_id: str, version: int) -> None:
    """Only what answers here as it was exported is promoted: opening it replays its golden pairs."""
    ServedNetworks(settings).open(classifier_id, version)
    store.promote("classifier", classifier_id, version)

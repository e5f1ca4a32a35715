"""Which direction of a classifier is about a class: what `target_class` of a request means. Pure."""

from models.errors import NoSuchClass, OtherClass
from models.manifest import Aim, ClassifierManifest


def direction_about(manifest: ClassifierManifest, target_class: str, direction: str | None = None) -> str:
    """The direction along which a class becomes more probable.

    Args:
        manifest: of the classifier.
        target_class: a class by its name or index, or a target by its name, as a report's `target_class` has it.
        direction: one that was asked for besides, and exists; it must be about the same target.

    Returns:
        `direction` if it was given, else the first that is about the class.

    Raises:
        NoSuchClass: there is none; the message lists what can be chosen.
        OtherClass: `direction` is about something else.
    """
    chosen = choices(manifest)
    found = chosen.get(target_class) or chosen.get(_named(manifest, target_class))
    if found is None:
        raise NoSuchClass(f"What can be chosen for {manifest.id} {manifest.version}: {', '.join(chosen)}.")
    if direction is None:
        return found
    if _about(manifest.aim(direction)) != _about(manifest.aim(found)):
        about = manifest.aim(direction).target.name
        raise OtherClass(f"The direction {direction} is about {about}, not about that class.")
    return direction


def choices(manifest: ClassifierManifest) -> dict[str, str]:
    """Every class and target that a direction is about, by name, and the first direction that is."""
    chosen: dict[str, str] = {}
    for direction in manifest.directions:
        aim = manifest.aim(direction)
        if (index := _one_class(manifest, aim)) is not None:
            chosen.setdefault(manifest.classes[index], direction)
        chosen.setdefault(aim.target.name, direction)
    return chosen


def _named(manifest: ClassifierManifest, target_class: str) -> str:
    """The name of the class at an index; nothing where there is none."""
    index = int(target_class) if target_class.isascii() and target_class.isdecimal() else -1
    return manifest.classes[index] if 0 <= index < len(manifest.classes) else ""


def _one_class(manifest: ClassifierManifest, aim: Aim) -> int | None:
    """The class that is held against all others, where that is what is explained."""
    target = aim.target
    others = set(range(len(manifest.classes))) - set(target.classes)
    alone = aim.kind == "probability" and len(target.classes) == 1 and set(target.against or others) == others
    return target.classes[0] if alone else None


def _about(aim: Aim) -> tuple[str, tuple[int, ...], tuple[int, ...] | None]:
    return aim.kind, aim.target.classes, aim.target.against

"""A class that is asked for leads to the direction that is about it, or to a list of what can be asked for."""

import pytest

from models.classes import choices, direction_about
from models.errors import NoSuchClass, OtherClass
from models.manifest import Aim, Attribute, ClassifierManifest, Target
from tests.toys import classifier_manifest

SLIGHT = Aim(target=Target(name="slight", classes=(1,)), threshold=0.5)
ABSENT = Aim(target=Target(name="nothing to see", classes=(0,), against=(1, 2)), threshold=0.5)
GRADE = Aim(kind="expected_grade", target=Target(name="grade", classes=(0, 1, 2)), threshold=0.5)


@pytest.fixture
def manifest() -> ClassifierManifest:
    """The toy with directions for two of its three classes, for its grades, and an attribute."""
    aims = {"slight": SLIGHT, "absent-vs": ABSENT, "ordinal": GRADE}
    names = ("main", *aims, "attribute-1")
    return classifier_manifest(
        directions=names,
        walk=dict.fromkeys(names, "paper"),
        aims=aims,
        attributes=(Attribute(name="attribute-1", share=0.4),),
    )


@pytest.mark.parametrize(
    ("target_class", "direction"),
    [
        ("slight", "slight"),
        ("1", "slight"),
        ("absent", "absent-vs"),
        ("0", "absent-vs"),
        ("nothing to see", "absent-vs"),
        ("present", "main"),
        ("grade", "ordinal"),
    ],
)
def test_a_class_is_chosen_by_name_by_index_or_by_the_name_of_a_target(
    manifest: ClassifierManifest, target_class: str, direction: str
) -> None:
    assert direction_about(manifest, target_class) == direction


@pytest.mark.parametrize("unknown", ["clear", "2", "3", "-1", "¹", "9" * 200, "", "main"])
def test_what_no_direction_is_about_is_refused_with_all_that_can_be_chosen(
    manifest: ClassifierManifest, unknown: str
) -> None:
    with pytest.raises(NoSuchClass, match="present, slight, absent, nothing to see, grade"):
        direction_about(manifest, unknown)


def test_a_direction_may_be_named_besides_if_it_is_about_the_same(manifest: ClassifierManifest) -> None:
    assert direction_about(manifest, "present", "attribute-1") == "attribute-1"
    with pytest.raises(OtherClass, match="about present"):
        direction_about(manifest, "slight", "attribute-1")
    with pytest.raises(OtherClass, match="about grade"):
        direction_about(manifest, "absent", "ordinal")


def test_the_second_of_two_classes_is_what_main_is_about() -> None:
    two = classifier_manifest(classes=("no", "yes"), target=Target(name="it is there", classes=(1,)))
    assert choices(two) == {"yes": "main", "it is there": "main"}

"""Patients are split by a seed, each label alike, and nobody is in two splits."""

import random
from collections import Counter

import pytest

from training.errors import DataError
from training.splits import split_by_patient

PATIENTS = [f"p{i // 2}" for i in range(2000)]  # two images each
LABELS = ["rare" if i // 2 % 10 == 0 and i % 2 else "frequent" for i in range(2000)]


def test_every_split_gets_its_share_of_every_label() -> None:
    found = split_by_patient(PATIENTS, LABELS)
    with_rare = {p for p, label in zip(PATIENTS, LABELS, strict=True) if label == "rare"}
    assert Counter(found.values()) == {"train": 700, "val": 150, "test": 150}
    assert Counter(split for p, split in found.items() if p in with_rare) == {"train": 70, "val": 15, "test": 15}


def test_the_order_of_the_rows_does_not_matter_and_the_seed_does() -> None:
    order = list(range(2000))
    random.Random(1).shuffle(order)
    shuffled = split_by_patient([PATIENTS[i] for i in order], [LABELS[i] for i in order])
    assert shuffled == split_by_patient(PATIENTS, LABELS)
    assert shuffled != split_by_patient(PATIENTS, LABELS, seed=1)


def test_no_split_stays_empty_when_there_are_few_patients() -> None:
    assert set(split_by_patient("abc", "123").values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.7, "val": 0.2}, "add up to 1"),
        ({"train": 1.2, "test": -0.2}, "positive"),
        ({"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}, "3 patients cannot fill 4 splits"),
    ],
)
def test_shares_that_cannot_be_had_are_refused(shares: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=message):
        split_by_patient("abc", "123", shares=shares)

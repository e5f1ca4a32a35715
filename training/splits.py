"""Train, val and test by patient, stratified by label, from a seed. Pure; one patient is never in two splits."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence

from training.errors import DataError

SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}


def split_by_patient(
    patients: Sequence[str], labels: Sequence[str], *, shares: Mapping[str, float] = SHARES, seed: int = 0
) -> dict[str, str]:
    """A split for every patient, so that each label has about the same share in each.

    A patient's stratum is the rarest of his labels. Inside a stratum, patients come in an order that the seed decides,
    and each goes where most are lacking, there and overall. The same patients, labels and seed give the same splits in
    any order of rows.

    Args:
        patients, labels: of every image, in the same order.
        shares: of each split; positive, adding up to 1.
        seed: of the order.

    Returns:
        The split of each patient.

    Raises:
        DataError: the shares do not add up, or there are fewer patients than splits.
    """
    if min(shares.values()) <= 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise DataError(f"shares of the splits must be positive and add up to 1, not {dict(shares)}")
    if len(set(patients)) < len(shares):
        raise DataError(f"{len(set(patients))} patients cannot fill {len(shares)} splits")
    frequency = Counter(labels)
    rarest: dict[str, str] = {}
    for patient, label in zip(patients, labels, strict=True):
        if patient not in rarest or (frequency[label], label) < (frequency[rarest[patient]], rarest[patient]):
            rarest[patient] = label
    draw = random.Random(seed)
    overall: Counter[str] = Counter()
    found: dict[str, str] = {}
    for label in sorted(set(rarest.values())):
        members = sorted(patient for patient, stratum in rarest.items() if stratum == label)
        draw.shuffle(members)
        inside: Counter[str] = Counter()
        for done, patient in enumerate(members):
            split = max(
                shares,
                key=lambda s: shares[s] * (done + 1) - inside[s] + shares[s] * (len(found) + 1) - overall[s],
            )
            inside[split] += 1
            overall[split] += 1
            found[patient] = split
    return _none_empty(found, shares)


def _none_empty(found: dict[str, str], shares: Mapping[str, float]) -> dict[str, str]:
    """In sets of few patients, the largest split gives one to every split that got none."""
    for split in shares:
        if split not in found.values():
            largest = Counter(found.values()).most_common(1)[0][0]
            found[max(patient for patient, s in found.items() if s == largest)] = split
    return found

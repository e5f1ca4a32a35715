"""f is asked about no image twice, and what it answered outlives a kill."""

from pathlib import Path

import numpy as np
import pytest

from models.errors import ClassifierMisfit
from training.errors import ConfigError
from training.kept_answers import KeptAnswers

IMAGES = np.random.default_rng(0).standard_normal((6, 1, 4, 4)).astype(np.float32)


class Means:
    """A classifier that gives the mean of an image and its negative, and remembers how many it was asked about."""

    def __init__(self, shift: float = 0.0) -> None:
        self.shift, self.sizes = shift, list[int]()

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        self.sizes.append(len(batch))
        mean = batch.mean(axis=(1, 2, 3)) + self.shift
        return np.stack([mean, -mean], axis=1)


def test_only_images_that_are_new_are_asked_about(tmp_path: Path) -> None:
    f, kept = Means(), KeptAnswers(tmp_path / "answers.jsonl")
    ask = kept.over(f)
    first, second = ask(IMAGES[:3]), ask(IMAGES)
    assert f.sizes == [3, 3]
    assert (second == Means()(IMAGES)).all()
    assert (second[:3] == first).all()
    assert kept.images_asked == 6


def test_an_image_that_stands_twice_in_a_batch_is_asked_about_once() -> None:
    f = Means()
    twice = IMAGES[[0, 1, 0, 2, 1]]
    assert (KeptAnswers().over(f)(twice) == Means()(twice)).all()
    assert f.sizes == [3]


def test_a_later_process_reads_what_was_kept_and_counts_it_all_the_same(tmp_path: Path) -> None:
    KeptAnswers(tmp_path / "below" / "answers.jsonl").over(Means())(IMAGES)
    f, again = Means(), KeptAnswers(tmp_path / "below" / "answers.jsonl")
    assert (again.over(f)(IMAGES) == Means()(IMAGES)).all()
    assert f.sizes == []
    assert again.images_asked == len(again) == 6


def test_a_line_that_a_kill_has_torn_costs_its_own_call_alone(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    ask = KeptAnswers(path).over(Means())
    ask(IMAGES[:2])
    ask(IMAGES[2:4])
    path.write_bytes(path.read_bytes()[:-20])
    f = Means()
    KeptAnswers(path).over(f)(IMAGES)
    assert f.sizes == [4]
    assert len(KeptAnswers(path)) == 6


def test_the_file_holds_no_pixels(tmp_path: Path) -> None:
    KeptAnswers(tmp_path / "answers.jsonl").over(Means())(np.zeros((1, 1, 512, 512), np.uint8))
    assert len((tmp_path / "answers.jsonl").read_bytes()) < 200


def test_a_classifier_that_has_been_replaced_is_noticed(tmp_path: Path) -> None:
    kept = KeptAnswers(tmp_path / "answers.jsonl")
    kept.refuse_another(Means(), IMAGES)  # of which nothing is kept
    kept.over(Means())(IMAGES[:2])
    kept.refuse_another(Means(1e-4), IMAGES)
    with pytest.raises(ConfigError, match="answers otherwise than in"):
        kept.refuse_another(Means(0.5), IMAGES)


@pytest.mark.parametrize("answer", [np.float32(3), np.zeros(4), np.array(["a"] * 6)])
def test_what_is_no_row_for_each_image_is_refused_and_not_kept(answer: np.ndarray) -> None:
    kept = KeptAnswers()
    with pytest.raises(ClassifierMisfit, match="not with numbers for each of 6 images"):
        kept.over(lambda _: answer)(IMAGES)
    assert len(kept) == 0


def test_answers_that_are_no_numbers_are_not_written_down(tmp_path: Path) -> None:
    KeptAnswers(tmp_path / "answers.jsonl").over(lambda batch: np.full((len(batch), 2), np.nan))(IMAGES)
    assert not (tmp_path / "answers.jsonl").exists()

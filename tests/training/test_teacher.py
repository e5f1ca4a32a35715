"""A deep classifier may learn from a small one's answers as well as from labels."""

from pathlib import Path

import numpy as np
import torch

from tests.training.tiny import tiny_config
from training.resnet import domain_resnet
from training.train_classifier import recipes, supervise, taught


def test_what_is_taught_lies_between_the_teacher_and_the_labels() -> None:
    torch.manual_seed(0)
    teacher, x, labels = domain_resnet(1, 3, width=8).eval(), torch.randn(6, 1, 32, 32), torch.arange(6) % 3
    mixed = taught(teacher, x, labels, share=0.7)
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(6))
    assert (mixed[torch.arange(6), labels] >= 0.3).all()
    torch.testing.assert_close(taught(teacher, x, labels, share=0.0).argmax(dim=1), labels)


def test_whole_labels_and_labels_as_probabilities_cost_the_same() -> None:
    torch.manual_seed(0)
    network, x, labels = domain_resnet(1, 3, width=8).eval(), torch.randn(6, 1, 32, 32), torch.arange(6) % 3
    certain = torch.nn.functional.one_hot(labels, 3).float()
    torch.testing.assert_close(supervise(network, x, labels, 0.0), supervise(network, x, certain, 0.0))


def test_the_domain_network_is_nobody_s_teacher(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    with_teacher = config.model_copy(update={"classifier": config.classifier.model_copy(update={"teacher_passes": 2})})
    assert [recipe.name for recipe in recipes(config)] == ["classifier", "domain"]
    teacher, f, domain = recipes(with_teacher)
    assert (teacher.name, f.teacher, domain.teacher) == ("teacher", "teacher", None)
    assert len(np.unique([recipe.seed for recipe in (teacher, f, domain)])) == 3


def test_f_is_made_of_the_blocks_that_the_config_names(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    basic = config.model_copy(update={"classifier": config.classifier.model_copy(update={"block": "basic"})})
    deep, plain = (next(r for r in recipes(c) if r.name == "classifier").build() for c in (config, basic))
    assert (deep.fc.in_features, plain.fc.in_features) == (32 * config.classifier.width, 8 * config.classifier.width)

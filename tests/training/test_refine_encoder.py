"""Stage B of the encoder: what it measures, on inputs whose answer is known."""

import numpy as np
import torch

from training.data import ImageSet
from training.refine_encoder import feature_distance, latent_excess, real_batch
from training.resnet import activations, domain_resnet, features


def test_equal_images_are_no_distance_apart() -> None:
    domain, x = domain_resnet(1, 3, width=8).eval(), torch.randn(4, 1, 32, 32)
    maps, logits = feature_distance(domain, x, x.clone())
    assert float(maps) == 0
    assert float(logits) == 0


def test_distance_grows_with_what_the_network_sees_and_has_a_gradient() -> None:
    torch.manual_seed(0)
    domain, x = domain_resnet(1, 3, width=8).eval(), torch.randn(4, 1, 32, 32)
    near, far = (feature_distance(domain, x + amount * torch.randn_like(x), x)[0] for amount in (0.05, 1.0))
    assert 0 < float(near) < float(far)
    drawn = x.clone().requires_grad_()
    feature_distance(domain, drawn + 0.1, x)[0].backward()
    assert drawn.grad is not None
    assert float(drawn.grad.abs().sum()) > 0


@torch.no_grad()
def test_activations_end_in_the_network_s_own_logits_and_features() -> None:
    network, x = domain_resnet(1, 3, width=8).eval(), torch.randn(2, 1, 32, 32)
    maps, logits = activations(network, x)
    torch.testing.assert_close(logits, network(x))
    torch.testing.assert_close(maps[-1].mean(dim=(2, 3)), features(network, x))


def test_codes_inside_the_space_are_not_pulled_and_codes_outside_are() -> None:
    mean, precision = torch.ones(4), torch.eye(4) / 4
    assert float(latent_excess(torch.ones(3, 4) + 1.9, mean, precision)) == 0
    outside = (torch.ones(3, 4) + 4.0).requires_grad_()  # M²/D = 4
    excess = latent_excess(outside, mean, precision)
    assert float(excess) == 3.0
    excess.backward()
    assert outside.grad is not None
    assert (outside.grad > 0).all()


def test_training_images_are_mirrored_only_where_that_is_allowed() -> None:
    left = np.zeros((1, 1, 4, 4), np.uint8)
    left[..., :2] = 255
    names = np.array(["a"])
    images = ImageSet(left, np.zeros(1, np.int64), names, names)
    assert (real_batch(images, 32, mirror=False)[:, 0, 0, 0] == 1).all()
    assert 0 < float((real_batch(images, 64, mirror=True)[:, 0, 0, 0] == 1).float().mean()) < 1

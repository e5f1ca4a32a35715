"""Weights in few bits: small files, the same graph to a reader, small differences."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from training.compact import GROUP, Bits, compact, quantise
from training.onnx_networks import open_network, to_onnx


@given(hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-1e3, 1e3, width=32)), st.sampled_from([8, 10]))
def test_no_weight_moves_by_more_than_half_a_step_of_its_group(values: np.ndarray, bits: Bits) -> None:
    whole, scale = quantise(values, bits)
    restored = (whole.astype(np.float32) * scale.astype(np.float32)).ravel()[: values.size]
    step = np.repeat(scale.astype(np.float32).ravel(), GROUP)[: values.size]
    largest = np.repeat(np.abs(np.pad(values, (0, -values.size % GROUP))).reshape(-1, GROUP).max(axis=1), GROUP)
    rounding_of_scale = largest[: values.size] * 1e-3 + 4e-5  # a half-precision scale has eleven bits
    assert (np.abs(restored - values) <= 0.5 * step * 1.001 + rounding_of_scale).all()


def test_a_group_of_noughts_stays_nought() -> None:
    whole, scale = quantise(np.zeros(70, np.float32))
    assert (whole.astype(np.float32) * scale == 0).all()


@pytest.mark.parametrize(("bits", "share", "error"), [(8, 0.32, 0.01), (10, 0.38, 0.0025), (16, 0.54, 0.0005)])
def test_the_compact_network_is_small_and_computes_nearly_the_same(bits: Bits, share: float, error: float) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 77, 3, padding=1), nn.ReLU(), nn.Conv2d(77, 65, 3, padding=1)).eval()
    full = to_onnx(network, torch.randn(2, 3, 8, 8), "x", "y")
    small = compact(full, bits)
    x = np.random.default_rng(0).standard_normal((5, 3, 8, 8)).astype(np.float32)
    before, after = open_network(full)(x), open_network(small)(x)
    assert len(small.SerializeToString()) < share * len(full.SerializeToString())
    assert np.abs(before - after).mean() < error * before.std()
    assert not np.array_equal(before, after)


def test_exported_graphs_name_no_file_of_the_machine_that_made_them() -> None:
    full = to_onnx(nn.Linear(4, 4), torch.randn(2, 4), "x", "y")
    assert b".py" not in full.SerializeToString()

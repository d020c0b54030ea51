"""pretrain/order.py: permutations, epochs and mixtures in closed form, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pretrain.keyed import key
from pretrain.order import BLOCK, Epochs, Mixture, Permutation


@given(st.integers(1, 3000), st.integers(0, 2**32))
def test_a_permutation_is_one(size: int, salt: int) -> None:
    found = Permutation(size, key(salt))(np.arange(size))
    assert sorted(found.tolist()) == list(range(size))


def test_a_permutation_of_a_trillion_is_asked_for_a_few_places() -> None:
    permutation = Permutation(10**12, key("large"))
    places = np.concatenate([np.arange(1000), 10**12 - 1 - np.arange(1000)])
    found = permutation(places)
    assert len(set(found.tolist())) == 2000
    assert found.min() >= 0
    assert found.max() < 10**12
    assert abs(found.mean() / 10**12 - 0.5) < 0.03


def test_a_permutation_looks_random() -> None:
    found = Permutation(10_000, key("r"))(np.arange(10_000))
    assert abs(np.corrcoef(np.arange(10_000), found)[0, 1]) < 0.04  # 4 standard errors
    assert np.mean(np.abs(np.diff(found)) == 1) < 0.001
    assert (found == Permutation(10_000, key("s"))(np.arange(10_000))).mean() < 0.001
    first = [Permutation(5, key(n))(np.zeros(1))[0] for n in range(500)]
    assert max(abs(np.bincount(first) / 500 - 0.2)) < 0.08


@given(st.lists(st.floats(0, 10), min_size=1, max_size=40).filter(lambda w: sum(w) > 1e-3), st.integers(0, 99))
def test_with_weights_an_epoch_holds_each_row_as_often_as_its_weight_says(weights: list[float], seed: int) -> None:
    number = len(weights)
    epochs, rows = Epochs(number, "d", seed, np.array(weights)).at(np.arange(number, 2 * number))
    assert set(epochs) == {1}
    expected = np.array(weights) * number / sum(weights)
    counts = np.bincount(rows, minlength=number)
    assert counts.sum() == number
    assert (np.abs(counts - expected) < 1 + 1e-6).all()


def test_weights_that_are_none_are_refused() -> None:
    for weights in ([1.0, -1.0], [0.0, 0.0], [1.0, float("nan")], [1.0]):
        with pytest.raises(ValueError, match="weights must be 2"):
            Epochs(2, "d", 0, np.array(weights))


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=5), st.integers(0, 50))
def test_every_source_of_a_mixture_is_read_in_its_own_order_without_a_gap(shares: list[float], block: int) -> None:
    mixture = Mixture(tuple(shares), key("m"))
    sources, own = mixture.at(np.arange(block * BLOCK, (block + 2) * BLOCK))
    for number, share in enumerate(shares):
        places = np.sort(own[sources == number])
        assert (np.diff(places) == 1).all()
        assert abs(places[0] - block * BLOCK * share / sum(shares)) <= 1.01
        assert abs(len(places) - 2 * BLOCK * share / sum(shares)) <= 2
    assert Mixture(tuple(shares), key("m")).at(np.arange(5))[0].tolist() == mixture.at(np.arange(5))[0].tolist()


def test_a_share_too_small_to_keep_is_refused() -> None:
    with pytest.raises(ValueError, match="1/4096"):
        Mixture((1.0, 1e-5), key("m"))

"""What embeddings are like, and what can be read from them: geometry, zero-shot, nearest neighbours, a linear probe.

Shape suffixes: P pictures, T texts, N training rows, D dimension, C classes, K languages.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from pretrain.checked import EvaluationError, check_labels, check_vectors
from pretrain.found import Row
from pretrain.metrics import chance_rank_moments, chance_within, mean_row

PROMPTS = ("a photo of a {}.", "a picture of a {}.", "an image of a {}.", "{}")
"""A short neutral set; CLIP's 80 for ImageNet name things that small corpora do not have."""
NEIGHBOURS, TEMPERATURE = 20, 0.07
"""Of the weighted vote (DINO, arXiv:2104.14294, appendix E)."""
_PROBE_STEPS = 100
UNIFORMITY_T = 2.0


def modality_gap(image_PD: np.ndarray, text_TD: np.ndarray) -> float:
    """Distance of the two means (Liang et al. 2022, arXiv:2203.02053, section 4.2)."""
    check_vectors("pictures", image_PD)
    check_vectors("texts", text_TD, image_PD.shape[1])
    return float(np.linalg.norm(image_PD.mean(axis=0) - text_TD.mean(axis=0)))


def uniformity(vector_ND: np.ndarray) -> float:
    """log of the mean of exp(-2 |x - y|^2) over all pairs of different rows (Wang and Isola 2020, arXiv:2005.10242).

    0 where all are one point, and for a single row; about -4 where unit vectors are spread evenly over a sphere of many
    dimensions.
    """
    check_vectors("all rows", vector_ND)
    number = len(vector_ND)
    if number < 2:
        return 0.0
    squares = (vector_ND.astype(np.float64) ** 2).sum(axis=1)
    total = 0.0
    for start in range(0, number, 1000):
        some = vector_ND[start : start + 1000].astype(np.float64)
        distances = squares[start : start + 1000, None] + squares[None, :] - 2 * some @ vector_ND.T.astype(np.float64)
        total += float(np.exp(-UNIFORMITY_T * np.maximum(distances, 0)).sum())
    return float(np.log((total - number) / (number * (number - 1))))


def class_vectors(
    encode_texts: Callable[[Sequence[str]], np.ndarray], names: Sequence[str], prompts: Sequence[str] = PROMPTS
) -> np.ndarray:
    """(C, D) unit vectors of classes: the normalised mean of the unit vectors of their prompts (CLIP, section 3.1.4).

    Raises EvaluationError without classes or prompts, for a prompt without a place `{}` for the name, and where the
    vectors of a class have no direction.
    """
    if not names or not prompts:
        raise EvaluationError(f"zero-shot needs classes and prompts: {len(names)} classes, {len(prompts)} prompts")
    for prompt in prompts:
        if "{}" not in prompt:
            raise EvaluationError(f"prompt {prompt!r} has no {{}} for the name of the class")
    made = encode_texts([prompt.replace("{}", name) for name in names for prompt in prompts])
    check_vectors("prompts of classes", made)
    mean = _directions(made, names, len(prompts)).reshape(len(names), len(prompts), -1).mean(axis=1)
    return _directions(mean, names, 1)


def _directions(made: np.ndarray, names: Sequence[str], times: int) -> np.ndarray:
    """Rows at unit length. Raises EvaluationError naming the class, each of which has `times` rows, where one is 0."""
    length = np.linalg.norm(made, axis=1, keepdims=True)
    if not length.all():
        name = names[int((length[:, 0] == 0).argmax()) // times]
        raise EvaluationError(f"the vectors of class {name!r} have no direction: one, or their mean, is zero")
    return np.asarray(made / length)


def within_top(scores_PC: np.ndarray, label_P: np.ndarray, k: int) -> np.ndarray:
    """bool (P,): whether the label is among the k best classes; equal scores count against it.

    Raises EvaluationError where scores are not finite or labels are no classes.
    """
    check_vectors("scores", scores_PC)
    check_labels("pictures", label_P, *scores_PC.shape)
    own_P1 = np.take_along_axis(scores_PC, label_P[:, None], axis=1)
    ahead: np.ndarray = (scores_PC >= own_P1).sum(axis=1) - 1
    return ahead < k


def neighbours_vote(
    train_ND: np.ndarray, label_N: np.ndarray, test_PD: np.ndarray, num_classes: int, k: int = NEIGHBOURS
) -> np.ndarray:
    """(P, C) votes of the k nearest training rows by cosine (of all, if they are fewer), each with weight
    exp(cosine / 0.07)."""
    check_labels("training rows", label_N, len(train_ND), num_classes)
    cosine_PN = test_PD @ train_ND.T
    near_PK = np.argsort(-cosine_PN, axis=1, kind="stable")[:, :k]
    weight_PK = np.exp((np.take_along_axis(cosine_PN, near_PK, axis=1) - 1) / TEMPERATURE)
    votes_PC = np.zeros((len(test_PD), num_classes))
    np.add.at(votes_PC, (np.arange(len(test_PD))[:, None], label_N[near_PK]), weight_PK)
    return votes_PC


def linear_probe(
    train_ND: np.ndarray, label_N: np.ndarray, test_PD: np.ndarray, num_classes: int, penalty: float = 1e-3
) -> np.ndarray:
    """(P, C) scores of multinomial logistic regression on the vectors; penalty: of the mean squared weights (CLIP,
    section 3.2, sweeps it). Solved by L-BFGS from zero, so the same rows give the same scores."""
    check_labels("training rows", label_N, len(train_ND), num_classes)
    x = torch.from_numpy(train_ND.astype(np.float64))
    y = torch.from_numpy(label_N.astype(np.int64))
    weight = torch.zeros(num_classes, x.shape[1], dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(num_classes, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([weight, bias], max_iter=_PROBE_STEPS, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        solver.zero_grad()
        value = F.cross_entropy(x @ weight.T + bias, y) + penalty * weight.square().sum() / 2
        torch.autograd.backward(value)
        return value

    run: Any = solver.step  # torch leaves it without types
    run(loss)
    scores: np.ndarray = (torch.from_numpy(test_PD.astype(np.float64)) @ weight.detach().T + bias.detach()).numpy()
    return scores


def label_outcomes(
    train_ND: np.ndarray, label_N: np.ndarray, test_PD: np.ndarray, label_P: np.ndarray, class_CD: np.ndarray
) -> dict[str, tuple[np.ndarray, float]]:
    """Metric -> (bool (P,): which pictures are right, chance): zero-shot accuracy (top 1 and 5), and what neighbours
    and a linear probe make of the training rows' labels.

    chance: of a guess for zero-shot; of always naming the commonest training class for the two that see labels.
    Raises EvaluationError for fewer than two classes, labels that are none, and vectors that do not fit.
    """
    num_classes = len(class_CD)
    if num_classes < 2:
        raise EvaluationError(f"{num_classes} class(es): there is nothing to tell apart")
    check_vectors("training pictures", train_ND)
    check_vectors("held-out pictures", test_PD, train_ND.shape[1])
    check_vectors("classes", class_CD, train_ND.shape[1])
    check_labels("training pictures", label_N, len(train_ND), num_classes)
    check_labels("held-out pictures", label_P, len(test_PD), num_classes)
    scores_PC = test_PD @ class_CD.T
    commonest = float((label_P == np.bincount(label_N, minlength=num_classes).argmax()).mean())
    found = {
        f"zero_shot_top_{k}": (within_top(scores_PC, label_P, k), min(1.0, k / num_classes))
        for k in (1, 5)
        if k <= num_classes
    }
    votes_PC = neighbours_vote(train_ND, label_N, test_PD, num_classes)
    found["nearest_neighbours_top_1"] = (within_top(votes_PC, label_P, 1), commonest)
    probe_PC = linear_probe(train_ND, label_N, test_PD, num_classes)
    found["linear_probe_top_1"] = (within_top(probe_PC, label_P, 1), commonest)
    return found


def rank_variance_rows(rank_NK: np.ndarray, num_positives_NK: np.ndarray, num_candidates: int) -> list[Row]:
    """Rows {metric, value, lo, hi, chance, n}: `mean_rank_variance` and, as CCRK's code has it, `mean_rank_deviation`:
    mean over items of the variance, and of the standard deviation, of an item's ranks over its K languages; 0 where all
    languages rank alike (CCRK, arXiv:2406.18254).

    The bootstrap draws items. chance: of ranks drawn at random for every language; exact for the variance (the mean
    over K of the variances, (K - 1) / K, and the variance of the expectations), of the deviation by drawing each once.
    Raises EvaluationError where ranks and numbers of positives have other shapes, or there is but one language.
    """
    check_vectors("ranks by language", rank_NK)
    if rank_NK.shape != num_positives_NK.shape or rank_NK.shape[1] < 2:
        raise EvaluationError(
            f"ranks of shape {rank_NK.shape} with positives of shape {num_positives_NK.shape}: both are (items, "
            "languages), of at least two languages"
        )
    number, languages = rank_NK.shape
    mean_NK, variance_NK = chance_rank_moments(num_positives_NK, num_candidates)
    expected = float((variance_NK.mean(axis=1) * (languages - 1) / languages + mean_NK.var(axis=1)).mean())
    drawn_NK = _random_ranks(num_positives_NK, num_candidates, np.random.default_rng(0))
    chances = {"mean_rank_variance": expected, "mean_rank_deviation": float(drawn_NK.std(axis=1).mean())}
    values = {"mean_rank_variance": rank_NK.var(axis=1), "mean_rank_deviation": rank_NK.std(axis=1)}
    return [mean_row(metric, value_N, np.arange(number), chances[metric]) for metric, value_N in values.items()]


def _random_ranks(num_positives: np.ndarray, num_candidates: int, generator: np.random.Generator) -> np.ndarray:
    """Ranks of the best of so many positives each, in random orders of the candidates."""
    drawn = np.empty(num_positives.shape, dtype=np.int64)
    for m in np.unique(num_positives):
        within_N = np.array([chance_within(np.array([m]), num_candidates, k)[0] for k in range(1, num_candidates + 1)])
        where = num_positives == m
        drawn[where] = np.searchsorted(within_N, generator.random(int(where.sum()))) + 1
    return drawn

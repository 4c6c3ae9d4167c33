"""The metrics: attacks and proofs return artefacts, and only this module computes numbers from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import norm, skewnorm, t
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score, roc_curve

from wire import Array, BadInput, Labels
from zoo.exact_interval import Interval, exact_interval


def agreement(labels: Labels, others: Labels) -> Interval:
    """Returns how often two lists of labels, ``(n,)`` each, agree; accuracy if one is the truth."""
    return exact_interval(int((labels == others).sum()), len(labels))


def over_seeds(values: Sequence[float]) -> Interval:
    """Returns the mean of a share over seeds, with the 95 % interval of Student's t, within 0 and 1.

    Raises:
        BadInput: There are fewer than two seeds.
    """
    if len(values) < 2:
        raise BadInput(f"an interval over seeds needs at least 2, not {len(values)}")
    mean = float(np.mean(values))
    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half))


def top_agreement(labels: Labels, probs: Array, k: int = 5) -> Interval:
    """Returns how often a label, ``(n,)``, is among the ``k`` most probable classes of a surrogate.

    Source: Juuti et al., "PRADA", EuroS&P 2019, which reports it for GTSRB with ``k = 5``.

    Args:
        labels: The victim's labels, ``(n,)``.
        probs: The surrogate's probabilities, ``(n, c)``.
        k: Number of classes.
    """
    top = np.argsort(-probs, axis=1, kind="stable")[:, :k]
    return exact_interval(int((top == labels[:, None]).any(axis=1).sum()), len(labels))


def total_variation(probs: Array, others: Array) -> float:
    """Returns the mean total variation distance of two lists of distributions, ``(n, c)`` each, from 0 to 1.

    Source: Tramèr et al., "Stealing Machine Learning Models via Prediction APIs", USENIX Security 2016, section 4
    (R_TV); on uniformly random rows, the share of differing labels is their R_unif.
    """
    return float(np.abs(probs.astype(np.float64) - others).sum(axis=1).mean() / 2)


def logit_difference(logits: Array, others: Array) -> tuple[float, float]:
    """Returns the median over rows, and the maximum, of the greatest difference of a logit.

    Logits mean something only up to a constant of each row, so each row's mean is taken off.

    Source: Jagielski et al., "High Accuracy and High Fidelity Extraction of Neural Networks", USENIX Security
    2020, section 3.2 (functional equivalence).

    Args:
        logits: Logits of a model, ``(n, k)``.
        others: Logits of the other model for the same rows, ``(n, k)``.
    """
    centred = [part.astype(np.float64) - part.mean(axis=1, keepdims=True) for part in (logits, others)]
    far = np.abs(centred[0] - centred[1]).max(axis=1)
    return float(np.median(far)), float(far.max())


def transfer(before: Labels, after: Labels, targets: Labels | None = None) -> Interval:
    """Returns how often adversarial examples made for a surrogate deceive the victim.

    Source: Juuti et al., "PRADA", EuroS&P 2019 (targeted and non-targeted transferability).

    Args:
        before: The victim's labels of the original rows, ``(n,)``.
        after: The victim's labels of the adversarial examples, ``(n,)``.
        targets: The classes that the examples were made for, ``(n,)``; None if any other label counts.
    """
    if targets is not None:
        return agreement(after, targets)
    return exact_interval(int((after != before).sum()), len(before))


def roc(scores: Array, member: Array) -> tuple[Array, Array]:
    """Returns the ROC of membership scores: false and true positive rates, both rising from 0 to 1.

    Rows of equal score are called members together, so a score of two values gives one point between the corners.

    Args:
        scores: ``(n,)``, higher = member, all of them numbers.
        member: Whether each row is a member, ``(n,)`` bool.
    """
    false, true, _ = roc_curve(member, scores, drop_intermediate=False)
    return false, true


def auc(scores: Array, member: Array) -> float:
    """Returns the area under :func:`roc`: how often a member scores above a non-member, ties counting half."""
    return float(roc_auc_score(member, scores))


def auc_error(area: float, members: int, others: int) -> float:
    """Returns the standard error of an area under the ROC (Hanley and McNeil, Radiology 1982)."""
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (members - 1) * (q1 - area**2) + (others - 1) * (q2 - area**2)
    return float(np.sqrt(max(variance, 0) / (members * others)))


def balanced_accuracy(scores: Array, member: Array) -> float:
    """Returns the greatest mean of true positive and true negative rate over all thresholds."""
    false, true = roc(scores, member)
    return float(np.max(true + 1 - false) / 2)


def tpr_at(scores: Array, member: Array, fpr: float) -> Interval:
    """Returns the true positive rate at a false positive rate of at most ``fpr`` (Carlini et al., S&P 2022)."""
    false, true = roc(scores, member)
    members = int(member.sum())
    return exact_interval(round(true[false <= fpr].max() * members), members)


FPRS = (0.01, 0.001)
MANY = 50_000  # non-members, for a lower rate


def decided(called: Array, member: Array) -> dict[str, Interval | None]:
    """Returns precision and recall of an attack's decisions (Shokri et al., S&P 2017).

    Args:
        called: Which rows the attack calls members, ``(n,)`` bool; if none, it has no precision.
        member: Which of them are members, ``(n,)`` bool.
    """
    hits, calls = int((called & member).sum()), int(called.sum())
    precision = exact_interval(hits, calls) if calls else None
    return {"precision": precision, "recall": exact_interval(hits, int(member.sum()))}


def null_bound(tests: int, members: int, others: int, confidence: float = 0.95) -> float:
    """Returns how far from 1/2 the area of a score without information may lie, in one of several tests.

    The bound is that of Hanley and McNeil's error at 1/2, and holds for all tests together (Bonferroni).
    """
    return float(norm.isf((1 - confidence) / (2 * tests)) * auc_error(0.5, members, others))


def membership(scores: Array, member: Array, threshold: float | None = None) -> dict[str, Any]:
    """Measures the scores of a membership attack, over the candidates that have one.

    Args:
        scores: ``(n,)``, higher = member, NaN without a score.
        member: Whether each candidate is a member, ``(n,)`` bool.
        threshold: The attack's own threshold; None or NaN if it has none, and so neither precision nor recall.
    """
    scored = ~np.isnan(scores)
    scores, member = scores[scored], member[scored]
    members, others, area = int(member.sum()), int((~member).sum()), auc(scores, member)
    return {
        "members": members,
        "others": others,
        "auc": area,
        "auc_error": auc_error(area, members, others),
        "balanced_accuracy": balanced_accuracy(scores, member),
        "tpr_at": {
            str(fpr): tpr_at(scores, member, fpr) for fpr in (*FPRS, *((0.0001,) if others >= MANY else ()))
        },
        **({} if threshold is None or np.isnan(threshold) else decided(scores > threshold, member)),
        "roc": [_thinned(rates) for rates in roc(scores, member)],
    }


def _thinned(rates: Array, most: int = 400) -> list[float]:
    """Thins the points of a curve for a drawing, dense at the low end of a log axis; the corners stay."""
    if len(rates) > most:
        rates = rates[np.unique(np.r_[0, np.geomspace(1, len(rates) - 1, most).astype(int)])]
    return [round(float(rate), 6) for rate in rates]


def affine_error(found: Array, true: Array) -> float:
    """Returns how far a matrix is from another one after the best affine map of its rows.

    Source: Carlini et al., "Stealing Part of a Production Language Model", ICML 2024, section 4.2, which compares
    output layers up to a linear map.

    Args:
        found: ``(t, r)``.
        true: ``(t, h)``; its rows are fitted by the found ones.

    Returns:
        The root mean square of the error, in units of the standard deviation of the true entries.
    """
    rows = np.concatenate([found, np.ones((len(found), 1))], axis=1)
    fitted = rows @ np.linalg.lstsq(rows, true, rcond=None)[0]
    return float(np.sqrt(((true - fitted) ** 2).mean()) / true.std())


def exposures(secrets: Array, others: Array, digits: int) -> tuple[Array, Array]:
    """Returns the exposure of secrets in bits: by the rank in a sample, and by a skew normal fit of the sample.

    The rank in a sample of m cannot tell more than ``log2(m + 1)`` bits. Neither is above the ``log2 |R|`` of a
    secret that is the first of all.

    Source: Carlini et al., "The Secret Sharer", USENIX Security 2019, sections 4.3 and 4.4.

    Args:
        secrets: The log-likelihoods of the secrets, ``(k,)``.
        others: Those of others of their form, drawn at random, ``(m,)``.
        digits: Number of digits of a secret.
    """
    most = digits * np.log2(10)
    better = (others[None] >= secrets[:, None]).sum(axis=1)
    counted = np.log2((len(others) + 1) / (better + 1))
    fitted = -skewnorm.logsf(secrets, *skewnorm.fit(others)) / np.log(2)
    return counted.clip(0, most), fitted.clip(0, most)


def next_tokens(theirs: Array, own: Array) -> dict[str, float]:
    """Compares what two language models with the same tokens expect next.

    Args:
        theirs: The log-probabilities of the model that is imitated, ``(n, v)``.
        own: Those of the imitation.

    Returns:
        ``agreement``: how often the likeliest token is the same; ``divergence``: the mean Kullback-Leibler
        divergence of the imitation's distribution from the model's, in nats.
    """
    same = theirs.argmax(axis=1) == own.argmax(axis=1)
    divergence = (np.exp(theirs) * (theirs - own)).sum(axis=1)
    return {"agreement": float(same.mean()), "divergence": float(divergence.mean())}


def cosine(embeddings: Array, others: Array) -> float:
    """Returns the mean cosine of two encoders' embeddings of the same rows, ``(n, d)`` each; 0 for those of 0."""
    pairs = [part.astype(np.float64) for part in (embeddings, others)]
    lengths = np.linalg.norm(pairs[0], axis=1) * np.linalg.norm(pairs[1], axis=1)
    products = (pairs[0] * pairs[1]).sum(axis=1)
    return float(np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean())


def linearly_mapped(known: Array, to: Array, others: Array) -> Array:
    """Maps embeddings into another encoder's space, by the affine map of least squared error on known rows.

    Args:
        known: Embeddings of rows by the one encoder, ``(m, d)``.
        to: Those of the same rows by the other, ``(m, e)``.
        others: Embeddings of further rows by the one, ``(n, d)``.

    Returns:
        They in the space of the other, ``(n, e)``.
    """
    rows, further = (np.concatenate([part, np.ones((len(part), 1))], axis=1) for part in (known, others))
    mapped: Array = further @ np.linalg.lstsq(rows, to.astype(np.float64), rcond=None)[0]
    return mapped


def probed(known: Array, labels: Labels, others: Array, truth: Labels) -> float:
    """Returns the accuracy of a linear probe: logistic regression from embeddings to classes.

    Source: Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
    section 2.3 (linear evaluation).

    Args:
        known: Embeddings from which it learns, ``(m, d)``; their columns are standardised.
        labels: Their classes, ``(m,)``.
        others: Embeddings on which it is tested, ``(n, d)``.
        truth: Their classes, ``(n,)``.
    """
    mean, scale = known.mean(axis=0), known.std(axis=0) + 1e-9
    probe = LogisticRegression(max_iter=500).fit((known - mean) / scale, labels)
    return float((probe.predict((others - mean) / scale) == truth).mean())

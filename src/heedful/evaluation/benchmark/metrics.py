"""Scores of texts against references: F1, exact match, BLEU, ROUGE-L, and the entropy of a choice. It needs numpy.

The counts of BLEU add up over sentences, so that a bootstrap can resample them. Libraries give the finished figure.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from heedful.maths.statistics import Floats

ORDERS = 4
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORDS = re.compile(r"[a-z0-9]+")
_MARKS = (
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
)  # what mteval-v13a separates from words


def plain(text: str) -> str:
    """Lower case without punctuation, articles and repeated spaces, as SQuAD compares answers.

    >>> plain("The  North Sea!")
    'north sea'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact(answer: str, references: Sequence[str]) -> float:
    """1 if the answer is one of the references after `plain`, else 0."""
    return float(any(plain(answer) == plain(reference) for reference in references))


def f1(answer: str, references: Sequence[str]) -> float:
    """Largest F1 of the words shared with a reference, after `plain` (SQuAD).

    >>> round(f1("the oil in the North Sea", ["North Sea", "Sea"]), 3)
    0.667
    """
    return max(_f1(plain(answer).split(), plain(reference).split()) for reference in references)


def _f1(said: Sequence[str], wanted: Sequence[str]) -> float:
    if not said or not wanted:
        return float(said == wanted)
    return _harmonic((Counter(said) & Counter(wanted)).total(), len(said), len(wanted))


def rouge_l(answer: str, references: Sequence[str]) -> float:
    """Largest F1 of the longest common subsequence of words with a reference (Lin 2004). Words are not stemmed.

    >>> round(rouge_l("the cat sat here", ["the cat is here"]), 3)
    0.75
    """
    return max(_rouge(_WORDS.findall(answer.lower()), _WORDS.findall(one.lower())) for one in references)


def _rouge(said: Sequence[str], wanted: Sequence[str]) -> float:
    longest = [0] * (len(wanted) + 1)  # of the words of `said` so far and the first j of `wanted`
    for word in said:
        before = longest[:]
        for j, other in enumerate(wanted):
            longest[j + 1] = before[j] + 1 if word == other else max(before[j + 1], longest[j])
    return _harmonic(longest[-1], len(said), len(wanted)) if said and wanted else 0.0


def _harmonic(shared: int, said: int, wanted: int) -> float:
    return 2 * shared / (said + wanted)


def bleu_words(text: str) -> list[str]:
    """Words and marks of a text as mteval-v13a separates them.

    >>> bleu_words("It costs 1,000, he said.")
    ['It', 'costs', '1,000', ',', 'he', 'said', '.']
    """
    text = f" {text} "
    for found, put in _MARKS:
        text = found.sub(put, text)
    return text.split()


def bleu_terms(answer: str, references: Sequence[str]) -> Floats:
    """The counts of a sentence that `bleu` adds up: matches [4], n-grams [4], its length and that of the reference.

    The reference length is that of the reference closest to it, of the shorter one in a tie.
    """
    said, wanted = bleu_words(answer), [bleu_words(reference) for reference in references]
    found = [_grams(said, n) for n in range(1, ORDERS + 1)]
    matches = []
    for n, own in enumerate(found, 1):
        most: Counter[tuple[str, ...]] = Counter()
        for words in wanted:
            most |= _grams(words, n)
        matches.append((own & most).total())
    length = min((len(words) for words in wanted), key=lambda length: (abs(length - len(said)), length))
    return np.array([*matches, *(own.total() for own in found), len(said), length], dtype=np.float64)


def _grams(words: Sequence[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def bleu(sums: Floats) -> Floats:
    """Corpus BLEU from sums [..., 10] of `bleu_terms`, 0 to 100. An order without a match counts half as the last.

    Source: Papineni et al. 2002, smoothed as by sacrebleu ("exp").
    """
    sums = np.atleast_2d(np.asarray(sums, dtype=np.float64))
    return np.array([_bleu(row) for row in sums])


def _bleu(row: Floats) -> float:
    matches, grams, said, wanted = row[:ORDERS], row[ORDERS : 2 * ORDERS], row[-2], row[-1]
    if not matches[0] or not grams.all():
        return 0.0
    precisions, smooth = [], 1.0
    for match, total in zip(matches, grams, strict=True):
        if not match:
            smooth *= 2
        precisions.append(match / total if match else 1 / (smooth * total))
    brevity = 1.0 if said >= wanted else math.exp(1 - wanted / said)
    return 100 * brevity * math.exp(sum(map(math.log, precisions)) / ORDERS)


def entropy_bits(logprobs: Sequence[float]) -> float:
    """Entropy in bits of the choice among sentences with these total log-probs in nats (E4). 1 of two: no preference.

    >>> entropy_bits([-100.0, -100.0]), round(entropy_bits([math.log(0.9), math.log(0.1)]), 3)
    (1.0, 0.469)
    """
    values = np.asarray(logprobs, dtype=np.float64)
    shares = np.exp(values - values.max())
    shares /= shares.sum()
    real = shares[shares > 0]
    return float(-(real * np.log2(real)).sum()) + 0.0


def rank_correlation(a: Sequence[float], b: Sequence[float]) -> float:
    """Spearman's correlation, equal values sharing their mean rank. NaN where one side never varies."""
    first, second = _ranks(a), _ranks(b)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return math.nan
    return float(np.corrcoef(first, second)[0, 1])


def _ranks(values: Sequence[float]) -> Floats:
    found = np.asarray(values, dtype=np.float64)
    order = np.sort(found)
    return (np.searchsorted(order, found, "left") + np.searchsorted(order, found, "right") - 1) / 2


def first_line(text: str) -> str:
    """An answer as the paper cuts it: up to the first line break (P D)."""
    return text.strip().partition("\n")[0].strip()

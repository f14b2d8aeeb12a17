"""Language modeling: the next token at each position."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..arguments import mapped
from ..metric import Metric
from .classification import mean_cross_entropy
from .metrics import IGNORED, Perplexity, perplexity
from .supervised import Supervised
from .task import Guess, OutputError

__all__ = ["LanguageModel"]


class LanguageModel(Supervised):
    """Cross-entropy of the next token at each position, and the perplexity.

    The network gets token ids, (batch, context), and gives a score for each token of the
    vocabulary, (batch, context, vocabulary). Position t is scored on token t + 1; the network must
    not look ahead.

    Args:
        train: token ids, (n,), a tensor or a numpy array, also a memory-mapped one; or the path of
            a text file, whose bytes are the tokens. If it is given alone, it is cut into three
            parts that follow each other.
        valid: the tokens that decide in the search.
        test: the tokens that are only reported.
        context: the tokens of an example.
        vocabulary: the number of different tokens; 256 for bytes; otherwise by default one more
            than the largest training token.
        held_out: the part of `train` that becomes the validation split, and the same for the test
            split, if these are not given.
        metric: by default the perplexity.
        reported: more metrics.
        ignore_index: a token that is left out of the loss.
        batch_size: examples in a batch; by default that of the recipe.

    Raises:
        ValueError: a split has fewer than ``context + 1`` tokens, a token is out of range, or
            all of them are ignored.
        FileNotFoundError: there is no such file.
    """

    def __init__(
        self,
        train: Any,
        valid: Any = None,
        test: Any = None,
        *,
        context: int = 64,
        vocabulary: int | None = None,
        held_out: float = 0.1,
        metric: Metric | Sequence[Metric] | None = None,
        reported: Sequence[Metric] = (),
        ignore_index: int = IGNORED,
        batch_size: int | None = None,
    ) -> None:
        if (valid is None) != (test is None):
            raise ValueError("give both valid and test, or neither, to cut both off from train")
        if context < 1:
            raise ValueError(f"context must be positive, got {context}")
        if vocabulary is None and isinstance(train, str | os.PathLike):
            vocabulary = 256
        parts = [_tokens(part) for part in (train, valid, test) if part is not None]
        if len(parts) == 1:
            parts = _cut(parts[0], held_out)
        examples = [
            _windows(part, context, name)
            for part, name in zip(parts, ("train", "valid", "test"), strict=True)
        ]
        self.vocabulary = int(parts[0].max()) + 1 if vocabulary is None else vocabulary
        self.context, self.ignore_index = context, ignore_index
        super().__init__(
            *examples,
            loss=partial(_next_token, vocabulary=self.vocabulary, ignore_index=ignore_index),
            metric=perplexity(ignore_index=ignore_index) if metric is None else metric,
            reported=reported,
            batch_size=batch_size,
        )
        for part, name in zip(parts, ("train", "valid", "test"), strict=True):
            low, high = int(part.min()), int(part.max())
            if low == high == ignore_index:
                raise ValueError(f"every token of the {name} split is {low}, which is ignored")
            if high >= self.vocabulary or (low < 0 and low != ignore_index):
                raise ValueError(
                    f"tokens must be in [0, {self.vocabulary - 1}], found "
                    f"{high if high >= self.vocabulary else low} in the {name} split"
                )

    def numbers(self, example: tuple[Any, Any]) -> int:
        """The scores of one example."""
        return self.context * self.vocabulary

    def prepared(self, inputs: Any) -> Any:
        """Token ids as int64."""
        return mapped(lambda t: t if t.is_floating_point() else t.long(), inputs)

    def guess(self) -> Guess | None:
        """The perplexity of the frequencies of tokens; None for another metric."""
        if not isinstance(self.metric.function, Perplexity):
            return None
        counts = torch.zeros(self.vocabulary, dtype=torch.long)
        for targets in self.targets("valid"):
            flat = targets.reshape(-1).long().cpu()
            counts += torch.bincount(flat[flat >= 0], minlength=self.vocabulary)
        share = counts[counts > 0].double() / counts.sum()
        surprise = -share.log()
        entropy = (share * surprise).sum()
        spread = ((share * surprise.square()).sum() - entropy**2).clamp_min(0).sqrt()
        value = float(entropy.exp())
        return Guess(
            value,
            2 * value * float(spread) / float(counts.sum()) ** 0.5,
            "a guess by the frequency of each token",
        )


def _tokens(given: Any) -> Any:
    """Token ids (n,), which are not read if they are a file."""
    if isinstance(given, str | os.PathLike):
        path = Path(given)
        if not path.is_file():
            raise FileNotFoundError(f"there is no text file {path}")
        if not path.stat().st_size:
            raise ValueError(f"{path} is empty; a language model needs text")
        return np.memmap(path, dtype=np.uint8, mode="r")
    if not isinstance(given, Tensor | np.ndarray):
        given = np.asarray(given)
    floating = (
        given.is_floating_point() if isinstance(given, Tensor) else given.dtype.kind not in "iu"
    )
    if given.ndim != 1 or floating:
        raise ValueError(
            f"token ids must be integers of shape (n,), got {given.dtype} of {tuple(given.shape)}"
        )
    return given


def _cut(tokens: Any, held_out: float) -> list[Any]:
    if not 0 < held_out < 0.5:
        raise ValueError(f"held_out must be in (0, 0.5), got {held_out}")
    part = round(len(tokens) * held_out)
    first = len(tokens) - 2 * part
    return [tokens[:first], tokens[first : first + part], tokens[first + part :]]


def _windows(tokens: Any, context: int, name: str) -> tuple[Any, Any]:
    """Inputs and targets (n, context), views of the tokens."""
    count = (len(tokens) - 1) // context
    if count < 1:
        raise ValueError(
            f"the {name} split needs at least context + 1 = {context + 1} tokens, got {len(tokens)}"
        )
    return (
        tokens[: count * context].reshape(count, context),
        tokens[1 : count * context + 1].reshape(count, context),
    )


def _next_token(output: Any, targets: Tensor, *, vocabulary: int, ignore_index: int) -> Tensor:
    wanted = (*targets.shape, vocabulary)
    if not isinstance(output, Tensor) or output.ndim != 3 or output.shape[:2] != targets.shape:
        found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise OutputError(f"the network must give scores of shape {wanted}, got {found}")
    if output.shape[2] < vocabulary:
        raise OutputError(
            f"the network must give a score for each of {vocabulary} tokens, got shape "
            f"{tuple(output.shape)}"
        )
    return mean_cross_entropy(
        output.reshape(-1, output.shape[-1]), targets.reshape(-1).long(), ignore_index
    )

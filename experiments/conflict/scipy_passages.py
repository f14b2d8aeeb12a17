"""Passages of SciPy's docstrings, three questions about them, and a small network that answers.

The text consists of the docstrings of ten modules of SciPy, without examples and references, as
words and full stops. So it depends on the installed version of SciPy.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

TASKS = ("masked", "next", "replaced")
MODULES = (
    "integrate", "interpolate", "linalg", "ndimage", "optimize",
    "signal", "sparse", "spatial", "special", "stats",
)  # fmt: skip
SENTENCE = 24  # words
PASSAGE = 2 * SENTENCE
MASK, RARE = range(2)  # the first entries of the vocabulary


@dataclass(frozen=True)
class Passages:
    """Windows of running text.

    Attributes:
        words: (passages, PASSAGE) numbers in the vocabulary.
        labels: (passages,) number of the module that each is from.
    """

    words: Tensor
    labels: Tensor


@cache
def passages(modules: tuple[str, ...], vocabulary: int) -> dict[str, Passages]:
    """The splits: every docstring is in one of them, and no passage in two."""
    texts: dict[str, list[tuple[list[str], int]]] = {"train": [], "valid": [], "test": []}
    for label, module in enumerate(modules):
        for words in docstrings(module):
            place = zlib.crc32(" ".join(words).encode()) % 10
            split = "test" if place < 2 else "valid" if place < 4 else "train"
            texts[split].append((words, label))
    counts = Counter(word for words, _ in texts["train"] for word in words)
    known = [word for word, _ in counts.most_common(vocabulary - RARE - 1)]
    number = {word: i for i, word in enumerate(known, RARE + 1)}
    found: dict[str, Passages] = {}
    seen: set[tuple[int, ...]] = set()
    for split, own in texts.items():
        windows = {
            tuple(number.get(word, RARE) for word in words[start : start + PASSAGE]): label
            for words, label in own
            for start in range(0, len(words) - PASSAGE + 1, PASSAGE)
        }
        new = {row: label for row, label in windows.items() if row not in seen}
        seen |= set(new)
        found[split] = Passages(torch.tensor(list(new)), torch.tensor(list(new.values())))
    return found


def docstrings(module: str) -> Iterator[list[str]]:
    """Words and stops of each docstring of a module of SciPy, read without importing it."""
    spec = importlib.util.find_spec("scipy")
    if spec is None or spec.origin is None:
        raise ValueError("the text is SciPy's, which is not installed: pip install scipy")
    seen = set()
    for path in sorted((Path(spec.origin).parent / module).rglob("*.py")):
        if "tests" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                continue
            text = re.split(r"\n(?:Examples|References)\n-", ast.get_docstring(node) or "")[0]
            words: list[str] = []
            for paragraph in re.split(r"\n\s*\n", text):
                found = re.findall(r"[a-z]{2,}|[.,:;]", paragraph.lower())
                if len(found) >= 8 and tuple(found) not in seen:
                    seen.add(tuple(found))
                    words += found
            if len(words) >= PASSAGE:
                yield words


@dataclass(frozen=True)
class Batch:
    """Corrupted passages and what is asked about them, all (b, PASSAGE) but `follows`, (b,)."""

    inputs: Tensor
    words: Tensor
    masked: Tensor
    follows: Tensor
    replaced: Tensor


class Corruption:
    """Puts other sentences behind sentences, masks words, replaces words."""

    def __init__(self, words: Tensor, vocabulary: int, share: float = 0.15) -> None:
        """Remember which words followed which, in the text that is trained on."""
        left, right = words[:, :-1].flatten(), words[:, 1:].flatten()
        self.right = right[left.argsort(stable=True)]
        self.counts = left.bincount(minlength=vocabulary)
        self.starts = self.counts.cumsum(0) - self.counts
        self.share = share

    def __call__(self, words: Tensor, generator: torch.Generator) -> Batch:
        """Corrupt passages."""
        follows = torch.rand(len(words), generator=generator) < 0.5
        first, second = words.split(SENTENCE, 1)
        second = torch.where(follows[:, None], second, second.roll(1, 0))
        words = torch.cat([first, second], 1)
        chance, draw = torch.rand((2, *words.shape), generator=generator)
        left = words.roll(1, 1)
        place = self.starts[left] + (draw * self.counts[left]).long()
        drawn = torch.where(self.counts[left] > 0, self.right[place % len(self.right)], words)
        inside = torch.arange(PASSAGE) % SENTENCE > 0  # a sentence's first word has no left one
        changed = (chance > 1 - self.share) & inside & (drawn != RARE) & (drawn != words)
        masked = (chance < self.share) & (words != RARE)
        inputs = torch.where(changed, drawn, words).masked_fill(masked, MASK)
        return Batch(inputs, words, masked, follows, changed)


class Network(nn.Module):
    """An encoder of words and a head for each task."""

    def __init__(self, vocabulary: int, width: int) -> None:
        """Draw the initial weights, the encoder's first: they are the same for all tasks."""
        super().__init__()
        self.encoder = Encoder(vocabulary, width)
        self.heads = nn.ModuleDict(
            {
                "masked": nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.LayerNorm(width)),
                "next": nn.Linear(width, 1),
                "replaced": nn.Linear(width, 1),
            }
        )

        self.center = nn.BatchNorm1d(width, affine=False)
        nn.init.constant_(self.heads["next"].weight, width**-0.5)  # begins as an inner product

    def answers(self, batch: Batch, tasks: Sequence[str]) -> list[tuple[Tensor, Tensor]]:
        """For each task its scores and the truth."""
        features, found = self.encoder(batch.inputs), []
        for task in tasks:
            head = self.heads[task]
            if task == "masked":
                hidden = head(features[batch.masked])
                scores = hidden @ self.encoder.words.weight.T, batch.words[batch.masked]
            elif task == "next":
                # Means, centered over the batch: from a single [class] token, as in BERT, it takes
                # far longer than an experiment has to learn anything.
                one, two = (self.center(part.mean(1)) for part in features.split(SENTENCE, 1))
                scores = head(one * two).squeeze(1), batch.follows.float()
            else:
                kept = ~batch.masked
                scores = head(features[kept]).squeeze(1), batch.replaced[kept].float()
            found.append(scores)
        return found

    def losses(self, batch: Batch, tasks: Sequence[str]) -> list[Tensor]:
        """The loss of each task."""
        return [loss_of(*pair) for pair in self.answers(batch, tasks)]


class Encoder(nn.Module):
    """Embeddings, and two layers of attention."""

    def __init__(self, vocabulary: int, width: int) -> None:
        """Draw the initial weights."""
        super().__init__()
        self.words = nn.Embedding(vocabulary, width)
        self.places = nn.Embedding(PASSAGE, width)
        self.layer_1, self.layer_2 = Layer(width), Layer(width)
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=width**-0.5)
        nn.init.normal_(self.places.weight, std=0.1)

    def forward(self, inputs: Tensor) -> Tensor:
        """From (b, PASSAGE) words to (b, PASSAGE, width) features."""
        width = self.words.embedding_dim
        x = self.words(inputs) * width**0.5 + self.places.weight
        return self.norm(self.layer_2(self.layer_1(x)))


class Layer(nn.Module):
    """Attention of four heads, then a small network for each word."""

    def __init__(self, width: int) -> None:
        """One head prefers the word to the left, one that to the right, one those around."""
        super().__init__()
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.ask, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width)
        )
        places = torch.arange(1.0 * PASSAGE)
        away = places[None] - places[:, None]
        near = [-(away + 1).abs(), -(away - 1).abs(), -away.abs() / 4, 0 * away]
        self.register_buffer("near", torch.stack(near))

    def forward(self, x: Tensor) -> Tensor:
        """Pass on features, (b, PASSAGE, width)."""
        b, t, width = x.shape
        three = self.ask(self.before(x)).view(b, t, 3, len(self.near), -1)
        mixed = functional.scaled_dot_product_attention(
            *three.permute(2, 0, 3, 1, 4), attn_mask=self.near
        )
        x = x + self.mix(mixed.transpose(1, 2).reshape(b, t, width))
        return x + self.think(self.between(x))


def loss_of(scores: Tensor, truth: Tensor) -> Tensor:
    """Cross-entropy, over words or of yes and no."""
    if scores.ndim == 2:
        return functional.cross_entropy(scores, truth)
    return functional.binary_cross_entropy_with_logits(scores, truth)

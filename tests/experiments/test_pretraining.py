"""Passages of real text, three questions about them, and the pre-trainings that are compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

MODULES = ("integrate", "ndimage")
ROWS = Path(__file__).parents[2] / "experiments" / "conflict" / "pretraining.csv"


@pytest.fixture(scope="module")
def module(experiment):
    return experiment("conflict/pretraining")


@pytest.fixture(scope="module")
def splits(module):
    return module.passages(MODULES, 1500)


@pytest.fixture(scope="module")
def corrupt(module, splits):
    return module.Corruption(splits["train"].words, 1500)


def quick(module, **changes):
    small = {"modules": MODULES, "methods": ("UPGrad",), "grid": ((1.0,), (1.0, 10.0))}
    small |= {"rates": (1e-2,), "seeds": 1, "steps": 2, "looks": 2, "draws": 1, "tune_steps": 1}
    small |= {"vocabulary": 400}
    small |= {"csv": None, "figure": None}
    return replace(module.Settings(), **(small | changes))


def test_the_splits_share_no_passage_and_have_all_modules(splits):
    seen: set[tuple[int, ...]] = set()
    for split in splits.values():
        assert split.words.shape == (len(split.labels), 48)
        assert split.words.min() >= 1 and split.words.max() < 1500  # nothing is masked yet
        assert set(split.labels.tolist()) == {0, 1}
        rows = {tuple(row) for row in split.words.tolist()}
        assert seen.isdisjoint(rows)
        seen |= rows


def test_docstrings_are_words_and_stops_without_examples(experiment):
    texts = list(experiment("conflict/scipy_passages").docstrings("integrate"))
    assert len(texts) > 20
    for words in texts:
        assert len(words) >= 48
        assert all(word in ".,:;" or (word.isascii() and word.islower()) for word in words)


def test_corruption_asks_what_it_says(splits, corrupt, rng):
    words = splits["valid"].words
    batch = corrupt(words, rng)
    assert batch.words[:, :24].equal(words[:, :24])
    other = words[:, 24:].roll(1, 0)
    expected = torch.where(batch.follows[:, None], words[:, 24:], other)
    assert batch.words[:, 24:].equal(expected)
    assert (batch.inputs[batch.masked] == 0).all()
    assert not (batch.masked & batch.replaced).any()
    assert (batch.words[batch.masked] != 1).all()  # a rare word is no answer
    touched = batch.masked | batch.replaced
    assert batch.inputs[~touched].equal(batch.words[~touched])
    assert (batch.inputs[batch.replaced] != batch.words[batch.replaced]).all()
    assert not batch.replaced[:, [0, 24]].any()
    train = splits["train"].words
    followed = set(
        zip(train[:, :-1].flatten().tolist(), train[:, 1:].flatten().tolist(), strict=True)
    )
    for row, place in batch.replaced.nonzero().tolist():
        left = batch.words[row, place - 1].item()
        assert (left, batch.inputs[row, place].item()) in followed
    for share in (batch.masked, batch.replaced):
        assert 0.08 < share.float().mean() < 0.17
    assert 0.3 < batch.follows.float().mean() < 0.7


def test_only_its_own_head_and_the_encoder_answer_a_task(module, splits, corrupt, rng):
    network = module.Network(1500, 16)
    batch = corrupt(splits["train"].words[:8], rng)
    for task, loss in zip(module.TASKS, network.losses(batch, module.TASKS), strict=True):
        assert loss.ndim == 0 and loss.isfinite()
        network.zero_grad()
        loss.backward(retain_graph=True)
        for other, head in network.heads.items():
            assert all((p.grad is not None) == (other == task) for p in head.parameters())
        assert network.encoder.words.weight.grad.abs().sum() > 0


def test_a_word_that_is_masked_or_of_the_other_sentence_is_seen_only_as_corrupted(
    module, splits, corrupt, rng
):
    network = module.Network(1500, 16)
    batch = corrupt(splits["train"].words[:8], rng)
    hidden = replace(batch, words=batch.words.flip(0))  # the truth is no input
    one, two = (network.answers(b, ("replaced",))[0][0] for b in (batch, hidden))
    assert one.equal(two)


def test_the_error_in_replaced_words_is_the_share_of_pairs_in_the_wrong_order(
    module, splits, corrupt
):
    torch.manual_seed(0)
    network = module.Network(1500, 16)
    words = splits["valid"].words[:6]
    found = module.errors(network, words, corrupt, module.TASKS)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(words), generator=generator)
    with torch.no_grad():
        answers = network.answers(corrupt(words[order], generator), module.TASKS)
    scores, truth = answers[2]
    ahead = scores[truth == 1][:, None] > scores[truth == 0][None]
    assert found["replaced"] == pytest.approx(100 * (1 - ahead.float().mean().item()), abs=0.1)
    scores, truth = answers[0]
    assert found["masked"] == pytest.approx(100 * (scores.argmax(1) != truth).float().mean().item())
    assert found["masked_loss"] == pytest.approx(
        (scores.logsumexp(1) - scores[torch.arange(len(truth)), truth]).mean().item(), rel=1e-4
    )


def test_labeled_passages_are_as_many_of_each_module_and_none_chooses_for_itself(module, splits):
    known, other = module.labeled(splits["valid"], 3, count=5)
    assert known.labels.bincount().tolist() == other.labels.bincount().tolist() == [5, 5]
    rows = [tuple(row) for split in (known, other) for row in split.words.tolist()]
    assert len(set(rows)) == 20


def test_more_error_is_counted_from_networks_for_one_task(module):
    frame = pd.DataFrame({"method": [*module.TASKS, module.PLAIN]})
    for i, task in enumerate(module.TASKS):
        frame[f"test_{task}"] = np.nan
        frame.loc[i, f"test_{task}"] = 50.0
        frame.loc[3, f"test_{task}"] = 50.0 + 5 * i
    frame = module.judged(frame, "test")
    assert frame.loc[3, [f"more_test_{task}" for task in module.TASKS]].tolist() == (
        pytest.approx([0.0, 10.0, 20.0])
    )
    assert frame.loc[3, "delta_m_test"] == pytest.approx(10.0)
    assert frame.loc[:2, "delta_m_test"].isna().all()


@pytest.mark.deep
@pytest.mark.timeout(240)  # the first optimizer loads half of torch
def test_everything_is_compared_and_the_written_rows_show_the_same(
    module, tmp_path, capsys, shown_again
):
    csv, figure = tmp_path / "rows.csv", tmp_path / "figure.svg"
    settings = quick(module, csv=csv, figure=figure)
    frame = module.main([], settings)
    told = capsys.readouterr().out
    expected = [*module.TASKS, "masked + next", "masked + replaced", "next + replaced"]
    expected += [module.PLAIN, module.TUNED, "UPGrad", module.NOTHING, module.COUNTS]
    tried = frame[frame["method"] == module.GRID]
    best = tried.loc[tried["delta_m_valid"].idxmin(), "weights"]
    assert len(tried) == 2
    assert frame.loc[frame["method"] == module.TUNED, "weights"].tolist() == [best]
    assert tried["test_next"].isna().all()  # chosen on valid, reported on test
    frame = frame[frame["probe"].notna()]
    assert sorted(frame["method"]) == sorted(expected)
    whole = frame[frame["method"].isin(expected[6:9])]
    assert np.isfinite(whole[[f"test_{task}" for task in module.TASKS]]).all(axis=None)
    assert frame["probe"].between(0, 100).all()
    angles = pd.read_csv(module.beside(csv))
    assert angles.groupby(["step", "layer"]).size().eq(3).all()
    assert angles["step"].nunique() == 2 and "all" in set(angles["layer"])
    shown_again(module, settings, told)


@pytest.mark.timeout(240)
def test_the_same_plan_trains_the_same_network(module):
    settings = quick(module)
    plan = module.Plan("PCGrad", module.APART, 1e-2)
    one, two = (module.train(settings, plan)[0] for _ in range(2))
    assert {**one, "milliseconds": 0.0} == {**two, "milliseconds": 0.0}


@pytest.mark.timeout(240)
def test_masked_words_are_learned(module):
    plan = module.Plan("masked", module.APART, 1e-2, ("masked",))
    few, more = (
        module.train(quick(module, steps=steps), plan)[0]["valid_masked_loss"] for steps in (1, 30)
    )
    assert more < few - 0.5


def test_the_written_rows_say_what_the_page_says(module, capsys):
    settings = replace(module.Settings(), figure=None)
    frame = module.main(["--show"], settings)
    assert "NashMTL" in capsys.readouterr().out
    frame = frame[frame["probe"].notna()]
    assert frame.groupby("method")["seed"].nunique().eq(settings.seeds).all()
    middle = frame.groupby("method").median(numeric_only=True)
    assert middle.loc[module.PLAIN, "more_test_replaced"] > 10
    assert middle.loc[module.PLAIN, "more_test_masked"] > 5
    delta, plain = middle["delta_m_test"], middle.loc[module.PLAIN, "delta_m_test"]
    assert abs(delta["UPGrad"] - plain) < 0.5
    assert delta["NashMTL"] < plain - 2
    assert middle.loc[module.COUNTS, "probe"] < middle["probe"].drop(module.COUNTS).min() - 20
    angles = pd.read_csv(module.beside(ROWS))
    whole = angles[angles["layer"] == "all"]
    assert whole.groupby("pair")["cosine"].mean().abs().max() < 0.02

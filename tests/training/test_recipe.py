"""What a recipe accepts, how it looks, and what is written down about it."""

import copy
import functools
import json
import math
import pickle
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from paretonas import Run
from paretonas.training import Recipe, Teacher
from paretonas.training.warmup import warmup_cosine


def brighten(batch):
    return batch


def teacher():
    return nn.Linear(2, 2)


class Own:
    def __call__(self, batch):
        return batch


def everything():
    return Recipe(
        epochs=3,
        optimizer=functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9),
        schedule=None,
        precision="bf16",
        augment=brighten,
        clip=1.0,
        ema=0.99,
        teacher=Teacher(teacher, weight=0.9, distill=nn.functional.mse_loss),
        fit=Own(),
    )


def test_a_run_tells_what_its_recipe_does(tmp_path):
    run = Run.create(tmp_path / "run", {}, device="cpu", seed=0)
    run.tell(recipe=everything().described())
    here = brighten.__module__
    assert json.loads((tmp_path / "run" / "run.json").read_text())["recipe"] == {
        "epochs": 3,
        "batch_size": 64,
        "learning_rate": 4e-3,
        "weight_decay": 1e-2,
        "optimizer": {
            "function": "torch.optim.sgd.SGD",
            "arguments": [],
            "keywords": {"lr": 0.1, "momentum": 0.9},
        },
        "schedule": None,
        "precision": "bf16",
        "augment": f"{here}.brighten",
        "clip": 1.0,
        "label_smoothing": 0.0,
        "ema": 0.99,
        "teacher": {
            "network": f"{here}.teacher",
            "weight": 0.9,
            "temperature": 4.0,
            "dim": 1,
            "distill": "torch.nn.functional.mse_loss",
        },
        "compile": False,
        "channels_last": False,
        "training_step": None,
        "fit": f"<{here}.Own object>",
    }


def test_what_is_long_is_cut():
    long = Recipe(teacher=nn.Sequential(*(nn.Linear(2, 2) for _ in range(50))))
    text = long.described()["teacher"]["network"]
    assert text.startswith("Sequential( (0): Linear(")
    assert len(text) == 200


def test_the_numbers_of_a_recipe_go_through_a_checkpoint_and_its_functions_come_from_the_code():
    recipe = everything()
    numbers = json.loads(json.dumps(recipe.numbers()))
    assert replace(replace(recipe, epochs=99, clip=None), **numbers) == recipe
    assert not {"optimizer", "augment", "teacher", "fit", "schedule"} & numbers.keys()


def test_the_recipes_of_older_checkpoints_are_understood():
    old = {"epochs": 2, "batch_size": 20, "learning_rate": 0.03, "weight_decay": 0.01}
    recipe = Recipe(**old)
    assert recipe == Recipe(2, 20, 0.03)
    assert recipe.optimizer is torch.optim.AdamW
    assert recipe.schedule is warmup_cosine


def test_a_recipe_is_shown_in_one_short_line():
    assert repr(Recipe()) == (
        "Recipe(epochs=12, batch_size=64, learning_rate=0.004, weight_decay=0.01)"
    )
    assert repr(replace(everything(), fit=None)) == (
        "Recipe(epochs=3, batch_size=64, optimizer=partial(SGD, lr=0.1, momentum=0.9), "
        "schedule=None, precision='bf16', augment=brighten, clip=1.0, ema=0.99, "
        "teacher=Teacher(teacher, weight=0.9, distill=mse_loss))"
    )
    assert repr(Recipe(teacher=nn.Sequential(nn.Linear(2, 2)))).endswith(
        "teacher=Teacher(Sequential, weight=0.5, temperature=4))"
    )


def test_a_recipe_goes_to_another_process():
    recipe = Recipe(teacher=Teacher(teacher, weight=0.25), ema=0.5)
    recipe.teacher.on(torch.device("cpu"))
    for other in (pickle.loads(pickle.dumps(recipe)), copy.deepcopy(recipe)):
        assert other.described() == recipe.described()
    assert asdict(Recipe())["optimizer"] is torch.optim.AdamW


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"optimizer": "adam"}, "optimizer must be a class of torch.optim, .* got 'adam'"),
        ({"schedule": 3}, "schedule must be a function or None, got 3"),
        ({"augment": []}, r"augment must be a function or None, got \[\]"),
        ({"training_step": "mine"}, "training_step must be a function or None"),
        ({"fit": 1}, "fit must be a function or None, got 1"),
        ({"precision": "half"}, "precision must be one of float32, bf16, fp16, got 'half'"),
        ({"clip": 0}, "clip must be positive and finite, got 0"),
        ({"clip": math.nan}, "clip must be positive and finite, got nan"),
        ({"label_smoothing": 1.0}, r"label_smoothing must be in \[0, 1\), got 1.0"),
        ({"ema": 1.0}, "ema must be between 0 and 1, got 1.0"),
        ({"teacher": "resnet"}, "teacher must be a network, .* got 'resnet'"),
        ({"training_step": print, "clip": 1.0}, "whole step, so clip has no effect"),
        ({"training_step": print, "precision": "bf16"}, "so precision has no effect"),
        ({"training_step": print, "teacher": nn.Linear(1, 1)}, "so teacher has no effect"),
    ],
)
def test_a_recipe_says_what_is_wrong(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        Recipe(**wrong)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weight": 0}, r"weight of a teacher must be in \(0, 1\], got 0"),
        ({"weight": math.nan}, "weight of a teacher .* got nan"),
        ({"temperature": 0}, "temperature of a teacher must be positive and finite, got 0"),
    ],
)
def test_a_teacher_says_what_is_wrong(wrong, message):
    with pytest.raises(ValueError, match=message):
        Teacher(teacher, **wrong)

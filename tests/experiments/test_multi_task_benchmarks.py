"""The field's benchmarks, on small generated files of the published layout."""

from __future__ import annotations

import json
import math
import shutil
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "experiments" / "conflict" / "multi_task_benchmarks"
WIDTHS = (4, 4, 6, 6, 6)
SIZE = (32, 64)


@pytest.fixture(scope="module", autouse=True)
def folder():
    """Its modules import each other, as they do when one of them is run."""
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))
    for path in FOLDER.glob("*.py"):  # plain names, such as "train", that others may use too
        sys.modules.pop(path.stem, None)


@pytest.fixture(scope="module")
def small(folder):
    """The benchmarks with narrow networks."""
    import dense
    import train
    from networks import FaceNetwork

    narrow = partial(dense.network, widths=WIDTHS)
    faces = train.BENCHMARKS["celeba"]
    found = {
        name: replace(train.BENCHMARKS[name], network=narrow, batch=2)
        for name in ("nyu_v2", "cityscapes")
    }
    faces = replace(faces, network=lambda t: FaceNetwork(len(t), (4, 4, 6, 6)), batch=2)
    return found | {"celeba": faces}


@pytest.fixture(scope="module")
def data(small, tmp_path_factory):
    """Roots with four images a split."""
    place = tmp_path_factory.mktemp("data")
    for name, benchmark in small.items():
        benchmark.generate(place / name, dict.fromkeys(benchmark.counts, 4), SIZE)
    return place


def command(name, data, out, *more):
    quick = ["--workers", "0", "--device", "cpu", "--look-every", "2", "--epochs", "2"]
    return [name, "--dataset-root", str(data / name), "--out", str(out), *quick, *more]


# --- metrics -------------------------------------------------------------------------------------


def test_segmentation_counts_as_a_plain_loop_does(rng):
    from metrics import Segmentation

    outputs = torch.randn(4, 5, 6, 7, generator=rng)
    answers = torch.randint(-1, 4, (4, 6, 7), generator=rng)  # class 4 is predicted, never there
    meter = Segmentation(5)
    meter.add(outputs[:3], answers[:3])
    meter.add(outputs[3:], answers[3:])
    said, true = outputs.argmax(1).flatten().tolist(), answers.flatten().tolist()
    pairs = [(a, b) for a, b in zip(said, true, strict=True) if b >= 0]
    overlaps = []
    for k in range(5):
        either = sum(a == k or b == k for a, b in pairs)
        overlaps.append(sum(a == k and b == k for a, b in pairs) / either)
    assert meter.result() == {
        "mean_iou": pytest.approx(sum(overlaps) / 5),
        "pixel_accuracy": pytest.approx(sum(a == b for a, b in pairs) / len(pairs)),
    }


def test_a_class_that_is_nowhere_is_left_out():
    from metrics import Segmentation

    meter = Segmentation(9)
    meter.add(torch.eye(9)[None, :, :2, None], torch.tensor([[[0], [1]]]))
    assert meter.result() == {"mean_iou": 1.0, "pixel_accuracy": 1.0}


def test_depth_is_a_mean_over_batches_of_means_over_known_pixels(rng):
    from metrics import Depth

    outputs, answers = torch.rand(2, 5, 1, 3, 4, generator=rng)
    answers[answers < 0.3] = 0.0
    meter = Depth()
    for part in (slice(0, 3), slice(3, 5)):  # of unequal size: each counts as much
        meter.add(outputs[part], answers[part])
    meter.add(outputs[:1], torch.zeros_like(answers[:1]))  # knows nothing, counts nothing
    absolute, relative = [], []
    for part in (slice(0, 3), slice(3, 5)):
        pairs = zip(outputs[part].flatten().tolist(), answers[part].flatten().tolist(), strict=True)
        errors = [(abs(a - b), abs(a - b) / b) for a, b in pairs if b]
        absolute.append(np.mean([e[0] for e in errors]))
        relative.append(np.mean([e[1] for e in errors]))
    assert meter.result()["absolute_error"] == pytest.approx(np.mean(absolute), rel=1e-6)
    assert meter.result()["relative_error"] == pytest.approx(np.mean(relative), rel=1e-6)


def test_normals_are_compared_by_their_angle(rng):
    from metrics import Normals

    truth = nn.functional.normalize(torch.randn(2, 3, 4, 5, generator=rng), dim=1)
    truth[:, :, 0] = 0.0
    outputs = truth + 0.4 * torch.randn(2, 3, 4, 5, generator=rng)
    meter = Normals()
    meter.add(7.0 * outputs, truth)  # only the direction counts
    angles = []
    for image in range(2):
        for row in range(1, 4):
            for column in range(5):
                a, b = (x[image, :, row, column].double().tolist() for x in (outputs, truth))
                product = sum(x * y for x, y in zip(a, b, strict=True))
                angles.append(math.degrees(math.acos(min(1.0, product / math.hypot(*a)))))
    expected = [np.mean(angles), np.median(angles)]
    expected += [np.mean([x < bound for x in angles]) for bound in (11.25, 22.5, 30)]
    assert list(meter.result().values()) == pytest.approx(expected, rel=1e-3)
    assert 0 < meter.result()["within_11.25"] < 1


def test_f1_is_the_harmonic_mean_of_precision_and_recall(rng):
    from metrics import F1

    outputs = torch.randn(50, generator=rng)
    answers = (torch.rand(50, generator=rng) < 0.3).float()
    meter = F1()
    meter.add(outputs[:20], answers[:20])
    meter.add(outputs[20:], answers[20:])
    pairs = list(zip((outputs > 0).tolist(), (answers > 0).tolist(), strict=True))
    hits = sum(said and true for said, true in pairs)
    precision = hits / sum(said for said, _ in pairs)
    recall = hits / sum(true for _, true in pairs)
    expected = 2 * precision * recall / (precision + recall)
    assert meter.result()["f1"] == pytest.approx(expected)
    assert F1().result() == {"f1": 0.0}


def test_delta_m_signs_each_metric_and_ranks_the_other_way_round():
    from metrics import delta_m, mean_rank

    alone = pd.Series({"a mean_iou": 0.5, "b mean_angle": 20.0})
    numbers = pd.DataFrame(
        {"a mean_iou": [0.6, 0.5, 0.4], "b mean_angle": [20.0, 22.0, 10.0]}, ["x", "y", "z"]
    )
    assert delta_m(numbers, alone).to_dict() == pytest.approx({"x": -10.0, "y": 5.0, "z": -15.0})
    assert mean_rank(numbers).to_dict() == {"x": 1.5, "y": 2.5, "z": 2.0}


# --- networks ------------------------------------------------------------------------------------


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_the_published_number_of_parameters(monkeypatch):
    from networks import AttentionSegNet, FaceNetwork, SegNet

    for name in ("kaiming_uniform_", "uniform_", "xavier_normal_"):  # 100 million random numbers
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    assert count(SegNet([13])) == 24_981_069  # as the code of MTAN says
    faces = FaceNetwork(40)
    w = (64, 128, 256, 512, 512)
    conv = lambda i, o, side=3: i * o * side * side + o  # noqa: E731
    mask = lambda i, o: conv(i, o, 1) + conv(o, o, 1) + 4 * o  # noqa: E731
    down = [mask(w[0], w[0]), *(mask(2 * w[i], w[i]) for i in range(1, 5))]
    up = [mask(2 * w[0], w[0]), *(mask(w[i] + w[i - 1], w[i - 1]) for i in range(1, 5))]
    after, before = [*w[1:], w[4]], [w[0], *w[:4]]
    between = sum(conv(w[i], o) + 2 * o for outs in (after, before) for i, o in enumerate(outs))
    trunk = 24_981_069 - conv(64, 64) - conv(64, 13, 1)
    for outputs in ([13, 1, 3], [7, 1]):
        heads = sum(conv(64, 64) + conv(64, o, 1) for o in outputs)
        paths = len(outputs) * (sum(down) + sum(up))
        assert count(AttentionSegNet(outputs)) == trunk + heads + between + paths
    pairs = [(3, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512), (512, 512)]
    base = sum(9 * i * o + 2 * o for i, o in pairs) + 2 * (512 * 512 + 2 * 512)
    assert count(faces) == base + 40 * 513
    layers = [m for m in faces.base if isinstance(m, nn.Conv2d | nn.Linear)]
    assert len(layers) == 9


def test_outputs_have_the_size_of_the_image_and_everything_is_shared_or_a_head(small):
    for name, size in (("nyu_v2", SIZE), ("cityscapes", (64, 32)), ("celeba", (64, 64))):
        benchmark = small[name]
        network = benchmark.network(benchmark.tasks)
        outputs = network(torch.randn(3, 3, *size))
        for task, output in zip(benchmark.tasks, outputs, strict=True):
            rest = () if name == "celeba" else (task.channels, *size)
            assert output.shape == (3, *rest)
        shared = {id(p) for p in network.shared_parameters()}
        heads = [{id(p) for p in head.parameters()} for head in network.heads]
        assert len(shared) + sum(map(len, heads)) == len({id(p) for p in network.parameters()})
        assert shared.isdisjoint(set().union(*heads))


def test_open_masks_leave_the_split_network_and_closed_ones_nothing():
    from networks import AttentionSegNet, SegNet

    torch.manual_seed(0)
    network = AttentionSegNet([2, 3], WIDTHS).eval()
    images = torch.randn(2, 3, *SIZE)
    for bias, expected in ((100.0, SegNet.forward(network, images)), (-100.0, None)):
        for masks in (*network.masks_down, *network.masks_up):
            for mask in masks:
                nn.init.zeros_(mask[4].weight)
                nn.init.constant_(mask[4].bias, bias)
        for k, output in enumerate(network(images)):
            wanted = network.heads[k](torch.zeros(2, WIDTHS[0], *SIZE))
            torch.testing.assert_close(output, wanted if expected is None else expected[k])


def test_the_picture_is_drawn_from_the_network(tmp_path, monkeypatch):
    import picture

    for name in ("kaiming_uniform_", "uniform_", "xavier_normal_"):
        monkeypatch.setattr(nn.init, name, lambda tensor, *_, **__: tensor)
    picture.main(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").stat().st_size > 10_000


def test_a_task_does_not_reach_the_masks_of_another():
    from networks import AttentionSegNet

    network = AttentionSegNet([2, 3], WIDTHS)
    first, _ = network(torch.randn(2, 3, *SIZE))
    first.square().mean().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None}
    assert any(name.startswith("masks_up.0.") for name in reached)
    assert not any(name.startswith(("masks_down.1.", "masks_up.1.")) for name in reached)


# --- files ---------------------------------------------------------------------------------------


def test_a_sample_is_what_the_files_hold(small, data):
    for name, labels in (("nyu_v2", "label"), ("cityscapes", "label_7")):
        split = small[name].open(data / name)["test"]
        image, answers = split.sample(3, None)
        place = data / name / "val"
        assert len(split) == 4 and split.size == SIZE
        read = {kind: np.load(place / kind / "3.npy") for kind in ("image", "depth", labels)}
        np.testing.assert_array_equal(image, read["image"].transpose(2, 0, 1))
        np.testing.assert_array_equal(answers["depth"], read["depth"].transpose(2, 0, 1))
        np.testing.assert_array_equal(answers["semantic"], read[labels])
        assert answers["semantic"].dtype == torch.int64
        assert ("normal" in answers) == (name == "nyu_v2")


def test_crops_and_flips_keep_the_answers_on_the_image(small, data):
    split = small["nyu_v2"].open(data / "nyu_v2")["train"]
    plain = split.sample(0, None)[1]
    seen = set()
    for seed in range(24):
        image, answers = split.sample(0, torch.Generator().manual_seed(seed))
        again = split.sample(0, torch.Generator().manual_seed(seed))[0]
        assert image.equal(again) and image.shape == (3, *SIZE)
        label, depth = answers["semantic"], answers["depth"][0]
        known = label >= 0
        assert (known == (depth > 0)).all()
        # In the generated files depth is 0.5 + (label + 1) / 14; a crop divides it by its scale.
        scale = ((0.5 + (label + 1) / 14) / depth)[known].mean().item()
        torch.testing.assert_close(depth[known] * scale, (0.5 + (label + 1) / 14)[known])
        seen.add(round(scale, 3))
        # The second component of a normal is never turned, the first one changes its sign.
        assert (answers["normal"][1] > 0).all()
        first = answers["normal"][0]
        right = (label + 1) / 14 - 0.5
        agrees = (torch.sign(first) == torch.sign(right))[known & (right.abs() > 0.2)].float()
        flipped = image[:, :, :1].equal(split.sample(0, None)[0][:, :, -1:])
        assert agrees.mean() < 0.2 if flipped and scale == 1 else True
        assert min(agrees.mean(), 1 - agrees.mean()) < 0.3
    assert seen == {1.0, 1.2, 1.5}
    assert set(plain) == {"semantic", "depth", "normal"}


def test_flipping_turns_everything(small, data):
    import dense

    split = small["nyu_v2"].open(data / "nyu_v2")["train"]
    image, answers = split.sample(1, None)
    maps = {"image": image, **answers, "semantic": answers["semantic"][None].float()}
    turned = None
    for seed in range(20):
        found = dense._flipped(maps, torch.Generator().manual_seed(seed))
        turned = found if found is not maps else turned
    assert turned is not None
    for kind, values in turned.items():
        expected = maps[kind].flip(-1)
        if kind == "normal":
            expected = expected * torch.tensor([-1.0, 1.0, 1.0])[:, None, None]
        assert values.equal(expected)


def test_faces_are_read_in_either_layout_and_resized_as_published(small, data, tmp_path):
    split = small["celeba"].open(data / "celeba")["valid"]
    pixels, answers = split.sample(2, None)
    with Image.open(data / "celeba" / "img_align_celeba" / split.names[2]) as file:
        assert file.size == SIZE[::-1]
        resized = np.asarray(file.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(pixels, np.float32(resized.transpose(2, 0, 1)) / np.float32(255))
    lines = (data / "celeba" / "list_attr_celeba.txt").read_text().splitlines()
    line = next(line.split() for line in lines if line.startswith(split.names[2]))
    assert answers["attributes"].tolist() == [float(value == "1") for value in line[1:]]
    for place, name in (
        ("Img", "img_align_celeba"),
        ("Anno", "list_attr_celeba.txt"),
        ("Eval", "list_eval_partition.txt"),
    ):
        (tmp_path / place).mkdir()
        source, target = data / "celeba" / name, tmp_path / place / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    official = small["celeba"].open(tmp_path)["valid"]
    assert official.names == split.names and official.answers.equal(split.answers)


def test_losses_are_means_over_the_known_pixels(rng):
    import dense

    outputs, labels = torch.randn(2, 4, 3, 5, generator=rng), torch.randint(-1, 4, (2, 3, 5))
    expected = nn.functional.nll_loss(outputs.log_softmax(1), labels, ignore_index=-1)
    torch.testing.assert_close(dense.semantic(4).loss(outputs, labels), expected)
    depth, truth = torch.rand(2, 2, 1, 3, 5, generator=rng)
    truth[truth < 0.4] = 0.0
    known = truth != 0
    expected = (depth - truth).abs()[known].mean()
    torch.testing.assert_close(dense.depth().loss(depth, truth), expected)
    truth = nn.functional.normalize(torch.randn(2, 3, 3, 5, generator=rng), dim=1)
    truth[:, :, 1] = 0.0
    cosines = torch.cosine_similarity(outputs[:, :3], truth, dim=1)[:, [0, 2]]
    torch.testing.assert_close(dense.normal().loss(outputs[:, :3], truth), 1 - cosines.mean())
    for task, shape in ((dense.depth(), (2, 1, 3, 5)), (dense.normal(), (2, 3, 3, 5))):
        lost = task.loss(torch.ones(shape, requires_grad=True), torch.zeros(shape))
        assert torch.isfinite(lost) and lost.requires_grad


# --- training ------------------------------------------------------------------------------------


def test_every_public_solver_trains_or_says_what_it_lacks(small, data):
    import solver_by_name
    from training import Training

    from paretonas import solvers

    wrappers = {"EveryKSteps", "MovingAverage", "Normalized", "Preconditioned", "Weighted"}
    others = {"Certificate", "Direction", "Solver", "Weighting", "divisor_of"}
    names = solver_by_name.solver_names()
    assert {*solvers.__all__} - wrappers - others == {*names, *solver_by_name.NEED_PREFERENCE}
    benchmark = small["celeba"]
    tasks = benchmark.tasks[:3]
    split, starts = benchmark.open(data / "celeba")["train"], set()
    for name in names:
        solver = solver_by_name.make_solver(name.lower(), {}, 3)
        training = Training(benchmark, tasks, solver, 0, torch.device("cpu"))
        before = nn.utils.parameters_to_vector(training.network.parameters()).detach()
        images, answers = next(iter(training.batches(split, 0, draws=(0, 0))))
        losses = training.step(images, answers)
        after = nn.utils.parameters_to_vector(training.network.parameters()).detach()
        assert torch.isfinite(losses).all() and torch.isfinite(after).all(), name
        assert not after.equal(before), name
        starts.add(tuple(losses.tolist()))
    assert len(starts) == 1  # the same weights and the same batch for all


def test_the_crop_of_an_image_depends_on_its_number_and_the_epoch_only(small, data):
    from training import _Pass

    split = small["cityscapes"].open(data / "cityscapes")["train"]
    one, two = _Pass(split, (0, 0)), _Pass(split, (0, 0))
    items = [one[k][0] for k in range(4)]
    for k in reversed(range(4)):
        assert two[k][0].equal(items[k])
    assert sorted(one.order.tolist()) == list(range(4))
    orders = {tuple(_Pass(split, (0, epoch)).order.tolist()) for epoch in range(5)}
    assert len(orders) > 1


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("name", "tasks", "solver"),
    [
        ("nyu_v2", "semantic,normal", "SAMGS"),
        pytest.param("celeba", "Bald,Male,Young", "FAMO", marks=pytest.mark.deep),
        pytest.param("celeba", "Bald,Male,Young", "PCGrad", marks=pytest.mark.deep),
    ],
)
def test_a_training_that_was_stopped_goes_on_to_the_same_bits(
    small, data, tmp_path, monkeypatch, capsys, name, tasks, solver
):
    import train
    from training import Training

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    more = ["--solver", solver, "--tasks", tasks]
    assert train.main(command(name, data, whole, *more), small) == 0
    epoch = Training.epoch

    def stopped(self, number, *rest):
        found = epoch(self, number, *rest)
        if number == 1:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patch:
        patch.setattr(Training, "epoch", stopped)
        assert train.main(command(name, data, parts, *more), small) == 130
    assert capsys.readouterr().err.strip().endswith("goes on after the last whole epoch")
    assert len(pd.read_csv(parts / "history.csv")) == 1
    assert train.main(command(name, data, parts, *more), small) == 0
    one, two = (
        torch.load(place / "checkpoint.pt", weights_only=True)["state"] for place in (whole, parts)
    )
    flat, again = flattened(one), flattened(two)
    assert flat.keys() == again.keys()
    for key, value in flat.items():
        same = value.equal(again[key]) if torch.is_tensor(value) else value == again[key]
        assert same, key
    tables = [
        pd.read_csv(place / "history.csv").drop(columns="seconds") for place in (whole, parts)
    ]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0]) == 2
    assert {"cosine", "in_conflict_percent", "magnitude_similarity"} <= {*tables[0]}
    assert train.main(command(name, data, parts, *more), small) == 0  # nothing is left to do


def flattened(entry, path=""):
    if isinstance(entry, dict | list | tuple):
        pairs = entry.items() if isinstance(entry, dict) else enumerate(entry)
        return {k: v for key, value in pairs for k, v in flattened(value, f"{path}/{key}").items()}
    return {path: entry}


def test_the_rate_is_halved_as_published(small, data):
    import train
    from training import Training

    from paretonas.solvers import LinearScalarization

    for name, epochs, rates in (
        ("cityscapes", (0, 99, 100, 199), (1e-4, 1e-4, 5e-5, 5e-5)),
        ("celeba", (0, 14), (3e-4, 3e-4)),
    ):
        benchmark = small[name]
        tasks = benchmark.tasks[:1]
        training = Training(benchmark, tasks, LinearScalarization(), 0, torch.device("cpu"))
        split = benchmark.open(data / name)["train"]
        found = [training.epoch(k, split, 0, lambda *_: None)["rate"] for k in epochs]
        assert found == pytest.approx(list(rates))
    published = train.BENCHMARKS
    assert [(b.epochs, b.batch, b.counts["train"]) for b in published.values()] == [
        (200, 8, 2975),
        (200, 2, 795),
        (15, 256, 162_770),
    ]
    for benchmark in published.values():
        assert list(benchmark.published) == benchmark.metrics()


def test_single_task_networks_are_trained_in_turn_and_reported(small, data, tmp_path, capsys):
    import report
    import train

    alone, mean = tmp_path / "alone", tmp_path / "mean"
    assert train.main(command("cityscapes", data, alone, "--tasks", "each"), small) == 0
    assert train.main(command("cityscapes", data, mean), small) == 0
    for task in ("semantic", "depth"):
        settings = json.loads((alone / task / "run.json").read_text())["settings"]
        assert settings["tasks"] == [task]
        history = pd.read_csv(alone / task / "history.csv")
        others = {"semantic": "depth", "depth": "semantic"}
        assert not any(others[task] in column for column in history)
    capsys.readouterr()
    csv = tmp_path / "table.csv"
    assert report.main([str(alone), str(mean), "--csv", str(csv)], small) == 0
    told = capsys.readouterr().out
    assert "against the single-task runs given" in told
    table = pd.read_csv(csv, index_col=0)
    history = pd.read_csv(mean / "history.csv")
    assert list(table.index) == ["mean", "single task"]
    for metric in small["cityscapes"].metrics():
        expected = history[f"test {metric}"].mean()  # of two epochs, there being no ten
        assert table.loc["mean", metric] == pytest.approx(expected)


@pytest.mark.timeout(240)
def test_a_smoke_run_steps_through_every_benchmark(small, capsys, tmp_path, monkeypatch):
    import train

    monkeypatch.chdir(tmp_path)
    fewer = {name: replace(b, tasks=b.tasks[:3]) for name, b in small.items()}
    assert train.main(["--smoke", "--device", "cpu"], fewer) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * len(small)
    for line in lines:
        assert "s a step" in line and "nan" not in line
    assert not list(tmp_path.iterdir())


# --- report --------------------------------------------------------------------------------------


def written(place, benchmark, solver, seed, columns, epochs=None, tasks=None):
    from paretonas.runs import Run

    settings = {
        "benchmark": benchmark.name,
        "solver": solver,
        "solver_settings": {},
        "epochs": len(columns) if epochs is None else epochs,
        "tasks": [task.name for task in tasks or benchmark.tasks],
    }
    run = Run.create(place, settings, "cpu", seed)
    for row in columns:
        run.log(row)
    return place


def test_the_last_ten_epochs_count_and_seeds_are_averaged(small, tmp_path):
    import report

    benchmark = small["cityscapes"]
    base = pd.Series(benchmark.published)
    for seed, factor in ((0, 1.0), (1, 1.2)):
        rows = [
            {
                f"test {metric}": (99.0 if epoch < 2 else factor) * base[metric]
                for metric in base.index
            }
            for epoch in range(12)
        ]
        written(tmp_path / f"m{seed}", benchmark, "MGDA", seed, rows)
    frame, source = report.table([tmp_path], small)
    assert "published single-task numbers for all" in source
    found = frame.loc["MGDA"]
    assert found["seeds"] == 2 and found["mean_rank"] == 1
    # Two metrics are better by a tenth, two are worse.
    assert found["delta_m"] == pytest.approx(0, abs=1e-9)
    assert found["semantic mean_iou"] == pytest.approx(1.1 * 0.7401)
    assert found["depth absolute_error"] == pytest.approx(1.1 * 0.0125)


def test_the_epoch_that_is_best_on_valid_counts_for_faces(small, tmp_path):
    import report

    benchmark = small["celeba"]
    rows = [
        {f"{split} {m}": value for split, value in row.items() for m in benchmark.metrics()}
        for row in (
            {"valid": 0.3, "test": 0.9},
            {"valid": 0.6, "test": 0.5},
            {"valid": 0.5, "test": 1},
        )
    ]
    written(tmp_path / "a", benchmark, "FAMO", 0, rows)
    frame, _ = report.table([tmp_path / "a"], small)
    assert (frame.loc["FAMO", benchmark.metrics()] == 0.5).all()
    alone = np.array(list(benchmark.published.values()))
    assert frame.loc["FAMO", "delta_m"] == pytest.approx(100 * np.mean((alone - 0.5) / alone))


def test_the_report_refuses_what_cannot_share_a_table(small, tmp_path, capsys):
    import report

    cities, rooms = small["cityscapes"], small["nyu_v2"]
    row = {f"test {metric}": 0.5 for metric in (*cities.metrics(), *rooms.metrics())}
    one = written(tmp_path / "one", cities, "MGDA", 0, [row])
    twin = written(tmp_path / "twin", cities, "MGDA", 0, [row])
    other = written(tmp_path / "other", rooms, "MGDA", 0, [row])
    short = written(tmp_path / "short", cities, "MGDA", 1, [row], epochs=5)
    part = written(tmp_path / "part", rooms, "MGDA", 1, [row], tasks=rooms.tasks[:2])
    (tmp_path / "empty").mkdir()
    for folders, line in (
        ([one, other], "several benchmarks"),
        ([one, twin], "repeats the method and the seed"),
        ([short], "1 of 5 epochs"),
        ([part], "a part of the tasks"),
        ([tmp_path / "empty"], "holds no run"),
        ([tmp_path / "nowhere"], "holds no run"),
    ):
        assert report.main([str(folder) for folder in folders], small) == 2
        told = capsys.readouterr()
        assert line in told.err and len(told.err.splitlines()) == 1 and not told.out


# --- bad input -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ([], "name a benchmark (nyu_v2, cityscapes, celeba)"),
        (["nyuv2"], "did you mean 'nyu_v2'?"),
        (["nyu_v2"], "--dataset-root is missing: nyu_v2 needs .*lorenmt/mtan.*normal}/0.npy"),
        (["cityscapes"], "label_7"),
        (["celeba"], "mmlab.ie.cuhk.edu.hk.*list_eval_partition.txt"),
        (
            ["nyu_v2", "--dataset-root", "nowhere"],
            "there is no folder nowhere/train/image; nyu_v2 ",
        ),
        (["celeba", "--dataset-root", "nowhere"], "there is no img_align_celeba in nowhere"),
        (["DATA", "--solver", "NashMLT"], "did you mean 'NashMTL'?"),
        (["DATA", "--solver", "EPO"], "EPO needs a preference"),
        (["DATA", "--solver", "Weighted"], "no solver is called 'Weighted'"),
        (["DATA", "--solver", "CAGrad", "--set", "k=1"], "CAGrad has no setting 'k'"),
        (["DATA", "--solver", "CAGrad", "--set", "c=-1"], "CAGrad: c must be"),
        (["DATA", "--solver", "SAMGS", "--set", "gamma=high"], "SAMGS: "),
        (["DATA", "--set", "c"], "--set must be NAME=VALUE"),
        (["DATA", "--tasks", "dept"], "nyu_v2 has no task 'dept'; did you mean 'depth'?"),
        (["DATA", "--tasks", "each", "--solver", "MGDA"], "leave out --solver"),
        (["DATA", "--epochs", "0"], "--epochs must be at least 1"),
        (["DATA", "--epochs", "few"], "argument --epochs: invalid int value"),
        (["DATA", "--clip", "0"], "--clip must be above 0"),
        (["DATA", "--device", "tpu"], "the device must be auto, cpu or cuda"),
        (["DATA", "--speed", "1"], "unrecognized arguments"),
        (["--smoke", "--dataset-root", "x"], "needs the name of the benchmark"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    small, data, tmp_path, monkeypatch, capsys, words, line
):
    import re

    import train

    monkeypatch.chdir(tmp_path)
    given = ["nyu_v2", "--dataset-root", str(data / "nyu_v2")]
    words = [*given, *words[1:]] if words[:1] == ["DATA"] else words
    try:
        code = train.main(words, small)
    except SystemExit as left:  # as argparse does
        code = left.code
    told = capsys.readouterr()
    assert code == 2 and not told.out
    assert len(told.err.splitlines()) == 1 and told.err.startswith("error: ")
    assert line in told.err or re.search(line, told.err)
    assert not list(tmp_path.iterdir())


def broken_dense(place, kind):
    if kind == "missing folder":
        shutil.rmtree(place / "val" / "normal")
        return "there is no folder .*val/normal"
    if kind == "one file fewer":
        (place / "train" / "depth" / "3.npy").unlink()
        return "train/depth has 3 files .*, .*train/image 4"
    if kind == "a hole in the numbers":
        (place / "train" / "image" / "2.npy").unlink()
        return "train/image 2"
    if kind == "no images":
        for path in (place / "val").glob("*/*.npy"):
            path.unlink()
        return "val/image has 0 files"
    if kind == "other shape":
        np.save(place / "train" / "depth" / "0.npy", np.zeros((32, 64), np.float32))
        return r"depth/0.npy must have shape \(32, 64, 1\), got \(32, 64\)"
    if kind == "odd size":
        for path in (place / "train").glob("*/*.npy"):
            np.save(path, np.load(path)[:30])
        return "multiples of 32"
    if kind == "objects":
        np.save(place / "train" / "label" / "0.npy", np.array([{}]), allow_pickle=True)
        return "label/0.npy is no whole .npy file"
    (place / "train" / "image" / "0.npy").write_bytes(b"\x93NUMPY")
    return "image/0.npy is no whole .npy file"


OTHERS = ("other shape", "odd size", "objects", "torn file")


@pytest.mark.parametrize(
    "kind",
    [*("missing folder", "one file fewer", "a hole in the numbers", "no images"), *OTHERS],
)
def test_wrong_files_are_one_line(small, data, tmp_path, capsys, kind):
    import re

    import train

    place = tmp_path / "nyu_v2"
    shutil.copytree(data / "nyu_v2", place)
    line = broken_dense(place, kind)
    assert train.main(command("nyu_v2", tmp_path, tmp_path / "out"), small) == 2
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1 and re.search(line, told.err), told.err
    assert "lorenmt/mtan" in told.err and not told.out and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("file", "change", "line"),
    [
        ("list_attr_celeba.txt", lambda t: t.replace(" Young", " Old"), "must name the 40"),
        ("list_attr_celeba.txt", lambda t: t.replace("12\n", "13\n", 1), "counts 13 images, 12"),
        ("list_attr_celeba.txt", lambda t: t.replace(" -1", " 0", 1), "40 times 1 or -1"),
        ("list_attr_celeba.txt", lambda t: "", "must name the 40"),
        ("list_eval_partition.txt", lambda t: t.replace("000003.jpg", "3.jpg"), "does not list"),
        ("list_eval_partition.txt", lambda t: t.replace(".jpg 1", ".jpg 0"), "no image of part 1"),
    ],
)
def test_wrong_lists_of_faces_are_one_line(small, data, tmp_path, capsys, file, change, line):
    import re

    import train

    place = tmp_path / "celeba"
    shutil.copytree(data / "celeba", place)
    (place / file).write_text(change((place / file).read_text()))
    assert train.main(command("celeba", tmp_path, tmp_path / "out"), small) == 2
    told = capsys.readouterr()
    assert len(told.err.splitlines()) == 1 and re.search(line, told.err), told.err
    assert not (tmp_path / "out").exists()


def test_a_missing_face_is_named_before_the_training(small, data, tmp_path, capsys):
    import train

    place = tmp_path / "celeba"
    shutil.copytree(data / "celeba", place)
    (place / "img_align_celeba" / "000007.jpg").unlink()
    assert train.main(command("celeba", tmp_path, tmp_path / "out"), small) == 2
    assert "lacks 1 of 12 images, such as 000007.jpg" in capsys.readouterr().err


def test_what_goes_wrong_later_ends_with_one_line_too(small, data, tmp_path, capsys):
    import train

    place = tmp_path / "nyu_v2"
    shutil.copytree(data / "nyu_v2", place)
    np.save(place / "train" / "label" / "3.npy", np.full(SIZE, 13.0))
    assert train.main(command("nyu_v2", tmp_path, tmp_path / "out"), small) == 1
    told = capsys.readouterr().err
    assert "epoch 1: " in told and "labels must be below 13, got 13" in told
    np.save(place / "train" / "label" / "3.npy", np.zeros(SIZE))
    np.save(place / "train" / "image" / "3.npy", np.full((*SIZE, 3), np.nan, np.float32))
    assert train.main(command("nyu_v2", tmp_path, tmp_path / "out"), small) == 1
    told = capsys.readouterr().err
    assert "epoch 1: " in told and len(told.splitlines()) == 1


def test_a_folder_with_another_run_is_left_alone(small, data, tmp_path, capsys):
    import train

    out = tmp_path / "out"
    assert train.main(command("cityscapes", data, out, "--epochs", "1"), small) == 0
    before = {path: path.read_bytes() for path in out.iterdir()}
    assert train.main(command("cityscapes", data, out, "--epochs", "1", "--seed", "1"), small) == 2
    assert "holds a run with seed 0, not 1; give another --out" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in out.iterdir()} == before

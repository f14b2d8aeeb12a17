"""Training steps by a recipe: each option is compared with a plain loop of torch, bit for bit."""

import copy
import functools
import io
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.metric import Metric
from paretonas.training import Recipe, Teacher, Updates
from paretonas.training.average import Average

STEPS = 12


class Images:
    """A task: four classes of small images."""

    metric = Metric("error", worst=1.0)

    def __init__(self, smoothing=0.0):
        self.smoothing = smoothing

    def example(self):
        return torch.zeros(1, 2, 4, 4)

    def batches(self, split="train", *, seed=0, epoch=0):
        generator = torch.Generator().manual_seed(seed)
        for _ in range(STEPS):
            labels = torch.randint(4, (10,), generator=generator)
            inputs = torch.randn(10, 2, 4, 4, generator=generator)
            yield inputs + labels[:, None, None, None] / 2, labels

    def loss(self, network, batch):
        inputs, labels = batch
        return functional.cross_entropy(network(inputs), labels, label_smoothing=self.smoothing)

    def evaluate(self, network, split):
        return {"loss": 0.0, "error": 0.0}

    def smoothed(self, amount):
        return Images(amount)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 4)
        )


def stepped(updates, first=0, last=STEPS):
    """Some steps, each of which has its own seed for what is drawn."""
    losses = []
    for step, batch in enumerate(Images().batches()):
        if first <= step < last:
            torch.manual_seed(step)
            losses.append(updates.step(batch))
    return losses


def trained(recipe, task=None):
    model = network()
    updates = Updates(model, task or Images(), recipe, STEPS)
    stepped(updates)
    updates.finish()
    return model


# --- plain loops ------------------------------------------------------------------------------


def cross_entropy(model, batch):
    return functional.cross_entropy(model(batch[0]), batch[1])


def step_by(optimizer, loss):
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def by_default(model, batches):
    """AdamW; the learning rate rises over the first tenth of the steps and falls as a cosine."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-2)
    for step, batch in enumerate(batches):
        warm = STEPS // 10
        cosine = 0.5 * (1 + math.cos(math.pi * (step - warm) / (STEPS - warm)))
        optimizer.param_groups[0]["lr"] = 4e-3 * (cosine if step >= warm else (step + 1) / warm)
        step_by(optimizer, cross_entropy(model, batch))


def plain(model, batches, *, loss=cross_entropy, before=lambda b: b, clip=None, after=None):
    """SGD with momentum at a constant rate."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for batch in batches:
        optimizer.zero_grad()
        loss(model, before(batch)).backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if after:
            after(model)


def with_a_cycle(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=STEPS + 1)
    for batch in batches:
        step_by(optimizer, cross_entropy(model, batch))
        schedule.step()


def with_two_groups(model, batches):
    weights, rest = (
        [p for p in model.parameters() if (p.ndim > 1) is matrix] for matrix in (True, False)
    )
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=0.05)
    for batch in batches:
        step_by(optimizer, cross_entropy(model, batch))


def in_bf16(model, batch):
    with torch.autocast("cpu", torch.bfloat16):
        return cross_entropy(model, batch)


def in_fp16(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    scaler = torch.amp.GradScaler("cpu")
    for batch in batches:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.float16):
            loss = cross_entropy(model, batch)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()


def noisy(batch):
    inputs, labels = batch
    return inputs + torch.randn_like(inputs), labels


def smoothed(model, batch):
    """The mean of the cross-entropy to the label and to all classes, by the formula."""
    return functional.cross_entropy(model(batch[0]), batch[1], label_smoothing=0.2)


def taught(model, batch):
    teacher = network(7).eval()
    with torch.no_grad():
        answer = torch.softmax(teacher(batch[0]) / 2, dim=1)
    output = model(batch[0])
    log = torch.log_softmax(output / 2, dim=1)
    divergence = (answer * (answer.log() - log)).sum(dim=1).mean()
    return 0.25 * functional.cross_entropy(output, batch[1]) + 0.75 * 4 * divergence


def averaged(model, batches):
    means = {name: t.clone() for name, t in model.state_dict().items() if t.is_floating_point()}
    count = iter(range(STEPS))

    def after(model):
        step = next(count)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, mean in means.items():
            means[name] = decay * mean + (1 - decay) * model.state_dict()[name]

    plain(model, batches, after=after)
    model.load_state_dict(means, strict=False)


def two_groups(parameters):
    weights, rest = ([p for p in parameters if (p.ndim > 1) is matrix] for matrix in (True, False))
    groups = [{"params": weights, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.SGD(groups, lr=0.05)


def sharpness_aware(model, batch, optimizer):
    """Two forward passes and two gradients (Foret et al. 2021), in one step."""
    optimizer.zero_grad()
    cross_entropy(model, batch).backward()
    moves = [0.01 * p.grad / (p.grad.norm() + 1e-12) for p in model.parameters()]
    with torch.no_grad():
        for parameter, move in zip(model.parameters(), moves, strict=True):
            parameter += move
    optimizer.zero_grad()
    loss = cross_entropy(model, batch)
    loss.backward()
    with torch.no_grad():
        for parameter, move in zip(model.parameters(), moves, strict=True):
            parameter -= move
    optimizer.step()
    return loss


def by_own_steps(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for batch in batches:
        sharpness_aware(model, batch, optimizer)


def cycle(optimizer, steps):
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=steps + 1)


SGD = {
    "optimizer": functools.partial(torch.optim.SGD, lr=0.05, momentum=0.9),
    "schedule": None,
}
TEACHER = network(7)
CASES = {
    "default": ({}, by_default),
    "optimizer": (SGD, plain),
    "groups": ({"optimizer": two_groups, "schedule": None}, with_two_groups),
    "schedule": (SGD | {"schedule": cycle}, with_a_cycle),
    "bf16": (SGD | {"precision": "bf16"}, functools.partial(plain, loss=in_bf16)),
    "fp16": (SGD | {"precision": "fp16", "clip": 0.5}, in_fp16),
    "augment": (SGD | {"augment": noisy}, functools.partial(plain, before=noisy)),
    "clip": (SGD | {"clip": 0.3}, functools.partial(plain, clip=0.3)),
    "smoothing": (SGD | {"label_smoothing": 0.2}, functools.partial(plain, loss=smoothed)),
    "training_step": (SGD | {"training_step": sharpness_aware}, by_own_steps),
    # Not bit for bit, since formulas are evaluated in another order.
    "ema": (SGD | {"ema": 0.5}, averaged),
    "teacher": (
        SGD | {"teacher": Teacher(TEACHER, weight=0.75, temperature=2)},
        functools.partial(plain, loss=taught),
    ),
    "channels_last": (SGD | {"channels_last": True}, plain),
}
NEARLY = ("ema", "teacher", "channels_last")


@pytest.mark.parametrize("case", CASES)
def test_each_option_does_what_a_plain_loop_does(case):
    options, loop = CASES[case]
    found, expected = trained(Recipe(**options)), network()

    def seeded_batches():
        for step, batch in enumerate(Images().batches()):
            torch.manual_seed(step)
            yield batch

    loop(expected, seeded_batches())
    states = found.state_dict(), expected.state_dict()
    for one, other in zip(states[0].values(), states[1].values(), strict=True):
        if case in NEARLY:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
        else:
            assert torch.equal(one, other)
    assert not torch.equal(states[0]["0.weight"], network()[0].weight)


@pytest.mark.parametrize("case", CASES)
def test_it_goes_on_bit_for_bit_from_a_file_of_plain_values(case):
    recipe = Recipe(**CASES[case][0])
    model = network()
    updates = Updates(model, Images(), recipe, STEPS)
    stepped(updates, last=5)
    file = io.BytesIO()
    torch.save({"weights": model.state_dict(), "updates": updates.state()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    later = network(3)
    later.load_state_dict(saved["weights"])
    updates = Updates(later, Images(), recipe, STEPS)
    updates.resume(saved["updates"])
    assert updates.done == 5
    stepped(updates, first=5)
    updates.finish()
    assert_equal_states(later, trained(recipe))


def assert_equal_states(one, other):
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


# --- the pieces -------------------------------------------------------------------------------


def test_a_checkpoint_without_a_learning_rate_schedule_goes_on_in_the_schedule():
    """In older ones, the optimizer has the learning rate of the step before."""
    model = network()
    updates = Updates(model, Images(), Recipe(), STEPS)
    stepped(updates, last=5)
    state = copy.deepcopy(updates.state())
    for group in state["optimizer"]["param_groups"]:
        group.pop("initial_lr")
        group["lr"] = 1.0
    later = network()
    later.load_state_dict(model.state_dict())
    updates = Updates(later, Images(), Recipe(), STEPS)
    updates.resume(state)
    stepped(updates, first=5)
    assert_equal_states(later, trained(Recipe()))


@pytest.mark.parametrize("case", ["default", "fp16", "training_step", "clip"])
def test_what_is_undone_leaves_no_trace(case):
    recipe = Recipe(**CASES[case][0])
    model = network()
    updates = Updates(model, Images(), recipe, STEPS)
    stepped(updates, last=3)
    before = copy.deepcopy((model.state_dict(), updates.state()))
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    updates.differentiate(next(iter(Images().batches(seed=1))))
    updates.undo()
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, buffer in buffers.items():  # a forward pass changes statistics
        model.get_buffer(name).copy_(buffer)
    torch.testing.assert_close((model.state_dict(), updates.state()), before, rtol=0, atol=0)


def test_a_step_that_is_skipped_is_a_step_of_the_schedule():
    model = network()
    updates = Updates(model, Images(), Recipe(learning_rate=1.0), STEPS)
    rates = []
    for _ in range(STEPS):
        rates.append(updates.optimizer.param_groups[0]["lr"])
        updates.skip()
    assert rates[0] == rates[1] == 1.0
    assert rates[-1] < 0.1
    assert updates.done == STEPS
    assert_equal_states(model, network())


@pytest.mark.parametrize(("scale", "message"), [(math.nan, "loss became nan"), (1e30, "gradients")])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_what_is_not_finite_is_refused_before_the_step(scale, message, precision):
    class Wild(Images):
        def loss(self, network, batch):
            return super().loss(network, batch) * scale

    model = network()
    updates = Updates(model, Wild(), Recipe(precision=precision), STEPS)
    loss = updates.differentiate(next(iter(Images().batches())))
    with pytest.raises(FloatingPointError, match=message):
        updates.check(loss)


def test_an_overflow_in_fp16_lowers_the_scale_until_it_is_no_longer_to_blame():
    class Wild(Images):
        def loss(self, network, batch):
            return super().loss(network, batch) * 1e38

    model = network()
    updates = Updates(model, Wild(), Recipe(precision="fp16"), STEPS)
    with pytest.raises(FloatingPointError, match="gradients became infinite"):
        for _ in range(40):
            updates.check(updates.differentiate(next(iter(Images().batches()))))
            updates.apply()
    assert updates.done == 16  # the scale is 2**16 at first
    weights = dict(network().named_parameters())
    assert all(torch.equal(weights[name], p) for name, p in model.named_parameters())


def test_own_steps_that_ruin_the_weights_are_refused():
    def ruin(model, batch, optimizer):
        nn.init.constant_(model[0].weight, math.inf)
        return 1.0

    model = network()
    updates = Updates(model, Images(), Recipe(training_step=ruin), STEPS)
    loss = updates.differentiate(next(iter(Images().batches())))
    with pytest.raises(FloatingPointError, match="weights became infinite"):
        updates.check(loss)
    updates.undo()
    assert torch.equal(model[0].weight, network()[0].weight)


def test_clipping_bounds_the_norm_of_all_gradients_together():
    seen = []
    updates = Updates(network(), Images(), Recipe(clip=1e-3), STEPS)
    updates.optimizer.register_step_pre_hook(
        lambda *_: seen.append(nn.utils.get_total_norm(updates._gradients()).item())
    )
    stepped(updates)
    assert seen == pytest.approx([1e-3] * STEPS, rel=1e-3)


def test_batches_stay_as_they_are():
    def overwrite(batch):
        batch[0].zero_()
        return batch

    batch = next(iter(Images().batches()))
    before = copy.deepcopy(batch)
    Updates(network(), Images(), Recipe(augment=overwrite), STEPS).step(batch)
    assert torch.equal(batch[0], before[0])


# --- the average ------------------------------------------------------------------------------


def test_an_average_keeps_what_is_infinite_and_stays():
    model = network()
    model.register_buffer("mask", torch.tensor([0.0, -math.inf]))
    updates = Updates(model, Images(), Recipe(ema=0.9), STEPS)
    stepped(updates)
    updates.finish()
    assert model.mask.tolist() == [0.0, -math.inf]
    assert model[1].num_batches_tracked == STEPS


def test_weights_in_half_precision_are_averaged_in_float32():
    model = nn.Linear(1, 1, bias=False).bfloat16()
    nn.init.ones_(model.weight)
    average = Average(model, 0.999)
    average.resume(average.state() | {"updates": 10**6})
    nn.init.zeros_(model.weight)
    average.update()  # to .999, which bfloat16 would round back to 1
    assert average.state()["values"]["weight"].item() == pytest.approx(0.999)


# --- the teacher ------------------------------------------------------------------------------


def test_a_teacher_never_changes_and_is_asked_in_evaluation_mode():
    teacher = nn.Sequential(nn.Dropout(0.9), network(7)).train()
    before = copy.deepcopy(teacher.state_dict())
    recipe = Recipe(**SGD, teacher=Teacher(teacher, weight=1, temperature=1))
    model = trained(recipe)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in teacher.parameters())
    assert all(module.training for module in teacher.modules())
    assert_equal_states(
        model, trained(Recipe(**SGD, teacher=Teacher(TEACHER, weight=1, temperature=1)))
    )


def test_a_teacher_sees_the_inputs_of_the_network_even_if_this_overwrites_them():
    class InPlace(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return self.inner(x.mul_(0.0).add_(1.0))

    seen = []

    class Watching(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.zeros(len(x), 4)

    batch = next(iter(Images().batches()))
    Updates(InPlace(), Images(), Recipe(teacher=Watching()), STEPS).step(batch)
    assert torch.equal(seen[0], batch[0])


def test_a_teacher_is_built_once_and_draws_from_no_ones_generator():
    built = []

    def build():
        built.append(network(7))
        torch.rand(1)
        return built[-1]

    recipe = Recipe(teacher=build)
    state = torch.get_rng_state()
    for _ in range(2):
        Updates(network(), Images(), recipe, STEPS).differentiate(next(iter(Images().batches())))
    assert len(built) == 1
    assert torch.equal(torch.get_rng_state(), state)


def test_a_distillation_of_ones_own_takes_any_outputs():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return {"scores": self.inner(x)}

    class Task(Images):
        def loss(self, network, batch):
            return functional.cross_entropy(network(batch[0])["scores"], batch[1])

    def match(output, answer):
        return (output["scores"] - answer).square().mean()

    teacher = Teacher(TEACHER, weight=0.5, distill=match)
    batch = next(iter(Images().batches()))
    loss = Updates(Pair(), Task(), Recipe(teacher=teacher), 1).step(batch)
    output, answer = network()(batch[0]), network(7).eval()(batch[0])
    expected = functional.cross_entropy(output, batch[1]) + (output - answer).square().mean()
    torch.testing.assert_close(loss, expected.detach() / 2)
    with pytest.raises(TypeError, match="dict and Tensor are no scores of classes"):
        Updates(Pair(), Task(), Recipe(teacher=TEACHER), 1).step(batch)


# --- tasks that differentiate by themselves -----------------------------------------------------


class Remembering(Images):
    """Its gradients are those of the loss times a number that grows with each step."""

    def backward(self, network, batch, memory, scaler):
        count = 0 if memory is None else memory["count"]
        loss = self.loss(network, batch) * (1 + count)
        scaler.scale(loss).backward()
        return loss.detach(), {"count": count + 1}


def test_the_memory_of_a_task_goes_on_with_each_step_that_is_taken():
    updates = Updates(network(), Remembering(), Recipe(), STEPS)
    batch = next(iter(Images().batches()))
    one = updates.differentiate(batch)
    updates.undo()
    torch.testing.assert_close(updates.step(batch), one)
    later = Updates(network(), Remembering(), Recipe(), STEPS)
    later.resume(updates.state())
    torch.testing.assert_close(later.step(batch), 2 * one)


def test_a_task_may_differentiate_by_itself_in_any_precision():
    class Once(Images):
        def backward(self, network, batch, memory, scaler):
            loss = self.loss(network, batch)
            scaler.scale(loss).backward()
            return loss.detach(), memory

    for precision in ("float32", "fp16"):
        recipe = Recipe(**SGD, precision=precision)
        assert_equal_states(trained(recipe, Once()), trained(recipe))


# --- memory formats and compiled networks ------------------------------------------------------


def test_channels_last_is_for_the_time_of_the_training():
    formats = []

    class Task(Images):
        def loss(self, network, batch):
            formats.append((network[0].weight, batch[0]))
            return super().loss(network, batch)

    model = trained(Recipe(channels_last=True), Task())
    weight, inputs = formats[-1]
    assert inputs.is_contiguous(memory_format=torch.channels_last)
    assert not inputs.is_contiguous()
    assert weight is model[0].weight
    assert model[0].weight.is_contiguous()


def test_a_compiled_network_trains_alike_and_is_plain_afterwards(monkeypatch):
    calls = []

    def count(graph, inputs):
        calls.append(graph)
        return graph

    eager = functools.partial(torch.compile, backend=count)
    monkeypatch.setattr(torch, "compile", eager)
    options = SGD | {"teacher": Teacher(TEACHER)}
    model = trained(Recipe(**options, compile=True))
    assert calls
    assert_equal_states(model, trained(Recipe(**options)))
    assert "forward" not in vars(model)


# --- what is refused ---------------------------------------------------------------------------


class Plain:
    metric = Images.metric
    loss, example, batches, evaluate = Images.loss, Images.example, Images.batches, Images.evaluate
    smoothing = 0.0


class Silent(Images):
    def loss(self, network, batch):
        return network[0].weight.sum()


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        (Plain, {"label_smoothing": 0.1}, "needs a task of classes, .* got Plain"),
        (Remembering, {"teacher": TEACHER}, "cannot be combined with Remembering"),
        (Silent, {"teacher": TEACHER}, "loss of Silent does not call network"),
        (Images, {"teacher": nn.Flatten()}, r"one shape, got \(10, 4\) and \(10, 32\)"),
        (Images, {"teacher": nn.Linear(3, 4)}, "teacher does not run on the inputs of the network"),
        (Images, {"teacher": lambda: 3}, "teacher must build a network, got 3"),
        (Images, {"optimizer": torch.optim.Rprop}, "Rprop takes no weight_decay, .* partial"),
        (Images, {"optimizer": lambda parameters: 3}, "optimizer of torch.optim, got 3"),
        (
            Images,
            {
                "schedule": lambda optimizer, _: torch.optim.lr_scheduler.ReduceLROnPlateau(
                    optimizer
                )
            },
            "takes no argument, .* got ReduceLROnPlateau",
        ),
        (Images, {"augment": lambda batch: None}, "augment must return the batch, got None"),
        (Images, {"training_step": lambda *_: None}, "must return the loss, one number, got None"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(task, options, message):
    with pytest.raises((TypeError, ValueError, RuntimeError), match=message):
        Updates(network(), task(), Recipe(**options), 1).step(next(iter(Images().batches())))

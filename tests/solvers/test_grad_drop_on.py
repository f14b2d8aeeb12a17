"""GradDrop on a representation is what the paper writes, entry by entry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from paretonas.conflict import Recorded, Recorder
from paretonas.multitask import backward_through
from paretonas.solvers import GradDrop, Weighted


def by_the_book(x, gradients, uniform, leak):
    """Algorithm 1 of arXiv 2010.06808 with f(p) = p, in plain loops; one list per task."""
    batch, features = x.shape
    masked = torch.zeros_like(x)
    for k in range(features):
        pulls = [
            sum(x[b, k].sign().item() * g[b, k].item() for b in range(batch)) for g in gradients
        ]
        purity = 0.5 * (1 + sum(pulls) / sum(abs(pull) for pull in pulls))
        for pull, g, share in zip(pulls, gradients, leak, strict=True):
            positive, negative = purity > uniform[k], purity < uniform[k]
            mask = float((positive and pull > 0) or (negative and pull < 0))
            masked[:, k] += (share + (1 - share) * mask) * g[:, k]
    return masked


def seeded():
    return torch.Generator().manual_seed(3)


@pytest.mark.parametrize("leak", [None, [0.0, 0.0, 0.0], [0.0, 0.25, 1.0]])
@pytest.mark.parametrize("batch", [1, 6])
def test_is_the_algorithm_of_the_paper(batch, leak):
    torch.manual_seed(batch)
    x = torch.randn(batch, 40, dtype=torch.float64)
    x[0, :10] = 0.0  # as behind a ReLU
    x[:, 10] = x[:, 10].abs() + 0.1
    gradients = torch.randn(3, batch, 40, dtype=torch.float64)
    if batch == 1:
        x[0, :10] = 1.0
    uniform = torch.rand(40, generator=seeded(), dtype=torch.float64).tolist()
    solver = GradDrop(None if leak is None else torch.tensor(leak).double(), seeded())
    found = solver.on(x)(gradients.flatten(1)).vector.view_as(x)
    torch.testing.assert_close(found, by_the_book(x, gradients, uniform, leak or [0.0] * 3))
    assert leak == [1.0] * 3 or not torch.equal(found, gradients.sum(0))


def test_is_another_method_than_a_coin_per_entry():
    torch.manual_seed(0)
    x, gradients = torch.randn(8, 5), torch.randn(2, 8, 5)
    kept = GradDrop(generator=seeded()).on(x)(gradients.flatten(1)).vector.view_as(x)
    for k in range(5):  # a task is in a feature for all examples or for none
        assert any(
            torch.allclose(kept[:, k], sum(gradients[i, :, k] for i in tasks))
            for tasks in ((0,), (1,), (0, 1))
        )


def test_the_signs_of_activations_count_and_not_their_sizes():
    torch.manual_seed(0)
    x, gradients = torch.randn(4, 30), torch.randn(2, 120)
    first = GradDrop(generator=seeded()).on(x)(gradients).vector
    assert torch.equal(first, GradDrop(generator=seeded()).on(7 * x)(gradients).vector)
    turned = x * torch.tensor([1.0, -1.0, 1.0, 1.0]).unsqueeze(1)
    assert not torch.equal(first, GradDrop(generator=seeded()).on(turned)(gradients).vector)


def test_nothing_is_dropped_where_no_task_has_a_pull():
    gradients = torch.randn(2, 3, 4)
    direction = GradDrop().on(torch.zeros(3, 4))(gradients.flatten(1))
    torch.testing.assert_close(direction.vector, gradients.sum(0).flatten())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_every_dtype_in_and_out(dtype, scale):
    torch.manual_seed(0)
    x = torch.randn(5, 6)
    gradients = (scale * torch.randn(2, 30)).to(dtype)
    buffer = torch.empty(30, dtype=dtype)
    found = GradDrop(generator=seeded()).on(x)(gradients, out=buffer).vector
    assert found.data_ptr() == buffer.data_ptr()
    uniform = torch.rand(6, generator=seeded(), dtype=torch.promote_types(dtype, torch.float32))
    wide = gradients.double().view(2, 5, 6)
    expected = by_the_book(x.double(), wide, uniform.tolist(), [0.0, 0.0])
    torch.testing.assert_close(found, expected.flatten().to(dtype))


def test_rays_have_coins_of_their_own_and_feature_maps_have_shape():
    torch.manual_seed(0)
    x, gradients = torch.randn(3, 2, 2, 2), torch.randn(5, 2, 24)
    together = GradDrop(generator=seeded()).on(x)(gradients).vector
    uniform = torch.rand(5, 8, generator=seeded())
    for ray in range(5):
        expected = by_the_book(
            x.flatten(1), gradients[ray].view(2, 3, 8), uniform[ray].tolist(), [0.0, 0.0]
        )
        torch.testing.assert_close(together[ray], expected.flatten())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: Recorded(s, Recorder())])
def test_in_a_training_step(wrap):
    torch.manual_seed(0)
    encoder = nn.Linear(4, 6).double()
    heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3)).double()
    features = encoder(torch.randn(7, 4, dtype=torch.float64))
    losses = [head(features).square().mean() for head in heads]
    gradients = torch.stack(
        [torch.autograd.grad(loss, features, retain_graph=True)[0] for loss in losses]
    )
    uniform = torch.rand(6, generator=seeded(), dtype=torch.float64).tolist()
    expected = by_the_book(features.detach(), gradients, uniform, [0.0] * 3)
    (slope,) = torch.autograd.grad(features, encoder.weight, expected, retain_graph=True)
    backward_through(losses, features, solver=wrap(GradDrop(generator=seeded()).on(features)))
    torch.testing.assert_close(encoder.weight.grad, slope)


def test_of_several_tensors_and_under_a_preference():
    torch.manual_seed(0)
    one, two = torch.randn(4, 3).double(), torch.randn(4, 2, 2).double()
    gradients = torch.randn(2, 28).double()
    preference = torch.tensor([0.25, 0.75]).double()
    found = Weighted(preference, GradDrop(generator=seeded()).on([one, two]))(gradients).vector
    source = seeded()
    for z, part, vector in zip(
        (one, two), gradients.split([12, 16], 1), found.split([12, 16]), strict=True
    ):
        x = z.flatten(1)
        uniform = torch.rand(x.shape[1], generator=source, dtype=torch.float64).tolist()
        rows = (preference[:, None] * part).view(2, *x.shape)
        torch.testing.assert_close(vector, by_the_book(x, rows, uniform, [0.0] * 2).flatten())


def test_what_does_not_fit_is_refused():
    x, gradients = torch.randn(3, 4), torch.randn(2, 12)
    with pytest.raises(ValueError, match="a column for each of 12 entries .*, got 11"):
        GradDrop().on(x)(gradients[:, 1:])
    with pytest.raises(ValueError, match=r"leak must have shape \(m,\) = \(2,\)"):
        GradDrop(torch.zeros(3)).on(x)(gradients)
    with pytest.raises(ValueError, match="at least one tensor, got none"):
        GradDrop().on([])
    with pytest.raises(ValueError, match=r"\(batch, ...\) and entries, got \(\)"):
        GradDrop().on(torch.tensor(1.0))
    with pytest.raises(TypeError, match=r"representation\[1\] must have .*got torch.int64"):
        GradDrop().on([x, x.long()])
    with pytest.raises(TypeError, match="torch.Tensor or several, got int"):
        GradDrop().on(3)
    with pytest.raises(ValueError, match="representation must be finite"):
        GradDrop().on(x * torch.nan)(gradients)
    gradients[1, 3] = torch.inf
    with pytest.raises(ValueError, match="must be finite, got inf in row 1"):
        GradDrop().on(x)(gradients)

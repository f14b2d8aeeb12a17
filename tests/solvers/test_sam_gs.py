"""The two solvers that are no weighting of rows: SAMGS and GradDrop."""

from __future__ import annotations

import io
import itertools
import math

import pytest
import torch
from torch import Tensor

from paretonas.solvers.grad_drop import GradDrop
from paretonas.solvers.sam_gs import SAMGS


def plain_sam_gs(
    *,
    gradients: list[Tensor],
    gamma: float = 0.1,
    beta1: float = 0.9,
    beta2: float = 0.99,
    psi: str = "pairs",
    max_norm: float | None = 1.0,
    task_scale: float | None = None,
) -> list[Tensor]:
    """The published loop, one step after the other, in float64; gradients[t] is (m, n)."""
    m, n = gradients[0].shape
    momentum = torch.zeros(m, n, dtype=torch.float64)
    h = 0.0
    directions = []
    for t, jacobian in enumerate(gradients, start=1):
        g = jacobian.double()
        norms = [float(row.norm()) for row in g]
        alike = [[2 * a * b / (a**2 + b**2) for a in norms] for b in norms]
        pairs = [alike[i][j] for i, j in itertools.combinations(range(m), 2)]
        mean = sum(map(sum, alike)) / m**2 if psi == "all" else sum(pairs) / len(pairs)
        momentum = beta1 * momentum + (1 - beta1) * g
        h = beta2 * h + (1 - beta2) * (1 - mean) ** 2 + 1e-8
        if (min(pairs) if psi == "min" else mean) < gamma:
            average = sum(norms) / m
            d = sum(average / norms[k] * g[k] for k in range(m))
        else:
            speed = momentum.abs() / (1 - beta1**t)
            d = sum(g[k] * speed[k] for k in range(m)) / math.sqrt(h / (1 - beta2**t))
        d = d * (m if task_scale is None else task_scale)
        if max_norm is not None and d.norm() > max_norm:
            d = d * (max_norm / d.norm())
        directions.append(d)
    return directions


def steps(*shape: int, count: int = 6, seed: int = 0, spread: float = 1.5) -> list[Tensor]:
    """Gradients of some steps, whose lengths differ enough for both branches."""
    draw = torch.Generator().manual_seed(seed)
    scales = (10 ** (spread * torch.randn(count, *shape[:-1], 1, generator=draw))).double()
    return list(scales * torch.randn(count, *shape, generator=draw, dtype=torch.float64))


def run(solver: SAMGS, gradients: list[Tensor], state: object = None) -> list[Tensor]:
    directions = []
    for jacobian in gradients:
        direction = solver(jacobian, state=state)
        state = direction.state
        directions.append(direction.vector)
    return directions


VARIANTS = [
    {},
    {"gamma": 0.7},
    {"gamma": 0.0, "max_norm": None},
    {"gamma": 1.01, "beta1": 0.0},
    {"psi": "all", "gamma": 0.6, "beta2": 0.9},
    {"psi": "min", "gamma": 0.9, "max_norm": None, "task_scale": 1.0},
]


@pytest.mark.parametrize("settings", VARIANTS)
@pytest.mark.parametrize("shape", [(2, 2), (3, 7), (8, 5)])
def test_sam_gs_is_the_published_loop(settings, shape):
    gradients = steps(*shape)
    found = run(SAMGS(**settings), gradients)
    expected = plain_sam_gs(gradients=gradients, **settings)
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-10, atol=0)


def test_the_plain_loop_takes_both_branches():
    solver, state, taken = SAMGS(gamma=0.5), None, set()
    for jacobian in steps(3, 7, count=12):
        direction = solver(jacobian, state=state)
        state = direction.state
        taken.add(direction.certificate.branch)
    assert taken == {"equalized", "momentum"}


def test_rays_are_solved_as_if_alone_each_with_its_branch_and_state():
    gradients = steps(9, 3, 4)
    solver = SAMGS(gamma=0.5)
    together, state, branches = [], None, []
    for jacobian in gradients:
        direction = solver(jacobian, state=state)
        state = direction.state
        together.append(direction.vector)
        branches.append(direction.certificate.branch)
    assert any(len(set(taken)) == 2 for taken in branches)
    for ray in range(9):
        alone = run(solver, [jacobian[ray] for jacobian in gradients])
        for one, all_ in zip(alone, together, strict=True):
            assert torch.equal(one, all_[ray])


def test_weights_are_given_where_rows_are_weighted():
    rows = torch.tensor([[300.0, 0.0, 0.0], [0.0, 3.0, 4.0]], dtype=torch.float64)
    even = SAMGS(max_norm=None)(rows)
    assert even.certificate.branch == "equalized"
    torch.testing.assert_close(even.weights @ rows, even.vector)
    torch.testing.assert_close(even.vector, 305 * torch.tensor([1.0, 0.6, 0.8]).double())
    alike = SAMGS()(rows * torch.tensor([[0.01], [1.0]]))
    assert alike.certificate.branch == "momentum" and alike.weights is None
    both = torch.stack([rows, rows * torch.tensor([[0.01], [1.0]])])
    assert SAMGS()(both).weights is None
    assert SAMGS()(both).certificate.branch == ("equalized", "momentum")
    assert SAMGS()(rows.expand(2, 2, 3)).weights.shape == (2, 2)


def test_gamma_of_the_paper_and_gamma_of_the_code_agree_as_documented():
    for gamma, m in [(0.1, 2), (0.5, 3), (0.9, 8)]:
        pairs, every = SAMGS(gamma), SAMGS(1 / m + (1 - 1 / m) * gamma, psi="all")
        taken = set()
        for seed in range(40):
            jacobian = steps(m, 3, count=1, seed=seed, spread=0.02 * seed)[0]
            branch = pairs(jacobian).certificate.branch
            assert branch == every(jacobian).certificate.branch
            taken.add(branch)
        assert len(taken) == 2, (gamma, m)


def test_with_the_papers_gamma_two_objectives_are_never_equalized():
    for jacobian in steps(2, 3, count=40, spread=4.0):
        assert SAMGS(psi="all")(jacobian).certificate.branch == "momentum"


def test_the_state_survives_a_checkpoint():
    gradients = steps(2, 3, 4)
    solver = SAMGS(gamma=0.5)
    state = None
    for jacobian in gradients[:3]:
        state = solver(jacobian, state=state).state
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    restored = torch.load(file, weights_only=True)
    for got, wanted in zip(
        run(solver, gradients[3:], restored), run(solver, gradients)[3:], strict=True
    ):
        assert torch.equal(got, wanted)


def test_a_call_leaves_jacobian_and_state_as_they_were():
    first, second = steps(2, 3, count=2)
    state = SAMGS()(first).state
    kept = {name: torch.as_tensor(value).clone() for name, value in state.items()}
    before = second.clone()
    a = SAMGS()(second, state=state).vector
    assert torch.equal(second, before)
    assert all(torch.equal(torch.as_tensor(state[name]), value) for name, value in kept.items())
    assert torch.equal(a, SAMGS()(second, state=state).vector)


@pytest.mark.parametrize("settings", VARIANTS)
def test_permuting_objectives_and_state_changes_nothing(settings):
    order = torch.tensor([2, 0, 3, 1])
    solver, state, turned = SAMGS(**settings), None, None
    for jacobian in steps(4, 5):
        plain = solver(jacobian, state=state)
        if state is not None:
            turned = state | {"momenta": state["momenta"][order]}
        permuted = solver(jacobian[order], state=turned)
        torch.testing.assert_close(permuted.vector, plain.vector, rtol=1e-9, atol=1e-12)
        state = plain.state


def test_the_equalized_branch_keeps_its_direction_when_rows_are_scaled():
    jacobian = steps(3, 5, count=1)[0]
    solver = SAMGS(gamma=1.01)
    scaled = jacobian * torch.tensor([[1e-4], [1.0], [1e5]])
    torch.testing.assert_close(solver(scaled).vector, solver(jacobian).vector)


def test_the_momentum_branch_grows_as_the_square_of_the_scale():
    jacobian = steps(3, 5, count=1)[0]
    solver = SAMGS(gamma=0, max_norm=None)
    torch.testing.assert_close(solver(10 * jacobian).vector, 100 * solver(jacobian).vector)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("gamma", [0.0, 1.01])
@pytest.mark.parametrize("n", [6, 30_000])
@pytest.mark.parametrize("scale", [1e-3, 1e15, 1e30])
def test_the_greatest_length_holds_at_every_scale(dtype, gamma, n, scale):
    gradients = [jacobian.to(dtype) for jacobian in steps(3, n, spread=0.5, count=4)]
    expected = plain_sam_gs(gradients=gradients, gamma=gamma, max_norm=1e-9)
    for got, wanted in zip(
        run(SAMGS(gamma, max_norm=1e-9), [scale * jacobian for jacobian in gradients]),
        expected,
        strict=True,
    ):
        torch.testing.assert_close(got.double(), wanted, rtol=1e-3, atol=1e-14)
        assert float(got.double().norm()) == pytest.approx(1e-9, rel=1e-5)


@pytest.mark.parametrize("gamma", [0.0, 1.01])
def test_tiny_gradients_are_followed_as_far_as_the_dtype_goes(gamma):
    gradients = steps(3, 6, spread=0.5)
    wide = run(SAMGS(gamma, max_norm=None), [1e-30 * g for g in gradients])
    unit = run(SAMGS(gamma, max_norm=None), gradients)
    degree = 2 if gamma == 0.0 else 1
    for small, whole in zip(wide, unit, strict=True):
        torch.testing.assert_close(small, whole * 1e-30**degree, rtol=1e-9, atol=0)


def test_what_no_dtype_can_hold_is_refused_without_a_greatest_length():
    jacobian = 1e30 * torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match=r"direction must fit into torch.float32"):
        SAMGS(0.0, max_norm=None)(jacobian)


@pytest.mark.parametrize("gamma", [0.0, 0.1, 1.01])
def test_zero_rows_add_nothing_and_nothing_is_not_finite(gamma):
    rows = torch.tensor([[3.0, 0.0], [0.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    solver, state = SAMGS(gamma, max_norm=None), None
    for jacobian in (rows, torch.zeros_like(rows), rows):
        direction = solver(jacobian, state=state)
        state = direction.state
        assert direction.vector.isfinite().all()
        assert bool(direction.vector.any()) == bool(jacobian.any())
    if gamma > 1:
        torch.testing.assert_close(direction.vector, torch.tensor([7.0, 7.0]).double())
        assert direction.weights[1] == 0


@pytest.mark.parametrize("gamma", [0.0, 1.01])
def test_long_rows_of_zeros_give_zero(gamma):
    for jacobian in (torch.zeros(2, 40_000), torch.zeros(1, 70_000)):
        assert not SAMGS(gamma)(jacobian).vector.any()


def test_the_similarity_of_zero_rows():
    zeros, one = torch.zeros(2, 3), torch.tensor([[0.0, 0.0, 0.0], [1.0, 2.0, 2.0]])
    assert SAMGS(1.0)(zeros).certificate.branch == "momentum"  # two zero rows: psi = 1
    assert SAMGS(1e-6)(one).certificate.branch == "equalized"  # one: psi = 0


def test_one_objective_is_followed_as_it_is():
    jacobian = torch.tensor([[0.3, -0.4]])
    direction = SAMGS(gamma=0.0)(jacobian)
    torch.testing.assert_close(direction.vector, jacobian[0])
    torch.testing.assert_close(direction.weights, torch.ones(1))
    assert direction.certificate.branch == "lone"
    torch.testing.assert_close(SAMGS()(10 * jacobian).vector, torch.tensor([0.6, -0.8]))


def test_on_the_first_step_the_momentum_is_the_gradient():
    jacobian = torch.tensor([[1.0, 2.0], [-2.0, 1.0]], dtype=torch.float64)
    vector = SAMGS(max_norm=None, task_scale=1.0)(jacobian).vector
    expected = (jacobian * jacobian.abs()).sum(0) / math.sqrt(1e-8 / 0.01)
    torch.testing.assert_close(vector, expected)


def test_opposite_gradients_of_one_length_cancel_in_both_branches():
    row = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for gamma in (0.0, 1.01):
        for vector in run(SAMGS(gamma), [torch.stack([row, -row])] * 3):
            assert not vector.any()


def test_the_momentum_branch_may_vanish_where_nothing_is_stationary():
    """In each column the signed squares cancel, so on the first step all does.

    A stationary w would need w1 = w2, w3 = (sqrt(2) - 1) w1 and w1 + w2 = sqrt(2) w3: only w = 0.
    """
    root = math.sqrt(2.0)
    rows = [[1.0, root, 1.0], [-1.0, -1.0, 1.0], [0.0, -1.0, -root]]
    jacobian = torch.tensor(rows, dtype=torch.float64)
    direction = SAMGS()(jacobian)
    assert direction.certificate.branch == "momentum"
    assert float(direction.certificate.stationarity_gap) > 0.05
    assert float(direction.vector.norm()) < 1e-9  # of terms of length 4e3


def test_it_may_conflict_and_the_certificate_says_so():
    jacobian = torch.tensor([[1.0, 0.0], [-0.9, 0.4]], dtype=torch.float64)
    direction = SAMGS(gamma=0)(jacobian)
    cosines = (jacobian @ direction.vector) / jacobian.norm(dim=1) / direction.vector.norm()
    assert float(cosines.min()) < -0.1
    assert float(direction.certificate.smallest_cosine) == pytest.approx(float(cosines.min()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_momenta_in_float32(dtype):
    gradients = [jacobian.to(dtype) for jacobian in steps(3, 6, spread=0.3)]
    solver, state = SAMGS(), None
    wanted = plain_sam_gs(gradients=gradients)
    for jacobian, expected in zip(gradients, wanted, strict=True):
        direction = solver(jacobian, state=state)
        state = direction.state
        assert direction.vector.dtype == dtype
        assert state["momenta"].dtype == torch.float32
        torch.testing.assert_close(direction.vector.double(), expected, rtol=1e-2, atol=1e-3)


def test_long_rows_in_pieces_and_a_buffer_give_the_same():
    gradients = [jacobian.float() for jacobian in steps(2, 70_000, count=3, spread=0.1)]
    buffer = torch.empty(70_000)
    for settings in ({}, {"gamma": 1.01}):
        expected = plain_sam_gs(gradients=gradients, **settings)
        solver, state = SAMGS(**settings), None
        for jacobian, wanted in zip(gradients, expected, strict=True):
            pieces = [[row[:30_000].view(300, 100), row[30_000:]] for row in jacobian]
            direction = solver(pieces, state=state, out=buffer)
            state = direction.state
            assert direction.vector.data_ptr() == buffer.data_ptr()
            torch.testing.assert_close(buffer.double(), wanted, rtol=1e-4, atol=1e-6)


def test_a_state_that_does_not_fit_is_refused():
    state = SAMGS()(torch.ones(2, 3)).state
    with pytest.raises(ValueError, match=r"'momenta'.* \(2, 4\), got \(2, 3\).*start again"):
        SAMGS()(torch.ones(2, 4), state=state)
    with pytest.raises(ValueError, match="state must fit the jacobian"):
        SAMGS()(torch.ones(1, 2, 3), state=state)
    with pytest.raises(TypeError, match="state must be what SAMGS returned"):
        SAMGS()(torch.ones(2, 3), state={"steps": 1})
    with pytest.raises(ValueError, match="jacobian must be finite, got nan in row 1"):
        SAMGS()(torch.tensor([[1.0], [math.nan]]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"beta1": 1.0}, r"beta1 must be in \[0, 1\), got 1.0"),
        ({"beta2": -0.1}, r"beta2 must be in \[0, 1\), got -0.1"),
        ({"gamma": math.nan}, "gamma must be at least 0, got nan"),
        ({"psi": "mean"}, "psi must be"),
        ({"max_norm": 0.0}, "max_norm must be positive and finite, or None, got 0.0"),
        ({"task_scale": math.inf}, "task_scale must be positive and finite, or None, got inf"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SAMGS(**settings)


def plain_grad_drop(*, jacobian: Tensor, coins: Tensor, leak: Tensor) -> Tensor:
    """The published formulas, objective by objective."""
    size = jacobian.abs().sum(0)
    purity = torch.where(size > 0, 0.5 * (1 + jacobian.sum(0) / size), 0.0)
    out = torch.zeros(jacobian.shape[1], dtype=torch.float64)
    for row, share in zip(jacobian, leak, strict=True):
        mask = (purity > coins) * (row > 0) + (purity <= coins) * (row < 0)
        out += (share + (1 - share) * mask) * row
    return out


@pytest.mark.parametrize("leak", [None, (0.0, 0.3, 1.0)])
@pytest.mark.parametrize("n", [5, 200, 30_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_grad_drop_is_the_published_formula(leak, n, dtype):
    jacobian = torch.randn(3, n, generator=torch.Generator().manual_seed(n), dtype=dtype)
    coins = torch.rand(n, generator=torch.Generator().manual_seed(7), dtype=dtype)
    shares = None if leak is None else torch.tensor(leak, dtype=torch.float64)
    direction = GradDrop(shares, torch.Generator().manual_seed(7))(jacobian)
    expected = plain_grad_drop(
        jacobian=jacobian.double(),
        coins=coins.double(),
        leak=torch.zeros(3) if shares is None else shares,
    )
    assert direction.weights is None and direction.vector.dtype == dtype
    close = torch.isclose(direction.vector.double(), expected, rtol=1e-5, atol=1e-6)
    # A coin within rounding of the odds may fall either way.
    assert int((~close).sum()) <= (0 if dtype == torch.float64 else n // 10_000)


def test_each_coordinate_is_one_of_the_two_sums_with_the_stated_odds(rng):
    jacobian = torch.tensor([[3.0, -1.0, 0.0, 2.0, -5.0], [-1.0, -2.0, 0.0, 0.5, 5.0]]).double()
    positive, negative = jacobian.clamp_min(0).sum(0), jacobian.clamp_max(0).sum(0)
    odds = positive / (positive - negative)
    draws = 20_000
    many = GradDrop(generator=rng)(jacobian.expand(draws, 2, 5)).vector
    assert bool(((many == positive) | (many == negative)).all())
    up = (many == positive).double().mean(0)
    mixed = torch.tensor([True, False, False, False, True])
    deviation = (odds * (1 - odds) / draws).sqrt().nan_to_num(0.0)
    assert bool(((up - odds).abs() < 4 * deviation)[mixed].all())
    assert torch.equal(many[:, ~mixed], jacobian.sum(0)[~mixed].expand(draws, 3))
    mean = (positive**2 - negative**2) / (positive - negative).clamp_min(1e-300)
    assert bool(((many.mean(0) - mean).abs() < 4 * deviation * (positive - negative) + 1e-9).all())


def test_grad_drop_with_all_leaking_is_the_sum(rng):
    jacobian = torch.randn(3, 40, generator=rng)
    direction = GradDrop(torch.ones(3), rng)(jacobian)
    torch.testing.assert_close(direction.vector, jacobian.sum(0))


def test_grad_drop_does_not_care_for_order_or_common_scale():
    jacobian = torch.randn(4, 100, generator=torch.Generator().manual_seed(1)).double()
    seeded = [torch.Generator().manual_seed(5) for _ in range(4)]
    plain, turned, small, large = (GradDrop(generator=generator) for generator in seeded)
    expected = plain(jacobian).vector
    torch.testing.assert_close(turned(jacobian.flip(0)).vector, expected)
    torch.testing.assert_close(small(jacobian * 1e-30).vector, expected * 1e-30, atol=0, rtol=1e-9)
    torch.testing.assert_close(large(jacobian * 1e30).vector, expected * 1e30)


@pytest.mark.parametrize(("r", "n"), [(5, 30), (400, 200), (3, 40_000)])
def test_rays_of_grad_drop_are_drawn_one_after_the_other(r, n):
    jacobian = torch.randn(r, 2, n, generator=torch.Generator().manual_seed(3))
    together = GradDrop(generator=torch.Generator().manual_seed(4))(jacobian).vector
    one = GradDrop(generator=torch.Generator().manual_seed(4))
    alone = torch.stack([one(rows).vector for rows in jacobian])
    differ = ~torch.isclose(alone, together, rtol=1e-5, atol=1e-6)
    assert int(differ.sum()) <= 2  # coins within rounding of the odds


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("n", [6, 80_000])
def test_grad_drop_takes_any_dtype_pieces_and_a_buffer(dtype, n, rng):
    jacobian = torch.randn(2, n, generator=rng).to(dtype)
    pieces = [[row[:2], row[2:]] for row in jacobian]
    buffer = torch.empty(n, dtype=dtype)
    got = GradDrop(generator=torch.Generator().manual_seed(1))(pieces, out=buffer)
    whole = GradDrop(generator=torch.Generator().manual_seed(1))(jacobian)
    assert got.vector.data_ptr() == buffer.data_ptr() and got.vector.dtype == dtype
    assert float((got.vector != whole.vector).double().mean()) < 1e-3


def test_grad_drop_of_one_row_and_of_nothing(rng):
    row = torch.tensor([[1.0, -2.0, 0.0]])
    assert torch.equal(GradDrop(generator=rng)(row).vector, row[0])
    nothing = GradDrop(generator=rng)(torch.zeros(3, 4))
    assert not nothing.vector.any()
    assert float(nothing.certificate.smallest_cosine) == 0.0


def test_grad_drop_may_conflict_and_the_certificate_says_so():
    jacobian = torch.tensor([[1.0, 1.0], [-0.5, -1.0]])
    found = [
        GradDrop(generator=torch.Generator().manual_seed(seed))(jacobian) for seed in range(10)
    ]
    for direction in found:
        cosines = (jacobian @ direction.vector) / jacobian.norm(dim=1) / direction.vector.norm()
        assert float(direction.certificate.smallest_cosine) == pytest.approx(
            float(cosines.min()), abs=1e-6
        )
    assert min(float(direction.certificate.smallest_cosine) for direction in found) < -0.5


@pytest.mark.parametrize("n", [3, 80_000])
def test_grad_drop_refuses_what_it_cannot_use(n):
    broken = torch.ones(2, n)
    broken[1, 2] = math.inf
    with pytest.raises(ValueError, match="jacobian must be finite, got inf in row 1"):
        GradDrop()(broken)
    with pytest.raises(ValueError, match=r"leak must have shape \(m,\) = \(2,\).*got \(3,\)"):
        GradDrop(torch.zeros(3))(torch.ones(2, n))
    with pytest.raises(ValueError, match=r"entries in \[0, 1\]"):
        GradDrop(torch.tensor([0.5, 1.5]))
    with pytest.raises(TypeError, match="leak must be a torch.Tensor"):
        GradDrop(0.5)

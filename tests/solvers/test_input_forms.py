"""A jacobian may come in many forms and sizes; the answer is the same, and nothing is joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from paretonas.gradients.gram import CLEAR, Gram
from paretonas.gradients.rows import PACK, Rows
from paretonas.solvers import MGDA, DualProj, FairGrad, LinearScalarization, UPGrad

SHAPES = [(4, 5), (7,), (1,), (), (2, 3, 3)]


def forms(m: int, shapes, dtype=torch.float64):
    """One jacobian as a tensor, as rows, as blocks and as one tensor per parameter and row."""
    torch.manual_seed(m)
    pieces = [[torch.randn(shape, dtype=dtype) for shape in shapes] for _ in range(m)]
    whole = torch.stack([torch.cat([piece.flatten() for piece in row]) for row in pieces])
    blocks = [
        torch.stack(column).reshape(m, *column[0].shape, 1) for column in zip(*pieces, strict=True)
    ]
    return {"tensor": whole, "rows": list(whole), "blocks": blocks, "pieces": pieces}


@pytest.mark.parametrize(
    "shapes", [SHAPES, [(3, 2)], [(40_000,), (3,), (70_000,), (200, 300), (9,)]]
)
@pytest.mark.parametrize("solver", [LinearScalarization(), MGDA(), UPGrad(), DualProj()])
def test_every_form_gives_the_same_direction(solver, shapes):
    given = forms(3, shapes)
    expected = solver(given.pop("tensor"))
    for name, form in given.items():
        found = solver(form)
        torch.testing.assert_close(found.vector, expected.vector, msg=name)
        torch.testing.assert_close(found.weights, expected.weights)
        torch.testing.assert_close(
            found.certificate.smallest_cosine, expected.certificate.smallest_cosine
        )


def test_none_stands_for_zeros():
    pieces = forms(2, SHAPES)["pieces"]
    zeros = [list(row) for row in pieces]
    zeros[0][1], pieces[0][1] = torch.zeros(7, dtype=torch.float64), None
    torch.testing.assert_close(UPGrad()(pieces).vector, UPGrad()(zeros).vector)


def test_pieces_of_several_dtypes_meet_in_the_widest():
    pieces = forms(2, [(5,), (3,)])["pieces"]
    mixed = [[row[0].float(), row[1]] for row in pieces]
    found = MGDA()(mixed).vector
    assert found.dtype == torch.float64
    same = [[row[0].float().double(), row[1]] for row in pieces]
    torch.testing.assert_close(found, MGDA()(same).vector)


class Largest(TorchDispatchMode):
    """Remembers the size of the largest tensor that an operation made anew."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        given = {t.untyped_storage().data_ptr() for t in args if isinstance(t, torch.Tensor)}
        for tensor in made if isinstance(made, tuple | list) else [made]:
            new = isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr()
            if new and new not in given and "out" not in (kwargs or {}):
                self.numel = max(self.numel, tensor.numel())
        return made


@pytest.mark.parametrize("form", ["rows", "blocks", "pieces"])
def test_what_comes_in_parts_is_never_joined(form):
    m, n = 3, 5 * PACK + 17
    given = forms(m, [(PACK, 2), (5,), (n - 4 * PACK,), (7,), (2, PACK)], torch.float32)
    with Largest() as largest:
        UPGrad()(given[form], out=torch.empty(given["tensor"].shape[1]))
    assert largest.numel < m * n / 2


@pytest.mark.parametrize("n", [11, 3 * PACK + 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_out_is_filled_and_returned(n, dtype):
    torch.manual_seed(0)
    jacobian = torch.randn(3, n, dtype=dtype)
    buffer = torch.full((n,), torch.nan, dtype=dtype)
    found = UPGrad()(jacobian, out=buffer).vector
    assert found.data_ptr() == buffer.data_ptr()
    assert found.shape == (n,)
    torch.testing.assert_close(buffer, UPGrad()(jacobian).vector)
    rays = torch.empty(2, n, dtype=dtype)
    UPGrad()(jacobian.expand(2, -1, -1), out=rays)
    torch.testing.assert_close(
        rays[1], buffer, rtol=1e-2 if dtype == torch.bfloat16 else 1e-5, atol=1e-6
    )


@pytest.mark.parametrize(
    ("out", "found"),
    [(torch.empty(4), "(4,)"), (torch.empty(5).double(), "float64"), (torch.empty(1, 5), "(1, 5)")],
)
def test_an_out_that_does_not_fit_is_refused(out, found):
    with pytest.raises(ValueError, match=r"out must have shape \(5,\)") as error:
        MGDA()(torch.ones(2, 5), out=out)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("jacobian", "message"),
    [
        ([], "empty list"),
        ([torch.ones(3), torch.ones(4)], "rows of a jacobian must be equally long"),
        ([torch.ones(2, 3), torch.ones(3, 3)], "blocks must have shapes"),
        ([torch.ones(2, 3), torch.ones(2)], "blocks must have shapes"),
        ([[torch.ones(2)], [torch.ones(2), torch.ones(2)]], "one tensor per parameter"),
        ([[torch.ones(2)], [torch.ones(3)]], "gradients of parameter 0 must have one shape"),
        ([[None], [None]], "no objective has a gradient for parameter 0"),
        ([torch.ones(0), torch.ones(0)], "equally long"),
        ([[torch.ones(0)], [torch.ones(0)]], "at least one column"),
    ],
)
def test_a_list_that_is_no_jacobian_is_refused(jacobian, message):
    with pytest.raises(ValueError, match=message):
        MGDA()(jacobian)


@pytest.mark.parametrize(
    ("jacobian", "message"),
    [
        ("rows", "got str"),
        (3, "got int"),
        ([torch.ones(3), 4.0], r"jacobian\[1\] must be a torch.Tensor, got float"),
        ([[torch.ones(3)], [torch.ones(3).long()]], r"jacobian\[1\]\[0\] must have a floating"),
    ],
)
def test_what_is_no_tensor_is_refused(jacobian, message):
    with pytest.raises(TypeError, match=message):
        MGDA()(jacobian)


@pytest.mark.parametrize("solver", [MGDA(), LinearScalarization()])
def test_non_finite_rows_of_a_list_are_named(solver):
    pieces = forms(3, [(PACK + 3,), (5,)], torch.float32)["pieces"]
    pieces[2][1][4] = torch.nan
    with pytest.raises(ValueError, match=r"must be finite, got nan in row 2$"):
        solver(pieces)


# --- the Gram matrix ---------------------------------------------------------------------------


def _exact(rows: torch.Tensor):
    wide = rows.numpy().astype(np.longdouble)
    norms = np.sqrt((wide * wide).sum(1))
    return (wide @ wide.T) / np.outer(norms, norms), norms


@pytest.mark.parametrize("n", [50, 2 * PACK + 16_389, 5 * PACK])
def test_gram_of_plain_rows(n):
    torch.manual_seed(0)
    rows = torch.randn(4, n)
    cosines, norms = _exact(rows)
    gram = Gram.of(Rows(rows))
    assert np.abs(gram.cosines[0] - cosines).max() < 1e-7
    assert np.abs(gram.norms[0] / norms - 1).max() < 1e-6


def test_nearly_dependent_rows_are_multiplied_exactly():
    """Where 1 - cosine is far below float32's rounding, the digits that count are kept."""
    torch.manual_seed(0)
    first = torch.randn(1, 3 * PACK)
    rows = torch.cat([first, -first * (1 + 1e-6), first + 1e-5 * torch.randn(1, 3 * PACK)])
    cosines, _ = _exact(rows)
    gram = Gram.of(Rows(rows))
    assert np.linalg.eigvalsh(gram.cosines)[0, 0] < CLEAR
    assert np.abs(gram.cosines[0] - cosines).max() < 1e-13


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e18, 1e30])
def test_squares_beyond_float32_are_no_matter(scale):
    torch.manual_seed(0)
    rows = torch.randn(3, 3 * PACK)
    plain, scaled = Gram.of(Rows(rows)), Gram.of(Rows(rows * scale))
    assert np.abs(plain.cosines - scaled.cosines).max() < 1e-6
    assert np.abs(scaled.norms / plain.norms / scale - 1).max() < 1e-6


@pytest.mark.parametrize("scale", [1e-300, 1e-160, 1e160, 1e300])
def test_squares_beyond_float64_are_no_matter(scale):
    torch.manual_seed(0)
    rows = torch.randn(2, 3, 20, dtype=torch.float64)
    plain, scaled = Gram.of(Rows(rows)), Gram.of(Rows(rows * scale))
    assert np.abs(plain.cosines - scaled.cosines).max() < 1e-12
    assert np.abs(scaled.norms / plain.norms / scale - 1).max() < 1e-12


def test_a_metric_weighs_the_columns():
    torch.manual_seed(0)
    rows, metric = torch.randn(3, 40, dtype=torch.float64), torch.rand(40).double() + 0.1
    expected = Gram.of(Rows(rows * metric.sqrt()))
    found = Gram.of(Rows(rows), metric)
    np.testing.assert_allclose(found.cosines, expected.cosines, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(found.norms, expected.norms)


@pytest.mark.parametrize("n", [20, 3 * PACK])
def test_nearly_opposite_rows_in_float32_are_not_made_worse(n):
    """Two rows that cancel to a millionth: the direction is what is left."""
    torch.manual_seed(0)
    first, rest = torch.randn(n), torch.randn(n)
    rows = torch.stack([first, -first + 1e-3 * rest, first + 1e-3 * torch.randn(n)])
    direction = MGDA()(rows)
    wide = rows.double()
    cosines = torch.cosine_similarity(wide, direction.vector.double().unsqueeze(0))
    assert cosines.min() > -1e-6
    assert direction.certificate.smallest_cosine > -1e-6


# --- the Gram matrix given, the values given ---------------------------------------------------


@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), DualProj(), LinearScalarization()])
def test_from_the_gram_matrix_as_from_the_rows(solver):
    torch.manual_seed(0)
    rows = torch.randn(5, 3, 8, dtype=torch.float64)
    by_gram, by_rows = solver.from_gram(rows @ rows.mT), solver(rows)
    torch.testing.assert_close(by_gram.weights, by_rows.weights)
    one = solver.from_gram(rows[0] @ rows[0].T)
    torch.testing.assert_close(one.weights, by_rows.weights[0])
    torch.testing.assert_close(
        one.certificate.stationarity_gap, by_rows.certificate.stationarity_gap[0]
    )


@pytest.mark.parametrize(
    ("gram", "message"),
    [
        (torch.ones(2, 3), "shape"),
        (torch.tensor([[1.0, 2.0], [0.0, 1.0]]), "symmetric"),
        (torch.tensor([[-1.0, 0.0], [0.0, 1.0]]), "diagonal >= 0"),
        (torch.tensor([[1.0, torch.nan], [torch.nan, 1.0]]), "finite"),
        (torch.tensor([[1.0, 2.0], [2.0, 1.0]]), "no gradients have such angles"),
        (1.9 * torch.eye(3) - 0.9, "no gradients have such angles"),
        (torch.tensor([[0.0, 1.0], [1.0, 1.0]]), "no gradients have such angles"),
    ],
)
def test_what_is_no_gram_matrix_is_refused(gram, message):
    with pytest.raises(ValueError, match=message):
        MGDA().from_gram(gram)


def test_values_alone_do_where_no_gradient_is_needed():
    values = torch.tensor([1.0, 2.0])
    weighting = LinearScalarization().from_values(values)
    assert weighting.weights.tolist() == [0.5, 0.5]
    assert weighting.certificate.smallest_cosine.isnan()
    assert weighting.certificate.stationarity_gap.isnan()
    assert weighting.certificate.rank == -1
    with pytest.raises(ValueError, match="needs gradients"):
        MGDA().from_values(values)


@pytest.mark.parametrize("n", [6, 1000, 40_000])
@pytest.mark.parametrize("solver", [MGDA(), UPGrad(), DualProj(), LinearScalarization()])
def test_a_ray_is_solved_to_the_last_bit_as_alone_whatever_its_neighbors(solver, n):
    torch.manual_seed(0)
    rays = torch.randn(40, 3, n)
    rays[0, 1] = -rays[0, 0] + 1e-3 * torch.randn(n)
    rays[1, 2] = 0.0
    rays[2] *= 1e-30
    together = solver(rays).vector
    for k in (0, 1, 2, 3, 39):
        assert torch.equal(together[k], solver(rays[k]).vector)


def test_angles_that_rounding_has_made_impossible_are_mended():
    """Found by search: the smallest eigenvalue is -2e-14, and a solver went uphill."""
    cosines = torch.eye(3, dtype=torch.float64)
    cosines[0, 1] = cosines[1, 0] = -0.7991105301146741
    cosines[0, 2] = cosines[2, 0] = -0.8290938944017567
    cosines[1, 2] = cosines[2, 1] = 0.3264099658067443
    norms = torch.tensor([2.3077072907147768, 0.3873781889019827, 0.4823521631744817]).double()
    weighting = DualProj().from_gram(cosines * norms * norms[:, None])
    assert weighting.certificate.smallest_cosine > -1e-6
    assert weighting.certificate.kkt_residual < 1e-9


def test_an_out_that_shares_memory_with_the_jacobian_is_refused():
    jacobian = torch.randn(3, 50_000)
    with pytest.raises(ValueError, match="must not share memory"):
        MGDA()(jacobian, out=jacobian[0])


@pytest.mark.parametrize("n", [20, 50_000])
def test_weights_beyond_half_precision_are_held(n):
    torch.manual_seed(0)
    jacobian = (1e-5 * torch.randn(3, n)).to(torch.float16)
    jacobian[:, 20:] = 0.0
    found = FairGrad()(jacobian)
    assert found.weights.dtype == torch.float32
    assert found.weights.max() > torch.finfo(torch.float16).max
    torch.testing.assert_close(
        found.vector.float(), found.weights @ jacobian.float(), rtol=1e-3, atol=0
    )
    by_gram = FairGrad().from_gram(jacobian[:, :20].float() @ jacobian[:, :20].float().T)
    torch.testing.assert_close(found.weights, by_gram.weights, rtol=1e-3, atol=0)


def test_weights_from_half_precision_products_are_held():
    gram = torch.tensor([[2.0, 0.5], [0.5, 1.0]], dtype=torch.bfloat16)
    assert UPGrad().from_gram(gram).weights.dtype == torch.float32
    values = torch.ones(2, dtype=torch.float16)
    assert LinearScalarization().from_values(values).weights.dtype == torch.float32

"""What is of the wrong kind is refused by every solver alike, in one message that names it."""

from __future__ import annotations

import pytest
import torch

from paretonas.solvers import (
    EPO,
    FAMO,
    MGDA,
    PMGDA,
    PMTL,
    SAMGS,
    AlignedMTL,
    ConFIG,
    DualProj,
    GradDrop,
    GradVac,
    LinearScalarization,
    PCGrad,
    Preconditioned,
    RandomWeights,
    SmoothTchebycheff,
    Tchebycheff,
    UPGrad,
    Weighted,
)

HALF = [0.5, 0.5]
RAY = torch.tensor(HALF)
FLOAT8 = [torch.float8_e4m3fn, torch.float8_e5m2]
SOLVERS = {
    "MGDA": MGDA(),
    "UPGrad": UPGrad(),
    "LinearScalarization": LinearScalarization(),
    "GradDrop": GradDrop(),
    "GradDrop on features": GradDrop().on(torch.ones(1, 5)),
    "SAMGS": SAMGS(),
    "Weighted MGDA": Weighted(RAY, MGDA()),
    "Weighted GradDrop": Weighted(RAY, GradDrop()),
    "Preconditioned MGDA": Preconditioned(MGDA(), torch.ones(5)),
}
EACH = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
J = torch.tensor([[1.0, 0.0, 2.0, 0.0, 1.0], [0.0, 1.0, -1.0, 0.0, 3.0]])


@pytest.mark.parametrize("kind", [RandomWeights, PCGrad, GradVac, GradDrop])
def test_a_seed_is_no_generator(kind):
    with pytest.raises(TypeError, match=r"generator must be .*got int; write .*manual_seed\(7\)"):
        kind(generator=7)
    with pytest.raises(TypeError, match="generator must be a torch.Generator or None, got str"):
        kind(generator="cpu")


AIMED = {
    "LinearScalarization": lambda p: LinearScalarization(p),
    "Tchebycheff": lambda p: Tchebycheff(p),
    "SmoothTchebycheff": lambda p: SmoothTchebycheff(p),
    "EPO": lambda p: EPO(p),
    "PMTL": lambda p: PMTL(p),
    "PMGDA": lambda p: PMGDA(p),
    "AlignedMTL": lambda p: AlignedMTL(preference=p),
    "ConFIG": lambda p: ConFIG(p),
    "DualProj": lambda p: DualProj(p),
    "Weighted": lambda p: Weighted(p, MGDA()),
}


@pytest.mark.parametrize("build", AIMED.values(), ids=AIMED)
def test_a_preference_is_a_tensor_everywhere(build):
    build(RAY)
    with pytest.raises(TypeError, match="preference must be a torch.Tensor, got list"):
        build(HALF)
    with pytest.raises(TypeError, match="preference must be a torch.Tensor, got ndarray"):
        build(RAY.numpy())
    with pytest.raises(TypeError, match="preference must be dense .*sparse_coo"):
        build(RAY.to_sparse())
    with pytest.raises(TypeError, match="preference must have a floating .* got torch.float8"):
        build(RAY.to(FLOAT8[0]))


OTHERS = {
    "ideal": lambda x: Tchebycheff(ideal=x),
    "min_losses": lambda x: FAMO(min_losses=x),
    "leak": lambda x: GradDrop(x),
    "others": lambda x: PMTL(RAY, x),
    "divisor": lambda x: Preconditioned(MGDA(), x),
    "values": lambda x: EPO()(J, x),
    "gram": lambda x: MGDA().from_gram(x),
    "representation": lambda x: GradDrop().on([x]),
}


@pytest.mark.parametrize("name", OTHERS)
def test_so_is_all_else_that_is_one(name):
    for wrong, found in ((HALF, "list"), (torch.ones(2).long(), "int64")):
        with pytest.raises(TypeError, match=rf"{name}.* must .*got .*{found}"):
            OTHERS[name](wrong)
    with pytest.raises(TypeError, match=rf"{name}.* must be dense .*got a layout torch.sparse_coo"):
        OTHERS[name](torch.eye(2).to_sparse())


@EACH
@pytest.mark.parametrize(
    ("form", "name"),
    [
        (lambda j: j, "jacobian"),
        (list, r"jacobian\[0\]"),
        (lambda j: [j], r"jacobian\[0\]"),
        (lambda j: [[row] for row in j], r"jacobian\[0\]\[0\]"),
    ],
    ids=["tensor", "rows", "blocks", "pieces"],
)
def test_a_jacobian_is_dense_and_has_16_bits(solver, form, name):
    dense = form(J)
    solver(dense)

    def each(change):
        def walk(entry):
            return [walk(e) for e in entry] if isinstance(entry, list) else change(entry)

        return walk(dense)

    with pytest.raises(TypeError, match=rf"^{name} must be dense .*sparse_coo"):
        solver(each(torch.Tensor.to_sparse))
    for dtype in FLOAT8:
        with pytest.raises(TypeError, match=rf"^{name} must have a floating .*got {dtype}"):
            solver(each(lambda entry, dtype=dtype: entry.to(dtype)))


@EACH
@pytest.mark.parametrize(
    ("out", "error", "message"),
    [
        ([0.0] * 5, TypeError, "out must be a torch.Tensor, got list"),
        (torch.empty(5).numpy(), TypeError, "out must be a torch.Tensor, got ndarray"),
        (torch.empty(5).long(), TypeError, "out must have a floating .*got torch.int64"),
        (torch.zeros(5).to_sparse(), TypeError, "out must be dense"),
        (torch.empty(5).double(), ValueError, r"out must have .*float32.*got \(5,\).*float64"),
        (torch.empty(4), ValueError, r"out must have shape \(5,\).*got \(4,\)"),
        (torch.empty(1, 5), ValueError, r"out must have shape \(5,\).*got \(1, 5\)"),
        (torch.empty(5, device="meta"), ValueError, "out must have .*cpu, got .*meta"),
    ],
)
def test_an_out_of_the_wrong_kind_is_refused(solver, out, error, message):
    with pytest.raises(error, match=message):
        solver(J, out=out)
    rays = J.expand(2, 2, 5)
    with pytest.raises((TypeError, ValueError), match="out must"):
        solver(rays, out=out)

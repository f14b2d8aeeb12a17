"""Conflict, measured against plain loops; a training, recorded, tabled, drawn and resumed."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import paretonas
from paretonas import conflict
from paretonas.conflict import Layers, Recorded, Recorder
from paretonas.solvers import MGDA, LinearScalarization, UPGrad

MEASURES = [
    conflict.cosine_similarity,
    conflict.magnitude_similarity,
    conflict.mean_magnitude_similarity,
    conflict.pair_states,
    conflict.dominance,
    conflict.contribution,
]
SCALES = [1e-30, 1.0, 1e30]


# --- oracles: plain loops over rows of numpy ---------------------------------------------------


def plain_cosine(*, a, b):
    lengths = np.linalg.norm(a) * np.linalg.norm(b)
    return a @ b / lengths if lengths > 0 else 0.0


def plain_likeness(*, a, b):
    one, other = np.linalg.norm(a), np.linalg.norm(b)
    return 2 * one * other / (one**2 + other**2) if one + other > 0 else 1.0


def plain_matrix(*, rows, pair):
    return np.array(
        [
            [1.0 if i == j else pair(a=a, b=b) for j, b in enumerate(rows)]
            for i, a in enumerate(rows)
        ]
    )


def plain_mean(*, rows):
    pairs = itertools.combinations(rows, 2)
    found = [plain_likeness(a=a, b=b) for a, b in pairs]
    return sum(found) / len(found) if found else 1.0


def plain_contribution(*, rows, weights):
    direction = sum(w * row for w, row in zip(weights, rows, strict=True))
    return np.array(
        [
            w * row @ direction / (direction @ direction)
            for w, row in zip(weights, rows, strict=True)
        ]
    )


def rows_of(m, n, *, seed=0, dtype=torch.float64):
    return torch.randn(m, n, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def close(found, expected):
    torch.testing.assert_close(found, torch.as_tensor(expected, dtype=torch.float64))


# --- measures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("m", [1, 2, 5])
def test_against_plain_loops_at_every_scale(m, scale):
    rows = rows_of(m, 7, seed=m)
    plain = rows.numpy()
    close(conflict.cosine_similarity(scale * rows), plain_matrix(rows=plain, pair=plain_cosine))
    close(
        conflict.magnitude_similarity(scale * rows), plain_matrix(rows=plain, pair=plain_likeness)
    )
    close(conflict.mean_magnitude_similarity(scale * rows), plain_mean(rows=plain))
    norms = np.linalg.norm(plain, axis=1)
    close(conflict.dominance(scale * rows), norms / norms.sum())
    close(conflict.contribution(scale * rows), plain_contribution(rows=plain, weights=np.ones(m)))
    weights = torch.linspace(-1, 2, m, dtype=torch.float64)
    expected = plain_contribution(rows=plain, weights=weights.numpy())
    close(conflict.contribution(scale * rows, 1e30 * weights), expected)


@pytest.mark.parametrize("measure", MEASURES)
def test_batched_equals_one_by_one(measure):
    rows = rows_of(6 * 3, 4).reshape(6, 3, 4)
    together = measure(rows)
    for k in range(6):
        torch.testing.assert_close(together[k], measure(rows[k]))


@pytest.mark.parametrize("measure", MEASURES)
def test_every_form_of_a_jacobian_gives_the_same(measure):
    rows = rows_of(3, 10)
    rows[1, 6:] = 0
    expected = measure(rows)
    first, last = rows[:, :6].reshape(3, 2, 3), rows[:, 6:]
    lists = [[first[i], None if i == 1 else last[i]] for i in range(3)]
    for form in ([*rows], [first, last], lists):
        torch.testing.assert_close(measure(form), expected)


@pytest.mark.parametrize("measure", [conflict.cosine_similarity, conflict.magnitude_similarity])
def test_symmetric_with_ones_on_the_diagonal(measure):
    found = measure(rows_of(5, 8).half())
    assert torch.equal(found, found.mT)
    assert torch.equal(found.diagonal(), torch.ones(5, dtype=torch.float64))


def test_zero_gradients_are_orthogonal_alike_and_bring_nothing():
    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.0, 0.0]])
    assert conflict.cosine_similarity(rows).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert conflict.magnitude_similarity(rows).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]
    assert conflict.mean_magnitude_similarity(rows).item() == pytest.approx(1 / 3)
    assert conflict.pair_states(rows).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert conflict.dominance(rows).tolist() == [0, 1, 0]
    assert conflict.contribution(rows).tolist() == [0, 1, 0]


def test_where_all_gradients_are_zero_nobody_dominates():
    rows = torch.zeros(4, 3)
    assert conflict.dominance(rows).tolist() == [0.25] * 4
    assert conflict.contribution(rows).tolist() == [0.0] * 4
    assert conflict.mean_magnitude_similarity(rows) == 1


def test_gradients_that_cancel_have_no_direction_to_bring_something_to():
    rows = torch.tensor([[0.1, 0.3], [-0.1, -0.3]])
    assert conflict.contribution(rows).tolist() == [0, 0]


def test_lengths_too_far_apart_to_square():
    rows = torch.tensor([[1e-200, 0.0], [1e200, 0.0]], dtype=torch.float64)
    assert conflict.magnitude_similarity(rows)[0, 1] == 0
    assert conflict.cosine_similarity(rows)[0, 1] == 1


@given(st.floats(-1, 1), st.floats(0, 0.99))
def test_a_pair_is_orthogonal_up_to_the_tolerance_included(cosine, tolerance):
    rows = torch.tensor([[1.0, 0.0], [cosine, math.sqrt(1 - cosine**2)]], dtype=torch.float64)
    found = conflict.cosine_similarity(rows)[0, 1].item()
    state = conflict.pair_states(rows, tolerance=tolerance)[0, 1].item()
    assert state == (0 if abs(found) <= tolerance else math.copysign(1, found))
    assert conflict.pair_states(rows, tolerance=abs(found) if abs(found) < 1 else 0.5)[0, 1] in (
        0,
        state,
    )


@given(st.integers(0, 1000), st.integers(1, 6))
def test_shares_sum_to_one(seed, m):
    rows = rows_of(m, 9, seed=seed)
    assert conflict.dominance(rows).sum().item() == pytest.approx(1)
    assert conflict.dominance(rows).min() >= 0
    assert conflict.contribution(rows).sum().item() == pytest.approx(1)


@pytest.mark.parametrize("measure", MEASURES)
def test_non_finite_rows_are_named(measure):
    with pytest.raises(ValueError, match="got nan in row 1"):
        measure(torch.tensor([[1.0], [math.nan]]))


@pytest.mark.parametrize("tolerance", [-0.1, 1.0, math.nan])
def test_a_tolerance_that_is_no_cosine_is_refused(tolerance):
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\)"):
        conflict.pair_states(torch.eye(2), tolerance=tolerance)
    with pytest.raises(ValueError, match=r"tolerance must be in \[0, 1\)"):
        Recorder(tolerance=tolerance)


def test_weights_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="weights must be finite with shape"):
        conflict.contribution(torch.eye(2), torch.ones(3))
    with pytest.raises(ValueError, match="weights must be finite with shape"):
        conflict.contribution(torch.eye(2), torch.tensor([1.0, math.nan]))


# --- layers ------------------------------------------------------------------------------------


def network():
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)
    )


def test_layers_are_modules_in_the_order_of_the_network_without_what_is_frozen():
    net = network()
    net[2].bias.requires_grad_(False)
    layers = Layers.of(net.named_parameters())
    assert layers == Layers(("0", "0", "2", "3", "3"), (12, 4, 16, 8, 2))
    assert layers.names == ("0", "2", "3")
    assert Layers.of(net.named_parameters(), layer=str).names[0] == "0.weight"


@pytest.mark.parametrize("form", ["tensor", "batched", "rows", "blocks", "lists"])
def test_a_layer_gets_its_own_columns_from_every_form(form):
    layers = Layers(("a", "b", "a"), (2, 3, 1))  # the parameters of a are apart
    grads = rows_of(3, 6)
    pieces = [grads[:, :2], grads[:, 2:5].reshape(3, 3, 1), grads[:, 5:]]
    given_as = {
        "tensor": grads,
        "batched": torch.stack([grads, 2 * grads]),
        "rows": [*grads],
        "blocks": pieces,
        "lists": [[piece[i] for piece in pieces] for i in range(3)],
    }[form]
    parts = layers.split(given_as)
    assert list(parts) == ["a", "b"]
    for name, columns in {"a": [0, 1, 5], "b": [2, 3, 4]}.items():
        expected = conflict.cosine_similarity(grads[:, columns])
        found = conflict.cosine_similarity(parts[name])
        torch.testing.assert_close(found[0] if form == "batched" else found, expected)


def test_a_layer_that_nobody_reaches_is_zero():
    layers = Layers(("a", "b"), (2, 3))
    parts = layers.split([[torch.ones(2), None], [torch.ones(2), None]])
    assert conflict.cosine_similarity(parts["b"]).tolist() == [[1, 0], [0, 1]]
    assert conflict.dominance(parts["b"]).tolist() == [0.5, 0.5]


@pytest.mark.parametrize(
    "jacobian",
    [
        torch.ones(2, 4),
        [torch.ones(4), torch.ones(4)],
        [torch.ones(2, 2), torch.ones(2, 1, 2)],
        [[torch.ones(2)], [torch.ones(2)]],
    ],
)
def test_a_jacobian_over_other_parameters_is_refused(jacobian):
    with pytest.raises(ValueError, match="take both over the same parameters"):
        Layers(("a", "b"), (2, 3)).split(jacobian)


def test_a_frozen_network_has_no_layers():
    with pytest.raises(ValueError, match="at least one parameter"):
        Layers.of(network().requires_grad_(False).named_parameters())


# --- the recorder ------------------------------------------------------------------------------


def jacobians(steps, m=3, n=12):
    return [rows_of(m, n, seed=step) for step in range(steps)]


def test_the_frame_has_a_row_per_step_and_pair_as_measured():
    recorder = Recorder(("a", "b", "c"), tolerance=0.2)
    seen = jacobians(4)
    for grads in seen:
        recorder.record(grads)
    frame = recorder.frame()
    assert len(frame) == 4 * 3
    words = {-1: "conflict", 0: "orthogonal", 1: "synergy"}
    for row in frame.itertuples():
        i, j = "abc".index(row.task), "abc".index(row.other)
        grads = seen[row.step]
        assert i < j and row.pair == f"{row.task} / {row.other}"
        assert row.cosine == pytest.approx(
            conflict.cosine_similarity(grads)[i, j].item(), rel=1e-12
        )
        likeness = conflict.magnitude_similarity(grads)[i, j].item()
        assert row.magnitude_similarity == pytest.approx(likeness, rel=1e-12)
        assert row.state == words[conflict.pair_states(grads, tolerance=0.2)[i, j].item()]


def test_the_task_frame_has_norms_shares_and_the_weights_of_the_solver():
    recorder = Recorder(("a", "b", "c"))
    solver = Recorded(UPGrad(), recorder)
    for grads in jacobians(3):
        direction = solver(grads)
        rows = recorder.task_frame().query(f"step == {len(recorder) - 1}")
        np.testing.assert_allclose(rows["norm"], grads.norm(dim=1))
        np.testing.assert_allclose(rows["dominance"], conflict.dominance(grads))
        np.testing.assert_allclose(rows["weight"], direction.weights)
        np.testing.assert_allclose(
            rows["contribution"], conflict.contribution(grads, direction.weights)
        )


def test_without_weights_the_contribution_is_to_the_sum():
    recorder = Recorder()
    grads = rows_of(3, 5)
    recorder.record(grads)
    frame = recorder.task_frame()
    assert frame["weight"].isna().all()
    np.testing.assert_allclose(frame["contribution"], conflict.contribution(grads))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", ["tensor", "lists"])
def test_layers_are_recorded_one_by_one_and_make_up_the_whole(form, scale):
    layers = Layers(("stem", "neck", "stem"), (4, 6, 2))
    recorder = Recorder(("a", "b", "c"), layers=layers)
    grads = scale * rows_of(3, 12)
    grads[2, 4:10] = 0  # c does not reach the neck
    pieces = [grads[:, :4], grads[:, 4:10], grads[:, 10:]]
    lists = [[None if i == 2 and k == 1 else pieces[k][i] for k in range(3)] for i in range(3)]
    recorder.record(grads if form == "tensor" else lists)
    one, other = np.triu_indices(3, 1)
    whole = conflict.cosine_similarity(grads)[one, other]
    np.testing.assert_allclose(recorder.frame()["cosine"], whole, atol=1e-12)
    np.testing.assert_allclose(recorder.task_frame()["norm"], grads.norm(dim=1), rtol=1e-12)
    frame = recorder.layer_frame()
    assert len(frame) == 2 * 3
    for name, columns in {"stem": [*range(4), 10, 11], "neck": range(4, 10)}.items():
        part = grads[:, list(columns)]
        rows = frame[frame["layer"] == name]
        np.testing.assert_allclose(
            rows["cosine"], conflict.cosine_similarity(part)[one, other], atol=1e-12
        )
        likeness = conflict.magnitude_similarity(part)[one, other]
        np.testing.assert_allclose(rows["magnitude_similarity"], likeness, atol=1e-12)


def test_the_latest_cosines_are_those_of_the_pairs_of_the_last_step_kept():
    recorder = Recorder(every=2)
    with pytest.raises(ValueError, match="nothing was recorded"):
        recorder.latest()
    seen = jacobians(4)
    for grads in seen:
        recorder.record(grads)
    one, other = np.triu_indices(3, 1)
    torch.testing.assert_close(recorder.latest(), conflict.cosine_similarity(seen[2])[one, other])


def test_the_latest_cosines_of_rays_are_those_of_all_rays():
    recorder = Recorder()
    first, last = rows_of(6, 4).reshape(3, 2, 4), rows_of(9, 4).reshape(3, 3, 4)[:, :2]
    recorder.record(first)
    recorder.record(last)
    latest = recorder.latest()
    assert latest.shape == (3, 1)
    torch.testing.assert_close(latest, conflict.cosine_similarity(last)[:, [0], [1]])
    recorder.record(first[:1])
    torch.testing.assert_close(
        recorder.latest(), conflict.cosine_similarity(first[:1])[:, [0], [1]]
    )
    recorder.record(first[1])
    torch.testing.assert_close(recorder.latest(), conflict.cosine_similarity(first[1])[[0], [1]])


def test_rays_are_recorded_one_by_one():
    recorder = Recorder()
    grads = rows_of(6, 4).reshape(3, 2, 4)
    recorder.record(grads, step=7, weights=torch.full((3, 2), 0.5))
    frame = recorder.frame()
    assert frame["ray"].tolist() == [0, 1, 2]
    assert frame["step"].tolist() == [7, 7, 7]
    np.testing.assert_allclose(frame["cosine"], conflict.cosine_similarity(grads)[:, 0, 1])
    assert recorder.task_frame()["ray"].tolist() == [0, 0, 1, 1, 2, 2]


def test_every_keeps_the_first_of_so_many_calls():
    recorder = Recorder(every=3)
    for grads in jacobians(8):
        recorder.record(grads)
    assert recorder.frame()["step"].unique().tolist() == [0, 3, 6]


def test_what_is_skipped_is_not_even_looked_at():
    recorder = Recorder(every=2)
    recorder.record(torch.eye(2))
    recorder.record(torch.full((2, 2), math.nan))
    assert len(recorder) == 1


@pytest.mark.parametrize("inner", [MGDA(), UPGrad(), LinearScalarization()])
@pytest.mark.parametrize("form", ["tensor", "rows"])
def test_a_recorded_solver_answers_as_the_solver(inner, form):
    grads = rows_of(3, 8)
    jacobian = grads if form == "tensor" else [*grads]
    recorder = Recorder()
    out = torch.empty(8, dtype=torch.float64)
    expected, found = inner(jacobian), Recorded(inner, recorder)(jacobian, out=out)
    assert torch.equal(found.vector, expected.vector)
    assert torch.equal(found.weights, expected.weights)
    assert found.vector.data_ptr() == out.data_ptr()
    assert len(recorder) == 1


def test_a_solver_that_refuses_leaves_no_record():
    recorder = Recorder()
    with pytest.raises(ValueError, match="nan"):
        Recorded(MGDA(), recorder)(torch.full((2, 2), math.nan))
    assert len(recorder) == 0


def test_it_watches_a_training_by_backward_layer_by_layer():
    net = network()
    heads = [torch.nn.Linear(2, 1) for _ in range(2)]
    recorder = Recorder(("first", "second"), layers=Layers.of(net.named_parameters()))
    solver = Recorded(UPGrad(), recorder)
    for step in range(3):
        features = net(rows_of(5, 3, seed=step, dtype=torch.float32))
        losses = [head(features).square().mean() for head in heads]
        gradients = [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, [*net.parameters()],
                                                                retain_graph=True)])
            for loss in losses
        ]  # fmt: skip
        net.zero_grad()
        paretonas.backward(losses, net.parameters(), solver=solver)
        expected = conflict.cosine_similarity(gradients)[0, 1].item()
        assert recorder.frame()["cosine"].iloc[-1] == pytest.approx(expected, abs=1e-6)
        last = conflict.cosine_similarity([g[-10:] for g in gradients])[0, 1].item()
        assert recorder.layer_frame()["cosine"].iloc[-1] == pytest.approx(last, abs=1e-6)
    assert recorder.layer_frame()["layer"].unique().tolist() == ["0", "2", "3"]


def test_a_checkpoint_goes_on_where_it_stopped(tmp_path):
    def new():
        return Recorder(("a", "b", "c"), layers=Layers(("x", "y"), (5, 7)), every=2)

    straight, first, second = new(), new(), new()
    seen = jacobians(9)
    for grads in seen:
        straight.record(grads)
    for grads in seen[:5]:
        first.record(grads)
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for grads in seen[5:]:
        second.record(grads)
    assert second.frame().equals(straight.frame())
    assert second.layer_frame().equals(straight.layer_frame())
    assert second.task_frame().equals(straight.task_frame())
    assert len(first) == 3  # what was loaded is a copy


def test_an_empty_record_can_be_saved_and_has_empty_frames_with_columns():
    empty = Recorder()
    empty.load_state_dict(Recorder().state_dict())
    assert empty.names is None
    full = Recorder()
    full.record(torch.eye(2))
    for frame in ("frame", "task_frame"):
        assert len(getattr(empty, frame)()) == 0
        assert [*getattr(empty, frame)()] == [*getattr(full, frame)()]


def test_one_task_has_no_pairs():
    recorder = Recorder()
    recorder.record(torch.ones(1, 3))
    assert len(recorder.frame()) == 0
    assert recorder.task_frame()["dominance"].tolist() == [1]


def test_what_does_not_fit_the_record_is_refused_and_not_counted():
    recorder = Recorder(("a", "b"))
    with pytest.raises(ValueError, match="2 tasks, the jacobian 3 rows"):
        recorder.record(torch.eye(3))
    with pytest.raises(ValueError, match="weights must have shape"):
        recorder.record(torch.eye(2), weights=torch.ones(1))
    with pytest.raises(ValueError, match="nan"):
        recorder.record(torch.full((2, 2), math.nan))
    recorder.record(torch.eye(2))
    assert recorder.frame()["step"].tolist() == [0]
    with pytest.raises(ValueError, match="record is of tasks"):
        Recorder(("a", "c")).load_state_dict(recorder.state_dict())
    with pytest.raises(ValueError, match="record is of tasks"):
        Recorder(layers=Layers(("x",), (2,))).load_state_dict(recorder.state_dict())
    with pytest.raises(ValueError, match="distinct"):
        Recorder(("a", "a"))
    with pytest.raises(ValueError, match="every must be at least 1"):
        Recorder(every=0)


# --- the picture -------------------------------------------------------------------------------


def recorded(m, steps, layers=None):
    recorder = Recorder([f"t{i}" for i in range(m)], layers=layers)
    for grads in jacobians(steps, m=m):
        recorder.record(grads)
    return recorder


def titles(figure):
    return [a.text for a in figure.layout.annotations if "gradients" in a.text or "pair" in a.text]


@pytest.mark.parametrize("m", [2, 3, 4])
def test_few_tasks_get_a_line_per_pair(m):
    recorder = recorded(m, 50)
    figure = recorder.figure()
    pairs = recorder.frame()["pair"].unique().tolist()
    lines = [trace for trace in figure.data if trace.name in pairs]
    assert [line.name for line in lines] == pairs
    for k, line in enumerate(lines):
        np.testing.assert_allclose(line.y, recorder.cosines[:, 0, k])
        np.testing.assert_array_equal(line.x, range(50))
    areas = [trace for trace in figure.data if trace.stackgroup]
    np.testing.assert_allclose(sum(np.array(area.y) for area in areas), 1)


@pytest.mark.parametrize("m", [5, 40])
def test_many_tasks_get_shares_and_a_matrix_of_who_fights_whom(m):
    recorder = recorded(m, 6)
    figure = recorder.figure()
    states = {trace.name: np.array(trace.y) for trace in figure.data[:3]}
    frame = recorder.frame()
    for name, share in states.items():
        expected = (frame["state"] == name).groupby(frame["step"]).mean()
        np.testing.assert_allclose(share, expected)
    matrix = np.array(figure.data[-1].z)
    assert np.isnan(matrix.diagonal()).all()
    np.testing.assert_array_equal(matrix, matrix.T)
    fights = frame[frame["pair"] == "t1 / t3"]["state"] == "conflict"
    assert matrix[1, 3] == pytest.approx(fights.mean())


@pytest.mark.parametrize("m", [2, 6])
def test_layers_get_a_heat_map_from_the_first_layer_down(m):
    recorder = recorded(m, 5, Layers(("x", "y", "x"), (3, 7, 2)))
    figure = recorder.figure()
    (heat,) = (trace for trace in figure.data if list(trace.y) == ["x", "y"])
    assert np.shape(heat.z) == (2, 5)
    frame = recorder.layer_frame().query("layer == 'y' and step == 3")
    expected = frame["cosine"].mean() if m == 2 else (frame["state"] == "conflict").mean()
    assert heat.z[1][3] == pytest.approx(expected)


def test_a_long_record_is_drawn_in_stretches_with_their_span():
    recorder = recorded(2, 1000)
    band, line, *_ = recorder.figure().data
    assert len(line.x) <= 200
    assert np.mean(line.y) == pytest.approx(recorder.cosines.mean(), abs=1e-2)
    assert band.fill == "toself"
    assert max(band.y) == recorder.cosines.max() and min(band.y) == recorder.cosines.min()


def test_rays_of_one_step_are_drawn_as_their_mean():
    recorder = Recorder()
    grads = rows_of(6, 4).reshape(3, 2, 4)
    recorder.record(grads)
    recorder.record(grads)
    np.testing.assert_allclose(
        recorder.figure().data[0].y, [conflict.cosine_similarity(grads)[:, 0, 1].mean()] * 2
    )


def test_a_picture_needs_a_step_and_two_tasks():
    with pytest.raises(ValueError, match="got 0 steps and 2 tasks"):
        Recorder(("a", "b")).figure()
    with pytest.raises(ValueError, match="got 1 steps and 1 tasks"):
        recorded(1, 1).figure()


def test_saved_as_a_page_that_loads_nothing_or_as_a_table(tmp_path):
    recorder = recorded(2, 3)
    page = recorder.save(tmp_path / "new" / "conflict.html").read_text()
    assert "synergy" in page and "plotly" in page and "<script src=" not in page
    lines = recorder.save(tmp_path / "conflict.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 and lines[0].startswith("step,task,other,pair,cosine")
    with pytest.raises(ValueError, match="saved as .html or .csv, got conflict.png"):
        recorder.save(tmp_path / "conflict.png")

"""Laws of the graph of executed operations, and what torch's profiler says about its memory."""

import networkx as nx
import pytest
import torch
from torch import nn
from torch.nn import functional

from paretonas.graph import network_graph, peak_memory, record

FLOAT = 4


class Residual(nn.Module):
    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Long(nn.Module):
    """A connection from the first result to the last operation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        early = self.first(x)
        late = functional.relu(self.second(functional.relu(early)))
        both = torch.cat([early, late], dim=1)
        return self.head(both.mean(dim=(2, 3)))


def chain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8 * 36, 5),
    )  # fmt: skip


def residuals() -> nn.Module:
    branch = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2), nn.ReLU())
    return nn.Sequential(Residual(branch), nn.Identity(), Residual(nn.ReLU(inplace=False)))


NETWORKS = {"chain": chain, "residuals": residuals, "long": Long}


def example() -> torch.Tensor:
    return torch.randn(3, 2, 12, 12, generator=torch.Generator().manual_seed(0))


def activations(network: nn.Module, x: torch.Tensor) -> int:
    graph = network_graph(network, x)
    return peak_memory(graph) - graph.graph["parameter_bytes"]


def profiled_peak(network: nn.Module, x: torch.Tensor) -> int:
    """Peak bytes in the profiler's record, less what each operation frees before it returns.

    A kernel's own workspace and by-products come and go within one outermost operation. What is
    left is what the network's tensors need; the input was there before.
    """
    with torch.no_grad():
        network(x)
        with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
        ) as profiler:
            output = network(x)
    steps: list[tuple[int, int, int]] = []  # (outermost operation, pointer, bytes)

    def visit(event: object, outermost: int) -> None:
        fields = event.extra_fields  # type: ignore[attr-defined]
        if hasattr(fields, "alloc_size"):
            steps.append((outermost, fields.ptr, fields.alloc_size))
        for child in event.children:  # type: ignore[attr-defined]
            visit(child, outermost)

    tree = profiler.profiler.kineto_results.experimental_event_tree()
    for number, root in enumerate(sorted(tree, key=lambda event: event.start_time_ns)):
        visit(root, number)
    fleeting = set()
    for index, (outermost, pointer, size) in enumerate(steps):
        if size > 0:
            for later, (operation, same, change) in enumerate(steps[index + 1 :], index + 1):
                if same == pointer and change < 0:
                    if operation == outermost:
                        fleeting |= {index, later}
                    break
    live = peak = 0
    for index, (_, _, size) in enumerate(steps):
        if index not in fleeting:
            live += size
            peak = max(peak, live)
    assert live == output.numel() * output.element_size()
    return peak


@pytest.mark.parametrize("name", NETWORKS)
def test_an_exported_program_uses_exactly_the_predicted_memory(name):
    network, x = NETWORKS[name]().eval(), example()
    program = torch.export.export(network, (x,)).module()
    assert profiled_peak(program, x) + x.nbytes == activations(network, x)


@pytest.mark.parametrize("name", NETWORKS)
def test_eager_python_never_uses_less(name):
    network, x = NETWORKS[name]().eval(), example()
    assert profiled_peak(network, x) + x.nbytes >= activations(network, x)


def test_a_chain_by_hand():
    network = nn.Sequential(nn.Conv1d(1, 2, 1, bias=False), nn.ReLU(), nn.ReLU())
    x = torch.zeros(1, 1, 10)
    graph = network_graph(network, x)
    # The input of 10 stays; one ReLU at a time reads 20 values and writes 20.
    assert peak_memory(graph) == FLOAT * (2 + 10 + 20 + 20)
    assert graph.graph["parameters"] == 2
    assert [graph.nodes[n]["op"] for n in graph] == [
        "input", "aten.convolution", "aten.relu", "aten.relu",
    ]  # fmt: skip
    assert [graph.nodes[n]["module"] for n in graph] == ["", "0", "1", "2"]
    assert list(graph.edges) == [(0, 1), (1, 2), (2, 3)]


def test_what_waits_for_a_later_operation_stays_alive():
    plain = nn.Sequential(*(nn.ReLU() for _ in range(3)))
    x = torch.zeros(1, 100)
    assert activations(plain, x) == FLOAT * 300  # the caller's input, one read, one written
    waiting = nn.Sequential(nn.ReLU(), Residual(nn.Sequential(nn.ReLU(), nn.ReLU())))
    assert activations(waiting, x) == FLOAT * 400


def test_results_in_place_and_views_need_no_new_memory():
    x = torch.zeros(1, 100)
    separate = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.ReLU())
    in_place = nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True), nn.Unflatten(1, (10, 10)))
    assert activations(separate, x) == FLOAT * 300
    assert activations(in_place, x) == FLOAT * 200
    graph = network_graph(in_place, x)
    assert [graph.nodes[n]["storage"] for n in graph] == [0, 1, 1, 1]
    assert [graph.nodes[n]["allocated"] for n in graph] == [400, 400, 0, 0]
    assert set(graph.edges) == {(0, 1), (1, 2), (2, 3)}


def test_a_view_made_before_a_write_in_place_depends_on_the_write():
    class Network(nn.Module):
        def forward(self, x):
            y = x * 2
            view = y.view(-1)
            y.add_(1)
            return view.sum()

    graph = network_graph(Network(), torch.zeros(2, 3))
    names = {graph.nodes[n]["op"]: n for n in graph}
    assert graph.has_edge(names["aten.add_"], names["aten.sum"])


def test_an_example_cut_from_a_dataset_counts_only_itself():
    dataset = torch.zeros(1000, 100)
    network = nn.ReLU()
    assert activations(network, dataset[:1]) == activations(network, torch.zeros(1, 100))


def test_the_order_is_topological_and_every_node_is_reached():
    graph = network_graph(Long(), example())
    assert all(source < target for source, target in graph.edges)
    assert nx.descendants(graph, 0) == set(graph) - {0}
    assert sum(d["allocated"] for _, d in graph.nodes(data=True)) > 0


def test_the_graph_can_be_written_as_graphml(tmp_path):
    graph = network_graph(chain(), example())
    nx.write_graphml(graph, tmp_path / "graph.graphml")
    back = nx.read_graphml(tmp_path / "graph.graphml", node_type=int)
    assert dict(back.nodes(data=True)) == dict(graph.nodes(data=True))


def test_recording_leaves_the_network_as_it_was():
    network = chain().train()
    network[1].eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    record(network, example())
    assert [m.training for m in network] == [True, False, True, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in network.modules())


def test_an_example_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match="the example must be a tensor, got list"):
        record(nn.ReLU(), [1.0])

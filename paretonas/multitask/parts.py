"""Which parameters belong to which loss: checks, and a traversal of the autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from torch import Tensor, nn

Edge = tuple[Any, int]  # a node of the graph, and which of its outputs
Tensors = Iterable[Tensor] | nn.Module
"""Several tensors, or a module, which means its parameters."""
HIDES = "CheckpointFunctionBackward"  # reentrant checkpointing: it hides the graph inside


class Partition:
    """The shared parameters, and for each loss its head.

    Attributes:
        shared: the shared parameters to train, each once.
    """

    def __init__(
        self,
        shared: Tensors,
        heads: Sequence[Tensors] | None,
        group: object = None,
    ) -> None:
        """Check that each parameter is in one place.

        Raises:
            TypeError: something is not a tensor.
            ValueError: no shared parameter requires grad, a parameter is in two places or is not a
                leaf, or there is a group of processes without heads.
        """
        self.shared = _trainable("shared", shared)
        if not self.shared:
            raise ValueError("shared must hold at least one parameter that requires grad, got none")
        if group is not None and heads is None:
            raise ValueError(
                "with group, pass heads too: all processes must agree on what they average"
            )
        self._heads = None if heads is None else given_heads(heads, self.shared)

    def heads(self, losses: list[Tensor]) -> tuple[list[list[Tensor]], list[Tensor]]:
        """Return the head of each loss: the given one, or the parameters that only it depends on.

        Also return the inputs, if the graph was traversed: tensors that require grad, are neither
        an ``nn.Parameter`` nor shared, and on which several losses depend.

        Raises:
            ValueError: the numbers of heads and losses differ, several losses depend on a parameter
                that is not shared, or there is reentrant checkpointing.
        """
        if self._heads is None:
            return _found_heads(losses, self.shared)
        one_each(losses, self._heads)
        return self._heads, []


def check_losses(losses: Sequence[Tensor]) -> list[Tensor]:
    """Accept one or more scalars, each with a graph.

    Raises:
        TypeError: a loss is not a tensor.
        ValueError: there is no loss, or a loss is not a scalar or has no graph.
    """
    if isinstance(losses, Tensor) and losses.ndim == 0:
        raise TypeError("losses must be several scalars, got one tensor: wrap it in a list")
    losses = list(losses)
    if not losses:
        raise ValueError("losses must hold at least one loss, got none")
    for i, loss in enumerate(losses):
        if not isinstance(loss, Tensor):
            raise TypeError(f"loss {i} must be a torch.Tensor, got {type(loss).__name__}")
        if loss.ndim != 0:
            raise ValueError(f"loss {i} must have shape (), got {tuple(loss.shape)}")
        if not loss.requires_grad:
            raise ValueError(f"loss {i} has no graph: it must depend on parameters, not detached")
    return losses


def given_heads(heads: Sequence[Tensors], shared: Iterable[Tensor] = ()) -> list[list[Tensor]]:
    """Check that no parameter belongs to two heads, or to a head and to ``shared``.

    Raises:
        TypeError: something is not a tensor.
        ValueError: a parameter is in two places or is not a leaf, or an iterator is exhausted.
    """
    owner = {id(p): "shared" for p in shared}
    found = []
    for i, head in enumerate(heads):
        if isinstance(head, Iterator) and not (head := list(head)):
            raise ValueError(  # else no head would learn after the first step of a loop
                f"heads[{i}] is an iterator that yields nothing, perhaps because it was used "
                "before: pass a list of parameters, or [] for a loss without its own parameters"
            )
        own = _trainable(f"heads[{i}]", head)
        for p in own:
            other = owner.setdefault(id(p), f"heads[{i}]")
            if other != f"heads[{i}]":
                raise ValueError(
                    f"a parameter must be in one place, got one of shape {tuple(p.shape)} in "
                    f"{other} and in heads[{i}]: put parameters of several losses into shared"
                )
        found.append(own)
    return found


def one_each(losses: list[Tensor], heads: list[list[Tensor]]) -> None:
    """Refuse heads whose number differs from the number of losses.

    Raises:
        ValueError: the numbers differ.
    """
    if len(heads) != len(losses):
        raise ValueError(
            f"heads must hold one collection per loss, got {len(heads)} for {len(losses)} losses"
        )


def reached(loss: Tensor) -> list[Tensor]:
    """The leaves that require grad on which a loss depends."""
    return _walk([_edge(loss)], set())[0]


def check_visible(losses: list[Tensor]) -> None:
    """Refuse reentrant checkpoints: they hide parameters, which would not be trained.

    Raises:
        ValueError: the graph of a loss contains a reentrant checkpoint.
    """
    _check_nothing_hides(_walk([_edge(loss) for loss in losses], set())[2])


def heads_above(losses: list[Tensor], representation: list[Tensor]) -> list[list[Tensor]]:
    """Traverse the graph of each loss down to the representation; return the heads.

    Raises:
        ValueError: two losses depend on a parameter above the representation, or a loss depends on
            a parameter below it without passing through it.
    """
    edges = [_edge(z) for z in representation]
    encoder = {id(leaf) for leaf in _walk(edges, set())[0]}
    owner: dict[int, int] = {}
    heads = []
    for i, loss in enumerate(losses):
        own, _, way = _walk([_edge(loss)], set(edges))
        _check_nothing_hides(way)
        for leaf in own:
            if id(leaf) in encoder:
                raise ValueError(
                    f"loss {i} reaches {_named(leaf)} both through the representation and around "
                    f"it: add the tensor on the other path to representation"
                    f"{_or_heads(leaf, losses)}"
                )
            if (j := owner.setdefault(id(leaf), i)) != i:
                raise ValueError(
                    f"losses {j} and {i} both reach {_named(leaf)} above the representation: use "
                    f"a later representation, or freeze the parameter{_or_heads(leaf, losses)}"
                )
        heads.append(own)
    return heads


def _found_heads(
    losses: list[Tensor], shared: list[Tensor]
) -> tuple[list[list[Tensor]], list[Tensor]]:
    # Traverse the graph of each loss to the parameters that only this loss depends on.
    common = {id(p) for p in shared}
    heads, seen, beneath = [], set[Edge](), list[Edge]()
    for loss in losses:
        # Each traversal stops where an earlier one has been, so all of them together cost little
        # more than one. The parts below these meeting points are traversed once, at the end.
        own, met, way = _walk([_edge(loss)], seen)
        heads.append([leaf for leaf in own if id(leaf) not in common])
        beneath += met
        seen |= way
    meeting, _, way = _walk(beneath, set())
    for checked in (seen, way):
        _check_nothing_hides(checked)
    stray = [leaf for leaf in meeting if id(leaf) not in common]
    # If some shared tensors are no parameters, other leaves that are no parameters may be trained.
    modules = all(isinstance(p, nn.Parameter) for p in shared)
    refused = [leaf for leaf in stray if isinstance(leaf, nn.Parameter) or not modules]
    if refused:
        leaf = refused[0]
        i, j, *_ = (k for k, loss in enumerate(losses) if _reaches(loss, leaf))
        joint = _joint(losses[i], losses[j])
        if joint is not None:
            raise ValueError(
                f"losses {i} and {j} come from {joint}, so the graph does not show which of them "
                f"reaches {_named(leaf)}: add it to shared if both do, else {_pass_heads(losses)}"
            )
        raise ValueError(
            f"losses {i} and {j} both reach {_named(leaf)} that is not in shared: add it there if "
            "both depend on it; if they are only parts of one joint tensor"
            f"{_or_heads(leaf, losses)}"
        )
    inputs = {id(leaf) for leaf in stray}
    return [[leaf for leaf in head if id(leaf) not in inputs] for head in heads], stray


def _named(leaf: Tensor) -> str:
    kind = "a parameter" if isinstance(leaf, nn.Parameter) else "a tensor that requires grad"
    return f"{kind} of shape {tuple(leaf.shape)}"


def _or_heads(leaf: Tensor, losses: list[Tensor]) -> str:
    if isinstance(leaf, nn.Parameter):
        return f", or to leave it alone, {_pass_heads(losses)}"
    return f", or if it is an input, which is not trained, {_pass_heads(losses)}"


def _pass_heads(losses: list[Tensor]) -> str:
    none = ", ".join(["[]"] * len(losses))
    return f"pass heads, the parameters that only one loss reaches (heads=[{none}] if none)"


def _joint(one: Tensor, other: Tensor) -> str | None:
    # The node that made both losses, if there is one: everything below it seems to be shared.
    first, second = ({node for node, _ in _walk([_edge(loss)], set())[2]} for loss in (one, other))
    if any(type(node).__name__.startswith("CompiledFunction") for node in first & second):
        return "one compiled graph (torch.compile)"
    if _is_entry(one) or _is_entry(other):
        return "one tensor, such as a stack of losses"
    return None


def _is_entry(loss: Tensor) -> bool:
    # Whether it is an entry of a vector, perhaps after further operations.
    node: Any = loss.grad_fn
    while node is not None:
        name = type(node).__name__
        if name.startswith("Unbind"):
            return True
        if name.startswith("Select") and len(node._saved_self_sym_sizes) == 1:
            return True
        below = [edge[0] for edge in node.next_functions if edge[0] is not None]
        node = below[0] if len(below) == 1 else None
    return False


def _check_nothing_hides(way: set[Edge]) -> None:
    if any(type(node).__name__ == HIDES for node, _ in way):
        raise ValueError(
            "checkpoint(..., use_reentrant=True) hides its parameters from backward, which would "
            "not train them: pass use_reentrant=False"
        )


def _trainable(name: str, parameters: Tensors) -> list[Tensor]:
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    if isinstance(parameters, Tensor):
        raise TypeError(f"{name} must be several parameters, got one tensor: wrap it in a list")
    found = {}
    for k, p in enumerate(parameters):
        if not isinstance(p, Tensor):
            raise TypeError(f"{name}[{k}] must be a torch.Tensor, got {type(p).__name__}")
        if not p.is_leaf:
            raise ValueError(
                f"{name}[{k}] must be a leaf, such as a parameter, got a result of shape "
                f"{tuple(p.shape)}"
            )
        if p.requires_grad:
            found[id(p)] = p
    return list(found.values())


def _edge(tensor: Tensor) -> Edge:
    # A leaf has no node until something is computed from it; a view of it has one.
    node = tensor.grad_fn
    if node is None:
        node = tensor.view_as(tensor).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
    return node, tensor.output_nr


def _walk(start: list[Edge], stop: set[Edge]) -> tuple[list[Tensor], list[Edge], set[Edge]]:
    # Returns the leaves, the edges of ``stop`` that were met, and all edges on the way.
    leaves, met, todo = list[Tensor](), list[Edge](), list(start)
    seen, nodes = set[Edge](), set[Any]()
    while todo:
        edge = todo.pop()
        node = edge[0]
        if node is None or edge in seen:
            continue
        if edge in stop:
            met.append(edge)
            continue
        seen.add(edge)
        if node in nodes:
            continue
        nodes.add(node)
        below = node.next_functions
        if below:
            todo.extend(below)
        elif (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
    return leaves, met, seen


def _reaches(loss: Tensor, leaf: Tensor) -> bool:
    return any(other is leaf for other in _walk([_edge(loss)], set())[0])

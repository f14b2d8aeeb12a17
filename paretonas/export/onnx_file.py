"""Write a network as an ONNX file, and check it in ONNX Runtime."""

from __future__ import annotations

import logging
import re
import warnings
from ast import literal_eval
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from paretonas._atomic import replacing
from paretonas._slow_export import SlowExportWarning
from paretonas.arguments import Arguments, call, tensors
from paretonas.export.decomposed import NEITHER, OLDER, Decomposed
from paretonas.export.exported import Exported, difference
from paretonas.export.inputs import Inputs, output_names
from paretonas.export.packages import check_onnx
from paretonas.export.program import program
from paretonas.forward import copied


def write_onnx(
    network: nn.Module, inputs: Inputs, path: Path, metadata: Mapping[str, str]
) -> Exported:
    """Write a model for batches of any size.

    A floating input is called ``images``, and an output ``logits``. Several are named by
    `Inputs.names` and `output_names`; outputs that are not tensors are left out.

    Args:
        network: the network, on the CPU, in evaluation mode; its outputs become a list of tensors.
        inputs: the inputs for the comparison.
        path: the path to write.
        metadata: texts by name, which become the metadata of the model.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        RuntimeError: ONNX Runtime does not give the network's outputs.
        ValueError: ONNX has not an operation of the network, or torch cannot trace it.
    """
    onnx_runtime()  # first of all, it says which package is missing
    names, results = _named(network, inputs)
    network.register_forward_hook(_separate, with_kwargs=True)
    try:
        with _quiet():
            with Decomposed(NEITHER):
                traced = program(network, inputs)
            model = torch.onnx.export(
                traced,
                dynamo=True,
                input_names=names,
                output_names=results,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise ValueError(_unknown(error)) from error
    assert model is not None  # None only without dynamo
    _name_batch(model.model.graph, inputs)
    _name_nodes(model.model.graph)
    _forget_the_source(model.model)
    model.model.metadata_props.update(metadata)
    with replacing(path) as draft:
        model.save(draft, external_data=False)
        largest = _checked(draft, network, inputs, str(path))
    return Exported(path, path.stat().st_size, largest)


def write_draft(network: nn.Module, inputs: Inputs, path: Path) -> None:
    """Write a model for a measurement, in a tenth of a second where torch's older exporter can.

    It has the operations of the file that `write_onnx` writes. Where the older exporter fails, or
    its file does not give the network's outputs, `write_onnx` writes this one too; a
    `SlowExportWarning` says so, once for each operation that is to blame.

    Args:
        network: the network, on the CPU, in evaluation mode; its outputs become a list of tensors.
        inputs: at least two examples, if there are as many.
        path: the path to write.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
        RuntimeError: ONNX Runtime does not give the network's outputs.
        ValueError: torch cannot trace the network.
    """
    onnx_runtime()
    names, results = _named(network, inputs)
    plain, given = copied(network), Arguments.of(inputs.pair())
    plain.register_forward_hook(_separate, with_kwargs=True)
    dims = zip(names, inputs.batch, strict=True)
    batch = {name: {dim: "batch"} for name, dim in dims if dim is not None}
    try:
        with _quiet(), _no_graphs(), Decomposed(OLDER), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it is deprecated, and warns of what is checked below
            torch.onnx.export(
                _Positional(plain, given).eval() if given.kwargs else plain,
                tuple(tensors(given)) if given.kwargs else given.args,
                str(path),
                dynamo=False,
                input_names=names,
                output_names=results,
                dynamic_axes=batch | {name: {0: "batch"} for name in results},
            )
        try:
            _checked(path, plain, inputs, str(path))
        except Exception as error:  # its numbers and path differ each time, and it is said once
            raise RuntimeError("its file does not give the network's outputs") from error
    except Exception as error:  # of whatever kind: the other exporter tries it
        write_onnx(network, inputs, path, {})  # or says why it cannot
        _tell_slow(_unwritten(error))


class _Positional(nn.Module):
    """A network that takes the tensors of its arguments one after the other, without names."""

    def __init__(self, network: nn.Module, given: Arguments) -> None:
        super().__init__()
        self.network = network
        leaves, self._nest = tree_flatten(given)
        self._rest = [() if isinstance(leaf, Tensor) else (leaf,) for leaf in leaves]

    def forward(self, *inputs: Tensor) -> Any:
        left = iter(inputs)
        leaves = [rest[0] if rest else next(left) for rest in self._rest]
        return call(self.network, tree_unflatten(leaves, self._nest))


def session_of(file: Path | bytes, threads: int = 1, profile: str | None = None) -> Any:
    """A session of ONNX Runtime on the CPU, with this number of threads.

    Args:
        file: the path of the file, or what is in it.
        threads: the number of threads.
        profile: how the names of files begin to which the time of each node is written.

    Raises:
        ModuleNotFoundError: a package is missing; the message has the pip line.
    """
    runtime = onnx_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what fails is raised
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    if profile is not None:
        options.enable_profiling, options.profile_file_prefix = True, profile
    model = file if isinstance(file, bytes) else str(file)
    return runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class OnnxNetwork(nn.Module):
    """An ONNX file that is called like the network that it was written from.

    Args:
        session: of the file.
        output: an output of the network, whose nest the outputs get.
    """

    def __init__(self, session: Any, output: Any) -> None:
        super().__init__()
        self._session = session
        self._leaves, self._nest = tree_flatten(output)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        found = iter(self._session.run(None, fed(self._session, (args, kwargs))))
        leaves = [
            torch.from_numpy(next(found)) if isinstance(leaf, Tensor) else leaf
            for leaf in self._leaves
        ]
        return tree_unflatten(leaves, self._nest)


def _named(network: nn.Module, inputs: Inputs) -> tuple[list[str], list[str]]:
    """The names of the inputs and of the outputs."""
    names = inputs.names(network)
    with torch.no_grad():
        return names, output_names(call(network, inputs.first(1)), names)


def _checked(path: Path, network: nn.Module, inputs: Inputs, what: str) -> float:
    """The largest difference of the file's outputs from the network's, a list of tensors.

    Raises:
        RuntimeError: it is more than rounding.
    """
    session, largest = session_of(path), 0.0
    for count in (inputs.examples(), 1):
        found = [torch.from_numpy(y) for y in session.run(None, fed(session, inputs.first(count)))]
        with torch.no_grad():
            expected = call(network, inputs.first(count))
        largest = max(largest, difference(expected, found, what))
    return largest


def _name_batch(graph: Any, inputs: Inputs) -> None:
    """Call the dimensions of the examples ``batch``, where torch gives them a name like ``s77``."""
    pairs = zip(graph.inputs, inputs.batch, strict=True)
    torchs = {re.escape(str(value.shape[dim])) for value, dim in pairs if dim is not None}
    if not torchs:
        return
    values = {id(value): value for value in (*graph.inputs, *graph.outputs)}
    for node in graph.all_nodes():
        values |= {id(value): value for value in node.outputs}
    for value in values.values():
        for dim, size in enumerate(value.shape or ()):
            # A name, or arithmetic on names; None is a size that is not known.
            if not isinstance(size, int) and size.value is not None:
                value.shape[dim] = re.sub(rf"\b({'|'.join(torchs)})\b", "batch", str(size))


def _name_nodes(graph: Any) -> None:
    """Name nodes by their modules, such as ``/body.0/Conv``, as torch's older exporter does.

    So what profiles the file can tell which layer takes the time.
    """
    taken = Counter[str]()
    for node in graph.all_nodes():
        scopes = literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
        if not scopes:  # it is the optimizer's own
            continue
        # The last one is the node; a module that is called again has a number.
        path = re.sub(r"@\d+", "", next((each for each in reversed(scopes[:-1]) if each), ""))
        name = "/".join(["", *([path] if path else []), node.op_type])
        node.name = f"{name}_{taken[name]}" if taken[name] else name
        taken[name] += 1


def _forget_the_source(model: Any) -> None:
    """Drop the lines of Python code of each operation: of a small network, half of the file."""
    for thing in (model.graph, *model.graph.all_nodes(), *model.functions.values()):
        thing.metadata_props.clear()
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        value.metadata_props.clear()
    for node in model.graph.all_nodes():
        for value in node.outputs:
            value.metadata_props.clear()


def fed(session: Any, inputs: Any) -> dict[str, Any]:
    """The arrays of a nest of inputs by their names in a file."""
    names = [each.name for each in session.get_inputs()]
    return {n: t.detach().numpy() for n, t in zip(names, tensors(inputs), strict=True)}


def _separate(_: nn.Module, args: Any, kwargs: Any, output: Any) -> list[Tensor]:
    """The tensors of an output; copies of those that are an input or come twice."""
    seen, found = {id(tensor) for tensor in tensors((args, kwargs))}, []
    for tensor in tensors(output):
        found.append(tensor.clone() if id(tensor) in seen else tensor)
        seen.add(id(tensor))
    return found


def onnx_runtime() -> Any:
    """The package onnxruntime.

    Raises:
        ModuleNotFoundError: it is missing, or what writes ONNX files; the message has the pip line.
    """
    check_onnx()
    import onnxruntime

    return onnxruntime


def _unknown(error: BaseException) -> str:
    """What ONNX has not, in one line; torch tells it in the last cause, and advice before."""
    while error.__cause__ is not None:
        error = error.__cause__
    if operation := re.search(r"op='([^']+)'", str(error)):
        return f"ONNX has no operation for {operation[1]}; replace it, or use another format"
    return f"torch cannot write it as ONNX: {str(error).strip().partition(chr(10))[0]}"


def _unwritten(error: Exception) -> str:
    """What torch's older exporter cannot write: an operation, or the network and why."""
    if operation := re.search(r"operator '([\w:.]+)'", str(error)):
        return operation[1]
    line = str(error).strip().partition("\n")[0] or type(error).__name__
    return f"this network ({line:.200})"


@cache
def _tell_slow(what: str) -> None:
    """Say it once: what is true of one network is so of dozens."""
    warnings.warn(
        f"torch's quick ONNX exporter cannot write {what}; the other one takes seconds for each "
        "network, so latency tables and measurements take longer",
        SlowExportWarning,
        stacklevel=3,
    )


@contextmanager
def _no_graphs() -> Iterator[None]:
    """Suppress the graph that torch's older exporter prints if it fails; it has no setting."""
    say = torch._C._jit_onnx_log
    torch._C._jit_onnx_log = lambda *_: None
    try:
        yield
    finally:
        torch._C._jit_onnx_log = say


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress messages of the exporter: torchvision is missing, and it uses deprecated code."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*LeafSpec.*is deprecated", FutureWarning)
            yield
    finally:
        logger.setLevel(level)

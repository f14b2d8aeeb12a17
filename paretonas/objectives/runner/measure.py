"""Time the ONNX networks of this folder on this machine.

Copy the whole folder to the machine, and run there:

    python3 measure.py

It needs Python 3.8 or newer, and onnxruntime: pip install onnxruntime. At its end it writes
times.json beside itself; bring that back to the folder that it was copied from. If it is
interrupted, it has written nothing, and begins anew when it is run again.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from typing import Any, Callable, Dict, Sequence

FORMAT = 1
RUNS = 20  # of each network whose nodes are timed
BLOCKS, MOST_BLOCKS = 5, 20
ROUNDS = 3  # at least, in each block
TOGETHER = 10  # networks in memory at the same time
WARM_UP = 3
SHORT = 5e-3  # seconds; shorter calls run twice, and the second run counts
PRECISION = 0.02  # of the median of a network, which makes further blocks needless

Call = Callable[[], object]
Network = Dict[str, Any]  # as networks.json has it


class MeasureError(Exception):
    """What cannot be done, in one line."""


class Machine:
    """Opens the networks of a folder in ONNX Runtime.

    Args:
        folder: holds networks.json, the networks and their inputs.
        threads: the number of CPU threads.
        providers: of ONNX Runtime, the first one that can run an operation does.
    """

    def __init__(self, folder: str, threads: int, providers: Sequence[str]) -> None:
        try:
            import numpy
            import onnxruntime
        except ImportError as error:
            raise MeasureError(
                f"it needs onnxruntime ({error}): pip install onnxruntime"
            ) from error
        self.runtime: Any = onnxruntime
        there = onnxruntime.get_available_providers()
        for provider in providers:
            if provider not in there:
                raise MeasureError(
                    f"this onnxruntime has no provider {provider}; it has {', '.join(there)}"
                )
        self.folder, self.threads, self.providers = folder, threads, list(providers)
        content = self._read("networks.json")
        self.digest = hashlib.sha256(content).hexdigest()
        try:
            about = json.loads(content.decode("utf-8"))
            self.networks: list[Network] = list(about["networks"])
            listed = [about["inputs"], *self.networks]
            files = [(str(each["file"]), each["sha256"]) for each in listed]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise MeasureError("networks.json is damaged: copy the folder again") from error
        for file, digest in files:
            if hashlib.sha256(self._read(file)).hexdigest() != digest:
                raise MeasureError(f"{file} is damaged: copy the folder again")
        with numpy.load(os.path.join(folder, about["inputs"]["file"])) as arrays:
            self._arrays = {name: arrays[name] for name in arrays.files}

    def opened(self, network: Network, profile: str = "") -> tuple[Any, Call]:
        """A new session of a network, and a call of it.

        Args:
            network: one of `networks`.
            profile: how the file begins to which the times of nodes are written; empty: to none.
        """
        options = self.runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads, options.inter_op_num_threads = self.threads, 1
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        try:
            session = self.runtime.InferenceSession(
                os.path.join(self.folder, network["file"]), options, providers=self.providers
            )
        except Exception as error:  # of whatever kind: each provider has its own
            told = str(error).strip().partition("\n")[0]
            version = self.runtime.__version__
            raise MeasureError(
                f"onnxruntime {version} cannot open {network['file']}: {told}"
            ) from error
        fed = {each.name: self._arrays[each.name].copy() for each in session.get_inputs()}
        return session, lambda: session.run(None, fed)

    def _read(self, name: str) -> bytes:
        try:
            with open(os.path.join(self.folder, name), "rb") as file:
                return file.read()
        except OSError as error:
            raise MeasureError(
                f"cannot read {name}: {error.strerror}; copy the whole folder"
            ) from error


def seconds_of(call: Call) -> float:
    """The seconds of one call."""
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin


def nodes_of(machine: Machine, network: Network) -> dict[str, Any]:
    """The times of a network's nodes as ONNX Runtime writes them down, in microseconds.

    Beside each run the network is timed while nothing is written down.
    """
    _, plain = machine.opened(network)
    whole = []
    with tempfile.TemporaryDirectory() as room:
        session, call = machine.opened(network, os.path.join(room, "profile"))
        for _ in range(WARM_UP):
            plain()
        for _ in range(RUNS):
            call()
            whole.append(seconds_of(plain))
        with open(session.end_profiling(), encoding="utf-8") as file:
            written = json.load(file)
    names: dict[tuple[str, str], int] = {}
    events = []
    for event in written:
        name, category = event.get("name", ""), event.get("cat", "")
        if name == "model_run" or (category == "Node" and name.endswith("_kernel_time")):
            key = (name, event.get("args", {}).get("op_name", ""))
            events.append([names.setdefault(key, len(names)), event["ts"], event["dur"]])
    return {"names": [list(key) for key in names], "events": events, "seconds": whole}


def block_of(machine: Machine, rng: random.Random, seconds: float) -> dict[str, float]:
    """The median seconds of each network in one block, by name.

    The networks are loaded anew and run in turn, in another random order in each round; only some
    are in memory at the same time, others in each block.
    """
    order = list(machine.networks)
    rng.shuffle(order)
    medians = {}
    for begin in range(0, len(order), TOGETHER):
        group = order[begin : begin + TOGETHER]
        calls = [(each["name"], machine.opened(each)[1]) for each in group]
        times: dict[str, list[float]] = {name: [] for name, _ in calls}
        for _, call in calls:
            for _ in range(WARM_UP):
                call()
        end, rounds = time.perf_counter() + seconds * len(group) / len(order), 0
        while rounds < ROUNDS or time.perf_counter() < end:
            rng.shuffle(calls)
            for name, call in calls:
                spent = seconds_of(call)
                if spent < SHORT:  # again, with its own data in the caches
                    spent = seconds_of(call)
                times[name].append(spent)
            rounds += 1
        medians.update({name: statistics.median(own) for name, own in times.items()})
    return medians


def blocks_of(machine: Machine, seconds: float, tell: Callable[[str], None]) -> list[list[float]]:
    """The median seconds of each network in each block, in the order of the networks."""
    rng, begun = random.Random(0), time.perf_counter()
    blocks: list[list[float]] = []
    while True:
        number = len(blocks) + 1
        tell(f"whole networks: block {number} of {max(BLOCKS, number)}")
        found = block_of(machine, rng, seconds / (2 * BLOCKS))
        blocks.append([found[each["name"]] for each in machine.networks])
        gone = time.perf_counter() - begun
        done = len(blocks)
        if done < BLOCKS:
            continue
        close = max(_spread(own) for own in zip(*blocks)) <= PRECISION
        if close or done >= MOST_BLOCKS or gone * (1 + 1 / done) > seconds:
            return blocks


def _spread(medians: Sequence[float]) -> float:
    """How far a second measurement may be, about, as a share of the median."""
    deviation = statistics.stdev(medians) * math.sqrt(2 / len(medians))
    return 2.1 * deviation / statistics.median(medians)


def name_of_the_machine() -> str:
    """What the board says that it is, or its processor."""
    with contextlib.suppress(OSError), open("/proc/device-tree/model", encoding="utf-8") as file:
        return file.read().strip("\0 \n")
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith(("model name", "Hardware")):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or "unknown"


def teller() -> Callable[[str], None]:
    """Shows how far it is: in one line of a terminal, which changes, or in lines."""
    if not sys.stdout.isatty():
        return lambda text: print(text, flush=True)
    return lambda text: print("\r\033[K" + text, end="", flush=True)


def write(path: str, content: dict[str, Any]) -> None:
    """Write a JSON file as a whole, or not at all."""
    draft = f"{path}.{os.getpid()}"
    try:
        with open(draft, "w", encoding="utf-8") as file:
            json.dump(content, file, allow_nan=False)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        raise MeasureError(f"cannot write {path}: {error.strerror}") from error
    finally:
        if os.path.exists(draft):
            os.remove(draft)


def measure(folder: str, threads: int, providers: Sequence[str], seconds: float) -> str:
    """Time the networks of a folder; returns the path of the file with the times."""
    if not os.access(folder, os.W_OK):  # said now, and not after minutes
        raise MeasureError(f"cannot write times.json into {folder}: no permission")
    machine, tell = Machine(folder, threads, providers), teller()
    nodes = {}
    timed = [each for each in machine.networks if each["nodes"]]
    for number, each in enumerate(timed):
        tell(f"nodes of networks: {number + 1} of {len(timed)}")
        nodes[each["name"]] = nodes_of(machine, each)
    blocks = blocks_of(machine, seconds, tell)
    path = os.path.join(folder, "times.json")
    content = {
        "format": FORMAT,
        "networks": machine.digest,
        "device": name_of_the_machine(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "onnxruntime": machine.runtime.__version__,
        "providers": machine.providers,
        "threads": threads,
        "nodes": nodes,
        "seconds": {each["name"]: list(own) for each, own in zip(machine.networks, zip(*blocks))},
    }
    write(path, content)
    return path


def main() -> int:
    """Read the options and measure; an error is one line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--threads", type=int, default=1, metavar="N", help="CPU threads; default 1"
    )
    parser.add_argument(
        "--providers",
        default="CPUExecutionProvider",
        metavar="A,B",
        help="providers of ONNX Runtime, the preferred one first; default CPUExecutionProvider",
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=30.0,
        metavar="S",
        help="how long whole networks are timed, about; default 30",
    )
    options = parser.parse_args()
    if options.threads < 1:
        parser.error(f"--threads must be positive, got {options.threads}")
    if not 0 <= options.seconds < math.inf:
        parser.error(f"--seconds must be finite and not negative, got {options.seconds}")
    providers = [name.strip() for name in options.providers.split(",") if name.strip()]
    folder = os.path.dirname(os.path.abspath(__file__))
    try:
        path = measure(folder, options.threads, providers, options.seconds)
    except MeasureError as error:
        print(f"measure.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nmeasure.py: interrupted; nothing was written, run it again", file=sys.stderr)
        return 130
    print(f"\nall is in {path}; bring it back to the folder that this one was copied from")
    return 0


if __name__ == "__main__":
    sys.exit(main())

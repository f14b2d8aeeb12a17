"""The training of one benchmark network: a step, an epoch, an evaluation, a checkpoint."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from benchmark import Benchmark, Sample, Split, Task
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from paretonas import backward
from paretonas.conflict import Recorded, Recorder
from paretonas.solvers import FAMO, Solver

Row = dict[str, float | None]


class Training:
    """A network, its optimizer, a solver and what the solver remembers.

    Nothing outlives an epoch but what `state` returns: each epoch starts the random numbers anew
    from the seed and its own number. So a training that goes on from a checkpoint takes the same
    steps as one that never stopped, on a CPU to the last bit.

    Args:
        benchmark: whose protocol is followed.
        tasks: to learn.
        solver: turns their gradients into one direction.
        seed: of initial weights, orders, crops, and of solvers that draw.
        device: to train on.
        amp: mixed precision: float16 with a scaler on a GPU, bfloat16 on a CPU.
        clip: greatest length of the gradient of the shared parameters; None leaves it.
        look_every: steps between two looks at the angles of the gradients; 0 never looks.
    """

    def __init__(
        self,
        benchmark: Benchmark,
        tasks: Sequence[Task],
        solver: Solver,
        seed: int,
        device: torch.device,
        *,
        amp: bool = False,
        clip: float | None = None,
        look_every: int = 0,
    ) -> None:
        self.benchmark, self.tasks, self.solver = benchmark, tasks, solver
        self.seed, self.device, self.clip = seed, device, clip
        self.look_every = look_every if len(tasks) > 1 else 0
        torch.manual_seed(seed)
        self.network = benchmark.network(tasks).to(device)  # the same weights on every device
        self.shared = list(self.network.shared_parameters())
        self.heads = [list(head.parameters()) for head in self.network.heads]
        self.optimizer = torch.optim.Adam(self.network.parameters(), benchmark.rate)
        self.amp = amp
        scaled = amp and device.type == "cuda"
        self.scaler = torch.amp.GradScaler(device.type) if scaled else None
        self.memory: object = None

    def epoch(
        self, number: int, split: Split, workers: int, told: Callable[[int, int], None]
    ) -> Row:
        """Train on each image once; the mean losses, and how the tasks got along."""
        torch.manual_seed(mixed(self.seed, number))
        halved = self.benchmark.halve_after
        rate = self.benchmark.rate * 0.5 ** (number // halved if halved else 0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        recorder = Recorder([task.name for task in self.tasks])
        batches = self.batches(split, workers, draws=(self.seed, number))
        total = torch.zeros(len(self.tasks), device=self.device, dtype=torch.float64)
        self.network.train()
        for step, (images, answers) in enumerate(batches):
            look = self.look_every and step % self.look_every == 0
            total += self.step(images, answers, recorder if look else None)
            told(step + 1, len(batches))
        means = (total / len(batches)).tolist()
        row: Row = {"rate": rate}
        row |= {f"train {t.name} loss": mean for t, mean in zip(self.tasks, means, strict=True)}
        if self.look_every:
            seen = recorder.frame()
            row["cosine"] = seen["cosine"].mean()
            row["in_conflict_percent"] = 100 * (seen["state"] == "conflict").mean()
            row["magnitude_similarity"] = seen["magnitude_similarity"].mean()
        return row

    def step(
        self, images: Tensor, answers: Mapping[str, Tensor], recorder: Recorder | None = None
    ) -> Tensor:
        """One step of Adam; the losses before it.

        Raises:
            ValueError: a loss or a gradient is not finite.
        """
        losses = self._losses(images, answers)
        self.optimizer.zero_grad()
        direction = backward(
            losses,
            self.shared,
            solver=Recorded(self.solver, recorder) if recorder is not None else self.solver,
            heads=self.heads,
            state=self.memory,
            scaler=self.scaler,
        )
        self.memory = direction.state
        if self.scaler is not None:
            self.scaler.unscale_(self.optimizer)
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.shared, self.clip)
        if self.scaler is not None:
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.step()
        if isinstance(self.solver, FAMO):  # learns its weights from what the step has done
            with torch.no_grad():
                after = torch.stack(self._losses(images, answers)).float()
            self.memory = self.solver.observe(self.memory, after)
        return torch.stack([loss.detach() for loss in losses]).double()

    @torch.no_grad()
    def look(self, split: Split, workers: int) -> Row:
        """The metrics of all tasks on a split, "TASK METRIC"."""
        self.network.eval()
        meters = [task.meter() for task in self.tasks]
        for images, answers in self.batches(split, workers):
            outputs = self.network(images)
            for task, meter, output in zip(self.tasks, meters, outputs, strict=True):
                meter.add(output.float(), task.answers(answers))
        found = zip(self.tasks, meters, strict=True)
        return {f"{t.name} {name}": x for t, meter in found for name, x in meter.result().items()}

    def batches(self, split: Split, workers: int, draws: tuple[int, ...] | None = None) -> _Moved:
        """The batches of one pass; in order and as they are, or shuffled and augmented."""
        loader = DataLoader(
            _Pass(split, draws),
            self.benchmark.batch,
            num_workers=workers,
            pin_memory=self.device.type == "cuda",
        )
        return _Moved(loader, self.device)

    def state(self) -> dict[str, Any]:
        """All that the next epoch depends on."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            "memory": self.memory,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler is not None and state["scaler"] is not None:
            self.scaler.load_state_dict(state["scaler"])
        self.memory = state["memory"]

    def _losses(self, images: Tensor, answers: Mapping[str, Tensor]) -> list[Tensor]:
        dtype = torch.float16 if self.device.type == "cuda" else torch.bfloat16
        cast = torch.autocast(self.device.type, dtype) if self.amp else contextlib.nullcontext()
        with cast:
            outputs = self.network(images)
        each = zip(self.tasks, outputs, strict=True)
        return [task.loss(output.float(), task.answers(answers)) for task, output in each]


def mixed(*numbers: int) -> int:
    """One seed out of several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


class _Pass(Dataset[Sample]):
    """One pass over a split; with draws, in an order and with crops that they alone decide.

    An image's crop depends on the draws and its own number, not on who reads it when: any number
    of workers gives the same batches.
    """

    def __init__(self, split: Split, draws: tuple[int, ...] | None) -> None:
        self.split, self.draws = split, draws
        order = None if draws is None else torch.Generator().manual_seed(mixed(*draws))
        count = len(split)
        self.order = (
            torch.arange(count) if order is None else torch.randperm(count, generator=order)
        )

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> Sample:
        index = int(self.order[place])
        if self.draws is None:
            return self.split.sample(index, None)
        return self.split.sample(index, torch.Generator().manual_seed(mixed(*self.draws, index)))


class _Moved:
    """A loader whose batches arrive on the device."""

    def __init__(self, loader: DataLoader[Sample], device: torch.device) -> None:
        self.loader, self.device = loader, device

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Sample]:
        for images, answers in self.loader:
            there = {k: value.to(self.device, non_blocking=True) for k, value in answers.items()}
            yield images.to(self.device, non_blocking=True), there

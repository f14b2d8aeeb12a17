"""Do converted networks have the published numbers of parameters and of multiply-adds?

    python experiments/benchmarks/convert_published.py --out convert_published.csv

Three networks of the libraries are converted, and taken out again at the full size. Multiply-adds
are half of the FLOPs that torch counts for an image of 224 x 224. The published numbers are those
of torchvision's page of weights, and of Touvron et al. 2021 (arXiv 2012.12877) for ViT-S/16.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import convert_families  # noqa: F401  # declares what torchvision lacks
import timm
import torch
import torchvision
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from paretonas.nn import Supernet, convert

# By name: what builds it, the image that it is converted with, parameters, multiply-adds.
PUBLISHED = {
    "MobileNetV3-Large": (torchvision.models.mobilenet_v3_large, 64, 5_483_032, "216.6M"),
    "ResNet-50": (torchvision.models.resnet50, 64, 25_557_032, "4.09G"),
    "ViT-S/16": (lambda: timm.create_model("vit_small_patch16_224"), 224, 22_050_664, "4.6G"),
}
COLUMNS = [
    "network",
    "parameters",
    "published_parameters",
    "multiply_adds",
    "published_multiply_adds",
]


def main() -> None:
    """Convert the networks, and write a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    with options.out.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, (make, size, parameters, multiply_adds) in PUBLISHED.items():
            supernet = Supernet(convert(make(), torch.randn(1, 3, size, size)))
            plain = supernet.extract(supernet.extreme(largest=True)).eval()
            one_by_one = sdpa_kernel(SDPBackend.MATH)  # torch does not count the fused attention
            with FlopCounterMode(display=False) as counter, torch.no_grad(), one_by_one:
                plain(torch.randn(1, 3, 224, 224))
            found = sum(p.numel() for p in plain.parameters())
            row = (name, found, parameters, counter.get_total_flops() // 2, multiply_adds)
            print(*row, flush=True)
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()

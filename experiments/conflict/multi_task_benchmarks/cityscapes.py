"""Cityscapes: 7 classes and inverse depth of streets; two tasks.

2975 images to train on, 500 to test, 128 x 256. Random crops and flips; 200 epochs of Adam at 1e-4,
halved after 100; batches of 8 (CAGrad, arXiv 2110.14048; Nash-MTL, 2202.01017; FAMO, 2306.03792;
SAM-GS, 2506.06130). The original data: Cordts et al., The Cityscapes Dataset for Semantic Urban
Scene Understanding (2016).

Depth is the inverse depth. The relative error is large (28 times the truth, not percent), because
the inverse depth of far pixels is nearly 0. Single-task numbers come from CAGrad; the code of FAMO
and SAM-GS divides by them too.
"""

from __future__ import annotations

import dense
from benchmark import Benchmark

CLASSES = 7

CITYSCAPES = Benchmark(
    name="cityscapes",
    tasks=(dense.semantic(CLASSES), dense.depth()),
    where="cityscapes needs the preprocessed Cityscapes, 128x256, that "
    "https://github.com/lorenmt/mtan links to, as ROOT/{train,val}/{image,label_7,depth}/0.npy, "
    "1.npy, ...",
    counts={"train": 2975, "test": 500},
    size=(128, 256),
    batch=8,
    published={
        "semantic mean_iou": 0.7401,
        "semantic pixel_accuracy": 0.9316,
        "depth absolute_error": 0.0125,
        "depth relative_error": 27.77,
    },
    **dense.protocol({"semantic": "label_7", "depth": "depth"}, CLASSES),
)

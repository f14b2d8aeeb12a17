"""NYUv2: 13 classes, depth and surface normals of rooms; three tasks.

795 images to train on, 654 to test, 288 x 384. Random crops and flips; 200 epochs of Adam at 1e-4,
halved after 100; batches of 2 (CAGrad, arXiv 2110.14048; Nash-MTL, 2202.01017; FAMO, 2306.03792;
SAM-GS, 2506.06130). The original data: Silberman et al., Indoor Segmentation and Support Inference
from RGBD Images (2012).

Single-task numbers come from CAGrad; the code of Nash-MTL, FAMO and SAM-GS divides by them too.
"""

from __future__ import annotations

import dense
from benchmark import Benchmark

CLASSES = 13

NYU_V2 = Benchmark(
    name="nyu_v2",
    tasks=(dense.semantic(CLASSES), dense.depth(), dense.normal()),
    where="nyu_v2 needs the preprocessed NYUv2 that https://github.com/lorenmt/mtan links to, as "
    "ROOT/{train,val}/{image,label,depth,normal}/0.npy, 1.npy, ...",
    counts={"train": 795, "test": 654},
    size=(288, 384),
    batch=2,
    published={
        "semantic mean_iou": 0.3830,
        "semantic pixel_accuracy": 0.6376,
        "depth absolute_error": 0.6754,
        "depth relative_error": 0.2780,
        "normal mean_angle": 25.01,
        "normal median_angle": 19.21,
        "normal within_11.25": 0.3014,
        "normal within_22.5": 0.5720,
        "normal within_30": 0.6915,
    },
    **dense.protocol({"semantic": "label", "depth": "depth", "normal": "normal"}, CLASSES),
)

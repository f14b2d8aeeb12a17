"""What `convert` makes of other people's networks: of timm, a small variant of each model family.

    python experiments/benchmarks/convert_families.py --out convert_families.csv
    python experiments/benchmarks/convert_families.py --library torchvision --out FILE

Of torchvision, all classification models of at most 100 million parameters. The networks have
random weights and the smallest image that they take. For each network: is it converted, which share
of its parameters is elastic, how many choices it has; is it the same network at its full size; do
sub-networks drawn at random run, equal the supernet with their picks, directly and as a one-hot
mixture, and have as many parameters; does ONNX Runtime give the same.
"""

from __future__ import annotations

import argparse
import csv
import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import Tensor, nn

LIBRARY = torch.library.Library("torchvision", "DEF")  # its kernels do not load beside every torch
for NAME in ("nms", "qnms"):
    LIBRARY.define(f"{NAME}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

import timm  # noqa: E402
import torchvision  # noqa: E402

from paretonas.nn import Depth, Elastic, Stack, Supernet, convert  # noqa: E402
from paretonas.space import draw  # noqa: E402

COLUMNS = (
    *("family", "model", "image", "parameters", "converted", "elastic", "choices", "seconds"),
    *("full_size", "sub_networks", "mixture", "counts", "onnx", "refusal"),
)
SIZES = (32, 64, 96, 128, 160, 192, 224, 256)


def main() -> None:
    """Convert the families, and write a row for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--library", choices=MAKERS, default="timm")
    parser.add_argument("--only", nargs="*", help="models instead of all")
    parser.add_argument("--part", default="0/1", help="of the families, such as 0/2")
    parser.add_argument("--onnx", action="store_true", help="export one sub-network of each")
    parser.add_argument("--limit", type=int, default=300, help="seconds of the processor, a family")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    models = options.only or MODELS[options.library]
    part, parts = map(int, options.part.split("/"))
    with options.out.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for name in models[part::parts]:
            row = checked(options.library, name, options.limit, options.onnx)
            print(" ".join(f"{k}={v}" for k, v in row.items()), flush=True)
            writer.writerow(row)
            file.flush()


def checked(library: str, name: str, limit: int, onnx: bool) -> dict[str, Any]:
    """The row of one model."""
    row: dict[str, Any] = {"model": name}

    def late(*_: Any) -> None:
        raise TimeoutError(f"more than {limit} seconds")

    signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, limit)
    try:
        for key, value in measured(library, name, onnx):
            row[key] = value
    except Exception as error:
        line = f"{type(error).__name__}: {error}".partition("\n")[0]
        row["refusal"] = "; ".join(filter(None, [row.get("refusal"), line[:200]]))
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return row


def measured(library: str, name: str, onnx: bool) -> Iterator[tuple[str, Any]]:
    """The columns of a row, one after the other."""
    torch.manual_seed(0)
    model, size = smallest(library, name)
    yield "family", type(model).__name__
    yield "image", size
    yield "parameters", sum(p.numel() for p in model.parameters())
    settle(model, size)
    example = torch.randn(2, *channels_and(model, size))
    with torch.no_grad():
        whole = first(model(example))
    begin = time.process_time()
    yield "converted", False
    network = convert(model, example, depth=True, kernels=(3,))
    yield "seconds", round(time.process_time() - begin, 1)
    yield "converted", True
    conversion = network.conversion
    yield "elastic", round(conversion.elastic, 3)
    yield "choices", len(conversion.choices)
    fixed = [(p, r) for p, r in conversion.fixed.items() if "output of the net" not in r]
    fixed = [(p, r) for p, r in fixed if "padded" not in r]
    yield "refusal", "; ".join(f"{path}: {reason}" for path, reason in fixed[:2])[:300]
    with torch.no_grad():
        yield "full_size", far(first(network.eval()(example)), whole)
    supernet = Supernet(network)
    supernet.eval()
    rng = Random(0)
    smallest_picks = {choice.name: choice.options[0] for choice in supernet.choices}
    architectures = [smallest_picks, *(draw(supernet.choices, rng) for _ in range(3))]
    runs, apart, counted = 0.0, 0.0, True
    for architecture in architectures:
        plain = supernet.extract(architecture).eval()
        refuse_ours(plain)
        with supernet.picked(architecture), torch.no_grad():
            direct = first(network(example))
            runs = max(runs, far(first(plain(example)), direct))
            expected = sum(count(network))
        counted &= expected == sum(p.numel() for p in plain.parameters())
        yield "counts", counted
        yield "sub_networks", runs
    for architecture in architectures[:2]:
        gates = [one_hot(c.options, architecture[c.name]) for c in supernet.choices]
        with supernet.picked(architecture), torch.no_grad():
            direct = first(network(example))
        with supernet.picked(gates), torch.no_grad():
            apart = max(apart, far(first(network(example)), direct))
        yield "mixture", apart
    if onnx:
        plain = supernet.extract(architectures[1]).eval()
        yield "onnx", exported(plain, example)


def smallest(library: str, name: str) -> tuple[nn.Module, int]:
    """The model with ten classes for the smallest image that it takes, and the size of it."""
    error: Exception | None = None
    for size in SIZES:
        for extra in ({"img_size": size}, {"image_size": size}, {"input_size": (size, size)}, {}):
            try:
                model = MAKERS[library](name, num_classes=10, **extra).eval()
                with torch.no_grad():
                    model(torch.zeros(2, *channels_and(model, size)))
                return model, size
            except Exception as found:
                error = found
    raise RuntimeError(f"{name} runs at no size: {error}")


def channels_and(model: Any, size: int) -> tuple[int, int, int]:
    """The shape of an image."""
    return (getattr(model, "default_cfg", {}).get("input_size", (3,))[0], size, size)


def settle(model: nn.Module, size: int) -> None:
    """Make what is zero or one at the beginning random, as in a trained network."""
    for module in model.modules():
        for tensor in module.parameters(recurse=False):
            if tensor.ndim == 1 or not tensor.detach().any() or tensor.detach().abs().max() < 1e-3:
                with torch.no_grad():
                    tensor.add_(torch.randn_like(tensor) * 0.1)
        mean, var = getattr(module, "running_mean", None), getattr(module, "running_var", None)
        if isinstance(mean, Tensor) and isinstance(var, Tensor):
            mean.normal_(0, 0.1)
            var.uniform_(0.5, 1.5)
    model.eval()  # some families forget what they kept of earlier weights


def first(output: Any) -> Tensor:
    """The output, or the first of several."""
    return output if isinstance(output, Tensor) else first(next(iter(output)))


def far(one: Tensor, other: Tensor) -> float:
    """The largest difference, as a share of the largest value."""
    gap = (one - other).abs().max() / other.abs().max().clamp_min(1e-12)
    return float(f"{float(gap):.1e}")


def count(module: nn.Module) -> Iterator[int]:
    """The parameters of the current picks, once each."""
    seen: set[int] = set()

    def walk(module: nn.Module) -> Iterator[int]:
        own = dict(module.named_parameters(recurse=False))
        if isinstance(module, Elastic):
            pieces = module.pieces()
            own |= {n: t for n, t in pieces.items() if n in dict(module.named_parameters())}
        for name, tensor in own.items():
            owner, _, last = name.rpartition(".")
            whole = module.get_submodule(owner)._parameters[last]
            if id(whole) not in seen:
                seen.add(id(whole))
                yield tensor.numel()
        children = list(module.children())
        if isinstance(module, Depth):
            children = list(module.blocks)[: module.at_least + module.decided()]
        for child in children:
            yield from walk(child)

    yield from walk(module)


def refuse_ours(plain: nn.Module) -> None:
    """An extracted network has no part of paretonas."""
    ours = [
        n
        for n, m in plain.named_modules()
        if type(m).__module__.startswith("paretonas") and not isinstance(m, Stack)
    ]
    if ours:  # a `Stack` runs blocks that take several arguments
        raise AssertionError(f"the extracted network has parts of the supernet: {ours[:3]}")


def one_hot(options: tuple[str, ...], pick: str) -> Tensor:
    """A gate that takes one option."""
    return torch.tensor([float(option == pick) for option in options])


def exported(plain: nn.Module, example: Tensor) -> float:
    """How far ONNX Runtime is from the network."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = Path(folder) / "network.onnx"
        torch.onnx.export(plain, (example,), path, dynamo=True, verbose=False, external_data=False)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (found, *_) = session.run(None, {session.get_inputs()[0].name: example.numpy()})
        return far(torch.from_numpy(found), first(plain(example)))


FAMILIES = """
    halonet_h1 mobileone_s0 cait_xxs24_224 coat_tiny convit_tiny convmixer_768_32 convnext_atto
    cpubone_nano crossvit_tiny_240 csatv2 cs3darknet_focus_s cspnext_tiny davit_tiny
    deit_tiny_patch16_224 densenet121 dla46x_c dpn48b edgenext_xx_small efficientformer_l1
    efficientformerv2_s0 tinynet_e efficientvim_m1 efficientvit_b0 efficientvit_m0
    vit_tiny_patch16_dinov3_qkvb fasternet_t0 fastvit_t8 focalnet_tiny_srf gcvit_xxtiny
    ghostnet_050 hardcorenas_b hgnetv2_b0 hiera_tiny_224 sam2_hiera_tiny hrnet_w18_small
    iformer_t inception_next_atto inception_v3 lcnetv2_small levit_128s lowformer_b0
    mambaout_femto coatnet_pico_rw_224 poolformerv2_s12 gmlp_ti16_224 mobilenetv3_small_050
    mobilevit_xxs mvitv2_tiny nest_tiny nextvit_small nf_regnet_b0 pit_ti_224 pvt_v2_b0
    rdnet_tiny regnetx_002 repghostnet_050 repvit_m1 res2next50 resnest14d resnet18 resnetv2_18
    rexnet_100 selecsls42 legacy_seresnet18 sequencer2d_s shvit_s1 skresnet18 starnet_s050
    swiftformer_xs swin_tiny_patch4_window7_224 swinv2_tiny_window8_256 swinv2_cr_tiny_ns_224
    tiny_vit_5m_224 tnt_s_legacy_patch16_224 tresnet_m twins_pcpvt_small visformer_tiny
    vit_tiny_patch16_224 vit_tiny_r_s16_p8_224 vit_relpos_small_patch16_224 vitamin_small_224
    volo_d1_224 ese_vovnet19b_slim_dw legacy_xception xception41 xcit_nano_12_p16_224
    beit_base_patch16_224 naflexvit_base_patch16_parfac_gap qwen3_vit_88m mobilenetv5_base
    nasnetalarge pnasnet5large vgg11 samvit_base_patch16 inception_resnet_v2 inception_v4
""".split()  # noqa: SIM905

CLASSIFICATION = """
    alexnet convnext_base convnext_small convnext_tiny densenet121 densenet161 densenet169
    densenet201 efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4
    efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_m efficientnet_v2_s googlenet
    inception_v3 maxvit_t mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2
    mobilenet_v3_large mobilenet_v3_small regnet_x_16gf regnet_x_1_6gf regnet_x_3_2gf
    regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_16gf regnet_y_1_6gf regnet_y_3_2gf
    regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 resnet18 resnet34 resnet50
    resnext101_32x8d resnext101_64x4d resnext50_32x4d shufflenet_v2_x0_5 shufflenet_v2_x1_0
    shufflenet_v2_x1_5 shufflenet_v2_x2_0 squeezenet1_0 squeezenet1_1 swin_b swin_s swin_t swin_v2_b
    swin_v2_s swin_v2_t vit_b_16 vit_b_32 wide_resnet50_2
""".split()  # noqa: SIM905

MODELS = {"timm": FAMILIES, "torchvision": CLASSIFICATION}
MAKERS = {"timm": timm.create_model, "torchvision": torchvision.models.get_model}

if __name__ == "__main__":
    main()

"""Operations that torch's older exporter does not know: their other form is what torch computes."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812

from paretonas.export import onnx_file
from paretonas.export.decomposed import NEITHER, OLDER, Decomposed
from paretonas.export.draft import drafted
from paretonas.export.inputs import Inputs
from paretonas.export.onnx_file import OnnxNetwork, session_of, write_onnx
from paretonas.export.spectra import Complex


class Of(nn.Module):
    """A network that is one function, and one layer if there is any."""

    def __init__(self, function, layer=None):
        super().__init__()
        self.function, self.layer = function, layer

    def forward(self, x):
        return self.function(x) if self.layer is None else self.function(self.layer, x)


def stft(x, **options):
    return torch.stft(x, 8, window=WINDOW, return_complex=True, **options)


def pairs(x):
    return torch.view_as_complex(x.unflatten(-1, (3, 2)))


generator = torch.Generator().manual_seed(0)
WEIGHT, BIAS = torch.randn(3, 6, 6, generator=generator), torch.randn(3, generator=generator)
FILTER = torch.randn(4, generator=generator)
WINDOW = torch.hann_window(8)
NETWORKS = {
    "transposed": Of(lambda x: x.mT),
    "rms norm": Of(lambda norm, x: norm(x.mT), nn.RMSNorm(4)),
    "rms norm, two axes": nn.RMSNorm((4, 6), eps=0.1),
    "rms norm, no weight": nn.RMSNorm(6, elementwise_affine=False),
    "rms norm, torch": Of(lambda x: torch.rms_norm(x, (x.shape[-1],))),
    "shuffle": nn.ChannelShuffle(2),
    "shuffle, functional": Of(lambda x: F.channel_shuffle(x, 4)),
    "bilinear": Of(lambda layer, x: layer(x, x.flip(-1)), nn.Bilinear(6, 6, 5)),
    "bilinear, no bias": Of(lambda x: F.bilinear(x, x, WEIGHT)),
    "bilinear, torch": Of(lambda x: torch.bilinear(x, x, WEIGHT, BIAS)),
    "median": Of(lambda x: x - x.median(-1, keepdim=True).values),
    "median, odd": Of(lambda x: torch.median(x[..., :5], dim=2)[0]),
    "median, where": Of(lambda x: x.gather(1, x.median(1, keepdim=True).indices)),
    "squeezed": Of(
        lambda x: x.mean((1, 2), keepdim=True).squeeze((1, -1)) + x[:, :1].squeeze(1)[:, 0]
    ),
    "squeezed, torch": Of(lambda x: torch.squeeze(x[:, None, :, None], dim=(1, 3))),
    "taken": Of(lambda x: x.take_along_dim(x.argsort(1)[:, :2], 1)),
    "taken, torch": Of(lambda x: torch.take_along_dim(x, x.argsort(2)[..., :1], dim=-1)),
    "turned": Of(lambda x: x.rot90(1, (1, 2)).flatten(1) - torch.rot90(x, -1, (2, 1)).flatten(1)),
    "turned back": Of(lambda x: x.rot90(3, (1, 2)).mT + x.rot90(2, [1, 2]) + x.rot90(4, (1, 2))),
    "mirrored": Of(lambda x: x.fliplr() + torch.fliplr(x[:, :, :1])),
    "divided": Of(lambda x: torch.addcdiv(x, x + 1, x.exp(), value=0.3).addcdiv(x, x.exp())),
    "counted": Of(lambda x: x.relu().count_nonzero((1, 2)).float() + x.count_nonzero(1).sum(1)),
    "differences": Of(lambda x: x.diff() + torch.diff(x, 2, 1).sum(1, keepdim=True)[..., 1:]),
    "spectral norm": nn.utils.parametrizations.spectral_norm(nn.Conv1d(4, 3, 3)),
    "spectrum": Of(lambda x: torch.fft.rfft(x).abs()),
    "phases": Of(lambda x: torch.fft.fft(x).angle().cos()),
    "both parts": Of(lambda x: torch.view_as_real(torch.fft.fft(x, dim=1))),
    "spectrum of two axes": Of(lambda x: torch.fft.fft(torch.fft.fft(x), dim=-2).real),
    "fft2": Of(lambda x: torch.fft.fft2(x).real - torch.fft.fft2(x, dim=(2, 1)).imag),
    "there and back": Of(lambda x: torch.fft.irfft2(torch.fft.rfft2(x)) + torch.fft.ifft2(x).real),
    "filtered": Of(lambda x: torch.fft.irfft(torch.fft.rfft(x) * torch.complex(FILTER, -FILTER))),
    "filtered, odd": Of(
        lambda x: torch.fft.irfft(FILTER[:3] * torch.fft.rfft(x[..., :5])[..., :3], n=5)
    ),
    "short-time": Of(lambda x: stft(x.flatten(1)).abs().pow(2)),
    "short-time, both": Of(lambda x: torch.view_as_real(stft(x.flatten(1), hop_length=4)[:, 1:])),
    "rotated": Of(lambda x: torch.view_as_real(pairs(x) * torch.polar(FILTER[:3], FILTER[1:]))),
    "magnitudes": Of(lambda x: torch.abs(pairs(x).transpose(-1, -2))),
    "k-th": Of(lambda x: x.kthvalue(2, 1).values + torch.kthvalue(x, 3, dim=1).values),
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_the_file_computes_what_torch_does(network):
    onnx_file._tell_slow.cache_clear()  # the slow exporter would be told of, which is an error here
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        nn.init.normal_(parameter, generator=generator)
    x = torch.randn(3, 4, 6, generator=generator)
    with torch.no_grad():
        expected = network.eval()(x)
        draft = drafted(network, x[:1], x)
        found = OnnxNetwork(session_of(draft.content), draft.output)(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cat", "sin"])
def test_what_a_complex_tensor_has_not_is_named(name):
    x = Complex(torch.ones(1, 3, 2))
    with pytest.raises(AttributeError, match=f"operator 'aten::{name}' of complex numbers"):
        getattr(torch, name)([x, x] if name == "cat" else x)


UNKNOWN = {torch.median: "median", torch.kthvalue: "k-th", torch.take_along_dim: "taken"}


def test_what_is_deployed_has_what_no_exporter_knows(tmp_path):
    """One file for all, since the newer exporter takes seconds."""
    assert UNKNOWN.keys() <= NEITHER.keys()
    networks = nn.ModuleList([NETWORKS[name] for name in UNKNOWN.values()])
    network = Of(lambda layers, x: [each(x) for each in layers], networks).eval()
    x = torch.randn(3, 4, 6, generator=torch.Generator().manual_seed(2))
    path = tmp_path / "network.onnx"
    write_onnx(network, Inputs.of(x[:1], x), path, {})
    found = OnnxNetwork(session_of(path), network(x))(x)
    for one, other in zip(found, network(x), strict=True):
        torch.testing.assert_close(one, other)


def test_a_median_without_an_axis_is_that_of_all_numbers():
    for count in (6, 7):
        x = torch.randn(count, generator=torch.Generator().manual_seed(count))
        with Decomposed(OLDER):
            found = x.median()
        assert torch.equal(found, x.sort().values[(count - 1) // 2])

"""The benchmark of a GPU runs, as far as a CPU can tell."""

import math

import pandas as pd
import pytest
import torch


@pytest.mark.deep
def test_every_number_has_a_row_with_the_device_and_versions(experiment, tmp_path, monkeypatch):
    script = experiment("benchmarks/gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    script.main(["--device", "cpu", "--quick", "--out", str(tmp_path / "gpu.csv")])
    rows = pd.read_csv(tmp_path / "gpu.csv")
    assert set(rows["what"]) == {
        "latency table", "fastest network", "slowest network", "networks within 5 %",
        "networks within 10 %", "Kendall's tau", "training step", "fit of the surrogate",
        "alpha step", "evaluation", "search", "points of the front", "least error",
    }  # fmt: skip
    assert rows["value"].map(math.isfinite).all()
    assert (rows["torch"] == torch.__version__).all() and rows["device"].all()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_missing_gpu_is_one_line(experiment, capsys):
    with pytest.raises(SystemExit) as ended:
        experiment("benchmarks/gpu").main([])
    assert ended.value.code == 2
    assert "torch finds no CUDA device" in capsys.readouterr().err

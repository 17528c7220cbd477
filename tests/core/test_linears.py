"""Linear layers through another backend: the same numbers, chosen once, and never in training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

import pytest
import torch
from torch.nn import functional
from toys import TINY

from prdit_core.errors import UsageError
from prdit_core.models import linears
from prdit_core.models.prdit.network import PRDiT, initialise

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ACTIVATIONS = {
    "none": lambda x: x,
    "gelu": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
}


@pytest.fixture(autouse=True)
def _fresh_choice() -> Iterator[None]:
    linears.backend.cache_clear()
    yield
    linears.backend.cache_clear()


@pytest.fixture(params=get_args(linears.Backend))
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "onednn" and not linears._agrees():
        pytest.xfail("this torch has no working oneDNN")
    monkeypatch.setenv(linears.BACKEND_VARIABLE, request.param)
    return str(request.param)


@pytest.mark.parametrize("then", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(1, 40, 24), (3, 7, 24), (2, 100, 216), (64, 216), (5, 24)])
@pytest.mark.parametrize("bias", [True, False])
@torch.no_grad()
def test_a_backend_computes_the_formula(
    backend: str, then: linears.Then, shape: tuple[int, ...], bias: bool
) -> None:
    layer = linears.Linear(shape[-1], 30, bias=bias)
    x = torch.randn(shape)
    expected = ACTIVATIONS[then](x.double() @ layer.weight.double().T + (layer.bias if bias else 0))
    torch.testing.assert_close(layer(x, then).double(), expected, rtol=1e-5, atol=1e-5)
    turned = x.transpose(0, -2)
    if x.dim() == 3:
        torch.testing.assert_close(layer(turned, then), layer(x, then).transpose(0, -2))


@torch.no_grad()
def test_changed_weights_count_at_once(backend: str) -> None:
    layer, x = linears.Linear(24, 24, bias=False), torch.randn(64, 24)
    layer(x)
    layer.weight.zero_()
    assert not layer(x).any()


def test_the_whole_network_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    model = PRDiT(TINY).eval()
    initialise(model, 0)
    torch.nn.init.normal_(model.local.out.weight, std=0.1)
    x, t = torch.randn(2, 1, 16, 16, 16), torch.tensor([100.0, 900.0])
    outputs = []
    for name in get_args(linears.Backend):
        monkeypatch.setenv(linears.BACKEND_VARIABLE, name)
        linears.backend.cache_clear()
        with torch.no_grad():
            outputs.append(model(x, t))
    torch.testing.assert_close(*outputs, rtol=0, atol=1e-5)


def test_training_and_bf16_stay_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise AssertionError("oneDNN")

    monkeypatch.setattr(linears, "backend", lambda: "onednn")
    monkeypatch.setattr(linears, "_onednn", forbidden)
    layer, x = linears.Linear(24, 24), torch.randn(64, 24)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        layer(x)
    with torch.no_grad(), pytest.raises(AssertionError, match="oneDNN"):
        layer(x)


def test_a_backend_that_differs_or_is_missing_is_not_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(linears, "_amd", lambda: True)
    monkeypatch.setattr(linears, "_avx512", lambda: True)
    wrong = lambda x, weight, bias, then: linears._torch(x, weight, bias, then) + 0.01  # noqa: E731
    monkeypatch.setattr(linears, "_onednn", wrong)
    assert linears.backend() == "torch"
    linears.backend.cache_clear()

    def missing(*_: Any) -> None:
        raise AttributeError("no such operator")

    monkeypatch.setattr(linears, "_onednn", missing)
    assert linears.backend() == "torch"
    linears.backend.cache_clear()
    monkeypatch.setenv(linears.BACKEND_VARIABLE, "onednn")
    with pytest.raises(UsageError, match="no working oneDNN"):
        linears.backend()


@pytest.mark.parametrize(
    ("vendor", "avx512", "taken"),
    [
        ("GenuineIntel", True, "torch"),
        ("AuthenticAMD", True, "onednn"),
        ("AuthenticAMD", False, "torch"),
    ],
)
def test_make_and_instructions_decide_and_no_measurement(
    vendor: str, avx512: bool, taken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy machine would measure otherwise now and then, and the bytes of a seed would change."""
    monkeypatch.delenv(linears.BACKEND_VARIABLE, raising=False)
    monkeypatch.setattr(linears, "_agrees", lambda: True)
    monkeypatch.setattr(linears, "CPU_FILE", tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_f": avx512})
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nvendor_id : {vendor}\n")
    assert linears.backend() == taken == linears.backend_on("cpu")
    assert linears.backend_on("cuda") == "torch"


def test_without_such_a_file_the_platform_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linears, "CPU_FILE", tmp_path / "none")
    for name, expected in (("AMD64 Family 25, AuthenticAMD", True), ("arm", False), ("", False)):
        monkeypatch.setattr(linears.platform, "processor", lambda name=name: name)
        assert linears._amd() is expected


def test_an_unknown_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(linears.BACKEND_VARIABLE, "mkl")
    with pytest.raises(UsageError, match="torch, onednn"):
        linears.backend()

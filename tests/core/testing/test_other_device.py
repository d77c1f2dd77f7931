"""The device that tests compute on refuses what a GPU refuses, and lets through what a GPU computes."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from fedrec.devices import check_device
from fedrec.errors import InputError
from fedrec.testing.other_device import NAME, needs_other_device, other_device


def there(values: object) -> torch.Tensor:
    return torch.tensor(values, device=NAME)


@needs_other_device
@pytest.mark.parametrize(
    "mistake",
    [
        lambda: there([1.0, 2.0]) + torch.ones(2),
        lambda: torch.ones(2, 2) @ there([[1.0], [2.0]]),
        lambda: there([1.0, 2.0])[torch.tensor([0])],
        lambda: there([1.0, 2.0]).index_add_(0, there([0]), torch.ones(1)),
        lambda: torch.equal(there([1.0]), torch.ones(1)),
        lambda: there([1.0, 2.0]).numpy(),
        lambda: np.asarray(there([1.0, 2.0])),
        lambda: torch.randn(3, device=NAME, generator=torch.Generator()),
        lambda: there([[1, 2]]) @ there([[1], [2]]),
    ],
)
def test_mistakes_are_found(mistake: Callable[[], object]) -> None:
    with other_device(), pytest.raises(RuntimeError):
        mistake()


@needs_other_device
def test_what_a_gpu_computes_is_computed() -> None:
    with other_device() as device:
        table = there([[1.0, 2.0], [3.0, 4.0]]).requires_grad_()
        (slope,) = torch.autograd.grad((2.0 * table[there([1, 1])] + torch.tensor(1.0)).sum(), table)
        kept = torch.zeros(2, 2, device=device)
        kept[kept == 0] = 5.0
        kept[0].add_(slope[1])
        layer = torch.nn.Linear(2, 1).to(device)
        layer(kept).sum().backward()
    assert slope.cpu().tolist() == [[0.0, 0.0], [4.0, 4.0]]
    assert kept.cpu().numpy().tolist() == [[9.0, 9.0], [5.0, 5.0]]
    assert {parameter.grad.device.type for parameter in layer.parameters()} == {NAME}


def test_afterwards_everything_is_as_before() -> None:
    assert torch.tensor([1.0]).device.type == "cpu"
    assert not torch.__future__.get_swap_module_params_on_conversion()


@pytest.mark.parametrize("device", ["tpu", "cuda:x", "", "gpu"])
def test_a_name_that_no_device_has_is_one_line(device: str) -> None:
    with pytest.raises(InputError, match="must be cpu, cuda or cuda:N"):
        check_device(device, "--device")


def test_devices_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    check_device("cpu", "--device")
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    check_device("cuda", "--device")
    check_device("cuda:1", "--device")
    with pytest.raises(InputError, match=r"--device cuda:2: this machine has 2 CUDA device\(s\)"):
        check_device("cuda:2", "--device")

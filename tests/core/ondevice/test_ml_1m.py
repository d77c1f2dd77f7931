"""Lists of a device for real people: all users of MovieLens-1M, where its files are at hand."""

from pathlib import Path

import numpy as np
import pytest
import torch

import fedrec
from fedrec.algorithms.als import ALSModel
from fedrec.ondevice.released import load
from fedrec.recommend.device_lists import differing
from fedrec.testing.ondevice import save_released


@pytest.mark.slow
def test_every_user_gets_the_list_of_the_torch_form(data_dir: Path, tmp_path: Path) -> None:
    """With random item vectors, whose scores are closer to each other than those of a trained model."""
    histories = fedrec.load_dataset("ml-1m", data_dir=data_dir).dataset.histories
    items = torch.randn(histories.n_items, 16, generator=torch.Generator().manual_seed(0))
    model = ALSModel(items, items.T @ items, torch.rand(len(items)), alpha0=0.3, reg=0.003, nu=1.0)
    form = load(save_released(model, tmp_path))
    for start in range(0, len(histories), 256):
        users = histories.batch(np.arange(start, min(start + 256, len(histories))), 1)
        assert differing(model, form, users, 10) == [], start

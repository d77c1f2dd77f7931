"""Users without a taste, drawn from the released popularity: as public as it is, and free of budget."""

import torch
from torch import Tensor

from fedrec import draws
from fedrec.data.users import UserBatch
from fedrec.kernels.space import KernelSpace

LENGTHS = (5, 500)  # events of the shortest and the longest synthetic user


def feature_scales(
    space: KernelSpace, popularity: Tensor, lengths: tuple[int, int] = LENGTHS, users: int = 200, seed: int = 0
) -> Tensor:
    """Standard deviation of each feature over SYNTHETIC users drawn from the released popularity (public), (K,).

    Their histories are of every length between the two of `lengths`, evenly in the logarithm. With one length for all,
    features that compare users by their length would look like constants, and be blown up.
    """
    batch = synthetic_users(popularity, lengths, users, seed, stream=1)
    candidates = batch.negatives(50, stream=2)
    scales = space.features(space.fit(batch), candidates).flatten(0, 1).std(0)
    by_kernel = with_floor(scales[space.own :].view(-1, space.each)[:, : len(space.decays)])
    by_kernel = torch.cat([by_kernel, by_kernel[:, list(space.gated)]], 1)  # a gate is of unit size
    return torch.cat([scales[: space.own], by_kernel.flatten()]).clamp(min=1e-2)


def with_floor(by_kernel: Tensor) -> Tensor:
    """Return scales (kernels, decays), none far below its kernel's largest: a long average is not blown up."""
    return torch.maximum(by_kernel, 0.1 * by_kernel.amax(1, keepdim=True))


def synthetic_users(popularity: Tensor, lengths: tuple[int, int], users: int, seed: int, stream: int) -> UserBatch:
    """Users without a taste: their events are drawn from the popularity, so they are as public as it is.

    Args:
        popularity: of each item, >= 0 with a positive sum, (items,). It must be released.
        lengths: events of the shortest and of the longest, evenly in the logarithm between.
        users: number of users.
        seed: public seed of the draws.
        stream: number of the stream of randomness.
    """
    device = popularity.device
    keys = draws.keys(seed, torch.arange(users, device=device))
    shortest, longest = lengths
    part = torch.arange(users, dtype=torch.float64, device=device) / max(1, users - 1)
    counts = (shortest * (longest / shortest) ** part).round().long()
    mass = (popularity / popularity.sum()).double().cpu().cumsum(0).to(device)  # CUDA's sums do not repeat
    picks = torch.searchsorted(mass, draws.uniform(keys, stream, longest) * mass[-1]).clamp(max=len(popularity) - 1)
    items = picks[torch.arange(longest, device=device) < counts[:, None]]
    return UserBatch(items=items, lengths=counts, n_items=len(popularity), keys=keys)

"""Everything that an algorithm computes, from its start to a list: for tests of where it computes."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedrec.algorithms.base import Algorithm
from fedrec.data.users import UserBatch
from fedrec.evaluation.ranking import rank_newest
from fedrec.privacy.queries import PrivateSum


def everything(make: Callable[[], Algorithm], users: UserBatch) -> dict[str, Tensor]:
    """Return all results of an algorithm for `users`: one noisy round of each kind, and the released model, by name."""
    device = users.device
    algo, found = make(), {}
    kinds: dict[tuple[str, ...], int] = {}
    for round_index in range(algo.rounds):
        kinds.setdefault(tuple(query.name for query in algo.queries(round_index)), round_index)
    weights = torch.linspace(0.1, 1.3, len(users), device=device)
    candidates = torch.arange(3, device=device).repeat(len(users), 1)
    generator = torch.Generator().manual_seed(0)
    shared = algo.initial()
    for round_index in kinds.values():
        sums, contributions = {}, algo.contribute(shared, users, round_index)
        for query in algo.queries(round_index):
            part, std = contributions[query.name], 0.1 * query.clip_norm
            found[f"norms {query.name}"] = part.norms()
            found[f"weights {query.name}"] = part.unit_weights()
            found[f"dense {query.name}"] = part.dense(2)
            noise = std * torch.randn(query.shape, generator=generator, device="cpu")
            sums[query.name] = PrivateSum(part.weighted_sum(weights) + noise.to(device), std)
        shared = algo.update(shared, sums, round_index)
    model = algo.release(shared)
    state = model.fit(users)
    found |= {f"shared {name}": tensor for name, tensor in shared.items()}
    found |= {f"state {name}": tensor for name, tensor in state.items()}
    found |= {f"model {name}": tensor for name, tensor in model.tensors().items()}
    found["scores"], found["scores of some"] = model.score(state), model.score(state, candidates)
    found["list"] = model.recommend(users, 5)[0]
    found |= {f"folded {name}": tensor for name, tensor in model.fold_in(state, candidates[:, 0]).items()}
    found["ranks"] = rank_newest(model, users)
    return found

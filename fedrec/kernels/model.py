"""KernelModel: the released model of kernel methods, and its computation on a device.

A device sums the feature rows of its own history under several recency decays (its private state), and scores a
candidate by a few dozen features: kernel values between its profiles and the candidate, popularity, and how both
compare with the user's habits. A weighted sum of them is the score, with a small network added where there is one.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import FeatureMap, HeadMap, restore_map
from fedrec.model import ReleasedModel, or_popular

Decays = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
"""Recency weights per step back in a history."""

NEGLIGIBLE = 1e-6  # an event whose recency weight is below this is skipped in float32
SHAPED = 3.0
"""Popularity, in standard deviations, up to which a score may bend. A curve fitted to the many items below would
reverse the order of the few above, and uniform negatives contain too few of those to prevent it."""
AVERAGED = 256
"""Items, evenly spaced in the catalogue, whose mean features are those of the average item."""
MOST_AT_ONCE = 1 << 23  # numbers per user chunk while scoring
POPULARITY_FEATURES = (
    "popularity",
    "popularity^2",
    "popular",
    "popularity x habit",
    "popularity x recent habit",
    "popularity x activity",
    "popularity^2 x recent habit",
    "|popularity - recent habit|",
)


@dataclass(frozen=True)
class KernelSpace:
    """Everything public that features are computed from.

    maps: kernels by name. means: each kernel's popularity-weighted mean profile, (width,); zero for kernels on head
    items only. decays: recency weights per step back in a history. log_popularity: (items,), standardised (zeros where
    nothing was released). numbers: (items, n) standard scores of the catalogue's number blocks.
    """

    maps: dict[str, FeatureMap]
    means: dict[str, Tensor]
    decays: tuple[float, ...]
    log_popularity: Tensor
    numbers: Tensor

    @property
    def names(self) -> list[str]:
        """The name of every feature, in order."""
        numbers = [
            f"{kind} {n}" for n in range(self.numbers.shape[1]) for kind in ("top of number", "beyond own number")
        ]
        kernels = [f"{name} @{decay:g}" for name in self.maps for decay in self.decays]
        return [*POPULARITY_FEATURES, *numbers, *kernels]

    @property
    def groups(self) -> dict[str, slice]:
        """The columns of each group of features: popularity, the numbers of the catalogue, and each kernel."""
        most, count = len(POPULARITY_FEATURES), len(self.decays)
        kernels = {name: slice(self.own + n * count, self.own + (n + 1) * count) for n, name in enumerate(self.maps)}
        return {"popularity": slice(0, most), "numbers": slice(most, self.own)} | kernels

    @property
    def judged(self) -> list[slice]:
        """Features judged together: the slope of popularity, its shape, habits, each number, each kernel."""
        starts = [0, 1, 3, *range(len(POPULARITY_FEATURES), self.own, 2)]
        starts += [self.own + len(self.decays) * kernel for kernel in range(len(self.maps) + 1)]
        return [slice(start, stop) for start, stop in pairwise(starts)]

    @property
    def own(self) -> int:
        """Number of features before those of the kernels."""
        return len(POPULARITY_FEATURES) + 2 * self.numbers.shape[1]

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        """Private states: recency-weighted sums over each history. Every tensor has leading dimension B.

        Without order all decays are 1 and their sums the same: one, R = 1, then represents all of them. In an ordered
        batch the users whose order is unknown have R equal sums.
        """
        rates = self.decays if users.ordered else (1.0,)
        zeros, dtype = self.log_popularity.new_zeros, self.log_popularity.dtype
        negligible = NEGLIGIBLE if dtype == torch.float32 else NEGLIGIBLE**3
        state = {
            "rates": torch.stack([users.recency(rate) for rate in rates], 1).to(dtype),
            "count": users.lengths.to(dtype),
            "mass": zeros(len(users), len(rates)),
            "habit": zeros(len(users), len(rates)),
            "beyond": self.numbers.new_full((len(users), self.numbers.shape[1]), -math.inf),
        }
        parts: dict[str, list[Tensor]] = {name: [] for name in self.maps}
        for column, rate in enumerate(rates):
            reach = math.log(negligible) / math.log(rate) if 0 < rate < 1 else (0 if rate == 0 else math.inf)
            near = users.lags <= reach if users.tied is None else (users.lags <= reach) | users.tied[users.owners]
            owners, items = users.owners[near], users.items[near]
            weights = torch.pow(torch.tensor(rate, device=users.device).to(dtype), users.lags[near].to(dtype))
            if users.tied is not None:
                weights = weights.masked_fill(users.tied[owners], 1.0)
            state["mass"][:, column].index_add_(0, owners, weights)
            state["habit"][:, column].index_add_(0, owners, weights * self.log_popularity[items])
            for name, map_ in self.maps.items():
                parts[name].append(map_.profile(owners, items, weights, len(users)))
        if self.numbers.shape[1]:
            index = users.owners[:, None].expand(-1, self.numbers.shape[1])
            state["beyond"].scatter_reduce_(0, index, self.numbers[users.items], "amax")
        return state | {f"profile {name}": torch.stack(part, 1) for name, part in parts.items()}

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        """The states after one more event each, items (B,). Costs one feature row, whatever the history."""
        rates = state["rates"]
        new = {
            "rates": rates,
            "count": state["count"] + 1,
            "mass": state["mass"] * rates + 1,
            "habit": state["habit"] * rates + self.log_popularity[items][:, None],
            "beyond": torch.maximum(state["beyond"], self.numbers[items]),
        }
        one = self.log_popularity.new_ones(len(items))
        users = torch.arange(len(items), device=items.device)
        for name, map_ in self.maps.items():
            row = map_.profile(users, items, one, len(items))
            new[f"profile {name}"] = state[f"profile {name}"] * rates[..., None] + row[:, None]
        return new

    def profiles(self, state: dict[str, Tensor], name: str) -> Tensor:
        """How a user's history differs from the average one under a kernel, (B, R, width); 0 without history."""
        mass = state["mass"][..., None]
        mean = state[f"profile {name}"] / mass.clamp(min=NEGLIGIBLE) - self.means[name]
        return torch.where(mass > 0, mean, 0.0)

    def own_features(self, state: dict[str, Tensor], candidates: Tensor | None) -> list[Tensor]:
        """The features that are not kernels, each (B, C)."""
        popularity = self.log_popularity[None] if candidates is None else self.log_popularity[candidates]
        numbers = self.numbers[None] if candidates is None else self.numbers[candidates]
        mass = state["mass"].clamp(min=NEGLIGIBLE)
        habit = (state["habit"] / mass)[:, :1]
        recent = (state["habit"] / mass)[:, min(2, mass.shape[1] - 1), None]
        activity = (state["count"].clamp(min=1).log() - 4.5)[:, None]
        plain, popularity = popularity, popularity.clamp(max=SHAPED)
        square = popularity**2 - 1
        shape = torch.broadcast_shapes(popularity.shape, habit.shape)
        features = [
            plain,
            square,
            (popularity - 0.5).clamp(min=0),
            popularity * (habit - 1),
            popularity * (recent - 1),
            popularity * activity,
            square * (recent - 1),
            (popularity - recent).abs(),
        ]
        for n in range(self.numbers.shape[1]):
            value = numbers[..., n]
            top = self.numbers[:, n].double().quantile(0.9).float() if self.numbers.shape[0] < 2**24 else value.max()
            features += [(value >= top).to(value), (value > state["beyond"][:, n, None]).to(value)]
        return [f.expand(shape) for f in features]

    def features(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        """All features of candidates (B, C) or of every item, (B, C, K)."""
        own = torch.stack(self.own_features(state, candidates), 2)
        kernels = [map_.against(self.profiles(state, name), candidates) for name, map_ in self.maps.items()]
        return torch.cat([own, *(k.expand(-1, len(self.decays), -1).transpose(1, 2) for k in kernels)], 2)


class KernelModel(ReleasedModel):
    """A KernelSpace with weights. weights: (K,) on raw features. The optional network of H hidden units adds
    `relu((features / scales) @ hidden + bias) @ output`: hidden (K, H), bias and output (H,), scales (K,). A user
    without a history gets the items in the order of `popularity` (items,); by default that of the space."""

    kind = "kernel"
    in_double = True

    def __init__(
        self,
        space: KernelSpace,
        weights: Tensor,
        network: dict[str, Tensor] | None = None,
        popularity: Tensor | None = None,
    ) -> None:
        self.space, self.weights, self.network = space, weights, network or {}
        self.popularity = space.log_popularity if popularity is None else popularity
        columns = [weights[:, None]]
        if self.network:
            columns.append(self.network["hidden"] / self.network["scales"][:, None])
        self.columns = torch.cat(columns, 1)  # (K, 1 + H)

    def fit(self, users: UserBatch) -> dict[str, Tensor]:
        return self.space.fit(users)

    def fold_in(self, state: dict[str, Tensor], items: Tensor) -> dict[str, Tensor]:
        return self.space.fold_in(state, items)

    def score(self, state: dict[str, Tensor], candidates: Tensor | None = None) -> Tensor:
        width = len(self.space.log_popularity) if candidates is None else candidates.shape[1]
        rows = self.columns.shape[1] + (len(self.columns) if self.network else self.space.own)  # of C numbers a user
        step = max(1, MOST_AT_ONCE // max(1, width * rows))
        users = len(state["count"])
        parts = [
            self._score(
                {name: tensor[start : start + step] for name, tensor in state.items()},
                None if candidates is None else candidates[start : start + step],
            )
            for start in range(0, users, step)
        ]
        scores = torch.cat(parts) if parts else torch.zeros(0, width, device=self.weights.device)
        return or_popular(scores, state["count"] == 0, self.popularity, candidates)

    def _score(self, state: dict[str, Tensor], candidates: Tensor | None) -> Tensor:
        """Everything before the hidden units' activation is linear in the features, so whichever is less goes first:
        mixing the profiles over decays for each column of `columns`, or meeting the candidates for each decay."""
        own = torch.stack(self.space.own_features(state, candidates), 1)
        start, decays = own.shape[1], len(self.space.decays)
        met, mixes, mixed = [own], [self.columns[:start].T], []
        for name, map_ in self.space.maps.items():
            profiles = self.space.profiles(state, name)
            mix = self.columns[start : start + decays].T  # (1 + H, decays)
            if profiles.shape[1] < decays:  # one profile serves all decays
                mix = mix.sum(1, keepdim=True)
            if len(mix) < profiles.shape[1]:
                mixed.append(map_.against(mix @ profiles, candidates))
            else:
                met.append(map_.against(profiles, candidates))
                mixes.append(mix)
            start += decays
        total = torch.cat(mixes, 1) @ torch.cat(met, 1)  # (B, 1 + H, C)
        for part in mixed:
            total += part
        if not self.network:
            return total[:, 0]
        hidden = total[:, 1:].add_(self.network["bias"][:, None]).relu_()
        return total[:, 0] + self.network["output"] @ hidden

    def item_rows(self, items: Tensor) -> Tensor:
        """The rows of all kernels side by side, each kernel scaled by the weights of its features."""
        heavy = self.weights[self.space.own :].view(-1, len(self.space.decays)).sum(1).abs()
        heavy = heavy if bool(heavy.any()) else torch.ones_like(heavy)
        maps = self.space.maps.values()
        return torch.cat([weight.sqrt() * map_.rows(items) for weight, map_ in zip(heavy, maps, strict=True)], 1)

    def explain(self, state: dict[str, Tensor], candidates: Tensor) -> dict[str, Tensor]:
        """How much the scores fall when a group's features become those of the average item for this user."""
        items = self.space.numbers.shape[0]
        average = torch.linspace(0, items - 1, min(items, AVERAGED), device=candidates.device).long()
        usual = self.space.features(state, average.expand(len(candidates), -1)).mean(1, keepdim=True)
        features, scales = self.space.features(state, candidates), self.network.get("scales", 1.0)
        found, weights = {}, self.weights * scales
        for name, columns in self.space.groups.items():
            changed = features.clone()
            changed[..., columns] = usual[..., columns]
            both = torch.stack([features, changed]) / scales
            found[name] = weigh(both, weights, self.network).diff(dim=0)[0].neg()
        return found

    def tensors(self) -> dict[str, Tensor]:
        space = self.space
        named = {"weights": self.weights, "log_popularity": space.log_popularity, "numbers": space.numbers}
        named["popularity"] = self.popularity
        for name, map_ in space.maps.items():
            named[f"mean/{name}"] = space.means[name]
            named |= {f"map/{name}/{key}": tensor for key, tensor in map_.tensors().items()}
        return named | {f"network/{key}": tensor for key, tensor in self.network.items()}

    def manifest(self) -> dict[str, Any]:
        return {"kernels": list(self.space.maps), "decays": list(self.space.decays), "features": self.space.names}

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], manifest: Mapping[str, Any]) -> "KernelModel":
        def under(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}

        names = manifest["kernels"]
        space = KernelSpace(
            maps={name: restore_map(under(f"map/{name}/")) for name in names},
            means={name: tensors[f"mean/{name}"] for name in names},
            decays=tuple(manifest["decays"]),
            log_popularity=tensors["log_popularity"],
            numbers=tensors["numbers"],
        )
        return cls(space, tensors["weights"], under("network/"), tensors["popularity"])


def weigh(features: Tensor, weights: Tensor, network: Mapping[str, Tensor]) -> Tensor:
    """Scores (..., C) of scaled features (..., C, K): a weighted sum, plus the network."""
    scores = features @ weights
    if network:
        scores = scores + torch.relu(features @ network["hidden"] + network["bias"]) @ network["output"]
    return scores


def centred_space(
    maps: Mapping[str, FeatureMap],
    popularity: Tensor,
    numbers: Tensor,
    decays: tuple[float, ...],
    chunk: int = 65536,
) -> KernelSpace:
    """A space whose kernels are centred on the average history; popularity (items,) > 0 weighs the average.

    Kernels on head items only are not centred. They compare few items, and general popularity is part of their signal;
    without it, noisy weights would have to learn it again.
    """
    weight = popularity / popularity.sum()
    means = {}
    for name, map_ in maps.items():
        everyone = torch.zeros(1, map_.width, device=weight.device)
        for start in range(0, 0 if isinstance(map_, HeadMap) else map_.items, chunk):
            part = torch.arange(start, min(start + chunk, map_.items), device=weight.device)
            everyone += map_.profile(torch.zeros_like(part), part, weight[part], 1)
        means[name] = everyone[0]
    log_popularity = popularity.log()
    spread = float(log_popularity.std()) if len(popularity) > 1 else 0.0
    known = spread > 1e-5  # below is rounding
    standard = (log_popularity - log_popularity.mean()) / spread if known else torch.zeros_like(popularity)
    return KernelSpace(dict(maps), means, decays, standard, numbers)

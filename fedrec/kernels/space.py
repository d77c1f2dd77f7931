"""KernelSpace: the features of kernel models, and the private state of a user that they are computed from.

A device sums the feature rows of its own history under several recency decays (its private state). Features of a
candidate are kernel values between its profiles and the candidate, popularity, and how both compare with the user's
habits.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import FeatureMap, HeadMap, NeighbourMap
from fedrec.kernels.gates import STEPS, gated_columns, gates, kernel_sizes, step_values

Decays = Annotated[tuple[Annotated[float, Field(gt=0, le=1)], ...], Field(min_length=1)]
"""Recency weights per step back in a history."""

NEGLIGIBLE = 1e-6  # an event whose recency weight is below this is skipped in float32
SHAPED = 3.0
"""Popularity, in standard deviations, up to which a score may bend. A curve fitted to the many items below would
reverse the order of the few above, and uniform negatives contain too few of those to prevent it."""
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
    nothing was released). numbers: (items, n) standard scores of the catalogue's number blocks. sizes: of each kernel,
    for its gate (`fedrec.kernels.gates`), (kernels,); None for a space without gates.
    """

    maps: dict[str, FeatureMap]
    means: dict[str, Tensor]
    decays: tuple[float, ...]
    log_popularity: Tensor
    numbers: Tensor
    sizes: Tensor | None = None

    @property
    def gated(self) -> tuple[int, ...]:
        """The decays whose features are there a second time, times the kernel's gate."""
        return () if self.sizes is None else gated_columns(self.decays)

    @property
    def each(self) -> int:
        """Number of features of a kernel: one for each decay, then the gated ones."""
        return len(self.decays) + len(self.gated)

    @property
    def names(self) -> list[str]:
        """The name of every feature, in order."""
        numbers = [
            f"{kind} {n}" for n in range(self.numbers.shape[1]) for kind in ("top of number", "beyond own number")
        ]
        places = [f"@{decay:g}" for decay in self.decays]
        places += [f"@{self.decays[place]:g} x gate" for place in self.gated]
        kernels = [f"{name} {place}" for name in self.maps for place in places]
        return [*POPULARITY_FEATURES, *numbers, *kernels]

    @property
    def groups(self) -> dict[str, slice]:
        """The columns of each group of features: popularity, the numbers of the catalogue, and each kernel."""
        most, count = len(POPULARITY_FEATURES), self.each
        kernels = {name: slice(self.own + n * count, self.own + (n + 1) * count) for n, name in enumerate(self.maps)}
        return {"popularity": slice(0, most), "numbers": slice(most, self.own)} | kernels

    @property
    def judged(self) -> list[slice]:
        """Features judged together: the slope of popularity, its shape, habits, each number, each kernel."""
        starts = [0, 1, 3, *range(len(POPULARITY_FEATURES), self.own, 2)]
        starts += [self.own + self.each * kernel for kernel in range(len(self.maps) + 1)]
        return [slice(start, stop) for start, stop in pairwise(starts)]

    @property
    def common_first(self) -> Tensor:
        """Orthonormal directions of the weights, (K, K): of each kernel the mean of its decays, then their contrasts.

        The other features are directions of their own.
        """
        many, device = len(self.decays), self.log_popularity.device
        helmert = torch.zeros(many, many, dtype=torch.float64, device="cpu")
        helmert[:, 0] = many**-0.5
        for place in range(1, many):
            helmert[:place, place] = 1.0
            helmert[place, place] = -float(place)
            helmert[:, place] /= (place * (place + 1)) ** 0.5
        turn = torch.eye(self.own + self.each * len(self.maps), device=device)
        for kernel in range(len(self.maps)):
            start = self.own + self.each * kernel
            turn[start : start + many, start : start + many] = helmert.to(turn)
        return turn

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
        if self.sizes is not None:
            state |= self._steps(users, state["rates"])
        return state | {f"profile {name}": torch.stack(part, 1) for name, part in parts.items()}

    def _steps(self, users: UserBatch, rates: Tensor) -> dict[str, Tensor]:
        """The newest item of each user, (B,), -1 without one; and the values of the newest steps, the newest last."""
        late = (users.lags < STEPS) & (users.lags < users.lengths[users.owners] - 1) & _moves(rates)[users.owners]
        newer = late.nonzero()[:, 0]
        values = step_values(self.maps, self.means, users.items[newer - 1], users.items[newer])
        met = rates.new_zeros(len(users), STEPS, len(self.maps))
        met[users.owners[newer], STEPS - 1 - users.lags[newer]] = values.to(met.dtype)
        return {"newest": users.newest(0), "steps": met}

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
        if self.sizes is not None:
            newest = state["newest"]
            values = step_values(self.maps, self.means, newest.clamp(min=0), items).to(state["steps"].dtype)
            met = torch.where(((newest >= 0) & _moves(rates))[:, None], values, 0.0)
            new |= {"newest": items, "steps": torch.cat([state["steps"][:, 1:], met[:, None]], 1)}
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

    def gates(self, state: dict[str, Tensor]) -> Tensor:
        """Each user's gate of each kernel, (B, kernels)."""
        assert self.sizes is not None
        return gates(state["steps"], state["count"], _moves(state["rates"]), self.sizes)

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
        parts, gated = [own], list(self.gated)
        factors = self.gates(state) if gated else None
        for number, (name, map_) in enumerate(self.maps.items()):
            kernel = map_.against(self.profiles(state, name), candidates).expand(-1, len(self.decays), -1)
            if factors is not None:
                kernel = torch.cat([kernel, kernel[:, gated] * factors[:, number, None, None]], 1)
            parts.append(kernel.transpose(1, 2))
        return torch.cat(parts, 2)


def _moves(rates: Tensor) -> Tensor:
    """Whose order of events is known, (B,) bool: the others have every decay 1."""
    return (rates != 1).any(1)


def centred_space(
    maps: Mapping[str, FeatureMap],
    popularity: Tensor,
    numbers: Tensor,
    decays: tuple[float, ...],
    chunk: int = 65536,
    *,
    gated: bool = False,
) -> KernelSpace:
    """A space whose kernels are centred on the average history; popularity (items,) > 0 weighs the average.
    `gated`: with a gate of each kernel.

    Kernels on head items only, and tables of neighbours, are not centred. They compare few items, and general
    popularity is part of their signal; without it, noisy weights would have to learn it again.
    """
    weight = popularity / popularity.sum()
    means = {}
    for name, map_ in maps.items():
        everyone = torch.zeros(1, map_.width, device=weight.device)
        for start in range(0, 0 if isinstance(map_, HeadMap | NeighbourMap) else map_.items, chunk):
            part = torch.arange(start, min(start + chunk, map_.items), device=weight.device)
            everyone += map_.profile(torch.zeros_like(part), part, weight[part], 1)
        means[name] = everyone[0]
    log_popularity = popularity.log()
    spread = float(log_popularity.std()) if len(popularity) > 1 else 0.0
    known = spread > 1e-5  # below is rounding
    standard = (log_popularity - log_popularity.mean()) / spread if known else torch.zeros_like(popularity)
    sizes = kernel_sizes(maps, means, popularity) if gated else None
    return KernelSpace(dict(maps), means, decays, standard, numbers, sizes)

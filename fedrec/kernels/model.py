"""KernelModel: the released model of kernel methods, and its computation on a device.

A weighted sum of the features of `fedrec.kernels.space` is the score, with a small network added where there is one.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fedrec.data.new_items import NewItems
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.kernels.feature_map import DenseMap, HeadMap, NeighbourMap, restore_map
from fedrec.kernels.new_items import Predictor, wider_head, wider_maps, wider_neighbours
from fedrec.kernels.public import number_scores
from fedrec.kernels.space import NEGLIGIBLE, KernelSpace
from fedrec.model import ReleasedModel, or_popular

AVERAGED = 256
"""Items, evenly spaced in the catalogue, whose mean features are those of the average item."""
MOST_AT_ONCE = 1 << 23  # numbers per user chunk while scoring


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
        start, users = own.shape[1], len(own)
        gates = self.space.gates(state) if self.space.gated else None
        many = 1 if gates is None else users
        met, mixes, mixed = [own], [self.columns[:start].T.expand(many, -1, -1)], []
        for number, (name, map_) in enumerate(self.space.maps.items()):
            mix = self._mix(start, None if gates is None else gates[:, number])  # (1 or B, 1 + H, decays)
            start += self.space.each
            if state["mass"].shape[1] < len(self.space.decays):  # one profile serves all decays
                mix = mix.sum(2, keepdim=True)
            if isinstance(map_, NeighbourMap):  # its mean is zero, and profiles as wide as the catalogue
                mass = state["mass"][:, None]
                mix = torch.where(mass > 0, mix / mass.clamp(min=NEGLIGIBLE), 0.0)
                mixed.append(mix @ map_.against(state[f"profile {name}"], candidates))
                continue
            profiles = self.space.profiles(state, name)
            if mix.shape[1] < profiles.shape[1]:
                mixed.append(map_.against(mix @ profiles, candidates))
            else:
                met.append(map_.against(profiles, candidates))
                mixes.append(mix)
        total = torch.cat(mixes, 2) @ torch.cat(met, 1)  # (B, 1 + H, C)
        for part in mixed:
            total += part
        if not self.network:
            return total[:, 0]
        hidden = total[:, 1:].add_(self.network["bias"][:, None]).relu_()
        return total[:, 0] + self.network["output"] @ hidden

    def _mix(self, start: int, gates: Tensor | None) -> Tensor:
        """The columns of the kernel whose features begin at `start`, its gated ones added: (1 or B, 1 + H, decays)."""
        decays, gated = len(self.space.decays), list(self.space.gated)
        plain = self.columns[start : start + decays].T[None]
        if gates is None:
            return plain
        mix = plain.repeat(len(gates), 1, 1)
        mix[:, :, gated] += gates[:, None, None] * self.columns[start + decays : start + self.space.each].T
        return mix

    def item_rows(self, items: Tensor) -> Tensor | None:
        """The rows of all kernels, each scaled by the weights of its features, side by side; None without kernels."""
        by_kernel = self.weights[self.space.own :].view(-1, self.space.each)
        heavy = by_kernel[:, : len(self.space.decays)].sum(1).abs()
        heavy = heavy if bool(heavy.any()) else torch.ones_like(heavy)
        maps = zip(heavy, self.space.maps.values(), strict=True)
        rows = [weight.sqrt() * map_.rows(items) for weight, map_ in maps if not isinstance(map_, NeighbourMap)]
        return torch.cat(rows, 1) if rows else None

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

    def with_new_items(self, items: NewItems) -> "KernelModel":
        """Place new items by the public kernels; their co-occurrence is predicted from the content, as in the tail."""
        maps = wider_maps(self.space.maps, items)
        for name in self.space.maps.keys() - maps.keys():
            map_ = self.space.maps[name]
            if isinstance(map_, HeadMap):
                maps[name] = wider_head(map_, items)
            elif isinstance(map_, NeighbourMap):
                maps[name] = wider_neighbours(map_, items)
            elif isinstance(map_, DenseMap):
                maps[name] = DenseMap(Predictor(items).widened(map_.values), map_.signs)
            else:
                raise InputError(f"new items: the catalogue lacks '{name}' of the model; give its columns")
        numbers = number_scores(items.catalogue, torch.from_numpy(items.trained)).to(self.space.numbers)
        tables = {name: map_ for name, map_ in maps.items() if isinstance(map_, NeighbourMap)}  # as wide as long
        space = replace(
            self.space,
            maps={name: maps[name] for name in self.space.maps},
            means=self.space.means | {name: map_.values.new_zeros(map_.width) for name, map_ in tables.items()},
            log_popularity=items.at_median(self.space.log_popularity),
            numbers=numbers,
        )
        return KernelModel(space, self.weights, self.network, items.at_median(self.popularity)).by(self.made_by)

    def tensors(self) -> dict[str, Tensor]:
        space = self.space
        named = {"weights": self.weights, "log_popularity": space.log_popularity, "numbers": space.numbers}
        named["popularity"] = self.popularity
        if space.sizes is not None:
            named["sizes"] = space.sizes
        for name, map_ in space.maps.items():
            named[f"mean/{name}"] = space.means[name]
            named |= {f"map/{name}/{key}": tensor for key, tensor in map_.tensors().items()}
        return named | {f"network/{key}": tensor for key, tensor in self.network.items()}

    def manifest(self) -> dict[str, Any]:
        made = {"kernels": list(self.space.maps), "decays": list(self.space.decays), "features": self.space.names}
        return made if self.space.sizes is None else made | {"gates": True}

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
            sizes=tensors.get("sizes"),
        )
        return cls(space, tensors["weights"], under("network/"), tensors["popularity"])


def weigh(features: Tensor, weights: Tensor, network: Mapping[str, Tensor]) -> Tensor:
    """Scores (..., C) of scaled features (..., C, K): a weighted sum, plus the network."""
    scores = features @ weights
    if network:
        scores = scores + torch.relu(features @ network["hidden"] + network["bias"]) @ network["output"]
    return scores

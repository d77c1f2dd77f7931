"""`kernel-rank` without privacy: nothing has to be denoised, so pairs of the whole catalogue speak for themselves.

Stages: popularity; the tables of pairs (`fedrec.kernels.pair_sums`) without each user's newest events; the spread of
the features; the weights by Newton's method on a softmax loss whose targets are those newest events; a
judgement of the weights and of each kernel alone on users who did not train them; the tables again with all events.

The released model scores by the weights, or by one kernel alone where that ranked the judges' targets higher: the whole
is never below its parts. Kernels are those of the public content and of `fedrec.kernels.pair_kernels`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.kernel_rank_features import KernelFeatures
from fedrec.algorithms.kernel_rank_raw_users import JUDGES, RawUsers, derivatives
from fedrec.algorithms.kernel_rank_settings import KernelRankConfig
from fedrec.algorithms.kernel_rank_stars import STARS, first_stage, kept, unrated
from fedrec.algorithms.stage import Stage
from fedrec.data.users import UserBatch
from fedrec.kernels.feature_map import DenseMap, FeatureMap, NeighbourMap
from fedrec.kernels.model import KernelModel
from fedrec.kernels.pair_kernels import NAMES, RANK, TABLES, low_rank_rows, pair_kernels
from fedrec.kernels.pair_sums import PairSums, block_query, blocks
from fedrec.kernels.pair_table import Pairs, neighbour_map
from fedrec.kernels.space import KernelSpace, centred_space
from fedrec.kernels.stars_plan import QUERY
from fedrec.kernels.synthetic import with_floor
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery

MOST_HEAD = 45_000
"""Items of a table at most, the most popular ones: 2,000 million entries, in 31 rounds."""
ROUNDS = 10
"""Steps of Newton: the loss is convex, and on real logs nothing moves after eight."""
PRIOR = 1.0
"""Precision of the weights of standardised features about their start, in users."""
LOW_RANK = "co-occurrence low rank"
MOST_LOSS = 1e30
_TINY = 1e-6
Block = tuple[int, int]


@dataclass
class RawRank:
    """The stages of a run without privacy.

    config, facts: of the run. features_of: what its public content says of items.
    """

    config: KernelRankConfig
    facts: PublicFacts
    features_of: KernelFeatures

    def __post_init__(self) -> None:
        self.items = len(self.facts.catalogue)
        self.head = min(self.items, MOST_HEAD)
        self.rounds = self.config.rounds or ROUNDS
        self.public, self.numbers, own = self.features_of.public, self.features_of.numbers, self.features_of.own
        kernels = len(self.public.maps) + (self.config.stars is not None) + 1 + len(NAMES)
        self.own, self.features = own, own + kernels * len(self.config.decays)
        self.users = RawUsers(self.config, self.facts, self.space, self.made_of)
        self._space: tuple[Tensor, KernelSpace, Tensor] | None = None

    @property
    def rank(self) -> int:
        """Directions of the low-rank kernel."""
        return min(RANK, self.head)

    @property
    def server_only(self) -> frozenset[str]:
        """Names of the state that no device needs."""
        tables = {f"{table} {part}" for table in TABLES for part in ("keys", "sums")}
        return frozenset({"start", "loss", "part", *tables})

    def for_devices(self, shared: Shared, query: str) -> Shared:
        """The part of the state that the sum of this name is computed from."""
        own = {"popularity": (), QUERY: (), "pairs": ("head",), "moments": (), "weights": ("scales", "weights")}
        names = set(own.get(query, ("scales", "best")))
        if query not in ("popularity", QUERY, "pairs"):
            kernels = {f"{name} {part}" for name in NAMES for part in ("starts", "neighbours", "values")}
            names |= {"popularity", STARS, LOW_RANK, *kernels}
        return {name: tensor for name, tensor in shared.items() if name in names}

    def adds(self, keys: Tensor, query: str) -> Tensor | None:
        """Which users of these keys (B,) add to the sum of this name, (B,) bool; None: all may."""
        if query not in ("moments", "weights", "judged"):
            return None
        learners, judges = self.users.drawn(keys)
        return learners | judges  # the same in all these rounds, so that what devices remember is kept

    # ---- stages

    def stages(self) -> tuple[Stage, ...]:
        """All stages in order."""
        tables = [(table, block) for table in TABLES for block in blocks(self.head)]
        share = 1.0 / (2 * len(tables) + self.rounds + 3)
        moments = SumQuery("moments", (2, self.features), 1.0, share)
        weights = SumQuery("weights", (derivatives(self.features),), 1.0, share)
        judged = SumQuery("judged", (self.users.judged(self.own, self.features),), 1.0, share)
        return (
            first_stage(self.facts, share, self._begin, self.public, self.config.stars),
            *(self._pairs_stage(*place, share, final=False) for place in tables),
            Stage(1, (moments,), self._moments, self._scale),
            Stage(self.rounds, (weights,), self._derivatives, self._descend),
            Stage(1, (judged,), self._judge, self._choose),
            *(self._pairs_stage(*place, share, final=True) for place in tables),
        )

    def initial(self) -> Shared:
        """The state before the first round: all items are equally popular."""
        ones = {"popularity": torch.ones(self.items, device=self.facts.device)}
        return self._started(ones | unrated(self.facts, self.config.stars))

    def _begin(self, shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        head = popularity.argsort(descending=True, stable=True)[: self.head]
        return self._started(kept(shared) | {"popularity": popularity, "head": head})

    def _started(self, shared: Shared) -> Shared:
        """The state with weights that order items by popularity alone."""
        device = self.facts.device
        start = torch.zeros(self.features, device=device)
        log = shared["popularity"].log()
        start[0] = log.std() if len(log) > 1 else 0.0
        numbers = {"loss": torch.tensor(MOST_LOSS, device=device), "part": torch.tensor(-1.0, device=device)}
        return shared | numbers | {"scales": torch.ones_like(start), "start": start, "weights": start, "best": start}

    # ---- tables of pairs

    def _pairs_stage(self, table: str, block: Block, share: float, *, final: bool) -> Stage:
        def contribute(shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
            location = torch.full((self.items,), -1, device=users.device)
            location[shared["head"]] = torch.arange(self.head, device=users.device)
            skip = torch.zeros_like(users.lengths) if final else self.users.targets(users)
            return {"pairs": PairSums(users, skip, location, self.head, block, TABLES[table])}

        def update(shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
            found = Pairs.of(sums["pairs"].value, block[0])
            names = f"{table} keys", f"{table} sums"
            for name, part in zip(names, (found.keys, found.values), strict=True):
                before = [shared[name]] if block[0] else []
                shared = shared | {name: torch.cat([*before, part])}
            finished = table == list(TABLES)[-1] and block[1] == self.head
            return self._with_kernels(shared) if finished else shared

        return Stage(1, (block_query("pairs", self.head, block, share),), contribute, update)

    def _with_kernels(self, shared: Shared) -> Shared:
        """The state with the kernels of its tables in their place."""
        tables = {name: Pairs(shared[f"{name} keys"], shared[f"{name} sums"], self.head) for name in TABLES}
        shared = {name: tensor for name, tensor in shared.items() if not name.endswith((" keys", " sums"))}
        rows = torch.zeros(self.items, self.rank, device=self.facts.device)
        rows[shared["head"]] = low_rank_rows(tables["together"], self.rank)
        shared[LOW_RANK] = rows
        for name, pairs in pair_kernels(tables).items():
            made = neighbour_map(pairs, shared["head"], self.items).tensors()
            shared |= {f"{name} {part}": tensor for part, tensor in made.items()}
        return shared

    def space(self, shared: Shared) -> KernelSpace:
        """The feature space of a state; made once for all that have the same kernels."""
        return self._made(shared)[1]

    def made_of(self, shared: Shared) -> Tensor:
        """The sums of what the feature space of a state is made of; computed once with it."""
        return self._made(shared)[2]

    def _made(self, shared: Shared) -> tuple[Tensor, KernelSpace, Tensor]:
        key = shared.get(LOW_RANK, shared["popularity"])
        if self._space is None or self._space[0] is not key:
            maps = self.features_of.known(shared) | (self._released(shared) if LOW_RANK in shared else self._empty())
            values = [name for name in sorted(shared) if name == STARS or name.endswith(" values")]
            sums = torch.stack([shared[name].double().sum() for name in ("popularity", *values)])
            self._space = key, centred_space(maps, shared["popularity"], self.numbers, self.config.decays), sums
        return self._space

    def _released(self, shared: Shared) -> dict[str, FeatureMap]:
        """The kernels that a state holds."""
        maps: dict[str, FeatureMap] = {LOW_RANK: DenseMap(shared[LOW_RANK])}
        for name in NAMES:
            starts, columns, values = (shared[f"{name} {part}"] for part in ("starts", "neighbours", "values"))
            maps[name] = NeighbourMap(starts, columns.long(), values)
        return maps

    def _empty(self) -> dict[str, FeatureMap]:
        """The same before the tables are released: nobody has neighbours."""
        starts = torch.zeros(self.items + 1, dtype=torch.int64, device=self.facts.device)
        zeros = torch.zeros(self.items, self.rank, device=self.facts.device)
        nobody = NeighbourMap(starts, starts[:0], zeros[0, :0])
        return {LOW_RANK: DenseMap(zeros)} | dict.fromkeys(NAMES, nobody)

    # ---- weights

    def _moments(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        return {"moments": DenseContribution(self.users.moments(shared, users))}

    def _scale(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        """The standard deviation of each feature over the learners' candidates; of a kernel, not far below its most."""
        mean, square = sums["moments"].value.double() / max(self.users.learners, 1)
        scales = (square - mean.square()).clamp(min=0).sqrt().float()
        by_kernel = with_floor(scales[self.own :].view(-1, len(self.config.decays)))
        scales = torch.cat([scales[: self.own], by_kernel.flatten()])
        scales = torch.where(scales > 0, scales, 1.0)
        start = shared["start"].clone()
        start[0] = shared["start"][0] * scales[0]
        return shared | {"scales": scales, "start": start, "weights": start, "best": start}

    def _derivatives(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        return {"weights": DenseContribution(self.users.derivatives(shared, users))}

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        """A step of Newton on the mean loss with a normal prior about the start, or half the way back where it rose."""
        many = len(shared["weights"])
        total = sums["weights"].value.double() / max((1 - JUDGES) * self.users.learners, 1.0)
        loss, slope, bend = total[0], total[1 : 1 + many], total[1 + many :].view(many, many)
        precision = PRIOR / max((1 - JUDGES) * self.users.learners, 1.0)
        moved = (shared["weights"] - shared["start"]).double()
        loss = loss + precision / 2 * moved.square().sum()
        if float(loss) > float(shared["loss"]):
            return shared | {"weights": (shared["weights"] + shared["best"]) / 2}
        unit = torch.eye(many, dtype=torch.float64, device=bend.device)
        way = torch.linalg.solve((bend + bend.T) / 2 + (precision + _TINY) * unit, slope + precision * moved)
        kept = {"best": shared["weights"], "loss": loss.float()}
        return shared | kept | {"weights": (shared["weights"].double() - way).float()}

    # ---- the judgement

    def _judge(self, shared: Shared, users: UserBatch, _step: int) -> dict[str, Contribution]:
        model = self._model(shared)
        return {"judged": DenseContribution(self.users.judge(shared, users, model, self.own, self.features))}

    def _choose(self, shared: Shared, sums: Mapping[str, PrivateSum], _step: int) -> Shared:
        """Keep the weights, or take one feature alone where it is better; -1 or the feature's place."""
        gains = sums["judged"].value
        best = int(gains.argmax())
        place = -1 if gains[0] >= gains[best] else self.users.place(best, self.own)
        return shared | {"part": torch.tensor(float(place), device=self.facts.device)}

    def _model(self, shared: Shared) -> KernelModel:
        return KernelModel(self.space(shared), shared["best"] / shared["scales"])

    def release(self, shared: Shared) -> KernelModel:
        """The model by the weights, or by the one feature that is better."""
        model, place = self._model(shared), int(shared["part"])
        if place < 0:
            return model
        weights = torch.zeros_like(model.weights)
        weights[place] = 1.0
        return KernelModel(model.space, weights)

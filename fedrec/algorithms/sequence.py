"""`sequence`: a small sequence tower that users train together, and that devices run on their own history.

A device turns its events into public vectors, an encoder (`fedrec.sequences`) predicts the vector of the next one, and
an item's score is the product with its own vector, plus the released popularity. Shared are the projection of public
features and the encoder, some thousand numbers: few enough for user-level privacy. In a round each user adds the
gradient of the loss on some of its own events, each predicted from those before it. The clip is on the user's whole
contribution over all parameters. The server's step is Adam on the noisy mean.

Source: SASRec (Kang and McAuley 2018) and GRU4Rec (Hidasi et al. 2016) with user-level DP-Adam (McMahan et al. 2018).
Different: items are public features and not ids, no statistic over a batch, and a start from public directions.

Two groups of users, one for even items and one for odd ones; the model keeps to the group of a history:

>>> import random
>>> import fedrec
>>> draw = random.Random(0)
>>> events = [(user, item) for user in range(100) for item in draw.sample(range(user % 2, 30, 2), 6)]
>>> data = fedrec.read_log({"user_id": [user for user, _ in events], "item_id": [item for _, item in events]})
>>> from fedrec.algorithms.sequence_settings import SequenceConfig
>>> settings = SequenceConfig(items="ids", dim=8, rounds=40, learning_rate=0.05, length=8)
>>> run = fedrec.simulate(settings, data, epsilon="none", seed=1, progress=False)
>>> {int(item) % 2 for item in run.model.recommend(history=["7", "21"], k=3)["item"]}
{1}
"""

import copy
import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts, Shared
from fedrec.algorithms.flat_parameters import PREFIX, flat, named
from fedrec.algorithms.generative_model import GenerativeModel
from fedrec.algorithms.held_rows import (
    EVIDENCE,
    HELD,
    affordable,
    gathered,
    held_parameters,
    no_evidence,
    popularity_budget,
)
from fedrec.algorithms.sequence_examples import Examples, NegativeDraws, mixed_chances
from fedrec.algorithms.sequence_full import FullContribution, FullObjective
from fedrec.algorithms.sequence_gradients import Score, gradients
from fedrec.algorithms.sequence_items import item_vectors
from fedrec.algorithms.sequence_model import SequenceModel
from fedrec.algorithms.sequence_paths import Paths, code_decoder
from fedrec.algorithms.sequence_settings import DIMS, LEAST_SHARE, Chosen, SequenceConfig, encoder_config
from fedrec.algorithms.server_optimizer import adam
from fedrec.algorithms.stage import Stage, Staged, popularity_stage
from fedrec.data.users import UserBatch
from fedrec.errors import InputError
from fedrec.precision import full_precision
from fedrec.privacy.queries import Contribution, DenseContribution, PrivateSum, SumQuery
from fedrec.sequences.tower import SequenceTower
from fedrec.sequences.trie import CodeTrie
from fedrec.settings import Settings

SECOND_DECAY = 0.99  # of Adam's second moment
_NO_NEGATIVES = NegativeDraws(0, True, None, 0)


class Sequence(Staged):
    """See the module."""

    name: ClassVar[str] = "sequence"
    Config: ClassVar[type[Settings]] = SequenceConfig
    config: SequenceConfig

    def __init__(self, config: SequenceConfig, facts: PublicFacts) -> None:
        super().__init__(config, facts)
        self.steps = Chosen.of(config, facts)
        self._untrained = self._affordable_tower().to(facts.device)
        self.dim = self._untrained.encoder.dim
        self.popularity_share = config.popularity_share or self._open_share()
        self._start = {name: value.detach().clone() for name, value in self._untrained.named_parameters()}
        self._round: tuple[Shared, SequenceTower, Tensor] | None = None

    def _open_share(self) -> float:
        if not self.facts.private:
            return LEAST_SHARE
        return popularity_budget(self.facts, LEAST_SHARE, self._untrained.size, self.steps.rounds)

    def _affordable_tower(self) -> SequenceTower:
        """The tower, untrained. Length of vectors that is left open: the most that the plan can pay for, with own rows.

        Public features start as directions that rank well before any training, so a short vector loses more than a
        long one costs in noise: .68 against .54 HR@10 on MovieLens-1M at epsilon 1 (validation).

        Raises: InputError where rows of items' own are more than it can pay for.
        """
        config = self.config
        if config.items == "features":
            return self._new_tower(config.dim or DIMS[0])
        share = 1 - ((config.popularity_share or LEAST_SHARE) if config.popularity_weight else 0.0)
        most = affordable(self.facts, share, self.steps.rounds)
        for dim in (config.dim,) if config.dim else DIMS:
            tower = self._new_tower(dim)
            if tower.size <= most:
                return tower
        raise InputError(
            f"sequence: items = '{config.items}' makes {tower.size:,} parameters, and {self.facts.users:,} users "
            f"at this epsilon pay for about {most:,.0f}; use items = 'features', or a smaller algorithm.dim"
        )

    def _new_tower(self, dim: int) -> SequenceTower:
        kind, own = encoder_config(self.config.encoder)
        encoder = kind(own, dim, self.config.length, self.facts.seed)
        decoder = None
        if self.config.objective == "generative":
            decoder, self._books = code_decoder(self.config, dim, self.facts)
            self._trie = CodeTrie(decoder.codes.to(self.facts.device))
        return SequenceTower(item_vectors(self.config, dim, self.facts), encoder, decoder)

    @property
    def server_only(self) -> frozenset[str]:
        return HELD | {"moment", "variance", "average", "popularity"}

    @property
    def chosen(self) -> dict[str, Any]:
        return self.steps._asdict() | {"dim": self.dim, "parameters": self._untrained.size}

    @property
    def stages(self) -> tuple[Stage, ...]:
        config = self.config
        share = self.popularity_share if config.popularity_weight else 0.0
        query = SumQuery("tower", (self._untrained.size,), config.clip_norm, (1 - share) / self.steps.rounds)
        training = Stage(self.steps.rounds, (query,), self._gradient, self._descend)
        return (popularity_stage(self.facts, share, self._begin), training) if share else (training,)

    def initial(self) -> Shared:
        zeros = torch.zeros(self._untrained.size, device=self.facts.device)
        start = {PREFIX + name: value.clone() for name, value in self._start.items()}
        level = torch.zeros(len(self.facts.catalogue), device=self.facts.device)
        return start | {"level": level, "average": flat(start, self._start), "moment": zeros, "variance": zeros.clone()}

    def _begin(self, shared: Shared, popularity: Tensor, _release: PrivateSum) -> Shared:
        level = popularity.log()
        begun = shared | {"level": level - level.mean()}
        if not self.facts.private:
            return begun
        return begun | no_evidence(shared["average"]) | {"popularity": popularity}

    def _gradient(self, shared: Shared, users: UserBatch, step: int) -> dict[str, Contribution]:
        config = self.config
        if config.objective in ("full", "masked"):
            return {"tower": self._full(shared, users, self.preparation + step)}
        if config.objective == "generative":
            return {"tower": self._of_codes(shared, users, self.preparation + step)}
        chances = mixed_chances(shared["level"].exp()) if config.negatives_from == "mixed" else None
        drawn = NegativeDraws(config.negatives, config.shared_negatives, chances, self.facts.seed)
        examples = Examples.draw(users, config.length, config.targets, config.newest, drawn, self.preparation + step)
        tower, vectors = self.current(shared)
        level = config.popularity_weight * shared["level"]
        if config.correction and chances is not None:
            level = level - chances.log().float()
        score = Score(config.scale, level, config.loss)
        return {"tower": DenseContribution(gradients(tower, vectors, examples, score))}

    def _of_codes(self, shared: Shared, users: UserBatch, draw: int) -> Contribution:
        config, (tower, vectors) = self.config, self.current(shared)
        assert tower.decoder is not None
        examples = Examples.draw(users, config.length, config.targets, config.newest, _NO_NEGATIVES, draw)
        level = config.popularity_weight * shared["level"]
        paths = Paths.of(config.scale, self._trie, level, tower.decoder.sizes)
        return DenseContribution(gradients(tower, vectors, examples, paths))

    def _full(self, shared: Shared, users: UserBatch, draw: int) -> Contribution:
        config = self.config
        level = config.popularity_weight * shared["level"]
        hidden = config.hidden if config.objective == "masked" else 0.0
        objective = FullObjective(config.scale, level, config.length, hidden)
        together = not self.facts.private
        return FullContribution(*self.current(shared), users, objective, draw, together=together)

    def _descend(self, shared: Shared, sums: Mapping[str, PrivateSum], step: int) -> Shared:
        config, done = self.config, step + 1
        gradient = sums["tower"].value / self.facts.expected_cohort
        made = adam(gradient, shared["moment"], shared["variance"], step, (config.momentum, SECOND_DECAY))
        if self.steps.spread == "tensor":
            made = made._replace(spread=self._by_tensor(made.spread))
        parameters = flat(shared, self._start) - self._step_size(step) * made.mean / made.spread
        kept = max(1, done - self.steps.rounds + math.ceil(config.averaged * self.steps.rounds))
        average = shared["average"] + (parameters - shared["average"]) / kept
        state = dict(shared) | {"moment": made.first, "variance": made.second, "average": average}
        state |= gathered(shared, gradient, sums["tower"].noise_std / self.facts.expected_cohort)
        return state | named(parameters, self._start)

    def _step_size(self, step: int) -> float:
        config, part = self.config, step / self.steps.rounds
        wave = 0.5 * (1 + math.cos(math.pi * part)) if config.decay == "cosine" else 1.0
        return self.steps.learning_rate * wave * min(1.0, (step + 1) / (config.warmup + 1))

    def release(self, shared: Shared) -> SequenceModel:
        average = shared["average"]
        if EVIDENCE in shared:
            rows = ("items.table",) if self.config.items in ("ids", "both") else ()
            average = held_parameters(average, self._start, shared, rows, from_zero=True)
        tower = self._tower(shared | named(average, self._start))
        about = {"encoder": self.config.encoder, "length": self.config.length, "scale": self.config.scale}
        level, vectors = self.config.popularity_weight * shared["level"], self._vectors(tower)
        if tower.decoder is None:
            return SequenceModel(vectors, level, tower.encoder, about).by(self.name)
        decoder = {name: value.detach() for name, value in tower.decoder.named_parameters()}
        codes, books = tower.decoder.codes.to(torch.int32), self._books.to(vectors)
        return GenerativeModel(vectors, level, tower.encoder, about, codes, books, decoder).by(self.name)

    def _tower(self, shared: Shared) -> SequenceTower:
        """A tower of its own with the parameters of `shared`."""
        tower = copy.deepcopy(self._untrained)
        tower.load_state_dict({name: shared[PREFIX + name] for name in self._start})
        return tower.requires_grad_(False)

    def _vectors(self, tower: SequenceTower) -> Tensor:
        with torch.no_grad(), full_precision(self.facts.device):
            vectors: Tensor = tower.items()
        return vectors

    def current(self, shared: Shared) -> tuple[SequenceTower, Tensor]:
        """Return the tower of a round and the vectors of all items, made once for all batches of the round."""
        if self._round is None or self._round[0] is not shared:
            tower = self._tower(shared)
            self._round = (shared, tower, self._vectors(tower))
        return self._round[1:]

    def _by_tensor(self, spread: Tensor) -> Tensor:
        """One spread for all entries of a parameter: under noise an entry's own would measure the noise alone."""
        parts = spread.split([start.numel() for start in self._start.values()])
        return torch.cat([part.square().mean().sqrt().expand_as(part) for part in parts])

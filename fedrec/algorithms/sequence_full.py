"""Each user's gradient of the cross-entropy over ALL items, for every event of the window that is predicted.

The objective of the plain models that others compare with: SASRec and GRU4Rec with the full softmax (every event from
those before it), and BERT4Rec (a part of the events, hidden from an encoder that sees the others). It is made for runs
without privacy and for tables with a row an item: all users together cost what a minibatch of the same users costs.

Under privacy users are computed one at a time, without padding. So the shapes of all products, and with them the bits
of a user's gradient, follow from that user alone; and no row of the table is kept for a whole batch of users. Without
privacy nobody's part is bounded, and users of similar length are computed together: the sum is the same but for
rounding, at half the time.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from fedrec import draws
from fedrec.data.users import UserBatch
from fedrec.parallel import in_order
from fedrec.privacy.fixed_point import Lattice, add_whole
from fedrec.privacy.queries import Contribution
from fedrec.rowwise import as_written
from fedrec.sequences.masked import Masked
from fedrec.sequences.tower import SequenceTower, running_means

_HIDE = 0x93
_NUMBERS_AT_ONCE = 1 << 15  # of a user's row, so that they stay in a CPU's cache
_TOGETHER = 32  # users of a padded group at most
_SCORED_AT_ONCE = 128  # predictions against all items, so that they stay in a CPU's cache


@dataclass(frozen=True)
class FullObjective:
    """What the loss is made of: score = scale * <prediction, item vector> + level.

    Attributes:
        scale: of the inner product.
        level: (items,), constant.
        length: events that a prediction may use. The loss is the sum over the predicted events, divided by it.
        hidden: part of the events that `masked` hides and predicts; 0 predicts every event from those before it.
    """

    scale: float
    level: Tensor
    length: int
    hidden: float


class FullContribution(Contribution):
    """Gradients of B users, (P,) each, in the order of `tower.named_parameters()`.

    Args:
        tower: holds the parameters.
        vectors: (items, d) of all items, made from these parameters.
        users: B users.
        objective: the loss.
        round_index: number of the round, of the users' own draws.
        together: add up users of similar length in one pass, where all weights are 1: without privacy alone.
    """

    def __init__(
        self,
        tower: SequenceTower,
        vectors: Tensor,
        users: UserBatch,
        objective: FullObjective,
        round_index: int,
        *,
        together: bool = False,
    ) -> None:
        self.vectors, self.users, self.objective, self.together = vectors, users, objective, together
        self.items = tower.items
        self.encoder = copy.deepcopy(tower.encoder).requires_grad_(True)
        self.sizes = {name: value.numel() for name, value in tower.named_parameters()}
        self.keys = draws.mix(users.keys + round_index)
        known = torch.full((len(users),), users.ordered, device=users.device)
        self.ordered = (known if users.tied is None else known & ~users.tied).tolist()
        self.ends = users.offsets[1:].tolist()
        self.counts = users.lengths.clamp(max=objective.length + 1).tolist()

    @property
    def shape(self) -> tuple[int, ...]:
        return (sum(self.sizes.values()),)

    def norms(self) -> Tensor:
        norms = torch.zeros(len(self.users), dtype=torch.float64, device=self.users.device)
        for (user,), row in self._rows([[user] for user in range(len(self.users))]):
            norms[user] = row.double().norm()
        return norms

    def unit_weights(self) -> Tensor:
        return torch.ones(len(self.users), dtype=torch.float64, device=self.users.device)

    def add_to(self, total: Tensor, weights: Tensor, lattice: Lattice) -> None:
        part = torch.zeros(self.shape, dtype=torch.float64, device=total.device)
        each = weights.double().tolist()
        used = [user for user, weight in enumerate(each) if weight != 0]
        alike = self.together and all(each[user] == 1 for user in used)
        for group, row in self._rows(self._groups(used) if alike else [[user] for user in used]):
            for into, some in zip(part.split(_NUMBERS_AT_ONCE), row.split(_NUMBERS_AT_ONCE), strict=True):
                into += lattice.whole(some.double().mul_(each[group[0]]))
        add_whole(total, part.view(total.shape))

    def dense(self, row: int) -> Tensor:
        return next(self._rows([[row]]))[1]

    def _groups(self, users: list[int]) -> list[list[int]]:
        """Cut users into groups that waste little on padding; a user without an order is a group."""
        groups: list[list[int]] = []
        for user in sorted(users, key=lambda user: -self.counts[user]):
            last = groups[-1] if groups else []
            fits = last and self.counts[user] >= self.encoder.fill * self.counts[last[0]]
            if fits and len(last) < _TOGETHER and self.ordered[user] and self.ordered[last[0]]:
                last.append(user)
            else:
                groups.append([user])
        return groups

    def _rows(self, groups: list[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield (users, the sum of their gradients (P,) float32).

        `rowwise` pauses: no user of a group of one meets another one's numbers, and larger ones are not bounded.
        """
        with as_written(), torch.enable_grad():
            yield from zip(groups, in_order(self._row, groups, self.users.device), strict=True)

    def _row(self, group: list[int]) -> Tensor:
        with torch.enable_grad():  # a thread of its own starts without
            return self._gradient([user for user in group if self.counts[user] > 1])

    def _gradient(self, group: list[int]) -> Tensor:
        row = torch.zeros(self.shape, device=self.users.device)
        if not group:
            return row
        histories = [self.users.items[self.ends[user] - self.counts[user] : self.ends[user]] for user in group]
        events = pad_sequence(histories, batch_first=True, padding_value=-1)
        inputs, leaf, targets, predicted = self._predict(events, group)
        parts = dict(zip(self.sizes, row.split(list(self.sizes.values())), strict=True))
        slopes, of_predicted = self._slopes(predicted.detach(), targets)
        parameters = dict(self.encoder.named_parameters())
        found = torch.autograd.grad(predicted, [leaf, *parameters.values()], of_predicted, allow_unused=True)
        slopes.index_add_(0, inputs[inputs >= 0], found[0][inputs >= 0])
        for name, slope in zip(parameters, found[1:], strict=True):
            if slope is not None:
                parts[f"encoder.{name}"].copy_(slope.flatten())
        if self.items.rows is not None and self.items.table is not None:
            of_table = parts["items.table"].view(self.items.table.shape)
            for column in self.items.rows.unbind(1):
                of_table.index_add_(0, column, slopes)
        if self.items.features is not None:
            parts["items.projection"].copy_((self.items.features.mT @ slopes).flatten())
        return row

    def _predict(self, events: Tensor, group: list[int]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Predict what a group of users learns from: n of their events (B, L + 1), -1 behind the last.

        Returns: events that the encoder sees (B, L or L + 1), -1 behind the last; their vectors, a leaf; targets (n,);
        predictions (n, d).
        """
        keys, there = self.keys[group], events >= 0
        if self.objective.hidden and self.ordered[group[0]]:
            hide = draws.coins(keys, _HIDE, events.shape[1], self.objective.hidden) & there
            hide.scatter_(1, there.sum(1, keepdim=True) - 1, True)  # what comes next is asked of a device
            leaf = self.vectors[events.clamp(min=0)].requires_grad_(True)
            assert isinstance(self.encoder, Masked)
            return events, leaf, events[hide], self.encoder.revealed(leaf, there, hide, keys)[hide]
        asked = there[:, 1:]
        inputs = events[:, :-1].masked_fill(~asked, -1)
        leaf = self.vectors[inputs.clamp(min=0)].requires_grad_(True)
        if self.ordered[group[0]]:
            predicted = self.encoder.together(leaf, asked, keys)[asked]
        else:
            predicted = self._of_means(leaf[0])
        return inputs, leaf, events[:, 1:][asked], predicted

    def _slopes(self, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the slopes of the loss in the items' vectors as scored, (items, d), and in `predicted` (T, d)."""
        scale = self.objective.scale
        of_items, of_predicted = torch.zeros_like(self.vectors), torch.empty_like(predicted)
        several = (part.split(_SCORED_AT_ONCE) for part in (predicted, targets[:, None], of_predicted))
        for some, place, into in zip(*several, strict=True):
            error = torch.softmax(torch.addmm(self.objective.level, some, self.vectors.mT, alpha=scale), 1)
            error.scatter_(1, place, error.gather(1, place) - 1).mul_(scale / self.objective.length)
            of_items.addmm_(error.mT, some)
            torch.mm(error, self.vectors, out=into)
        return of_items, of_predicted

    def _of_means(self, leaf: Tensor) -> Tensor:
        """Predict from the mean of the events so far, as for a user whose order is unknown."""
        everything = torch.ones(1, len(leaf), dtype=torch.bool, device=leaf.device)
        every = torch.arange(len(leaf), device=leaf.device)[None]
        means = running_means(leaf[None], everything, every)[0][:, None]  # (L, 1, d)
        found: Tensor = self.encoder(means, everything[0][:, None], torch.zeros_like(every).mT)[:, 0]
        return found

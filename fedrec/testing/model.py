"""The contract that every algorithm's released model keeps on a device; part of `AlgorithmContract`."""

import json
import math
from dataclasses import replace

import pytest
import torch

from fedrec.model import ReleasedModel
from fedrec.testing.toy_users import ITEMS, batch_of, close, edge_rows, planted_rows


class ModelContract:
    """Tests of the fixture `model`."""

    learns_taste = True
    """False for algorithms that rank alike for everybody (popularity): they need not beat chance on planted tastes."""
    exact_batches = 2e-4
    """Relative difference allowed between a user alone and the same user in a batch (float32 rounding)."""

    def test_it_recommends_and_never_what_was_seen(self, model: ReleasedModel) -> None:
        odd = batch_of([row for row in edge_rows() if len(set(row)) <= ITEMS - 10])
        items, scores = model.recommend(odd, 10)
        assert items.shape == scores.shape == (len(odd), 10)
        assert (scores.diff(dim=1) <= 0).all()
        for row in range(len(odd)):
            assert len(set(items[row].tolist())) == 10
            assert not set(items[row].tolist()) & set(odd.slice(row, row + 1).items.tolist())

    def test_a_list_ends_where_nothing_is_left(self, model: ReleasedModel) -> None:
        rows = edge_rows()
        items, scores = model.recommend(batch_of(rows), ITEMS)
        assert ((items == -1) == scores.isneginf()).all()
        for row, listed in zip(rows, items.tolist(), strict=True):
            assert sorted(listed) == sorted([-1] * len(set(row)) + list(set(range(ITEMS)) - set(row)))

    def test_it_learns_planted_tastes_better_than_chance(self, model: ReleasedModel) -> None:
        if not self.learns_taste:
            pytest.skip("ranks alike for everybody by design")
        rows, held_out = planted_rows(seed=1)
        items, _ = model.recommend(batch_of(rows), 5)
        hits = (items == torch.tensor(held_out)[:, None]).any(1).float().mean()
        # By chance, as by popularity: 5 of the 35 unseen items. Knowing the taste: all 5 are left of it.
        assert hits > 0.6, float(hits)

    def test_restoring_gives_the_same_scores(self, model: ReleasedModel) -> None:
        odd = batch_of(edge_rows())
        manifest = json.loads(json.dumps(model.manifest()))
        tensors = {name: tensor.clone() for name, tensor in model.tensors().items()}
        again = type(model).restore(tensors, manifest)
        assert torch.equal(again.score(again.fit(odd)), model.score(model.fit(odd)))
        assert json.dumps(again.manifest()) == json.dumps(model.manifest())
        moved = model.to("cpu")
        assert torch.equal(moved.score(moved.fit(odd)), model.score(model.fit(odd)))

    def test_fitting_alone_equals_fitting_in_a_batch(self, model: ReleasedModel) -> None:
        odd = batch_of(edge_rows())
        together = model.score(model.fit(odd))
        for row in range(len(odd)):
            alone = model.score(model.fit(odd.slice(row, row + 1)))
            assert alone.shape == (1, ITEMS)
            assert close(alone[0], together[row], self.exact_batches), row

    def test_a_user_without_an_order_is_ranked_as_in_an_unordered_log(self, model: ReleasedModel) -> None:
        odd = batch_of(edge_rows())
        tied = torch.arange(len(odd)) % 2 == 0
        known, unknown = (model.score(model.fit(users)) for users in (odd, odd.unordered()))
        mixed = model.score(model.fit(replace(odd, tied=tied)))
        assert close(mixed, torch.where(tied[:, None], unknown, known), self.exact_batches)

    def test_folding_in_equals_refitting(self, model: ReleasedModel) -> None:
        rows = [row for row in edge_rows() if len(set(row)) < ITEMS]
        state, people = model.fit(batch_of(rows)), batch_of(rows).people
        for step in range(3):
            new = [next(item for item in range(step, ITEMS) if item not in row) for row in rows]
            state = model.fold_in(state, torch.tensor(new))
            rows = [[*row, item] for row, item in zip(rows, new, strict=True)]
            refitted = model.fit(replace(batch_of(rows), people=people))
            assert state.keys() == refitted.keys()
            assert close(model.score(state), model.score(refitted), 1e-3), step

    def test_folding_in_leaves_the_state_that_it_got(self, model: ReleasedModel) -> None:
        state = model.fit(batch_of(edge_rows()))
        kept = {name: tensor.clone() for name, tensor in state.items()}
        model.fold_in(state, torch.full((len(edge_rows()),), 3))
        assert all(torch.equal(state[name], kept[name]) for name in kept)

    def test_scores_of_candidates_are_those_of_the_full_list(self, model: ReleasedModel) -> None:
        odd = batch_of(edge_rows())
        state = model.fit(odd)
        candidates = torch.randint(0, ITEMS, (len(odd), 9), generator=torch.Generator().manual_seed(5))
        full = model.score(state)
        assert close(model.score(state, candidates), full.gather(1, candidates), 1e-5)

    def test_states_have_a_row_for_each_user(self, model: ReleasedModel) -> None:
        odd = batch_of(edge_rows())
        assert all(len(tensor) == len(odd) for tensor in model.fit(odd).values())
        assert math.prod(model.score(model.fit(odd)).shape) == len(odd) * ITEMS

    def test_the_number_of_threads_changes_only_rounding(self, model: ReleasedModel) -> None:
        """Also where autograd runs: what one job writes into a tensor must not count as a change of another's part."""
        many = batch_of(planted_rows()[0] * 3)
        before = torch.get_num_threads()
        scores = []
        for threads in (1, 3):
            torch.set_num_threads(threads)
            try:
                scores.append(model.score(model.fit(many)))
            finally:
                torch.set_num_threads(before)
        assert close(scores[0], scores[1], self.exact_batches)

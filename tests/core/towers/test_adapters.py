"""Low-rank adapters and starts at item vectors: exact at first, small on the wire, merged in the release."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from fedrec.algorithms.als import ALS, ALSConfig
from fedrec.algorithms.base import ItemStart, PublicFacts, Shared
from fedrec.algorithms.tower_sgd import FROZEN, TowerSGD, TowerSGDConfig
from fedrec.data.catalogue import Catalogue
from fedrec.errors import InputError
from fedrec.privacy.clipping import clip_weights
from fedrec.privacy.queries import PrivateSum
from fedrec.testing.toy_users import ITEMS, USERS, batch_of, edge_rows, planted_catalogue
from fedrec.towers.adapters import SIGNAL, numbers_a_rank, paid_rank
from fedrec.towers.base import ItemTower, tower

DIM = 6
TOWERS: dict[str, dict[str, Any]] = {
    "id": {"name": "id", "dim": DIM},
    "content": {"name": "content", "dim": DIM, "features": 8, "hidden": 5},
    "hybrid": {"name": "hybrid", "dim": DIM, "features": 8, "id_scale": 0.5},
}
ADAPTERS = ["lora", "map"]


def a_start() -> ItemStart:
    generator = torch.Generator().manual_seed(1)
    return ItemStart(0.5 * torch.randn(ITEMS, DIM, generator=generator), torch.arange(ITEMS) % 4 != 0)


def facts(mu: float = 2.0, start: ItemStart | None = None) -> PublicFacts:
    return PublicFacts(planted_catalogue(), USERS, float(USERS), mu=mu, start=start)


def make(name: str, adapter: str | None = None, start: ItemStart | None = None, **settings: Any) -> TowerSGD:
    chosen = TOWERS[name] | ({} if adapter is None else {"adapter": adapter}) | settings
    return TowerSGD(TowerSGDConfig(tower=chosen, rounds=3, targets=2, negatives=4), facts(start=start))


def one_step(algorithm: TowerSGD, shared: Shared) -> Shared:
    users, at = batch_of(edge_rows()), algorithm.preparation
    part = algorithm.contribute(algorithm.for_devices(shared, at), users, at)["tower"]
    total = part.weighted_sum(clip_weights(part, 1.0))
    return algorithm.update(shared, {"tower": PrivateSum(total.float(), 0.0)}, at)


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", TOWERS)
def test_an_adapted_tower_begins_at_the_whole_one_and_changes_nothing_else(name: str, adapter: str) -> None:
    whole, own = make(name, start=a_start()), make(name, adapter, a_start(), adapter_rank=2)
    shared = own.initial()
    assert torch.equal(own.release(shared).items, whole.release(whole.initial()).items)
    after = one_step(own, shared)
    frozen = [key for key in shared if key.startswith(FROZEN)]
    assert frozen
    assert all(torch.equal(after[key], shared[key]) for key in frozen)
    assert not torch.equal(own.release(after).items, own.release(shared).items)
    assert own.release(after).tensors().keys() == whole.release(whole.initial()).tensors().keys()


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("name", TOWERS)
def test_a_user_sends_the_adapter_alone_and_the_clip_is_on_all_of_it(name: str, adapter: str) -> None:
    own, users = make(name, adapter, a_start(), adapter_rank=1), batch_of(edge_rows())
    expected = {
        ("id", "lora"): ITEMS + DIM,
        ("content", "lora"): (8 + DIM) + (8 + 5) + (5 + DIM),
        ("hybrid", "lora"): (8 + DIM) + (ITEMS + DIM),
    }.get((name, adapter), 2 * DIM)
    (query,) = own.queries(own.preparation)
    assert query.size == own.size == expected < make(name).size
    part = own.contribute(own.for_devices(own.initial(), own.preparation), users, own.preparation)["tower"]
    rows = torch.stack([part.dense(row) for row in range(len(users))]).double()
    assert rows.shape[1] == query.size
    assert torch.allclose(part.norms(), rows.norm(dim=1), atol=1e-6)
    clipped = rows * clip_weights(part, 0.01)[:, None]
    assert clipped.norm(dim=1).max() <= 0.01 * (1 + 1e-6)


def test_nodes_without_the_other_run_compute_the_same_from_the_state_that_they_get() -> None:
    server, node = make("hybrid", "lora", a_start()), make("hybrid", "lora")
    sent = server.for_devices(server.initial(), server.preparation)
    users, at = batch_of(edge_rows()), server.preparation
    ours, theirs = (each.contribute(sent, users, at)["tower"].dense(3) for each in (server, node))
    assert torch.equal(ours, theirs)


def test_the_rank_is_what_users_times_mu_can_pay_for() -> None:
    kind = tower("id")
    base = kind(kind.Config.model_validate({"dim": 64, "adapter": "map"}), planted_catalogue(), 0)
    assert numbers_a_rank(base) == 128
    assert paid_rank(base, 1.0, 6) == 1
    enough = (6 * 5.5 * 128) ** 0.5 / SIGNAL
    assert paid_rank(base, enough, 6) == 5
    assert paid_rank(base, 1e9, 6) == 64
    config = TowerSGDConfig(tower={"name": "id", "dim": DIM, "adapter": "map"}, rounds=3)
    assert TowerSGD(config, facts(mu=0.01)).chosen["adapter_rank"] == 1
    assert TowerSGD(config, facts(mu=2.0)).chosen["adapter_rank"] == DIM
    assert "adapter_rank" not in make("id").chosen


def test_a_tower_begins_at_the_vectors_of_another_run_where_it_has_the_item() -> None:
    start = a_start()
    for name in ("id", "hybrid"):
        own, fresh = make(name, start=start), make(name)
        items, before = own.release(own.initial()).items, fresh.release(fresh.initial()).items
        assert torch.allclose(items[start.known], start.vectors[start.known], atol=1e-6)
        if name == "id":
            assert torch.equal(items[~start.known], before[~start.known])
    als = ALS(ALSConfig(dim=DIM), facts(start=start)).initial()["items"]
    assert torch.equal(als[start.known], start.vectors[start.known])


def test_content_carries_what_vectors_say_to_items_that_the_other_run_lacks() -> None:
    own, other = make("content", hidden=0), make("content", hidden=0)
    other._untrained.linear.weight.data += 0.3 * torch.randn(DIM, 8, generator=torch.Generator().manual_seed(2))
    vectors = other._untrained(torch.arange(ITEMS)).detach()
    known = torch.arange(ITEMS) % 3 != 0
    own._untrained.begin(vectors * known[:, None], known)
    found = own._untrained(torch.arange(ITEMS)).detach()
    before = make("content", hidden=0)._untrained(torch.arange(ITEMS)).detach()
    assert (found - vectors)[~known].norm() < 0.1 * (before - vectors)[~known].norm()


def test_what_cannot_begin_or_be_adapted_is_refused_in_one_line() -> None:
    class Mine(ItemTower):
        name = "mine"
        Config = tower("id").Config

        def __init__(self, config: Any, catalogue: Catalogue, seed: int) -> None:
            super().__init__(config, catalogue, seed)
            self.table = torch.nn.Embedding(len(catalogue), config.dim)

        def encode(self, items: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            found: torch.Tensor = self.table(rows)
            return found

    from fedrec.towers.adapters import AdaptedTower

    mine = Mine(Mine.Config.model_validate({"dim": DIM, "adapter": "lora"}), planted_catalogue(), 0)
    with pytest.raises(InputError, match="take 'map'"):
        AdaptedTower(mine, 1, 0)
    with pytest.raises(InputError, match="cannot start from item vectors"):
        mine.begin(a_start().vectors, a_start().known)
    with pytest.raises(InputError, match="set the same dim"):
        TowerSGD(TowerSGDConfig(tower={"name": "id", "dim": 5}), facts(start=a_start()))
    wrong = replace(facts(), start=a_start())
    with pytest.raises(InputError, match="set the same dim"):
        ALS(ALSConfig(dim=5), wrong).initial()

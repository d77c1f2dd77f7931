"""Central peers beside slow, obvious computations, their choice of settings, and their rows and page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sparse
from fedrec_sim.benchmarks import peer_runs, peers, privacy_cost, results
from fedrec_sim.benchmarks.grid import FULL, SECTIONS, Row, Section
from fedrec_sim.benchmarks.peers import PEERS, CentralModel, chosen, ease, ials, item_knn, matrix, popularity

from fedrec.data.histories import Histories

DRAW = np.random.default_rng(0)


def events(users: int, items: int) -> np.ndarray:
    made = (DRAW.random((users, items)) < 0.3).astype(np.float32)
    made[:, 0] = 1
    return made


def dense_ease(known: np.ndarray, penalty: float) -> np.ndarray:
    inverse = np.linalg.inv(known.T.astype(np.float64) @ known + penalty * np.eye(known.shape[1]))
    weights = -inverse / np.diag(inverse)[None, :]
    np.fill_diagonal(weights, 0)
    return weights


@pytest.mark.parametrize(("users", "items"), [(40, 15), (15, 40)], ids=["by items", "by users"])
def test_ease_is_the_closed_form(users: int, items: int) -> None:
    known, profile = events(users, items), events(6, items)
    found = ease(sparse.csr_matrix(known), 3.0)(sparse.csr_matrix(profile))
    np.testing.assert_allclose(found, profile @ dense_ease(known, 3.0), rtol=2e-4, atol=2e-5)


def test_ease_of_the_most_popular_items_leaves_the_others_at_zero() -> None:
    known = events(40, 15)
    known[:, 5:] *= DRAW.random((40, 10)) < 0.4
    best = np.sort(np.argsort(-known.sum(0), kind="stable")[:6])
    found = ease(sparse.csr_matrix(known), 3.0, most_items=6)(sparse.csr_matrix(known))
    np.testing.assert_allclose(found[:, best], known[:, best] @ dense_ease(known[:, best], 3.0), rtol=2e-4, atol=2e-5)
    assert not np.delete(found, best, axis=1).any()


def test_item_knn_is_the_shrunk_cosine_of_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "_BLOCK", 4)
    known, profile = events(30, 11), events(5, 11)
    weight = known * known.sum(1, keepdims=True) ** -0.25
    wanted = np.zeros((11, 11))
    for to in range(11):
        near = {
            item: weight[:, item]
            @ weight[:, to]
            / (np.linalg.norm(weight[:, item]) * np.linalg.norm(weight[:, to]) + 2)
            for item in range(11)
            if item != to
        }
        for item in sorted(near, key=near.__getitem__)[-3:]:
            wanted[item, to] = near[item]
    found = item_knn(sparse.csr_matrix(known), 3, 2, 0.5)(sparse.csr_matrix(profile))
    np.testing.assert_allclose(found, profile @ wanted, rtol=1e-4, atol=1e-5)


def test_ials_folds_a_history_in_exactly() -> None:
    implicit = pytest.importorskip("implicit.cpu.als")
    known, kept = events(30, 12), []
    plain = implicit.AlternatingLeastSquares.fit

    def fit(self: object, *arguments: object, **settings: object) -> None:
        plain(self, *arguments, **settings)
        kept.append(np.asarray(self.item_factors))

    implicit.AlternatingLeastSquares.fit = fit
    try:
        found = ials(sparse.csr_matrix(known), 4.0, 0.5)(sparse.csr_matrix(known[:3]))
    finally:
        implicit.AlternatingLeastSquares.fit = plain
    rows = kept[0].astype(np.float64)
    for user in range(3):
        weight = np.where(known[user] > 0, 4.0, 1.0)
        system = (rows.T * weight) @ rows + 0.5 * np.eye(rows.shape[1])
        vector = np.linalg.solve(system, rows.T @ (weight * known[user]))
        np.testing.assert_allclose(found[user], rows @ vector, rtol=1e-3, atol=1e-4)


def test_recency_weighs_the_newest_most_and_ties_go_by_popularity() -> None:
    log = Histories(np.array([0, 3, 4]), np.array([0, 1, 2, 3], dtype=np.int32), 5)
    seen: list[np.ndarray] = []

    def scores(profiles: sparse.csr_matrix) -> np.ndarray:
        seen.append(profiles.toarray())
        return np.zeros(profiles.shape, dtype=np.float32)

    counts = np.array([3.0, 9.0, 1.0, 2.0, 0.0])
    model = CentralModel("toy", scores, counts, decay=0.5)
    state = model.fit(log.batch(np.arange(2), 0))
    np.testing.assert_allclose(seen[0], [[0.25, 0.5, 1, 0, 0], [0, 0, 0, 1, 0]])
    assert state["scores"].argsort(descending=True)[0].tolist() == [1, 0, 3, 2, 4]
    assert model.score(state, state["scores"].argsort()[:, :2]).shape == (2, 2)
    assert popularity(matrix(log)).tolist() == [1, 1, 1, 1, 0]


def test_a_setting_is_chosen_part_by_part() -> None:
    peer, asked = next(peer for peer in PEERS if peer.name == "iALS"), []

    def quality(setting: dict[str, float]) -> float:
        asked.append(dict(setting))
        return -abs(setting["confidence"] - 30) - abs(setting["penalty"] - 0.3)

    assert chosen(peer, quality) == {"confidence": 30.0, "penalty": 0.3}
    assert len(asked) == len({tuple(sorted(each.items())) for each in asked})


FEW = (
    replace(PEERS[0], steps=(("penalty", (10.0, 100.0)),)),
    replace(PEERS[2], steps=(("shrink", (0.0, 20.0)),)),
    replace(PEERS[3], steps=(("decay", (0.5, 0.9)),)),
)
DATA = {"name": "quickstart", "users": 120, "items": 150, "interactions_per_user": 6}
ROWS = tuple(
    Row(label, {"name": "popularity"}, epsilon, delta=1e-5)
    for label in ("kernel-rank", "popularity", "kernel-rank, no order")
    for epsilon in ("none", 2.0)
)


def test_peers_are_tuned_on_validation_kept_and_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = Section("toy", "Toy data", DATA, ROWS, FULL, seeds=2)
    monkeypatch.setattr(peer_runs, "PEERS", FEW)
    split_on: list[str] = []
    plain = peer_runs.splits.split
    monkeypatch.setattr(
        peer_runs.splits, "split", lambda data, kind, on, seed: split_on.append(on) or plain(data, kind, on, seed)
    )
    store, said = results.Results(tmp_path / "results.json"), []
    assert peer_runs.fill(store, [toy], None, None, said.append) == []
    tuned = [line for line in said if "validation" in line]
    assert tuned
    assert said.index(tuned[-1]) < next(i for i, line in enumerate(said) if "seed 1" in line), "tuned once, not a seed"
    knn, recency = (store.runs[f"toy | central {name} | 0"]["chosen"] for name in ("item-kNN", "item-kNN, recency"))
    assert knn == {name: value for name, value in recency.items() if name != "decay"}, "tuned from the plain one"
    assert split_on.count("validation") == 3
    again: list[str] = []
    peer_runs.fill(results.Results(tmp_path / "results.json"), [toy], None, None, again.append)
    assert again == []
    results.fill(store, [toy], 1, None, lambda line: None)
    central = [(peer.name, runs) for peer, runs in peer_runs.of(toy, store)]
    assert [(name, len(runs)) for name, runs in central] == [("EASE", 2), ("item-kNN", 2), ("item-kNN, recency", 2)]
    assert "| central EASE | central | 0." in results.table(toy, store, central)
    panels = privacy_cost.panels([toy], store)
    page = privacy_cost.page(panels, "images/cost.svg")
    best = max(central, key=lambda peer: np.mean([run["metrics"]["full"]["ndcg@10"] for run in peer[1]]))[0]
    assert panels[0].best == best
    assert f"| central {best} | central | " in page
    assert "100 % | 2 |" in page
    assert "| `kernel-rank, no order` | none | " in page
    other = replace(toy, rows=tuple(replace(row, algorithm={"name": "popularity", "counts": True}) for row in ROWS))
    assert "| `kernel-rank, no order`, older settings | none | " in privacy_cost.page(
        privacy_cost.panels([other], store), "images/cost.svg"
    )
    privacy_cost.draw(panels, tmp_path / "one.svg")
    privacy_cost.draw(panels, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_data_that_are_not_there_stop_no_other_table(tmp_path: Path) -> None:
    lost = Section("lost", "Lost", {"path": "lost/events.parquet"}, ROWS, FULL, seeds=1)
    store = results.Results(tmp_path / "results.json")
    assert len(peer_runs.fill(store, [lost], None, tmp_path, lambda line: None)) == 1
    failures = results.fill(store, [lost], None, tmp_path, lambda line: None)
    assert len(failures) == len(ROWS)
    assert all("lost/events.parquet" in failure for failure in failures)


def test_the_ablations_are_beside_every_headline() -> None:
    for section in SECTIONS:
        labels = {row.label for row in section.rows}
        if section.name in ("ml-100k", "ml-latest-small", "ml-1m", "beauty"):
            assert {"kernel-rank, no order", "kernel-rank, no metadata"} <= labels
    row = next(row for section in SECTIONS for row in section.rows if row.label == "kernel-rank, no metadata")
    toy = Section("toy", "Toy data", DATA, (row,), FULL, seeds=1)
    bare, _ = results._data(results.scenario(toy, row, 0), None, metadata=False)
    full, _ = results._data(results.scenario(toy, row, 0), None, metadata=True)
    assert full.catalogue.blocks
    assert not bare.catalogue.blocks
    assert bare.catalogue.ids == full.catalogue.ids
    assert results.settings_hash(toy, row, 0) != results.settings_hash(
        toy, Row(row.label, row.algorithm, row.epsilon), 0
    )

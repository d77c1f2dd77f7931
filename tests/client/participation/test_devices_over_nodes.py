"""Devices answer rounds from their stores without torch, with the bits of nodes that compute the same with torch."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fedrec_client import Event, KeyFile
from fedrec_client.consent.device_ledger import FILE
from fedrec_client.consent.policy import DataPolicy, Policy, RunPolicy
from fedrec_client.participation import child_run, device_run
from fedrec_client.participation.store_mark import StoreMark, mark_of
from fedrec_client.store import Store
from fedrec_client.torch_run import prepared
from safetensors.torch import load_file

from fedrec.cli import run as fedrec
from fedrec.data.histories import Histories
from fedrec.errors import FedrecError
from fedrec.ondevice.kernel_items import features_of
from fedrec.privacy.discrete.stream import WordStream
from tests.client.participation.child_in_thread import InThread
from tests.client.participation.devices_over_nodes import DAY_ONE, FEW, Asked, Devices, person, rows_of

LOCAL, DISTRIBUTED = ("privacy.trust=local",), ("privacy.trust=distributed", "privacy.colluding=0.0")
TRUST = ("forgot", "restored", "everything")
HIDDEN = ("privacy.participation=hidden", "privacy.sampling=0.5")
KEY = 12345
ALS = ("algorithm.name=als", "algorithm.dim=2", "algorithm.rounds=2")


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Devices:
    made = Devices(tmp_path / "nodes")
    monkeypatch.setenv(*made.environment())
    return made


def with_torch(devices: Devices, n: int, asked: Asked, words=WordStream.fresh) -> dict[str, torch.Tensor]:
    """The oracle: the same people's events in a file, computed by a node with torch."""
    run = prepared(asked.text, devices.oracle(n), FEW, words, {})
    shared = {name: torch.from_numpy(part.copy()) for name, part in asked.shared.items()}
    return run.sums(shared, asked.round_index, asked.cohort, asked.give, noise=asked.noise)


def verified(folder: Path) -> None:
    assert fedrec(["audit", "verify", str(folder), "--trust-run-key"]) == 0


def test_central_sums_of_stores_have_the_bits_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    devices = Devices(tmp_path / "hubs", sizes=(4, 4, 4))
    monkeypatch.setenv(*devices.environment())
    verified(devices.deploy(tmp_path / "run"))
    for n in range(3):
        (asked,) = devices.seen[n]
        assert asked.give.all()
        expected = with_torch(devices, n, asked)
        assert {name: part.tolist() for name, part in asked.sums.items()} == {
            name: part.tolist() for name, part in expected.items()
        }
        assert expected["popularity"].any()


def test_local_sums_have_the_bits_noise_and_all(devices: Devices, tmp_path: Path) -> None:
    verified(devices.deploy(tmp_path / "run", *LOCAL, words=lambda: WordStream.seeded("words")))
    for n in range(3):
        (asked,) = devices.seen[n]
        expected = with_torch(devices, n, asked, lambda: WordStream.seeded("words"))
        np.testing.assert_array_equal(asked.sums["popularity"], expected["popularity"].numpy())


@pytest.mark.parametrize("changes", [(), pytest.param(ALS, marks=pytest.mark.slow)], ids=["popularity", "als"])
def test_distributed_sums_differ_by_rounding_and_a_solve_alone(
    changes: tuple[str, ...], devices: Devices, tmp_path: Path
) -> None:
    verified(devices.deploy(tmp_path / "run", *DISTRIBUTED, *changes, words=lambda: WordStream.seeded("words")))
    for n in range(3):
        assert len(devices.seen[n]) == (3 if changes else 1)
        for asked in devices.seen[n]:
            expected = with_torch(devices, n, asked, lambda: WordStream.seeded("words"))
            for name, part in expected.items():
                wide = 1 << asked.bits[name]
                apart = (asked.sums[name].reshape(-1) - part.numpy().reshape(-1)) % wide
                assert np.minimum(apart, wide - apart).max() <= 2 * devices.sizes[n], name


def test_secret_coins_of_devices_decide_who_counts_and_all_pay(
    devices: Devices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coins, drawn = device_run.coins.draw, []

    def noted(users: int, sampling: float, words: WordStream) -> np.ndarray:
        drawn.append(coins(users, sampling, words))
        return drawn[-1]

    monkeypatch.setattr(device_run.coins, "draw", noted)
    added, add = [], device_run.DeviceRun._add
    monkeypatch.setattr(device_run.DeviceRun, "_add", lambda self, *given: added.append(given[3]) or add(self, *given))
    verified(devices.deploy(tmp_path / "run", *DISTRIBUTED, *HIDDEN))
    assert sorted(len(each) for each in drawn) == [1, 4, 4]
    assert len(added) == 9, "each is computed, whatever its coin"
    for n, size in enumerate(devices.sizes):
        assert [charge["gave"] for u in range(size) for charge in devices.charges(n, u)] == ["all"] * size


def test_each_device_pays_in_its_own_ledger_before_its_data_enter(devices: Devices, tmp_path: Path) -> None:
    devices.deploy(tmp_path / "run", *DISTRIBUTED)
    for n, size in enumerate(devices.sizes):
        for u in range(size):
            (charge,) = devices.charges(n, u)
            assert (charge["paid"], charge["gave"], charge["rows"]) == ("all", "all", 1)
            assert charge["epsilon"] == pytest.approx(4.0, rel=0.01)


def test_one_device_of_a_hub_that_refuses_or_spent_all_adds_zero_and_the_others_do_not(
    devices: Devices, tmp_path: Path
) -> None:
    strict = replace(FEW, run=replace(FEW.run, epsilon=0.5))
    out = replace(FEW, data=DataPolicy(opted_out=True))
    for u, policy in ((0, strict), (1, out)):
        (devices.device(0, u) / "policy.toml").unlink()
        person(devices.device(0, u), [], policy)
    verified(devices.deploy(tmp_path / "run", *LOCAL))
    (asked,) = devices.seen[0]
    assert asked.give.tolist() == [False, False, True, True]
    assert devices.charges(0, 0) == []
    assert [(each["paid"], each["gave"]) for each in devices.charges(0, 1)] == [("all", "none")]
    assert [(each["paid"], each["gave"]) for each in devices.charges(0, 2)] == [("all", "all")]
    assert '"kind":"refused"' in (devices.device(0, 0) / FILE).read_text()


def test_a_single_device_gives_nothing_to_a_server_that_sees_its_sum(devices: Devices, tmp_path: Path) -> None:
    with pytest.raises(FedrecError, match="2 of 3 nodes answered"):
        devices.deploy(tmp_path / "run")
    assert not devices.charges(2)


def zeros_of(devices: Devices, out: Path) -> Asked:
    """A run of trust model local without noise on a known device: the integers of the single device."""
    devices.seen.clear()
    devices.deploy(out, *LOCAL, words=lambda: WordStream.seeded("words"))
    return devices.seen[2][0]


@pytest.mark.parametrize("what", ["forgot", *(pytest.param(name, marks=pytest.mark.slow) for name in TRUST[1:])])
def test_in_a_trust_period_a_device_pays_and_adds_what_one_without_events_adds(
    what: str, devices: Devices, tmp_path: Path
) -> None:
    folder = devices.device(2, 0)
    with Store.open(folder / "events.store", KeyFile(folder / "events.key")) as store:
        if what == "forgot":
            store.forget(str(rows_of(8)[0]))
            StoreMark(folder, store).forgot(DAY_ONE * 2)
        elif what == "everything":
            store.forget(everything=True)
            store.append_many([Event(str(item), "view", DAY_ONE) for item in rows_of(8)])
        else:
            mark_of(folder).write_text('["00"]')
            assert StoreMark(folder, store).trust_period(DAY_ONE * 2, 1.0)
    given = zeros_of(devices, tmp_path / "run")
    assert given.give.all()
    assert [(each["paid"], each["gave"]) for each in devices.charges(2)] == [("all", "all")]
    other = Devices(tmp_path / "empty")
    empty = other.device(2, 0)
    with Store.open(empty / "events.store", KeyFile(empty / "events.key")) as store:
        for recorded in store.events():
            store.forget(recorded.event.item)
    limits = json.loads(other.limits.read_text())
    devices.limits.write_text(json.dumps(limits))
    np.testing.assert_array_equal(given.sums["popularity"], zeros_of(other, tmp_path / "run2").sums["popularity"])


def test_old_events_and_unknown_items_do_not_enter(devices: Devices, tmp_path: Path) -> None:
    folder = devices.device(2, 0)
    (folder / "policy.toml").unlink()
    person(folder, [], replace(FEW, data=DataPolicy(oldest_days=1.0)), [Event("no such item", "view", DAY_ONE)])
    devices.deploy(tmp_path / "run", *LOCAL)
    assert (tmp_path / "run" / "release" / "model" / "model.safetensors").exists()
    assert load_file(tmp_path / "run" / "release" / "model" / "model.safetensors")["scores"].isfinite().all()


def test_kernel_rank_adds_what_a_node_with_torch_adds(
    devices: Devices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same draws of negatives, popularity and pairs are equal bit for bit, and gradients nearly."""
    monkeypatch.setattr(device_run.secrets, "randbits", lambda _: KEY)
    monkeypatch.setattr(Histories, "_identities", lambda _, users: np.zeros(len(users), np.int64))
    monkeypatch.setattr("fedrec.data.histories.keys", lambda _, users: torch.full_like(users, KEY))
    changes = ("algorithm.name=kernel-rank", "algorithm.rounds=2", "algorithm.cooccurrence=true")
    settings = ("algorithm.kernel_rank=8", "algorithm.head_items=12", "algorithm.targets=2")
    seeded = {"words": lambda: WordStream.seeded("words")}
    verified(devices.deploy(tmp_path / "run", *LOCAL, *changes, *settings, **seeded))
    for n in range(3):
        assert [list(asked.sums) for asked in devices.seen[n]] == [
            ["popularity"],
            ["cooccurrence"],
            ["weights"],
            ["weights"],
        ]
        for asked in devices.seen[n]:
            expected = with_torch(devices, n, asked, lambda: WordStream.seeded("words"))
            for name, part in expected.items():
                wide = 1 << asked.bits[name]
                apart = (asked.sums[name].reshape(-1) - part.numpy().reshape(-1)) % wide
                most = 2 * devices.sizes[n] if name == "weights" else 0
                assert np.minimum(apart, wide - apart).max() <= most, name


@pytest.mark.parametrize("fault", ["another catalogue", "cut short", "none"])
def test_features_that_do_not_fit_are_refused_before_anything_is_charged(
    fault: str, devices: Devices, tmp_path: Path
) -> None:
    file = features_of(devices.folder / "items.json")
    if fault == "none":
        file.unlink()
    else:
        content = file.read_bytes()
        digest = devices.oracle(0)(devices.request.text()).catalogue.digest.encode()
        assert digest in content
        file.write_bytes(content.replace(digest, b"00" * 32) if fault == "another catalogue" else content[:-9])
    with pytest.raises(FedrecError, match="0 of 3 nodes began"):
        devices.deploy(tmp_path / "run", *DISTRIBUTED, "algorithm.name=kernel-rank", "algorithm.rounds=2")
    assert not any(devices.charges(n) for n in range(3))


def test_the_command_that_writes_items_writes_their_features(devices: Devices, tmp_path: Path) -> None:
    made = tmp_path / "items.json"
    assert fedrec(["client", "items", str(devices.folder / "items.csv"), str(made)]) == 0
    assert features_of(made).read_bytes() == features_of(devices.folder / "items.json").read_bytes()
    assert fedrec(["client", "items", str(devices.folder / "items.csv"), str(features_of(made))]) == 2
    assert features_of(made).read_bytes() == features_of(devices.folder / "items.json").read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [("algorithm.name=tower-sgd", "algorithm.rounds=1"), ("algorithm.name=kernel-rank", "algorithm.rounds=1")],
    ids=["tower-sgd", "kernel-rank"],
)
def test_other_algorithms_are_computed_by_a_process_with_torch_that_ends(
    changes: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices, ended = Devices(tmp_path / "nodes", sizes=(4, 1, 1), with_torch=True), []
    monkeypatch.setenv(*devices.environment())
    monkeypatch.setattr(device_run.secrets, "randbits", lambda _: KEY)
    end = child_run.Child.end

    def noted(self: child_run.Child) -> None:
        end(self)
        ended.append(self._process.returncode)

    monkeypatch.setattr(child_run.Child, "end", noted)
    begun = child_run.Child.__init__
    made: list[child_run.Child] = []
    monkeypatch.setattr(child_run.Child, "__init__", lambda self, *given: made.append(self) or begun(self, *given))
    monkeypatch.setattr(Histories, "_identities", lambda _, users: np.zeros(len(users), np.int64))
    monkeypatch.setattr("fedrec.data.histories.keys", lambda _, users: torch.full_like(users, KEY))
    verified(devices.deploy(tmp_path / "run", *LOCAL, *changes, words=lambda: WordStream.seeded("words")))
    for n in range(3):
        for asked in devices.seen[n]:
            expected = with_torch(devices, n, asked, lambda: WordStream.seeded("words"))
            for name, part in expected.items():
                np.testing.assert_array_equal(asked.sums[name], part.numpy())
    assert made
    assert all(child._process.poll() is not None for child in made)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gpfedrec", "cofedrec", "fedrap", "fedvlr", "popularity"])
def test_baselines_and_a_cap_on_rows_give_what_the_server_computes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = Devices(tmp_path / "nodes", sizes=(4, 1), with_torch=True)
    monkeypatch.setenv(*devices.environment())
    monkeypatch.setattr(child_run, "subprocess", SimpleNamespace(Popen=InThread, PIPE=None))
    monkeypatch.setattr(device_run.secrets, "randbits", lambda _: KEY)
    monkeypatch.setattr(Histories, "_identities", lambda _, users: np.zeros(len(users), np.int64))
    monkeypatch.setattr("fedrec.data.histories.keys", lambda _, users: torch.full_like(users, KEY))
    own = "privacy.row_cap=0.2" if name == "popularity" else "algorithm.rounds=1"
    words = partial(WordStream.seeded, "words")
    verified(devices.deploy(tmp_path / "run", *LOCAL, f"algorithm.name={name}", own, words=words))
    compared = 0
    for n in range(2):
        for asked in devices.seen[n]:
            for part, expected in with_torch(devices, n, asked, words).items():
                np.testing.assert_array_equal(asked.sums[part], expected.numpy())
                compared += 1
    assert compared


def test_what_a_device_does_not_train_is_refused_before_it_is_charged(devices: Devices, tmp_path: Path) -> None:
    """Here for lack of the catalogue's file."""
    with pytest.raises(FedrecError, match="0 of 3 nodes began"):
        devices.deploy(tmp_path / "run", *DISTRIBUTED, "algorithm.name=tower-sgd", "algorithm.rounds=2")
    assert not any(devices.charges(n) for n in range(3))
    assert Policy().run == RunPolicy()

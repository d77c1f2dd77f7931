"""The contract between a released model and its form on a device: the same lists, item for item."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save

from fedrec.errors import InputError
from fedrec.model import ReleasedModel
from fedrec.ondevice.base import Asked, DeviceModel
from fedrec.ondevice.history import History
from fedrec.ondevice.ids import HeldIds
from fedrec.ondevice.released import FORMS, WITHOUT_FORM, load
from fedrec.recommend.device_form import device_form
from fedrec.recommend.device_lists import differing, history_of
from fedrec.releases import parity
from fedrec.testing.toy_users import ITEMS, batch_of, edge_rows, planted_rows


def save_released(model: ReleasedModel, folder: Path) -> Path:
    """Write model.safetensors and manifest.json into `folder`, as a run does, and return it."""
    content = save({name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.tensors().items()})
    manifest = {
        "kind": model.kind,
        "made_by": model.made_by,
        "model": model.manifest(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


class DeviceFormContract:
    """Tests of the device form of the fixture `model`."""

    not_on_device = ""
    """Why devices do not use this kind of model; for a model of another package, whose kind has no form here."""

    @pytest.fixture(scope="class")
    def form(self, model: ReleasedModel, tmp_path_factory: pytest.TempPathFactory) -> DeviceModel:
        if model.kind not in FORMS and (self.not_on_device or model.kind in WITHOUT_FORM):
            pytest.skip(self.not_on_device or WITHOUT_FORM[model.kind])
        return load(save_released(model, tmp_path_factory.mktemp("released")))

    def test_a_model_has_a_device_form_or_a_reason(self, model: ReleasedModel) -> None:
        assert model.kind in FORMS or model.kind in WITHOUT_FORM or self.not_on_device, (
            f"kind '{model.kind}' has no device form: add one to fedrec.ondevice.released, or a reason"
        )

    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_device_lists_what_the_torch_form_lists(
        self, model: ReleasedModel, form: DeviceModel, ordered: bool
    ) -> None:
        rows = edge_rows() + planted_rows(users=24, seed=3)[0] + [[2] * 50, [0], list(range(ITEMS)) * 2]
        users = batch_of(rows) if ordered else batch_of(rows).unordered()
        for k, seen in ((10, False), (ITEMS, False), (ITEMS, True)):
            assert differing(model, form, users, k, seen) == []

    def test_a_device_scores_as_the_torch_form(self, model: ReleasedModel, form: DeviceModel) -> None:
        users = batch_of(edge_rows())
        expected = model.precise.score(model.precise.fit(users)).double().numpy()
        scale = max(float(np.abs(expected).max()), 1e-6)
        for row in range(len(users)):
            state = form.fit(history_of(users, row))
            assert np.abs(form.exact(state, np.arange(ITEMS)) - expected[row]).max() <= 1e-9 * scale
            assert form.scores(state).dtype == np.float32
            some = np.array([3, 3, 0, ITEMS - 1])
            assert np.array_equal(form.scores(state, some), form.scores(state)[some])

    def test_a_recorded_event_gives_the_state_of_a_full_refit(self, form: DeviceModel) -> None:
        for row in edge_rows():
            state = form.fit(History(np.array(row[: len(row) // 2], np.int64)))
            for item in row[len(row) // 2 :]:
                before = {name: value.copy() for name, value in state.sums.items()}
                after = form.record(state, item)
                assert all(np.array_equal(state.sums[name], before[name]) for name in before)
                state = after
            again = form.fit(History(np.array(row, np.int64)))
            assert state.sums.keys() == again.sums.keys()
            assert all(np.array_equal(state.sums[name], again.sums[name]) for name in again.sums)
            for found, expected in zip(form.top(state, 7), form.top(again, 7), strict=True):
                assert np.array_equal(found, expected)

    def test_lists_of_a_batch_are_those_of_one_alone(self, form: DeviceModel) -> None:
        states = [form.fit(History(np.array(row, np.int64))) for row in [*edge_rows(), [], [3]]]
        asked = [Asked(state, 3 + place, state.history.items) for place, state in enumerate(states)]
        for one, (items, scores) in zip(asked, form.top_many(asked), strict=True):
            alone = form.top(one.state, one.k, one.exclude)
            assert np.array_equal(items, alone[0])
            assert np.array_equal(scores, alone[1])

    def test_no_item_is_missed(self, form: DeviceModel) -> None:
        """The list equals that of all items, scored exactly and sorted; with items left out, too."""
        from fedrec.ondevice import draws

        allowed = np.arange(ITEMS) % 3 != 1
        for row in edge_rows():
            state = form.fit(History(np.array(row, np.int64)))
            every = np.arange(ITEMS)
            order = np.lexsort((draws.tie_order(every), -form.scores(state)))
            kept = [item for item in order.tolist() if allowed[item] and item not in row]
            for k in (1, 5, ITEMS):
                assert form.top(state, k, np.array(row, np.int64), allowed)[0].tolist() == kept[:k]

    def test_a_release_has_lists_that_the_device_repeats(self, form: DeviceModel) -> None:
        """`fedrec.releases.parity` accepts the same model, and refuses a score that is another by 1 %."""
        ids = HeldIds([f"item-{place}" for place in range(ITEMS)])
        lists = parity.expected(form, ids)
        assert [len(each.items) for each in lists] == [min(parity.PLACES, ITEMS)] * 2
        parity.check(form, ids, lists)
        most = max(abs(score) for _, score in lists[1].items)
        (item, score), *rest = lists[1].items
        for wrong in (score + 0.01 * most + 1e-6, -score - most - 1e-6):
            with pytest.raises(InputError, match="other scores"):
                parity.check(form, ids, (replace(lists[1], items=((item, wrong), *rest)),))
        with pytest.raises(InputError, match="does not have"):
            parity.check(form, ids, (replace(lists[1], items=(("another", score), *rest)),))

    def test_a_device_explains_as_the_torch_form(self, model: ReleasedModel, form: DeviceModel) -> None:
        users = batch_of([[4, 9, 13], list(range(20))])
        for row in range(len(users)):
            one, items = users.slice(row, row + 1), torch.arange(6)[None]
            expected = model.precise.explain(model.precise.fit(one), items)
            found = form.explain(form.fit(history_of(users, row)), items[0].numpy())
            assert list(found) == list(expected)
            for name, value in expected.items():
                assert np.allclose(found[name], value[0].double().numpy(), rtol=1e-6, atol=1e-7), name

    def test_the_shares_of_a_score_sum_to_it(self, model: ReleasedModel, form: DeviceModel) -> None:
        """To the score of the torch form; the form in memory, which Python uses, gives the same bits."""
        users, held = batch_of(edge_rows()), device_form(model)
        expected = model.precise.score(model.precise.fit(users)).double().numpy()
        scale = max(float(np.abs(expected).max()), 1e-6)
        for row in range(len(users)):
            history = history_of(users, row)
            state, again = form.fit(history), held.fit(history)
            for item in (0, 9, ITEMS - 1):
                found, same = form.attribute(state, item), held.attribute(again, item)
                assert abs(found.baseline + found.total - expected[row, item]) <= 1e-8 * scale
                assert all(part.shape == (len(history),) for part in found.events.values())
                assert bool(found.events) == (len(history) > 0 and model.kind != "popularity")
                assert found.rest == same.rest
                assert all(np.array_equal(found.events[name], same.events[name]) for name in same.events)
                if any(part.any() for part in found.events.values()):
                    doubled = {name: 2 * part for name, part in found.events.items()}
                    with pytest.raises(InputError, match="miss the score"):
                        replace(found, events=doubled).checked(form.called)

    def test_a_device_compares_items_as_the_torch_form(self, model: ReleasedModel, form: DeviceModel) -> None:
        items = torch.tensor([3, 0, ITEMS - 1])
        expected, found = model.item_rows(items), form.item_rows(items.numpy())
        assert (expected is None) == (found is None)
        if expected is not None and found is not None:
            assert np.allclose(found, expected.numpy(), rtol=1e-5, atol=1e-6)

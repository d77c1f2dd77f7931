"""The total is the plain sum bit for bit for any dropouts, or the round is void."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedrec.errors import InputError, PrivacyError
from fedrec.secagg import (
    Assumption,
    Members,
    MemoryJournal,
    PeerClient,
    PeerServer,
    Stage,
    Total,
    Void,
    aggregate_in_memory,
    parameters,
)
from tests.core.secagg.parties import plain_sum, play, round_of, uniform

MANY = Members.generate(120)
STAGES = st.sampled_from(list(Stage)[:5])


def fresh(members: Members) -> Members:
    """The members with new journals."""
    return Members(
        members.keys, members.roster, tuple(MemoryJournal() for _ in range(len(members.keys))), members.helper
    )


@st.composite
def cohorts(draw: st.DrawFn) -> tuple[tuple[int, ...], dict[int, Stage]]:
    cohort = tuple(sorted(draw(st.sets(st.integers(0, 119), min_size=4, max_size=14))))
    return cohort, draw(st.dictionaries(st.sampled_from(cohort), STAGES))


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.sampled_from([1, 5, 8, 18, 31, 32, 33, 64]), st.integers(0, 20), st.integers(0, 99))
def test_among_peers_any_dropouts_give_the_plain_sum_or_void(cohort, bits, length, seed):
    cohort, dropouts = cohort
    assumed = Assumption(0.0, 0.3)
    vectors = uniform(round_of(MANY, cohort=cohort, bits=bits, length=length), seed)
    found = aggregate_in_memory(
        vectors, bits, dropouts=dropouts, assumed=assumed, members=fresh(MANY), number=seed, min_cohort=3
    )
    survivors = tuple(member for member in cohort if dropouts.get(member, Stage.DONE) > Stage.MASK)
    if len(dropouts) <= parameters(len(cohort), assumed).dropouts and len(survivors) >= 3:
        assert isinstance(found, Total), found
        assert found.survivors == survivors
        assert found.vector.tolist() == plain_sum(vectors, survivors, bits)
    else:
        assert isinstance(found, Void)
        assert vars(found).keys() == {"reason"}


@settings(max_examples=40, deadline=None)
@given(cohorts(), st.sampled_from([1, 18, 32, 64]), st.integers(0, 20), st.integers(2, 4))
def test_with_a_helper_any_dropouts_give_the_plain_sum_or_void(cohort, bits, length, least):
    cohort, dropouts = cohort
    vectors = uniform(round_of(MANY, cohort=cohort, bits=bits, length=length))
    found = aggregate_in_memory(
        vectors, bits, aggregator="helper", dropouts=dropouts, members=fresh(MANY), min_cohort=least
    )
    survivors = tuple(member for member in cohort if dropouts.get(member, Stage.DONE) > Stage.MASK)
    if len(survivors) >= least:
        assert isinstance(found, Total), found
        assert found.survivors == survivors
        assert found.vector.tolist() == plain_sum(vectors, survivors, bits)
    else:
        assert isinstance(found, Void)


def test_a_sparse_graph_gives_the_plain_sum():
    assumed = Assumption(0.05, 0.05)
    assert not parameters(120, assumed).complete
    vectors, dropouts = uniform(round_of(MANY)), dict(zip(range(20, 26), [*Stage][:5], strict=False))
    found = aggregate_in_memory(vectors, 18, dropouts=dropouts, assumed=assumed, members=fresh(MANY))
    assert isinstance(found, Total)
    assert found.vector.tolist() == plain_sum(vectors, found.survivors, 18)
    assert set(range(120)) - set(found.survivors) == {20, 21, 22}, "those who dropped later have sent their vector"


def test_a_sparse_graph_beyond_its_dropouts_is_void():
    vectors = uniform(round_of(MANY))
    found = aggregate_in_memory(
        vectors,
        18,
        dropouts=dict.fromkeys(range(60), Stage.UNMASK),
        assumed=Assumption(0.05, 0.05),
        members=fresh(MANY),
    )
    assert isinstance(found, Void)
    assert "shares of member" in found.reason


def test_a_void_round_leaves_no_sum_at_the_server():
    few = Members.generate(8)
    state = play(few, round_of(few))
    survivors = state.survivors()
    signed = [client.confirm(survivors) for client in state.clients.values()]
    confirmations = state.server.confirmed(signed)
    assert isinstance(confirmations, dict)
    answers = [state.clients[member].unmask(confirmations[member]) for member in range(4)]
    assert isinstance(state.server.unmasked(answers), Void)
    assert state.server._sum.size == 0
    rest = [state.clients[member].unmask(confirmations[member]) for member in range(4, 8)]
    assert isinstance(state.server.unmasked(answers + rest), Void), "a void round is never finished later"


def test_shares_that_give_another_secret_void_the_round():
    few = Members.generate(8)
    state = play(few, round_of(few), late=(7,))
    survivors = state.survivors()
    signed = [state.clients[member].confirm(survivors) for member in survivors.members]
    confirmations = state.server.confirmed(signed)
    answers = [state.clients[member].unmask(confirmations[member]) for member in survivors.members]
    for wrong in ("seeds", "keys"):
        again = PeerServer(state.round, few.roster)
        again.__dict__ |= {**state.server.__dict__, "_sum": state.server._sum.copy()}
        changed = tuple((owner, (share + 1) % 2**400) for owner, share in getattr(answers[0], wrong))
        found = again.unmasked([type(answers[0])(**(vars(answers[0]) | {wrong: changed})), *answers[1:]])
        assert isinstance(found, Void)
        assert "do not give its" in found.reason


def test_a_member_forgets_its_secrets():
    few = Members.generate(8)
    state = play(few, round_of(few))
    client = state.clients[0]
    assert client._secret
    client.forget()
    assert not client._secret
    assert not client._shares
    assert not hasattr(client, "_mask_key")


@pytest.mark.parametrize("size", [3, 4])
def test_a_cohort_that_nothing_protects_is_refused(size):
    vectors = {member: np.zeros(2, np.uint32) for member in range(size)}
    with pytest.raises(PrivacyError, match="no threshold protects a member"):
        aggregate_in_memory(vectors, 18, assumed=Assumption(0.34, 0.34))


@pytest.mark.parametrize(
    ("vector", "says"),
    [
        (np.zeros(3, np.uint32), "shape"),
        (np.zeros(2, np.int64), "must be uint32"),
        (np.full(2, 2**18, np.uint32), "reduce it modulo"),
    ],
)
@pytest.mark.parametrize("aggregator", ["peers", "helper"])
def test_a_vector_that_does_not_fit_is_refused(vector, says, aggregator):
    vectors = {0: np.zeros(2, np.uint32), 1: vector, 2: vector, 3: vector}
    with pytest.raises(InputError, match=says):
        aggregate_in_memory(vectors, 18, aggregator=aggregator, assumed=Assumption(0, 0.3))


def test_a_client_alone_needs_a_round_of_peers():
    few = Members.generate(4)
    with pytest.raises(Exception, match="with a helper"):
        PeerClient(round_of(few, helper=bytes(32)), few.roster, 0, few.keys[0].sign, MemoryJournal())


@pytest.mark.parametrize("aggregator", ["peers", "helper"])
def test_a_member_with_many_users_counts_once_for_the_cohort(aggregator):
    """Its vector is a sum already; the minimum is of members, since a member falls to a colluder whole."""
    of_many_users = uniform(round_of(MANY, cohort=(0, 1, 2, 3)))
    found = aggregate_in_memory(
        of_many_users,
        18,
        aggregator=aggregator,
        dropouts={0: Stage.MASK},
        assumed=Assumption(0.0, 0.3),
        members=fresh(MANY),
        min_cohort=4,
    )
    assert isinstance(found, Void)
    assert "3 members sent a vector; the minimum" in found.reason

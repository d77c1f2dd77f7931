"""Public kernels: randomly pivoted Cholesky, and each block's kernel against its formula."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedrec.data.catalogue import Block, Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.kernels.feature_map import DenseMap, FeatureMap, SparseMap
from fedrec.kernels.public import (
    COMMON,
    MAX_LABELS,
    Kernel,
    categories_map,
    cholesky_map,
    number_kernel,
    number_scores,
    public_kernels,
    same_set_kernel,
    text_map,
    vectors_map,
)

ITEMS = 30


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def kernel_of(map_: FeatureMap) -> Tensor:
    rows = map_.rows(torch.arange(map_.items))
    return rows @ rows.T


def full(kernel: Kernel) -> Tensor:
    return torch.stack([kernel.column(p) for p in range(len(kernel.known))])


def known(kernel: Tensor) -> Kernel:
    return Kernel(lambda p: kernel[p], torch.ones(len(kernel), dtype=torch.bool))


# ---- Cholesky


def gaussian(items: int = 80, spread: float = 0.15) -> Tensor:
    place = torch.rand(items, 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return torch.exp(-(((place - place.T) / spread) ** 2) / 2).float()


def test_cholesky_error_is_positive_semidefinite_and_shrinks_with_the_rank() -> None:
    kernel = gaussian()
    traces = []
    for rank in (2, 5, 10, 20):
        map_ = cholesky_map(known(kernel), rank, tolerance=1e-6)
        assert map_.width <= rank
        error = (kernel - kernel_of(map_)).double()
        assert torch.linalg.eigvalsh(error).min() > -1e-4
        traces.append(float(error.trace()))
    assert traces == sorted(traces, reverse=True)
    best = float(torch.linalg.eigvalsh(kernel.double())[:-10].sum())  # what no approximation of rank 10 can avoid
    assert traces[2] < 80 * (2 * best / 80 + 0.01)
    assert traces[-1] < 0.01 * 80


def test_cholesky_stops_when_the_tolerance_is_met() -> None:
    kernel = gaussian(spread=1.0)
    map_ = cholesky_map(known(kernel), 60, tolerance=1e-2)
    assert map_.width < 15
    assert (kernel - kernel_of(map_)).trace() < 1e-2 * 80


def test_cholesky_of_full_rank_is_exact() -> None:
    kernel = gaussian(20, spread=0.02)
    map_ = cholesky_map(known(kernel), 20, tolerance=0.0)
    torch.testing.assert_close(kernel_of(map_), kernel, atol=2e-3, rtol=0)


def test_cholesky_pivots_are_a_function_of_the_seed() -> None:
    kernel = gaussian()
    first, again, other = (cholesky_map(known(kernel), 4, seed).values for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_items_without_values_cost_no_rank() -> None:
    values = np.full(2000, np.nan)
    values[:100] = np.arange(100)
    kernel = number_kernel(Numbers("year", values), 1 / 8)
    map_ = cholesky_map(kernel, 64)
    exact = full(kernel)
    assert (exact - kernel_of(map_)).trace() < 0.05 * 100
    assert not map_.values[100:].any()


# ---- kernels of blocks against their formulas


def test_few_labels_are_a_cosine_weighted_by_inverse_frequency() -> None:
    generator = np.random.default_rng(0)
    member = generator.random((ITEMS, 6)) < 0.3
    member[4] = False
    kernel = kernel_of(categories_map(Categories("genre", tuple("abcdef"), member)))
    weights = [1 / math.sqrt(member[:, label].mean() + 1e-3) for label in range(6)]
    for i in range(ITEMS):
        for j in range(ITEMS):
            dot = sum(weights[label] ** 2 for label in range(6) if member[i, label] and member[j, label])
            sizes = [sum(weights[label] ** 2 for label in range(6) if member[k, label]) for k in (i, j)]
            expected = dot / math.sqrt(sizes[0] * sizes[1]) if all(sizes) else 0.0
            assert float(kernel[i, j]) == pytest.approx(expected, abs=1e-5)


def test_many_labels_are_held_sparse_and_mean_the_same() -> None:
    generator = np.random.default_rng(0)
    member = np.zeros((ITEMS, MAX_LABELS + 10), bool)
    member[:, :6] = generator.random((ITEMS, 6)) < 0.4
    member[3] = False
    few, many = Categories("tag", tuple("abcdef"), member[:, :6]), Categories("tag", ("x",) * member.shape[1], member)
    assert isinstance(categories_map(few), DenseMap)
    assert isinstance(categories_map(many), SparseMap)
    torch.testing.assert_close(kernel_of(categories_map(many)), kernel_of(categories_map(few)))


def test_many_labels_that_nobody_wears() -> None:
    nothing = Categories("tag", ("x",) * (MAX_LABELS + 1), np.zeros((ITEMS, MAX_LABELS + 1), bool))
    map_ = categories_map(nothing)
    profile = map_.profile(torch.tensor([0, 0]), torch.tensor([1, 2]), torch.ones(2), 1)
    assert not map_.against(profile[:, None]).any()
    assert not map_.against(profile[:, None], torch.tensor([[1, 2]])).any()


def test_same_sets_match_and_others_hardly() -> None:
    member = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]], bool)
    kernel = full(same_set_kernel(Categories("genre", tuple("abcd"), member)))
    assert float(kernel[0, 1]) == pytest.approx(1.0)
    assert float(kernel[0, 2]) == pytest.approx(0.25)  # (1 / sqrt 2)^4
    assert float(kernel[0, 3]) == 0.0
    assert not kernel[4].any()


@pytest.mark.parametrize("fraction", [1 / 8, 1 / 2])
def test_numbers_are_gaussian_and_unknown_ones_match_nothing(fraction: float) -> None:
    values = np.random.default_rng(0).normal(2000, 10, ITEMS)
    values[[3, 9]] = math.nan
    values[5] = math.inf
    kernel = full(number_kernel(Numbers("year", values), fraction))
    width = fraction * np.std([v for v in values if math.isfinite(v)], ddof=1)
    for i in range(ITEMS):
        for j in range(ITEMS):
            both = math.isfinite(values[i]) and math.isfinite(values[j])
            expected = math.exp(-(((values[i] - values[j]) / width) ** 2) / 2) if both else 0.0
            assert float(kernel[i, j]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("values", [[math.nan] * 4, [5.0] * 4, [math.nan, 5.0, math.nan, math.nan]])
def test_numbers_without_spread(values: list[float]) -> None:
    block = Numbers("price", np.array(values))
    catalogue = Catalogue(tuple("abcd"), blocks=(block,))
    present = torch.tensor(values).isfinite().float()
    for name, map_ in public_kernels(catalogue, 8).maps.items():
        torch.testing.assert_close(kernel_of(map_), present[:, None] * present, msg=name)
    assert number_scores(catalogue).abs().max() < 1e-3


def test_number_scores_are_standard_scores() -> None:
    values = np.array([1.0, 2.0, math.nan, 6.0])
    scores = number_scores(Catalogue(tuple("abcd"), blocks=(Numbers("n", values),)))
    known = np.array([1.0, 2.0, 6.0])
    expected = np.where(np.isfinite(values), (np.nan_to_num(values) - known.mean()) / known.std(ddof=1), 0.0)
    np.testing.assert_allclose(scores[:, 0].numpy(), expected, rtol=1e-5)
    assert number_scores(Catalogue(tuple("abcd"))).shape == (4, 0)


WORDS = [
    "amber",
    "basalt",
    "cedar",
    "dune",
    "ember",
    "fjord",
    "granite",
    "heath",
    "island",
    "juniper",
    "kelp",
    "lagoon",
]


def sentences(items: int = 300, seed: int = 0) -> tuple[str, ...]:
    """Each word in at most a few items in a hundred, so that none is too common to say anything."""
    generator = np.random.default_rng(seed)
    words = [f"{left}{right}" for left in WORDS for right in WORDS]
    return tuple(" ".join(generator.choice(words, 4)).title() + f", {1990 + i % 9}" for i in range(items))


def test_texts_are_a_tfidf_cosine() -> None:
    texts = (*sentences(), "", "of 7", "Zyx wvu")
    map_ = text_map(Texts("title", texts))
    assert map_ is not None
    bags = [{w for w in re.split(r"\W+", text.lower()) if len(w) > 2 and not w.isdigit()} for text in texts]
    count = {word: sum(word in bag for bag in bags) for bag in bags for word in bag}
    idf = {word: math.log(len(texts) / n) for word, n in count.items() if n <= COMMON * len(texts)}
    kernel = kernel_of(map_)
    for i in range(0, len(texts), 7):
        for j in range(len(texts)):
            shared = [w for w in bags[i] & bags[j] if w in idf and count[w] >= 2]
            sizes = [sum(idf[w] ** 2 for w in bags[k] if w in idf) for k in (i, j)]
            expected = sum(idf[w] ** 2 for w in shared) / math.sqrt(sizes[0] * sizes[1]) if shared else 0.0
            assert float(kernel[i, j]) == pytest.approx(expected, abs=1e-5)
    assert not kernel[-3:].any()


@pytest.mark.parametrize("texts", [("",) * 4, ("one two", "three four", "five six", "seven"), ("1 2 3",) * 4])
def test_texts_that_share_nothing_make_no_kernel(texts: tuple[str, ...]) -> None:
    assert text_map(Texts("title", texts)) is None
    assert public_kernels(Catalogue(tuple("abcd"), blocks=(Texts("title", texts),))).maps == {}


def test_vectors_are_a_centred_cosine() -> None:
    values = random(ITEMS, 6).numpy() + 3.0
    map_ = vectors_map(Vectors("picture", values), rank=6)
    centred = values - values.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(kernel_of(map_).numpy(), unit @ unit.T, atol=1e-5)


def test_an_item_without_a_vector_matches_nothing_and_moves_no_other() -> None:
    known = random(5, 6).numpy() + 3.0
    alone = vectors_map(Vectors("picture", known), rank=6)
    beside = vectors_map(Vectors("picture", np.concatenate([known, np.zeros((2, 6), np.float32)])), rank=6)
    assert torch.allclose(beside.values[:5], alone.values, atol=1e-6)
    assert not beside.values[5:].any()


def test_vectors_keep_their_leading_directions() -> None:
    plane = random(ITEMS, 2) @ random(2, 6, seed=1)
    noisy = Vectors("picture", (plane + 1e-3 * random(ITEMS, 6, seed=2)).numpy())
    cut, whole = vectors_map(noisy, rank=2), vectors_map(noisy, rank=6)
    assert cut.width == 2
    assert (kernel_of(cut) - kernel_of(whole)).abs().max() < 0.05


# ---- whole catalogues


def mixed(items: int = 60) -> Catalogue:
    """Every type of block, each with missing values."""
    generator = np.random.default_rng(0)
    member = generator.random((items, 5)) < 0.3
    member[:4] = False
    year = 1990.0 + np.arange(items) % 13
    year[2:9] = math.nan
    texts = [f"{WORDS[i % 12]} {WORDS[(i // 3) % 12]}" for i in range(items)]
    texts[6:10] = ["", "  ", "!", "12"]
    vectors = generator.normal(size=(items, 4)).astype(np.float32)
    vectors[5] = 0.0
    blocks: tuple[Block, ...] = (
        Categories("genre", tuple("abcde"), member),
        Numbers("year", year),
        Texts("title", tuple(texts)),
        Vectors("picture", vectors),
    )
    return Catalogue(tuple(f"item-{i}" for i in range(items)), blocks=blocks)


def permuted(catalogue: Catalogue, order: np.ndarray) -> Catalogue:
    def rows(block: Block) -> Block:
        if isinstance(block, Texts):
            return replace(block, texts=tuple(block.texts[i] for i in order))
        if isinstance(block, Categories):
            return replace(block, membership=block.membership[order])
        return replace(block, values=block.values[order])

    return Catalogue(tuple(catalogue.ids[i] for i in order), blocks=tuple(map(rows, catalogue.blocks)))


def test_kernels_of_a_catalogue_with_missing_values_are_finite_and_bounded() -> None:
    public = public_kernels(mixed(), rank=16)
    assert set(public.base) < set(public.maps)
    assert set(public.smooth) <= set(public.base)
    for name, map_ in public.maps.items():
        kernel = kernel_of(map_)
        assert kernel.isfinite().all(), name
        assert kernel.abs().max() < 1.01, name
        assert kernel.any(), name
    year = public.maps["year near"].rows(torch.arange(2, 9))
    assert not year.any()


def test_products_are_products_of_unlike_blocks() -> None:
    catalogue = mixed()
    maps = public_kernels(catalogue, rank=60).maps
    genre, year = kernel_of(maps["genre"]), kernel_of(maps["year far"])
    torch.testing.assert_close(kernel_of(maps["genre x year"]), genre * year, atol=0.1, rtol=0)
    fine = kernel_of(maps["genre set"]) * kernel_of(maps["year near"])
    torch.testing.assert_close(kernel_of(maps["genre x year fine"]), fine, atol=0.1, rtol=0)
    again = Catalogue(catalogue.ids, blocks=(catalogue.blocks[1], Numbers("price", np.arange(60.0))))
    assert not any(" x " in name for name in public_kernels(again, 8).maps)
    assert not any(" x " in name for name in public_kernels(catalogue, 8, products=False).maps)


def test_regressors_come_in_chunks_and_end_in_a_constant() -> None:
    public = public_kernels(mixed(), rank=8)
    for smooth in (False, True):
        rows = public.rows(torch.arange(60), smooth=smooth)
        assert torch.equal(rows[:, -1], torch.ones(60))
        names = public.smooth if smooth else public.base
        assert rows.shape[1] == 1 + sum(public.maps[name].width for name in names)
        parts = list(public.chunks(60, torch.device("cpu"), smooth=smooth))
        assert torch.equal(torch.cat([part for _, part in parts]), rows)
    bare = public_kernels(Catalogue(tuple("abc")))
    assert bare.maps == {}
    assert torch.equal(bare.rows(torch.arange(3)), torch.ones(3, 1))


def test_ids_and_titles_carry_no_meaning() -> None:
    catalogue = mixed()
    other = replace(catalogue, ids=tuple(f"{i * 7919 % 61}" for i in range(60)), titles=catalogue.ids)
    before, after = public_kernels(catalogue, 16).maps, public_kernels(other, 16).maps
    assert before.keys() == after.keys()
    for name, map_ in before.items():
        tensors = after[name].tensors()
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in map_.tensors().items()), name


def test_the_order_of_the_catalogue_permutes_the_kernels() -> None:
    catalogue = mixed()
    order = np.random.default_rng(5).permutation(60)
    before, after = public_kernels(catalogue, 60).maps, public_kernels(permuted(catalogue, order), 60).maps
    assert before.keys() == after.keys()
    for name, map_ in before.items():  # drawn pivots differ, so a factored kernel agrees up to its tolerance
        drawn = " " in name
        expected = kernel_of(map_)[order][:, order]
        torch.testing.assert_close(kernel_of(after[name]), expected, atol=0.1 if drawn else 1e-5, rtol=0, msg=name)
    assert torch.allclose(number_scores(permuted(catalogue, order)), number_scores(catalogue)[order])

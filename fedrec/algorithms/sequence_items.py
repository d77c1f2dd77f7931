"""The item vectors of `sequence`: public directions, rows of items' own, or rows of semantic ids."""

import torch
from torch import Tensor

from fedrec.algorithms.base import PublicFacts
from fedrec.algorithms.sequence_settings import SequenceConfig
from fedrec.sequences.codes import residual_codes
from fedrec.sequences.items import ItemVectors
from fedrec.towers.features import public_features
from fedrec.towers.layers import RowTable


def item_vectors(config: SequenceConfig, dim: int, facts: PublicFacts) -> ItemVectors:
    """Make the item part of a tower, untrained.

    With `codes` the table begins as the centroids of the codes: an item's vector is its quantised public vector.

    Args:
        config: settings of the algorithm.
        dim: length of vectors.
        facts: the catalogue and the seed.
    """
    items = len(facts.catalogue)
    if config.items == "codes":
        leading = leading_directions(config, dim, facts)
        codes, books = residual_codes(leading, config.levels, config.codes, facts.seed)
        rows = codes + books.shape[1] * torch.arange(config.levels, device=codes.device)
        return ItemVectors(None, dim, rows, books.flatten(0, 1))
    features = None if config.items == "ids" else directions(config, dim, facts)
    if config.items == "features":
        return ItemVectors(features, dim)
    start = RowTable.normal(items, dim, config.init_std, facts.seed).weight.detach()
    return ItemVectors(features, dim, torch.arange(items, device="cpu")[:, None], start)


def leading_directions(config: SequenceConfig, dim: int, facts: PublicFacts) -> Tensor:
    """Return the first `dim` of the public features, (items, dim), with zeros where there are fewer."""
    return torch.nn.functional.pad(directions(config, dim, facts)[:, :dim], (0, dim))[:, :dim]


def directions(config: SequenceConfig, dim: int, facts: PublicFacts) -> Tensor:
    """Return public features (items, columns), whitened; the first `dim` of them have a mean squared length of 1."""
    features = public_features(facts.catalogue, config.columns)
    spread = features.square().mean(0).sqrt()
    features = features * spread.double().pow(-config.whitening).float()
    return features / features[:, :dim].square().sum(1).mean().sqrt()

"""Device form of `sequence` with objective `generative`: a list is generated code by code, without scoring all items.

The score of an item is the log-probability of its codes, a sum over levels of what is at most 0. So a prefix bounds
every item below it. A beam search keeps the best prefixes of each level; where the last place of the list is above all
that was left out, no other item belongs on it, and the list is exact. Otherwise the beam is widened.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fedrec.ondevice import draws
from fedrec.ondevice.attribution import POPULARITY, TASTE, Attribution, spaced
from fedrec.ondevice.base import ROUNDING, Asked, Block
from fedrec.ondevice.code_trie import CodeTrie, log_sums
from fedrec.ondevice.exact import products
from fedrec.ondevice.history import State
from fedrec.ondevice.sequences import INTEGRAL, LINEAR, NewestEvents, Parameters, integrated
from fedrec.ondevice.source import Source

WIDTH = 64
"""Prefixes of the first beam, at least; four for each place of a list."""

COMPLETE = 1e-11
"""Gap at which integrated gradients stop, relative to the sizes of the shares and the score."""


class GenerativeForm(NewestEvents):
    """See the module."""

    kind: ClassVar[str] = "generative"
    tables = {"items": False}

    def __init__(
        self,
        source: Source,
        settings: Mapping[str, Any],
        tables: Sequence[np.ndarray],
        prefixes: Sequence[np.ndarray],
    ) -> None:
        """Make the form; tables: for each level (size, d); prefixes: likewise, for all levels but the last."""
        super().__init__(source.table("items"), source.file.read_below("encoder."), settings)
        self.trie = CodeTrie(source.read("codes"), source.read("bias"))
        self.code_tables, self.prefixes = tables, prefixes
        if len(self.trie.items) != self.n_items or len(tables) != len(self.trie.paths):
            raise ValueError("the codes are not those of the items")

    @classmethod
    def open(cls, source: Source, settings: Mapping[str, Any]) -> "GenerativeForm":
        made: list[Parameters] = [source.file.read_below(name) for name in ("tables.", "prefixes.")]
        tables, prefixes = ([each[str(place)] for place in range(len(each))] for each in made)
        return cls(source, settings, tables, prefixes)

    # ---- scores

    def exact(self, state: State, items: np.ndarray) -> np.ndarray:
        return self._all(self.vector(state))[items]

    def scan(self, state: State) -> Iterator[Block]:
        scores = self._all(self.vector(state))
        yield Block(0, scores, ROUNDING * np.abs(scores))

    def top_many(self, asked: Sequence[Asked]) -> list[tuple[np.ndarray, np.ndarray]]:
        return [self.generate(each.state, each.k, each.exclude, each.allowed)[:2] for each in asked]

    def generate(
        self,
        state: State,
        k: int,
        exclude: np.ndarray | None = None,
        allowed: np.ndarray | None = None,
        width: int | None = None,
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Generate a list by a beam search through the codes of real items.

        Args:
            state: of `fit` or `record`.
            k: most items.
            exclude: (n,) int64, items that are left out.
            allowed: (items,) bool, False for items that are left out; None allows all.
            width: prefixes that each level keeps. None: widened until the list is exact.

        Returns:
            (m,) int64 positions, best first, (m,) float32 log-probabilities, m <= k; and whether the list is exact.
        """
        k = min(max(k, 0), self.n_items)
        banned = np.zeros(self.n_items, bool) if allowed is None else ~allowed
        if exclude is not None:
            banned[exclude] = True
        beam = width or max(WIDTH, 4 * k)
        while True:
            leaves, found, left_out = self._beam(self.vector(state), beam)
            items = self.trie.items[leaves]
            items, scores = items[~banned[items]], found[~banned[items]].astype(np.float32)
            order = np.lexsort((draws.tie_order(items), -scores))[:k]
            items, scores = items[order], scores[order]
            least = float(scores[-1]) if k and len(scores) == k else -np.inf
            exact = bool(not k or left_out == -np.inf or least > np.float32(left_out))
            if exact or width is not None:
                return items, scores, exact
            beam *= 4

    def _beam(self, vector: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray, float]:
        """Search with a beam: whole paths, their log-probabilities, and the largest one of what was left out."""
        prefixes, found, left_out = np.zeros(1, np.int64), np.zeros(1), -np.inf
        for level in range(len(self.trie.paths)):
            if len(prefixes) > width:
                best = np.argpartition(-found, width - 1)
                left_out = max(left_out, float(found[best[width:]].max()))
                kept = np.sort(best[:width])
                prefixes, found = prefixes[kept], found[kept]
            prefixes, found = self._expand(level, prefixes, found, vector)
        return prefixes, found, left_out

    def _all(self, vector: np.ndarray) -> np.ndarray:
        """Scores of all items, (items,) float64."""
        leaves, found, _ = self._beam(vector, self.n_items + 1)
        scores = np.empty_like(found)
        scores[self.trie.items[leaves]] = found
        return scores

    def _expand(
        self, level: int, prefixes: np.ndarray, found: np.ndarray, vector: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The prefixes of `level` below some of the level before, and their log-probabilities."""
        below, begins = self.trie.children(level, prefixes)
        logits = products(self._rows(level, below), vector) + self.trie.masses[level][below]
        if not len(logits):
            return below, logits
        sums, counts = log_sums(logits, begins)
        return below, logits + np.repeat(found - sums, counts)

    def _rows(self, level: int, prefixes: np.ndarray) -> np.ndarray:
        """The vector of each prefix's last code, times the gate of the codes before, (n, d) float64."""
        path = self.trie.paths[level][prefixes]
        gate = np.ones((1, self.table.dim))
        for before in range(level):
            gate = gate + self.prefixes[before][path[:, before]]
        return gate * self.code_tables[level][path[:, level]]

    # ---- reasons

    def shares(self, state: State, item: int) -> Attribution:
        """Integrated gradients on the way from events without content to the events, for every encoder.

        What the decoder says without any content is no event's share.
        """
        usual = spaced(self.n_items)
        scores = self._all(self.vector(state))
        score, baseline = float(scores[item]), float(scores[usual].mean())
        if not len(state.sums["window"]):
            return Attribution(score, baseline, {}, {POPULARITY: score - baseline})
        weights = np.zeros(self.n_items)
        np.add.at(weights, usual, -1 / len(usual))
        weights[item] += 1
        inputs, moves = self.ways(state)
        nothing = self._all(self.scale * self.encode(self.settings, self.own, np.zeros_like(inputs)))
        alone = float(nothing @ weights)

        def moved(events: np.ndarray) -> np.ndarray:
            """What each event adds to the prediction, for a small step at `events`: (events, d)."""
            return np.stack([self.encode(self.settings, self.own, events + 1e-30j * move).imag for move in moves])

        constant = moved(inputs) if self.settings["name"] in LINEAR else None

        def slopes(events: np.ndarray) -> np.ndarray:
            way = self._slope(self.scale * self.encode(self.settings, self.own, events), weights)
            return (moved(events) if constant is None else constant) @ (1e30 * self.scale * way)

        parts = np.zeros(len(state.history))
        parts[-len(moves) :] = integrated(slopes, inputs, score - baseline - alone, COMPLETE)
        passing = float(parts.sum())
        return Attribution(score, baseline, {TASTE: parts}, {POPULARITY: alone}, passing, INTEGRAL)

    def _slope(self, vector: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """The slope, in `vector` (d,), of the sum of all items' scores times `weights` (items,)."""
        slope, prefixes, above = np.zeros(len(vector)), np.zeros(1, np.int64), np.array([weights.sum()])
        for level, of_items in enumerate(self.trie.of_items):
            below, parts = self._expand(level, prefixes, np.zeros(len(prefixes)), vector)
            mine = np.bincount(of_items, weights, len(below))
            counts = np.diff(self.trie.starts[level])
            slope += (mine - np.repeat(above, counts) * np.exp(parts)) @ self._rows(level, below)
            prefixes, above = below, mine
        return slope

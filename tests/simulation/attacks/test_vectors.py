"""The read-out finds what vectors hold of texts, and finds nothing where they hold nothing."""

from dataclasses import dataclass

import numpy as np
from fedrec_sim.attacks import vectors

from fedrec.data.catalogue import Catalogue, Categories, Numbers, Texts, Vectors
from fedrec.encoders.words import Words

ITEMS = 300


def catalogue(values: np.ndarray, encoder: str = "") -> Catalogue:
    draw = np.random.default_rng(3)
    taste = np.arange(ITEMS) % 3
    titles = tuple(f"film {word}" if word % 10 else "" for word in range(ITEMS))
    return Catalogue(
        tuple(f"i{n}" for n in range(ITEMS)),
        None,
        (
            Texts("title", titles),
            Categories("genres", ("a", "b", "c"), np.eye(3, dtype=bool)[taste]),
            Numbers("year", np.where(draw.random(ITEMS) < 0.1, np.nan, 1990.0 + 10 * taste)),
            Vectors("text_vector", values.astype(np.float32), encoder),
        ),
    )


@dataclass
class Attacked:
    dataset: "Attacked | None" = None
    catalogue: Catalogue | None = None
    seed: int = 0


def read(given: Catalogue) -> dict[str, dict[str, str | dict[str, str]]]:
    (result,) = vectors.attack(Attacked(dataset=Attacked(catalogue=given)))  # type: ignore[arg-type]
    assert not result.accused
    assert result.adversary == "model_recipients"
    return result.figures["read"]  # type: ignore[no-any-return]


def test_what_vectors_hold_is_read() -> None:
    taste = np.eye(3)[np.arange(ITEMS) % 3]
    found = read(catalogue(taste + 0.1 * np.random.default_rng(0).normal(size=(ITEMS, 3))))
    assert float(found["genres"]["a_label_right"]["share"]) > 0.95
    assert float(found["year"]["mean_error"]) < float(found["year"]["mean_error_of_the_median"]) / 2
    assert "title" not in found, "no encoder is named, so candidates cannot be encoded"


def test_of_vectors_that_hold_nothing_nothing_is_read() -> None:
    words = Words()
    noise = np.random.default_rng(0).normal(size=(ITEMS, words.width))
    found = read(catalogue(noise, "words (rule 1), sha256 00"))
    genres = found["genres"]
    assert float(genres["a_label_right"]["low"]) < 0.4
    assert float(found["year"]["mean_error"]) > 0.8 * float(found["year"]["mean_error_of_the_median"])
    assert float(found["title"]["right"]["share"]) < 0.05


def test_a_secret_title_is_found_among_candidates() -> None:
    words, given = Words(), catalogue(np.zeros((ITEMS, 1)))
    titles = given.blocks[0].texts  # type: ignore[union-attr]
    sentences = [f"Title: {title}; year: {1990 + 10 * (place % 3)}" for place, title in enumerate(titles)]
    words.prepare(sentences)
    found = read(catalogue(words.encode(sentences, "text"), "words (rule 1), sha256 00"))
    assert float(found["title"]["right"]["share"]) > 0.9
    assert found["title"]["candidates"] == ITEMS - ITEMS // 10, "an empty title is no candidate"


def test_a_catalogue_without_vectors_has_no_result() -> None:
    plain = catalogue(np.zeros((ITEMS, 1)))
    given = Catalogue(plain.ids, None, plain.blocks[:3])
    assert vectors.attack(Attacked(dataset=Attacked(catalogue=given))) == []  # type: ignore[arg-type]

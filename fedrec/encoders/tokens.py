"""The WordPiece tokenizer of uncased BERT (Devlin et al. 2019), which MiniLM uses too.

`bert-uncased.txt.xz` is the vocabulary of google-research/bert (Apache-2.0), unchanged, since no package with a
licence ships it alone.
"""

import hashlib
import lzma
from importlib.resources import files
from typing import TYPE_CHECKING

from fedrec.errors import InputError
from fedrec.extras import named

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = "bert-uncased.txt.xz"
SHA256 = "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"
"""Of the unpacked vocabulary."""


def vocabulary() -> dict[str, int]:
    """Return the vocabulary: token -> number.

    Raises:
        InputError: when the installed file is another.
    """
    text = lzma.decompress(files("fedrec.encoders").joinpath(VOCABULARY).read_bytes())
    if hashlib.sha256(text).hexdigest() != SHA256:
        raise InputError(f"{VOCABULARY} of the installed fedrec was changed; install fedrec again")
    return {token: number for number, token in enumerate(text.decode().splitlines())}


def bert_uncased(longest: int) -> "Tokenizer":
    """Make the tokenizer.

    Args:
        longest: tokens of a text that count, with the two marks.
    """
    with named("data encode"):
        from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    words = vocabulary()
    made = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    marks = [(mark, words[mark]) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=marks)
    made.enable_truncation(longest)
    return made

"""Where a language model is, as one text: `stand-in`, an address on the loopback, or a folder."""

from fedrec.generate.base import LanguageModel

STAND_IN = "stand-in"


def language_model(place: str, key: str | None = None) -> LanguageModel:
    """Open the model that a text names.

    Args:
        place: `stand-in`; `http://127.0.0.1:PORT` of a llama.cpp server; or the folder of an ONNX model.
        key: of a llama.cpp server with `--api-key`.

    Raises:
        InputError: for an address elsewhere, and a folder without a model.
    """
    if place == STAND_IN:
        from fedrec.generate.stand_in import StandIn

        return StandIn()
    if "://" in place:
        from fedrec.generate.llama_cpp import LlamaServer

        return LlamaServer(place, key)
    from fedrec.generate.onnx import OnnxModel

    return OnnxModel(place)

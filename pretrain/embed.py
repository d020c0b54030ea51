"""Using a trained model: unit vectors of pictures and texts from a run, an open_clip model or a local checkpoint.

Shape suffixes: N rows, D common dimension, B batch, S side, C H W picture.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from curation.step import digest
from pretrain import scaling
from pretrain.batching import BatchSize
from pretrain.component import to_spec
from pretrain.config import ConfigError, parse_config
from pretrain.embeddings.base import Inputs
from pretrain.loop import WEIGHTS_FILE, choose_device
from pretrain.model import Model, ModelConfig, load_state

TEXTS_AT_A_TIME = 8192
"""Texts whose tokens are held at once, and among which texts of one length are brought together."""
TEXT_BATCH_FACTOR = 4
"""Texts for each picture in a batch: they have about a quarter of the tokens."""
MAX_CHARACTERS = 8192
"""Of a text that is cut into tokens: no tower reads more (512 tokens of 16 characters), and open_clip's tokenizer takes
hours for a word of millions."""
Precision = Literal["auto", "fp32", "bf16"]


class TwoTowerScorer:
    """A `curation.models.PreparingScorer` over any model of this package.

    model: a run's folder (as `tamis train` writes it); or an open_clip model: `NAME` alone for random weights (tests),
    `NAME/TAG` for weights of the hub, `NAME@/path/to/file` for a local checkpoint, `hf-hub:...` or `local-dir:...`.
    device: auto, cpu or cuda. num_threads: of torch in this process (unchanged if None); with 1
    the same input gives the same bits whatever the machine's number of cores.
    precision: fp32; bf16, in which the weights themselves are bfloat16 (a GPU's own models: autocast); auto: bf16 on a
    GPU that computes in it, and for open_clip models on such a CPU (`computes_bfloat16`). compiled: through
    `torch.compile`.
    image_batch, text_batch: rows at a time; by default as many as memory holds (`pretrain.batching`).
    """

    def __init__(
        self,
        model: str | Path,
        device: str = "auto",
        num_threads: int | None = 1,
        image_batch: int | None = None,
        text_batch: int | None = None,
        precision: Precision = "auto",
        compiled: bool = False,
    ) -> None:
        if num_threads is not None:
            torch.set_num_threads(num_threads)
        self._model, spec = load_model(str(model))
        self.device = choose_device(device)
        self.weights_digest = digest(spec, state_digest(self._model), self._model.preprocessing(), scaling.VERSION)
        self.embed_dim, self.image_size = self._model.embed_dim, self._model.image_size
        self._images = BatchSize(self.device, image_batch)
        self._texts = BatchSize(self.device, text_batch or (self._images.rows or 0) * TEXT_BATCH_FACTOR or None)
        self._model.eval()
        wants_bf16 = precision == "bf16" or (precision == "auto" and computes_bfloat16(self.device))
        is_bf16 = wants_bf16 and self._model.to_bfloat16()
        self._autocast = wants_bf16 and not is_bf16 and self.device.type == "cuda"
        if precision == "bf16" and not is_bf16 and not self._autocast:
            raise ConfigError(f"precision bf16: {type(self._model).__name__} runs in fp32 on a CPU; say fp32 or auto")
        self.precision: Precision = "bf16" if is_bf16 or self._autocast else "fp32"
        self._model.to(self.device).to(memory_format=torch.channels_last)
        self._run, self._run_pixels = self._model.encode, self._model.encode_pixels
        if compiled:
            self._run, self._run_pixels = torch.compile(self._run), torch.compile(self._run_pixels)

    @property
    def model(self) -> Model:
        """The model itself, in evaluation mode on the scorer's device."""
        return self._model

    def encode_images(self, images: Sequence[np.ndarray | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of (H, W, 3) uint8 RGB pictures of any size, and (N,) bool: which are there."""
        there = [image for image in images if image is not None]
        mask = np.array([image is not None for image in images], dtype=bool)
        vectors = np.zeros((len(images), self.embed_dim), dtype=np.float32)
        if there:
            vectors[mask] = self._images.run(there, self._encode_pictures).cpu().numpy()
        return vectors, mask

    def encode_squares(self, pixels_NSSC: np.ndarray) -> np.ndarray:
        """(N, D) unit vectors of uint8 pictures that are already `image_size` squares (see `pretrain.pictures`)."""
        return self.encode_images(list(pixels_NSSC))[0]

    def encode_texts(self, texts: Sequence[str | None]) -> tuple[np.ndarray, np.ndarray]:
        """(N, D) float32 unit vectors of texts, and (N,) bool: which are there."""
        rows = [row for row, text in enumerate(texts) if text is not None]
        vectors = np.zeros((len(texts), self.embed_dim), dtype=np.float32)
        mask = np.zeros(len(texts), dtype=bool)
        mask[rows] = True
        for start in range(0, len(rows), TEXTS_AT_A_TIME):
            some = rows[start : start + TEXTS_AT_A_TIME]
            vectors[some] = self._encode_some([(texts[row] or "")[:MAX_CHARACTERS] for row in some])
        return vectors, mask

    def prepare_image(self, image: np.ndarray, height_px: int, width_px: int) -> np.ndarray:
        """(image_size, image_size, 3) uint8 of a picture, or a reduced copy of one, of `height_px` x `width_px`."""
        square = self._square(image, (height_px, width_px))
        return square.copy() if np.may_share_memory(square, image) else square

    def _square(self, image: np.ndarray, original: tuple[int, int] | None = None) -> np.ndarray:
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError("a picture must be a (H, W, 3) uint8 array")
        return scaling.scaled_square(image, self.image_size, self._model.fit, self._model.resample, original)

    def _encode_pictures(self, images: Sequence[np.ndarray]) -> Tensor:
        shape = (len(images), self.image_size, self.image_size, 3)
        # pinned, a copy to a GPU does not wait for the batch that is being computed there
        pixels_BSSC = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for square, image in zip(pixels_BSSC.numpy(), images, strict=True):
            square[...] = self._square(image)
        with torch.inference_mode(), self._precision():
            vectors: Tensor = self._run_pixels(pixels_BSSC.to(self.device, non_blocking=True))
        return vectors.float()  # still on the device: the next batch is put together while this one is computed

    def _encode_some(self, texts: list[str]) -> np.ndarray:
        """Texts of one length together, cut behind the longest where the tower allows it."""
        stream = self._model.stream_of("text")
        inputs = self._model.prepare(stream, texts)
        lengths = self._model.lengths(inputs)
        if lengths is None:
            vectors_ND = self._texts.run(texts, lambda some: self._encode(stream, self._model.prepare(stream, some)))
            return vectors_ND.cpu().numpy()
        order = torch.argsort(lengths, stable=True)

        def encode(rows: Sequence[int]) -> Tensor:
            chosen = torch.tensor(rows)
            return self._encode(stream, {"text_BL": inputs["text_BL"][chosen, : int(lengths[chosen].max())]})

        sorted_ND = self._texts.run(order.tolist(), encode).cpu()
        vectors_ND = torch.empty_like(sorted_ND)
        vectors_ND[order] = sorted_ND
        return vectors_ND.numpy()

    @torch.inference_mode()
    def _encode(self, stream: str, inputs: Inputs) -> Tensor:
        placed = {name: value.to(self.device) for name, value in inputs.items()}
        with self._precision():
            vectors: Tensor = self._run(stream, placed)
        return vectors.float()

    def _precision(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self._autocast)


def computes_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies in bfloat16 rather than emulates it (NVIDIA: Ampere and later)."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return has_bfloat16()


def has_bfloat16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor multiplies in bfloat16 (x86: AVX-512 BF16 or AMX; ARM: BF16); elsewhere it is emulated."""
    if not cpuinfo.is_file():
        return False
    with cpuinfo.open() as lines:
        flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.split()))


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
    return whole.build(), {**to_spec(whole.without_weights()), **_described(spec)}


def _described(spec: str) -> dict[str, object]:
    """What stands in a key for the name of a local folder: the architecture in it, wherever the folder lies."""
    scheme, _, folder = spec.partition(":")
    if scheme != "local-dir":
        return {}
    return {"name": json.loads((Path(folder) / "open_clip_config.json").read_text(encoding="utf-8"))["model_cfg"]}


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


def state_digest(model: Model) -> str:
    """Digest of the names, shapes and bytes of all tensors."""
    parts: list[object] = []
    for name, value in sorted(model.state_dict().items()):
        array = value.detach().cpu().contiguous()
        raw = array.view(torch.uint8) if array.ndim else array.reshape(1).view(torch.uint8)
        parts.append([name, str(array.dtype), list(array.shape), _bytes_digest(raw.numpy())])
    return digest(parts)


def _bytes_digest(raw: np.ndarray) -> str:
    return hashlib.sha256(raw.tobytes()).hexdigest()

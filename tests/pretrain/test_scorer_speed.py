"""What makes the scorer fast leaves its vectors as they are: trimmed texts, bfloat16, batch sizes, compiling."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg, CustomTextCLIP

from pretrain import batching
from pretrain.batching import BatchSize, fits
from pretrain.config import ConfigError
from pretrain.embed import MAX_CHARACTERS, TwoTowerScorer, computes_bfloat16, has_bfloat16
from pretrain.encoders.causal_text import CausalText
from pretrain.normalising import normalised

TEXTS = ["a", "a photo of a cat on a mat", "", "zwei Hunde, ein Ball und noch viel mehr im Garten hinter dem Haus"]
VISION: dict[str, Any] = {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 16}
TEXT: dict[str, Any] = {"context_length": 40, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2}


def tokens(length: int = 40) -> torch.Tensor:
    found: torch.Tensor = open_clip.SimpleTokenizer(context_length=length)(TEXTS)
    return found


@pytest.mark.parametrize("custom", [False, True])
def test_a_causal_tower_needs_no_more_than_the_longest_text(custom: bool) -> None:
    torch.manual_seed(0)
    make = CustomTextCLIP if custom else open_clip.CLIP
    clip = make(16, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT)).eval()
    trimmed = CausalText.of(clip)
    assert trimmed is not None
    text_BL = tokens()
    lengths = trimmed.lengths(text_BL)
    assert lengths.tolist() == [int((row != 0).sum()) for row in text_BL]
    longest = int(lengths.max())
    assert longest < 40
    with torch.inference_mode():
        whole, short = clip.encode_text(text_BL), trimmed(text_BL[:, :longest])
    torch.testing.assert_close(short, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("change", [{"no_causal_mask": True}, {"pool_type": "last"}, {"embed_cls": True}])
def test_other_towers_are_not_cut(change: dict[str, Any]) -> None:
    clip = CustomTextCLIP(16, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT, **change))
    assert CausalText.of(clip) is None


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A local folder of a small architecture with weights, as the hub has them."""
    import json

    folder = tmp_path_factory.mktemp("clip")
    settings = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": TEXT}
    torch.manual_seed(1)
    clip = open_clip.CLIP(16, CLIPVisionCfg(**VISION), CLIPTextCfg(**TEXT))
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": settings, "preprocess_cfg": {}}))
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def pictures(num: int) -> list[np.ndarray | None]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40 + 7 * n, 50, 3), dtype=np.uint8) for n in range(num)]


def test_bfloat16_and_batches_move_scores_by_less_than_half_a_hundredth(file: Path) -> None:
    exact = TwoTowerScorer(f"local-dir:{file}", device="cpu", precision="fp32")
    halved = TwoTowerScorer(f"local-dir:{file}", device="cpu", precision="bf16", image_batch=3, text_batch=2)
    assert (exact.precision, halved.precision) == ("fp32", "bf16")
    assert exact.weights_digest == halved.weights_digest
    texts = [*TEXTS, None, *TEXTS[::-1]]
    images = [*pictures(7), None]
    scores = [each.encode_images(images)[0] @ each.encode_texts(texts)[0].T for each in (exact, halved)]
    assert np.abs(scores[0] - scores[1]).max() < 0.005
    assert np.abs(scores[0]).max() > 0.01
    with torch.inference_mode():
        model: Any = exact.model
        plain = torch.nn.functional.normalize(model.clip.encode_text(tokens()), dim=-1)
    np.testing.assert_allclose(exact.encode_texts(TEXTS)[0], plain.numpy(), atol=1e-5)


def test_automatic_precision_follows_the_processor(file: Path, tmp_path: Path) -> None:
    scorer = TwoTowerScorer(f"local-dir:{file}", device="cpu")
    assert scorer.precision == ("bf16" if has_bfloat16() else "fp32")
    info = tmp_path / "cpuinfo"
    for flags, expected in (
        ("flags\t: sse avx512_bf16 amx", True),
        ("flags : avx512f", False),
        ("Features : bf16", True),
    ):
        info.write_text(f"processor: 0\n{flags}\n")
        assert has_bfloat16(info) is expected
    assert not has_bfloat16(tmp_path / "none")
    assert computes_bfloat16(torch.device("cpu")) is has_bfloat16()


def test_a_picture_prepared_ahead_is_the_same_picture(file: Path) -> None:
    scorer = TwoTowerScorer(f"local-dir:{file}", device="cpu", precision="fp32")
    images = [image for image in pictures(5) if image is not None]
    prepared = [scorer.prepare_image(image, *image.shape[:2]) for image in images]
    assert all(each.shape == (32, 32, 3) for each in prepared)
    np.testing.assert_array_equal(scorer.encode_images(prepared)[0], scorer.encode_images(images)[0])


def test_a_text_without_end_costs_what_its_beginning_costs(file: Path) -> None:
    """One word of 400,000 letters, which open_clip's tokenizer would work on for an hour."""
    scorer = TwoTowerScorer(f"local-dir:{file}", device="cpu", precision="fp32")
    word = "".join(random.Random(0).choices("abcdefghijklmnopqrstuvwxyz", k=400_000))
    started = time.process_time()
    vectors, there = scorer.encode_texts([word, word[:MAX_CHARACTERS], "a cat"])
    assert time.process_time() - started < 15
    assert there.all()
    np.testing.assert_array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize(("free", "took", "rows"), [(10**9, 10**8, 32), (10**9, 10**3, 1024), (10, 10**9, 1)])
def test_the_batch_that_fits(free: int, took: int, rows: int) -> None:
    found = fits(free, took, batching.PROBE)
    assert found == rows
    assert found * took / batching.PROBE <= free * batching.MEMORY_SHARE or found == 1


def test_what_does_not_fit_is_tried_in_halves() -> None:
    calls: list[int] = []

    def work(rows: Any) -> torch.Tensor:
        calls.append(len(rows))
        if len(rows) > 5:
            raise torch.OutOfMemoryError("allocated too much")
        return torch.tensor(rows)

    size = BatchSize(torch.device("cpu"), 16)
    assert size.run(list(range(13)), work).tolist() == list(range(13))
    assert calls == [13, 8, 4, 4, 4, 1]
    assert size.rows == 4
    with pytest.raises(torch.OutOfMemoryError):
        BatchSize(torch.device("cpu"), 2).run([1, 2], lambda _: work(range(9)))


def test_a_model_of_streams_has_no_bfloat16_on_a_processor(tmp_path: Path) -> None:
    from safetensors.torch import save_file
    from tiny import config

    settings = config(name="plain")
    model = settings.model.build(settings.image_size)
    save_file({f"model.{name}": value for name, value in model.state_dict().items()}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(settings.model_dump_json())
    assert TwoTowerScorer(tmp_path, device="cpu").precision == "fp32"
    with pytest.raises(ConfigError, match="StreamModel runs in fp32"):
        TwoTowerScorer(tmp_path, device="cpu", precision="bf16")


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_pixels_are_normalised_as_open_clip_does(kind: torch.dtype) -> None:
    pixels = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), dtype=np.uint8))
    mean, std = (torch.tensor(value).view(1, -1, 1, 1) for value in ((0.48, 0.45, 0.4), (0.26, 0.27, 0.28)))
    wanted = ((pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std).permute(0, 2, 3, 1)
    torch.testing.assert_close(normalised(pixels, mean, std, kind), wanted.to(kind), atol=1e-5, rtol=1e-2)


@pytest.mark.slow
def test_compiled_towers_give_the_same(file: Path) -> None:
    """Needs a C++ compiler; a minute."""
    where = f"local-dir:{file}"
    plain, compiled = (TwoTowerScorer(where, device="cpu", precision="fp32", compiled=on) for on in (False, True))
    np.testing.assert_allclose(compiled.encode_images(pictures(3))[0], plain.encode_images(pictures(3))[0], atol=1e-4)
    np.testing.assert_allclose(compiled.encode_texts(TEXTS)[0], plain.encode_texts(TEXTS)[0], atol=1e-4)

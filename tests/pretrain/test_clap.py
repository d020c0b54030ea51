"""CLAP from a checkpoint that the test writes: small, random, in the library's form; the numbers are the library's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from curation.av.segment_signal import DecodedSegment
from curation.media.av_types import Samples
from curation.models import SOUND_RATE_HZ, SoundScorer
from curation.signals.clap_score import ClapScore
from curation.signals.sound_embedding import SoundEmbedding
from curation.signals.sound_text_embedding import SoundTextEmbedding
from pretrain.clap import ClapScorer
from pretrain.config import ConfigError
from pretrain.windows import windows_of
from tests.curation.av import media

WORDS = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", "a", "dog", "barks", "rain", "falls"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("clap")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({w: k for k, w in enumerate(WORDS)}, unk_token="<unk>"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    features = transformers.ClapFeatureExtractor(truncation="rand_trunc")
    transformers.ClapProcessor(features, tokenizer).save_pretrained(folder)
    text = {"vocab_size": len(WORDS), "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "intermediate_size": 32, "max_position_embeddings": 100}  # fmt: skip
    audio = {"patch_embeds_hidden_size": 16, "depths": [1, 1], "num_attention_heads": [2, 2], "hidden_size": 32,
             "num_mel_bins": 64, "spec_size": 256}  # fmt: skip
    torch.manual_seed(0)
    config = transformers.ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    transformers.ClapModel(config).eval().save_pretrained(folder)
    return folder


def test_the_vectors_are_the_librarys(checkpoint: Path) -> None:
    import transformers

    scorer = ClapScorer(checkpoint)
    assert isinstance(scorer, SoundScorer)
    model = transformers.ClapModel.from_pretrained(checkpoint).eval()
    processor = transformers.ClapProcessor.from_pretrained(checkpoint)
    sound = media.music(4.0, 1)[:, 0]
    inputs = processor.feature_extractor([sound], sampling_rate=SOUND_RATE_HZ, return_tensors="pt")
    with torch.inference_mode():
        theirs = model.get_audio_features(**inputs).pooler_output.numpy()
        ids = processor.tokenizer(["a dog barks"], return_tensors="pt")
        theirs_text = model.get_text_features(**ids).pooler_output.numpy()
    found, there = scorer.encode_sounds([sound, None, sound[:0]])
    np.testing.assert_allclose(found[:1], theirs, atol=1e-5)
    assert there.tolist() == [True, False, False]
    assert not found[1:].any()
    texts, has_text = scorer.encode_texts(["a dog barks", None, "rain falls"])
    np.testing.assert_allclose(texts[:1], theirs_text, atol=1e-5)
    assert has_text.tolist() == [True, False, True]
    assert np.linalg.norm(texts[2]) == pytest.approx(1.0, abs=1e-5)
    assert ClapScorer(checkpoint).weights_digest == scorer.weights_digest


def test_long_sounds_are_the_same_every_time_and_alone(checkpoint: Path) -> None:
    scorer = ClapScorer(checkpoint)
    long, short = media.music(23.0, 2)[:, 0], media.music(2.0, 3)[:, 0]
    together = scorer.encode_sounds([long, short])[0]
    np.testing.assert_array_equal(together[0], scorer.encode_sounds([long])[0][0])
    np.testing.assert_array_equal(together[1], scorer.encode_sounds([short])[0][0])
    windows = windows_of(long, 480_000)
    assert [len(each) for each in windows] == [480_000] * 3
    np.testing.assert_array_equal(windows[-1], long[-480_000:])
    mean = np.mean([scorer.encode_sounds([each])[0][0] for each in windows], axis=0)
    np.testing.assert_allclose(together[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_signals_of_it(checkpoint: Path) -> None:
    sound, text = SoundEmbedding(model=str(checkpoint)), SoundTextEmbedding(model=str(checkpoint))
    segment = DecodedSegment(wide=Samples(0, 0.0, SOUND_RATE_HZ, media.music(3.0, 4)))
    sounds = sound.compute_segments([segment, None, DecodedSegment()])
    assert sounds.column(0).null_count == 2
    assert sound.of_segment(segment)["clap_audio_embedding"] == sounds.column(0)[0].as_py()
    said = text.compute(pa.table({"text_clean": ["a dog barks", "rain falls", None]}))
    rows = pa.table({"clap_audio_embedding": sounds.column(0), "clap_text_embedding": said.column(0)})
    (score, *rest) = ClapScore().compute(rows).column("clap_score").to_pylist()
    oracle = np.dot(*(np.array(rows.column(k)[0].as_py(), np.float64) for k in range(2)))
    assert score == pytest.approx(float(oracle), abs=2e-3)
    assert rest == [None, None]


def test_what_is_no_checkpoint_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no CLAP checkpoint"):
        ClapScorer(tmp_path)

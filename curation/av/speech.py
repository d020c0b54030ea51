"""Speech: where it is (voice activity), how good it sounds (DNSMOS), and segments of speech with least and greatest
lengths. The models come with the packages `silero-vad` and `speechmos`; both want 16 kHz, one channel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from curation.av.segments import Span
from curation.step import Step
from curation.weights import onnx_session, packaged

RATE_HZ = 16_000
WINDOW = 512
"""Samples of one decision of the VAD: 32 ms."""
_CONTEXT = 64  # samples of the window before that the model sees (silero-vad 6, OnnxWrapper)
_LEAD_IN_WINDOWS = 31  # 1 s
_DNSMOS_SAMPLES = 144_160  # 9.01 s: the model's input
# From the network's outputs to the scale of listeners (speechmos 0.0.1.1, dnsmos.py: signal, background, overall).
_DNSMOS_POLYNOMIALS = (
    (-0.08397278, 1.22083953, 0.0052439),
    (-0.13166888, 1.60915514, -0.39604546),
    (-0.06766283, 1.11546468, 0.04602535),
)
Pcm = npt.NDArray[np.float32]


def vad_weights() -> Path:
    return packaged("silero_vad", "data/silero_vad_16k_op15.onnx", "pip install silero-vad")


def dnsmos_weights() -> Path:
    return packaged("speechmos", "dnsmos_models/sig_bak_ovr.onnx", "pip install --no-deps speechmos")


def speech_probabilities(pcm: Pcm) -> npt.NDArray[np.float32]:
    """Probability of speech in each 32 ms: float32 [ceil(n / 512)]. pcm: float32 [n], 16 kHz, -1 to 1."""
    session = onnx_session(vad_weights())
    num = -(-len(pcm) // WINDOW)
    padded = np.zeros(_CONTEXT + num * WINDOW, np.float32)
    padded[_CONTEXT : _CONTEXT + len(pcm)] = pcm
    state, rate = np.zeros((2, 1, 128), np.float32), np.array(RATE_HZ, np.int64)
    found = np.empty(num, np.float32)
    for k in range(num):
        window = padded[None, k * WINDOW : k * WINDOW + WINDOW + _CONTEXT]
        found[k : k + 1], state = (out if out.ndim == 3 else out[0] for out in session.run(None, {
            "input": window, "state": state, "sr": rate
        }))  # fmt: skip
    return found


def speech_probabilities_of_cut(pcm: Pcm) -> npt.NDArray[np.float32]:
    """`speech_probabilities` of sound that may begin in the midst of speech, as segments do: the network's memory needs
    some silence first, else it may take a voice that is there from the first sample for background."""
    lead = np.zeros(_LEAD_IN_WINDOWS * WINDOW, np.float32)
    return speech_probabilities(np.concatenate([lead, pcm]))[_LEAD_IN_WINDOWS:]


class SpeechSpans(Step):
    """From probabilities to spans of speech: silero-vad's rule and defaults (get_speech_timestamps)."""

    threshold: float = Field(default=0.5, gt=0, lt=1)
    """A span begins at this probability and ends 0.15 below it."""
    min_silence_s: float = 0.1
    min_speech_s: float = 0.25
    pad_s: float = 0.03

    def of(self, probabilities: Sequence[float] | npt.NDArray[np.float32], length_s: float) -> list[Span]:
        """Spans of speech in seconds, ascending, not overlapping. length_s: of the audio."""
        size, low = WINDOW / RATE_HZ, max(self.threshold - 0.15, 0.01)
        spans: list[tuple[float, float]] = []
        begin, silent_since = -1.0, -1.0
        for k, probability in enumerate(probabilities):
            at = k * size
            if probability >= self.threshold:
                silent_since = -1.0
                if begin < 0:
                    begin = at
                    continue
            if probability < low and begin >= 0:
                if silent_since < 0:
                    silent_since = at
                if at - silent_since < self.min_silence_s - 1e-9:
                    continue
                if silent_since - begin > self.min_speech_s + 1e-9:
                    spans.append((begin, silent_since))
                begin, silent_since = -1.0, -1.0
        if begin >= 0 and length_s - begin > self.min_speech_s + 1e-9:
            spans.append((begin, length_s))
        return self._padded(spans, length_s)

    def _padded(self, spans: list[tuple[float, float]], length_s: float) -> list[Span]:
        starts, ends = [start for start, _ in spans], [end for _, end in spans]
        for k in range(len(spans)):
            before = starts[k] - ends[k - 1] if k else np.inf
            after = starts[k + 1] - ends[k] if k + 1 < len(spans) else np.inf
            starts[k] = max(0.0, starts[k] - min(self.pad_s, before / 2 if before < 2 * self.pad_s else self.pad_s))
            if after < 2 * self.pad_s:
                ends[k] += after / 2
                starts[k + 1] = ends[k]
            else:
                ends[k] = min(length_s, ends[k] + self.pad_s)
        return [Span(start, end) for start, end in zip(starts, ends, strict=True)]


class SpeechSegmentation(Step):
    """Segments of speech, Emilia-style (Amphion, preprocessors/Emilia/main.py): short spans are joined to the one
    before, long ones cut, and what is then still too short is dropped. One speaker is taken for granted: diarisation is
    another signal's work."""

    spans: SpeechSpans = SpeechSpans()
    min_s: float = 3.0
    max_s: float = 30.0
    max_gap_s: float = 2.0
    """A short span joins the one before across at most this much silence, if both together stay below `max_s`."""

    def of(self, probabilities: Sequence[float] | npt.NDArray[np.float32], length_s: float) -> list[Span]:
        """Segments in seconds, ascending, not overlapping, each of min_s to max_s."""
        joined: list[Span] = []
        for span in self.spans.of(probabilities, length_s):
            last = joined[-1] if joined else None
            is_short = span.length_s < self.min_s or (last is not None and last.length_s < self.min_s)
            is_near = last is not None and span.start_s - last.end_s < self.max_gap_s
            if last is not None and is_short and is_near and span.end_s - last.start_s < self.max_s:
                joined[-1] = Span(last.start_s, span.end_s)
            else:
                joined.append(span)
        cut = [part for span in joined for part in self._cut(span)]
        return [span for span in cut if span.length_s >= self.min_s - 1e-9]

    def _cut(self, span: Span) -> list[Span]:
        parts = []
        while span.length_s > self.max_s + 1e-9:
            parts.append(Span(span.start_s, span.start_s + self.max_s))
            span = Span(span.start_s + self.max_s, span.end_s)
        return [*parts, span]


def dnsmos(pcm: Pcm, hop_s: float = 1.0) -> tuple[float, float, float] | None:
    """(signal, background, overall) quality of speech, 1-5, as DNSMOS P.835 guesses listeners' opinion.

    Means over windows of 9.01 s, `hop_s` apart; speechmos 0.0.1.1 takes one second. Shorter audio is repeated until it
    fills one window (there until it fills seven and more, which all hear the same). None for empty audio. pcm: float32
    [n], 16 kHz, -1 to 1. Source: Reddy et al. 2022 (DNSMOS P.835).
    """
    if len(pcm) == 0:
        return None
    pcm = np.resize(pcm, _DNSMOS_SAMPLES) if len(pcm) < _DNSMOS_SAMPLES else pcm
    starts = np.arange(0, len(pcm) - _DNSMOS_SAMPLES + 1, round(hop_s * RATE_HZ)).tolist()
    session = onnx_session(dnsmos_weights())
    raw = [session.run(None, {"input_1": pcm[None, at : at + _DNSMOS_SAMPLES]})[0][0] for at in starts]
    scores = [
        np.mean([np.polyval(weights, float(row[k])) for row in raw]) for k, weights in enumerate(_DNSMOS_POLYNOMIALS)
    ]
    return float(scores[0]), float(scores[1]), float(scores[2])

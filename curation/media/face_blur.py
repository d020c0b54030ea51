"""Blurring boxes of pictures, in the limited child process that decodes them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from curation.media.child import BLURRED
from curation.media.decode import Decoder
from curation.media.decoded import Decoded

VERSION = 1
"""Changes whenever pixels would change."""


class FaceBlurrer(Decoder):
    """A `Decoder` whose child also blurs boxes and encodes the picture anew."""

    gives_views = True

    def blurred(self, data: bytes, boxes: Sequence[Sequence[float]], quality: int) -> Decoded:
        """The picture with `boxes` unrecognisable, as `Decoded.stored`, of `out_format` and `out_..._px`.

        boxes: left, top, right, bottom of each as shares 0-1 of width and height of the upright picture. Each is grown
        by a tenth of its diagonal and blurred with a sigma of a tenth of the largest diagonal, edges softly (Yang et
        al. 2022, arXiv 2103.06191). quality: 1-100, of JPEG and WebP. The format stays (GIF becomes PNG); metadata and
        transparency do not. Never raises because of `data`: `reason` says what is wrong with it.
        """
        before = json.dumps({"boxes": [[float(x) for x in box] for box in boxes], "quality": quality}).encode()
        return self._ask(data, len(before), BLURRED, before)

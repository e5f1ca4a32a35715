"""The feature map of a classifier is found where there is one, and GradCAM off it is MONAI's, made with gradients."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from monai.visualize import GradCAM
from torch import Tensor, nn

from models.aim import read
from models.manifest import Aim, ClassifierInput, ClassifierOutput, ImageSpec, Preprocessing, Target
from tests import toys
from tests.seeing_toys import WEIGHT, seeing_classifier_onnx
from training.compact import compact
from training.export import Softmax
from training.feature_map import Exposed, expose
from training.onnx_networks import to_onnx
from training.resnet import bottleneck_resnet
from workers.heatmaps import Head, gradcam

SIZE, CLASSES = 64, 3
IMAGE = ImageSpec(size_px=SIZE, channels=1, modality="noise", preprocessing=Preprocessing(fit="crop"))
AIMS = {
    "pooled": Aim(target=Target(name="it", classes=(1, 2)), threshold=0.5),
    "against": Aim(target=Target(name="it", classes=(2,), against=(0,)), threshold=0.5),
    "grade": Aim(kind="expected_grade", target=Target(name="it", classes=(0, 1, 2)), threshold=0.5),
}


class NumberLogits(nn.Module):
    """The logit of an aim's number, and its opposite, as two classes that torch can differentiate."""

    def __init__(self, network: nn.Module, aim: Aim) -> None:
        super().__init__()
        self.network, self.aim = network, aim

    def forward(self, x: Tensor) -> Tensor:
        p = self.network(x).softmax(dim=1)
        target = self.aim.target
        ours = p[:, list(target.classes)]
        if self.aim.kind == "expected_grade":
            part = ours @ torch.linspace(0, 1, ours.shape[1], dtype=p.dtype)
            whole = ours.sum(dim=1)
        else:
            rest = target.against or [k for k in range(p.shape[1]) if k not in target.classes]
            part = ours.sum(dim=1)
            whole = part + p[:, list(rest)].sum(dim=1)
        logit = (part / (whole - part)).log()
        return torch.stack([-logit, logit], dim=1)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(3)
    made = bottleneck_resnet(1, CLASSES, layers=(1, 1, 1, 1), width=8)
    nn.init.normal_(made.fc.weight, std=0.5)
    return made.eval()


@pytest.fixture(scope="module")
def translated(network: nn.Module) -> onnx.ModelProto:
    """The network with its softmax, as it is exported."""
    return to_onnx(Softmax(network), torch.randn(2, 1, SIZE, SIZE), "x", "probabilities")


def exposed(
    model: onnx.ModelProto | bytes, folder: Path, image: ImageSpec = IMAGE, **declared: object
) -> Exposed | None:
    path = folder / "classifier.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return expose(path, image, CLASSES, **declared)  # type: ignore[arg-type]


def seen(found: Exposed, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities and feature maps by the graph that is shipped."""
    import onnxruntime as ort

    session = ort.InferenceSession(found.files()["classifier.onnx"])
    return tuple(session.run(["probabilities", found.feature_map.tensor], {"x": x}))  # type: ignore[return-value]


@pytest.mark.parametrize("decided", [True, False], ids=["yes", "no"])
@pytest.mark.parametrize("name", AIMS)
def test_gradcam_by_the_heads_weights_is_monais_by_gradients(
    network: nn.Module, translated: onnx.ModelProto, name: str, decided: bool, tmp_path: Path
) -> None:
    aim = AIMS[name]
    x = torch.randn(1, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    found = exposed(translated, tmp_path)
    assert found is not None
    _, features = seen(found, x.numpy())
    ours = gradcam(features[0], Head(found.weight, found.bias), aim, decided=decided, size_px=SIZE)
    monai = GradCAM(NumberLogits(network, aim), target_layers="network.layer4", postprocessing=lambda values: values)
    theirs = monai(x, class_idx=int(decided))[0, 0].detach().numpy()
    assert theirs.max() > 0
    assert np.abs(ours - theirs).max() <= 1e-4 * theirs.max()


def test_compact_weights_keep_their_feature_map(translated: onnx.ModelProto, tmp_path: Path) -> None:
    found = exposed(compact(translated, 10), tmp_path)
    assert found is not None
    x = np.random.default_rng(0).uniform(-1, 1, (3, 1, SIZE, SIZE)).astype(np.float32)
    p, features = seen(found, x)
    logits = np.stack([Head(found.weight, found.bias).logits(one) for one in features])
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert shares == pytest.approx(p, abs=1e-5)
    assert read(AIMS["pooled"], shares) == pytest.approx(p[:, 1:].sum(axis=1), abs=1e-5)


def test_a_feature_map_is_found_behind_other_forms_of_the_same_head(network: nn.Module, tmp_path: Path) -> None:
    class OneNumber(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.last = nn.Conv2d(1, 6, 3, stride=2), nn.Linear(6, 1, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.stem(x).relu().mean(dim=(2, 3))).sigmoid()

    model = to_onnx(OneNumber().eval(), torch.randn(2, 1, SIZE, SIZE), "x", "probabilities")
    path = tmp_path / "one.onnx"
    path.write_bytes(model.SerializeToString())
    found = expose(path, IMAGE, 2, output=ClassifierOutput(column=0))
    assert found is not None
    assert found.weight.shape == (2, 6)
    assert not found.weight[0].any()
    logits = to_onnx(network, torch.randn(2, 1, SIZE, SIZE), "x", "logits")
    assert exposed(logits, tmp_path, output=ClassifierOutput(tensor="logits", kind="softmax")) is not None


def test_exposing_twice_gives_the_same(tmp_path: Path) -> None:
    shown, hidden = (exposed(seeing_classifier_onnx(shown), tmp_path, toys.IMAGE) for shown in (True, False))
    assert shown is not None
    assert hidden is not None
    assert shown.feature_map == hidden.feature_map
    assert shown.weight == pytest.approx(WEIGHT)
    assert [value.name for value in shown.model.graph.output] == ["probabilities", "seen"]
    assert [value.name for value in hidden.model.graph.output] == ["probabilities", "seen"]


def test_a_classifier_of_another_form_stays_a_black_box(tmp_path: Path) -> None:
    assert exposed(toys.classifier_onnx(), tmp_path, toys.IMAGE) is None
    strange = onnx.load_from_string(seeing_classifier_onnx())
    strange.graph.node[-1].op_type = "Hardmax"
    assert exposed(strange, tmp_path, toys.IMAGE) is None


def test_a_head_that_does_not_give_the_classifiers_answers_is_refused(tmp_path: Path) -> None:
    twice = seeing_classifier_onnx()
    declared = ClassifierOutput(kind="softmax")  # a softmax of the softmax that the graph holds already
    assert exposed(twice, tmp_path, toys.IMAGE, output=declared, input=ClassifierInput()) is None

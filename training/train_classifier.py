"""Trains the reference classifier f and the domain network on the labels of the data set.

f is the black box that a run explains when it brings none of its own. The domain network is a small ResNet with a seed
of its own; f never sees it, it never sees f, and its features measure how alike two sets of images are. Where there are
no labels it has to know the task from somewhere, and learns what a black box answers about real images
(`training.student`).

Deep networks learn slowly from a few thousand images. f may therefore have a teacher, a small network with a seed of
its own, whose answers it learns beside the labels (Hinton et al. 2015); the domain network is never that teacher.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet
from sklearn.metrics import roc_auc_score
from torch import Tensor

from models.aim import read, truth
from training.config import RunConfig
from training.data import ImageSet
from training.device import choose_device, rng_state, set_rng_state
from training.resnet import domain_resnet, resnet
from training.runfolder import RunFolder, progress
from training.schedule import set_learning_rate
from training.student import ask_black_box

AVERAGE_DECAY = 0.995
ROTATION_MAX_RAD = math.radians(8)
SHIFT_MAX = 0.06  # of the image size
SCALE_MAX = 0.08
GREY_STD = 0.1


@dataclass(frozen=True)
class Recipe:
    """What sets one supervised training apart from another.

    Attributes:
        name: of its checkpoint.
        build: makes the network.
        passes: over the training images.
        seed: of weights, order and jitter.
        teacher: the recipe whose network it learns from too.
    """

    name: str
    build: Callable[[], ResNet]
    passes: int
    seed: int
    teacher: str | None = None


@dataclass(frozen=True)
class Lesson:
    """What a network learns, and how it is judged after every pass.

    Attributes:
        images: uint8 [N, C, S, S].
        answers: int64 [N] or float32 [N, K], classes or probabilities.
        smoothing: of the labels.
        judged: the judgement's name in the log.
        judge: a network → a number, the more the better.
    """

    images: np.ndarray
    answers: np.ndarray
    smoothing: float
    judged: str
    judge: Callable[[ResNet], float]


def recipes(config: RunConfig) -> list[Recipe]:
    """The networks that a run trains, in order: f after its teacher, if it has one; the domain network.

    Where a black box is brought, the domain network alone.
    """
    c, channels, outputs = config.classifier, config.data.channels, len(config.data.classes)

    def small() -> ResNet:
        return domain_resnet(channels, outputs, c.domain_width, c.domain_stem)

    f = Recipe(
        "classifier",
        lambda: resnet(c.block, channels, outputs, c.layers, c.width, c.stem),
        c.passes,
        config.seed,
        teacher="teacher" if c.teacher_passes else None,
    )
    domain = Recipe("domain", small, c.domain_passes, config.seed + 1000)
    teacher = Recipe("teacher", small, c.teacher_passes, config.seed + 2000)
    if config.black_box is not None:
        return [domain]
    return [teacher, f, domain] if c.teacher_passes else [f, domain]


def jitter(x: Tensor, *, mirror: bool) -> Tensor:
    """Small random turns, shifts, zooms and changes of grey: float32 [N, C, S, S] in [-1, 1] → the same."""
    n = len(x)
    angle = (torch.rand(n) * 2 - 1) * ROTATION_MAX_RAD
    scale = 1 + (torch.rand(n) * 2 - 1) * SCALE_MAX
    flip = torch.where(torch.rand(n) < 0.5, -1.0, 1.0) if mirror else torch.ones(n)
    cos, sin = angle.cos() * scale, angle.sin() * scale
    shift = (torch.rand(n, 2) * 2 - 1) * 2 * SHIFT_MAX
    matrix = torch.stack([cos * flip, -sin, shift[:, 0], sin * flip, cos, shift[:, 1]], dim=1).reshape(n, 2, 3)
    grid = F.affine_grid(matrix.to(x.device), list(x.shape), align_corners=False)
    x = F.grid_sample(x, grid, padding_mode="border", align_corners=False)
    contrast = 1 + torch.randn(n, 1, 1, 1, device=x.device) * GREY_STD
    return x * contrast + torch.randn(n, 1, 1, 1, device=x.device) * GREY_STD


@torch.no_grad()
def probabilities(network: ResNet, images: np.ndarray, batch: int = 256) -> np.ndarray:
    """Softmax outputs: uint8 [N, C, S, S] → float32 [N, K]."""
    network.eval()
    device = next(network.parameters()).device
    parts = torch.from_numpy(images).split(batch)
    return torch.cat([network(x.to(device).float() / 127.5 - 1).softmax(dim=1).cpu() for x in parts]).numpy()


def target_auc(config: RunConfig, network: ResNet, images: ImageSet) -> float:
    """AUC of what the main direction is about; images of neither side of the target are left out."""
    aim = config.classifier.aim
    sides = truth(aim, images.labels)
    known = ~np.isnan(sides)
    return float(roc_auc_score(sides[known], read(aim, probabilities(network, images.images[known]))))


def train_classifiers(config: RunConfig, run: RunFolder, train: ImageSet, val: ImageSet) -> None:
    """Trains f and the domain network; leaves `checkpoints/{classifier,domain}.pt`. Run again to resume.

    Raises:
        ConfigError, ClassifierMisfit, ClassifierUnreachable, CheckpointForeign: there are no labels, and the black box
            cannot be asked.
    """
    for recipe in recipes(config):
        train_one(config, run, recipe, train, val)


def lesson_of(config: RunConfig, run: RunFolder, train: ImageSet, val: ImageSet) -> Lesson:
    """The labels or, where there are none, what the black box answers."""
    if config.data.labelled:
        smoothing = config.classifier.label_smoothing
        return Lesson(train.images, train.labels, smoothing, "val_auc", lambda n: target_auc(config, n, val))
    asked, aim = ask_black_box(config, run, train, val), config.classifier.aim

    def likeness(network: ResNet) -> float:
        apart = read(aim, probabilities(network, asked.val_images)) - read(aim, asked.val_answers)
        return 1 - float(np.abs(apart).mean())

    return Lesson(asked.images, asked.answers, 0.0, "val_likeness", likeness)


def train_one(config: RunConfig, run: RunFolder, recipe: Recipe, train: ImageSet, val: ImageSet) -> None:
    """AdamW with a cosine schedule and averaged weights; keeps the pass that is best on val."""
    device = choose_device()
    torch.manual_seed(recipe.seed)
    network = recipe.build().to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(network).requires_grad_(False)
    c = config.classifier
    optimiser = torch.optim.AdamW(network.parameters(), lr=c.lr, weight_decay=c.weight_decay)
    done, best, best_score = 0, average.state_dict(), 0.0
    if (state := run.load(recipe.name)) is not None:
        moving = {"network": network, "average": average, "optimiser": optimiser}
        for name, part in moving.items():
            part.load_state_dict(state[name])
        done, best, best_score = state["passes"], state["best"], state["best_auc"]
        set_rng_state(state["rng"])
    if done >= recipe.passes:
        return
    lesson = lesson_of(config, run, train, val)
    images, answers = torch.from_numpy(lesson.images), torch.from_numpy(lesson.answers)
    steps = math.ceil(len(images) / c.batch)
    teacher = None if recipe.teacher is None else load_network(config, run, recipe.teacher)
    step = done * steps
    with progress(recipe.name, recipe.passes * len(images), done * len(images)) as advance:
        for number in range(done + 1, recipe.passes + 1):
            network.train()
            for index in torch.randperm(len(images)).split(c.batch):
                x = images[index].to(device).float() / 127.5 - 1
                x, y = jitter(x, mirror=config.data.mirror), answers[index].to(device)
                if teacher is None:
                    loss = supervise(network, x, y, lesson.smoothing)
                else:
                    loss = supervise(network, x, taught(teacher, x, y, c.teacher_share), 0.0)
                set_learning_rate(optimiser, step / (recipe.passes * steps), c.lr)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()
                step += 1
                follow(average, network, step)
                advance(len(index))
            score = lesson.judge(average)
            if score > best_score:
                best, best_score = {k: v.clone() for k, v in average.state_dict().items()}, score
            judgement = {lesson.judged: score}
            run.log(recipe.name, images=number * len(images), loss=float(loss.detach()), **judgement)
            advance(0, f"{lesson.judged} {score:.3f}")
            run.save(
                recipe.name,
                {
                    "network": network.state_dict(),
                    "average": average.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "passes": number,
                    "best": best,
                    "best_auc": best_score,
                    "rng": rng_state(),
                },
            )


@torch.no_grad()
def taught(teacher: ResNet, x: Tensor, labels: Tensor, share: float) -> Tensor:
    """What to learn of images [N, C, S, S]: the teacher's answers and the labels [N], mixed → probabilities [N, K]."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        logits = teacher(x.contiguous(memory_format=torch.channels_last))
    soft = logits.float().softmax(dim=1)
    return share * soft + (1 - share) * F.one_hot(labels, soft.shape[1])


def supervise(network: ResNet, x: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of one batch, feature maps in bfloat16: images [N, C, S, S], labels [N] or [N, K] → scalar."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16):
        logits = network(x.contiguous(memory_format=torch.channels_last))
    return F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


@torch.no_grad()
def follow(average: ResNet, network: ResNet, steps: int) -> None:
    """Moves the averaged weights towards the current ones, batch statistics too; faster while few steps are done."""
    share = 1 - min(AVERAGE_DECAY, (1 + steps) / (10 + steps))
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), share)
    for slow, fast in zip(average.buffers(), network.buffers(), strict=True):
        slow.copy_(torch.lerp(slow, fast, share) if slow.is_floating_point() else fast)


def load_network(config: RunConfig, run: RunFolder, name: str) -> ResNet:
    """The best weights of `classifier`, `teacher` or `domain`, ready to evaluate; StepMissing before training."""
    run.need("checkpoints", f"{name}.pt", verb="train-classifier")
    recipe = next(r for r in recipes(config) if r.name == name)
    network = recipe.build()
    state = run.load(name)
    assert state is not None
    network.load_state_dict(state["best"])
    return network.eval().to(choose_device())

"""Train a network on handwritten digits in two processes, and in one, and compare what they have learned.

Both see the same batches, so that they differ by rounding. A task that is killed goes on from its last checkpoint.
`distributed_training_on_ray` trains the same network on the Ray cluster whose dashboard is at `RAY_DASHBOARD`.
Data: the digits of scikit-learn. The worker, and the nodes of the cluster, need PyTorch 2.4 or later.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from airflow.sdk import dag

from airflow_zen import checkpoint, log_metadata, ml_step
from airflow_zen.runtimes import Ray, TorchElastic

if TYPE_CHECKING:
    from torch import nn

BATCH = 64
DASHBOARD = os.environ.get("RAY_DASHBOARD", "http://127.0.0.1:8265")

State = dict[str, Any]


class Digits(NamedTuple):
    """Images of 8 x 8 pixels from 0 to 1 in rows, and the digits that they show; the last fifth is the test."""

    images: np.ndarray
    labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class Trained(NamedTuple):
    """The weights by layer, and the digest of the weights of each rank."""

    weights: dict[str, np.ndarray]
    digests: list[str]


@ml_step
def digits() -> Digits:
    """Return the digits in a random order."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = (images[order] / 16).astype(np.float32), labels[order]
    last = len(images) // 5
    return Digits(images[:-last], labels[:-last], images[-last:], labels[-last:])


def network() -> nn.Module:
    """Return the untrained network, which has the same weights in each process."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))


def own_batches(images: np.ndarray, labels: np.ndarray, epoch: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the parts of an epoch's batches that this rank trains on."""
    from torch import distributed

    rank, ranks = distributed.get_rank(), distributed.get_world_size()
    order = np.random.default_rng(epoch).permutation(len(images))
    starts = range(0, len(order) - BATCH + 1, BATCH)
    return [(images[own], labels[own]) for start in starts for own in [order[start : start + BATCH][rank::ranks]]]


def learn(
    images: np.ndarray,
    labels: np.ndarray,
    epochs: int,
    begun: State | None = None,
    save: Callable[[State], None] | None = None,
) -> Trained:
    """Train the network in all ranks, whose gradients are averaged after each batch; go on from a state."""
    import torch
    from torch import distributed, nn

    model = nn.parallel.DistributedDataParallel(network())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    if begun:
        model.module.load_state_dict(begun["model"])
        optimizer.load_state_dict(begun["optimizer"])
    for current in range(begun["epoch"] if begun else 0, epochs):
        for inputs, targets in own_batches(images, labels, current):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(torch.from_numpy(inputs)), torch.from_numpy(targets))
            loss.backward()
            optimizer.step()
        state = {"epoch": current + 1, "model": model.module.state_dict(), "optimizer": optimizer.state_dict()}
        if save:
            save(state)
    weights = {name: value.numpy() for name, value in model.module.state_dict().items()}
    digests = [""] * distributed.get_world_size()
    distributed.all_gather_object(digests, sha256(b"".join(map(np.ndarray.tobytes, weights.values()))).hexdigest())
    return Trained(weights, digests)


@ml_step
def train(images: np.ndarray, labels: np.ndarray, epochs: int = 30) -> Trained:
    """Train the network in the processes of the step, from its last checkpoint."""
    ckpt = checkpoint()
    begun = ckpt.latest()
    log_metadata({"first_epoch": begun["epoch"] if begun else 0})
    return learn(images, labels, epochs, begun, lambda state: ckpt.save(state, step=state["epoch"]))


@ml_step
def train_on_ray(images: np.ndarray, labels: np.ndarray, epochs: int = 30) -> Trained:
    """Train the network in two workers of Ray Train; what the first one returns is the result."""
    from ray.train import ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    trainer = TorchTrainer(
        lambda: tuple(learn(images, labels, epochs)),
        scaling_config=ScalingConfig(num_workers=2, placement_strategy="SPREAD"),
        torch_config=TorchConfig(backend="gloo"),
    )
    return Trained(*trainer.fit().return_value)


@ml_step
def accuracy(weights: dict[str, np.ndarray], images: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of images that are recognized."""
    import torch

    model = network()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
    with torch.inference_mode():
        found = model(torch.from_numpy(images)).argmax(dim=1)
    return float((found.numpy() == labels).mean())


@ml_step
def compare(two: float, one: float) -> float:
    """Return by how much two ranks recognize more than one: by no image, or by one, because of rounding."""
    log_metadata({"accuracy_of_two_ranks": two, "accuracy_of_one": one})
    return two - one


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def distributed_training() -> None:
    data = digits()
    scores = {}
    for name, ranks in {"two": 2, "one": 1}.items():
        learn = train.override(task_id=f"train_{name}", runtime=TorchElastic(ranks, max_restarts=3), retries=3)
        score = accuracy.override(task_id=f"accuracy_{name}")
        scores[name] = score(learn(data.images, data.labels).weights, data.test_images, data.test_labels)
    compare(**scores)


@dag(schedule=None, catchup=False, tags=["airflow_zen"])
def distributed_training_on_ray() -> None:
    data = digits()
    learned = train_on_ray.override(runtime=Ray(DASHBOARD))(data.images, data.labels)
    accuracy(learned.weights, data.test_images, data.test_labels)


distributed_training()
distributed_training_on_ray()

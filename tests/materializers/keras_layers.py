"""Layers and functions of a project, registered with Keras, and ones that are not or lose something."""

from __future__ import annotations

from typing import Any

import keras

register = keras.saving.register_keras_serializable("tests")


class Unregistered(keras.layers.Layer):
    def call(self, x: Any) -> Any:
        return 2 * x


@register
class Doubled(Unregistered):
    pass


class _Weighted(keras.layers.Layer):
    """A layer with as many weights as it is told; `get_config` does not say how many."""

    def __init__(self, count: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.count = count

    def build(self, shape: Any) -> None:
        self.held = [self.add_weight(shape=(shape[-1],), name=f"w{at}") for at in range(self.count)]

    def call(self, x: Any) -> Any:
        return x + sum(self.held)

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@register
class Forgetful(_Weighted):
    pass


@register
class Whole(_Weighted):
    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}


def loss(labels: Any, predictions: Any) -> Any:
    return keras.ops.mean(labels - predictions)


@register
def registered_loss(labels: Any, predictions: Any) -> Any:
    return loss(labels, predictions)


@register
def doubled(x: Any) -> Any:
    return 2 * x

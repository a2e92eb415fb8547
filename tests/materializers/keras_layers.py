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


class _Stack(keras.layers.Layer):
    """A layer of as many dense layers as it is told."""

    def __init__(self, count: int = 1, **options: Any) -> None:
        super().__init__(**options)
        self.blocks = [keras.layers.Dense(3) for _ in range(count)]

    def build(self, shape: Any) -> None:
        for block in self.blocks:
            block.build(shape)

    def call(self, x: Any) -> Any:
        for block in self.blocks:
            x = block(x)
        return x


@register
class ForgetfulStack(_Stack):
    """A stack whose `get_config` does not say how many layers it has."""

    def get_config(self) -> dict[str, Any]:
        return super().get_config()


@register
class WholeStack(_Stack):
    """A stack whose `get_config` says how many layers it has."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": len(self.blocks)}


@register
class Unsaved(_Weighted):
    """A layer that leaves its weights out of the file."""

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "count": self.count}

    def save_own_variables(self, store: Any) -> None:
        pass

    def load_own_variables(self, store: Any) -> None:
        pass

"""`ModelVersionSensor` and its trigger: they see an alias move, by whatever it was moved."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import BaseSensorOperator, conf
from airflow.sdk import PokeReturnValue
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_zen.config.model_selectors import open_registry
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ModelNameError, SettingsError
from airflow_zen.lineage.mlflow.errors import MlflowUnavailable
from airflow_zen.models.model import Model, ModelSelector, as_selector
from airflow_zen.models.promotion import WatchedAlias
from airflow_zen.models.registered_models import RegisteredModels, RegisteredVersion
from airflow_zen.stack import Stack

POLL_SECONDS = 60.0


class ModelVersionSensor(BaseSensorOperator):
    """Wait for a version of a registered model, and return a selector of exactly that version for other steps.

    `model`: `"flight_delay@champion"` or `"flight_delay/latest"`, as text, `Model` or selector. It is there when the
    alias is set; with `after` when it is at another version than that, with `version` when it is at that one.
    Promotions by hand in MLflow's page count, too. `deferrable` waits in the triggerer. While MLflow is unavailable the
    sensor goes on waiting. Raises `ModelNameError` for what selects no version.
    """

    template_fields: Sequence[str] = ("model", "after", "version")
    ui_color = "#fbeecb"

    def __init__(
        self,
        *,
        model: Any,
        after: int | str = "",
        version: int | str = "",
        stack: str = "",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **options: Any,
    ) -> None:
        super().__init__(**{"poke_interval": POLL_SECONDS, **options})
        selector = as_selector(model)
        self.model = str(selector) if selector else model
        if not isinstance(self.model, str):
            raise ModelNameError(f"ModelVersionSensor(model=…) takes 'name@alias' or a Model, got {model!r}.")
        if "{{" not in self.model:
            ModelSelector.parse(self.model)
        self.after, self.version = str(after), str(version)
        self.stack = stack
        self.deferrable = deferrable

    def poke(self, context: Any) -> PokeReturnValue:
        """Look at the registry once."""
        try:
            registry = open_registry(Settings.read(self.stack or None))
            found = registry.find(ModelSelector.parse(self.model))
        except MlflowUnavailable as error:
            self.log.warning("MLflow is unavailable, and is asked again: %s", error)
            found = None
        if found is None or not is_awaited(found, self.after, self.version):
            return PokeReturnValue(is_done=False)
        return PokeReturnValue(is_done=True, xcom_value=self._result(found.name, found.number))

    def execute(self, context: Any) -> Any:
        """Wait in this process, or defer the task."""
        if not self.deferrable:
            return super().execute(context)
        found = self.poke(context)
        if found:
            return found.xcom_value
        trigger = ModelVersionTrigger(self.model, self.stack, self.after, self.version, self.poke_interval)
        return self.defer(timeout=timedelta(seconds=self.timeout), trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Return the version that the trigger found. Raises `SettingsError` where it could not look."""
        if "error" in event:
            raise SettingsError(event["error"])
        return self._result(event["model"], event["version"])

    def _result(self, name: str, number: str) -> dict[str, Any]:
        self.log.info("Model %s is version %s.", self.model, number)
        return ModelSelector(name, number).to_wire()


class ModelVersionTrigger(BaseEventTrigger):
    """Wait until a version is there; as the trigger of an asset's watcher, emit an event whenever an alias has moved.

    `model` selects the version as text, and `after` and `version` are those of the sensor. With `watch` the last
    version is remembered in the artifact root, so that no move is lost while no triggerer runs. Moves by `promote(…)`
    have their own event already, and get none here.
    """

    def __init__(
        self,
        model: str,
        stack: str = "",
        after: str = "",
        version: str = "",
        poll_interval: float = POLL_SECONDS,
        watch: bool = False,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.selector = ModelSelector.parse(model)
        self.stack = stack
        self.after = after
        self.version = version
        self.poll_interval = poll_interval
        self.watch = watch

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the path of this class, and its arguments."""
        options: dict[str, Any] = {"stack": self.stack, "after": self.after, "version": self.version}
        options |= {"poll_interval": self.poll_interval, "watch": self.watch}
        return f"{__name__}.{type(self).__name__}", {"model": str(self.selector), **options}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the event; a watcher yields one for each move, and does not end."""
        while True:
            try:
                # Connections are read by the thread that the event loop waits for.
                stack, registry = await sync_to_async(self._open)()
                found = await asyncio.to_thread(registry.find, self.selector)
                if self.watch:
                    async for event in self._watch(stack, registry, found):
                        yield event
                elif found is not None and is_awaited(found, self.after, self.version):
                    yield _event(self.selector, found)
                    return
            except SettingsError as error:
                if not self.watch:
                    yield TriggerEvent({"error": str(error)})  # type: ignore[no-untyped-call]
                    return
                self.log.warning("The model registry cannot be watched: %s", error)
            except Exception as error:  # noqa: BLE001 - an outage ends; the sensor has its timeout
                self.log.warning("The model registry is asked again in %g s: %s", self.poll_interval, error)
            await asyncio.sleep(self.poll_interval)

    async def _watch(
        self, stack: Stack, registry: RegisteredModels, found: RegisteredVersion | None
    ) -> AsyncIterator[TriggerEvent]:
        watched = WatchedAlias(stack.store.transport, self.selector)
        if await asyncio.to_thread(watched.has_moved, found.number if found else ""):
            if found is not None:
                yield _event(self.selector, found)
            await asyncio.to_thread(watched.remember, found.number if found else "")

    def _open(self) -> tuple[Stack, RegisteredModels]:
        settings = Settings.read(self.stack or None)
        return open_stack(settings, lineage=False), open_registry(settings)


def is_awaited(found: RegisteredVersion, after: str, version: str) -> bool:
    """Whether a version is the one that is waited for."""
    return (not version or found.number == version) and (not after or found.number != after)


def watcher_of(model: Model, stack: str, poll_interval: float) -> Any:
    """Return the watcher of an alias for an Airflow asset."""
    from airflow.sdk import AssetWatcher

    selector = model.selector
    trigger = ModelVersionTrigger(str(selector), stack, poll_interval=poll_interval, watch=True)
    return AssetWatcher(name=f"alias of {selector}", trigger=trigger)


def _event(selector: ModelSelector, found: RegisteredVersion) -> TriggerEvent:
    digest = found.tags.get("zen.digest", "")
    payload = {"model": found.name, "alias": selector.alias, "version": found.number, "digest": digest}
    return TriggerEvent(payload)  # type: ignore[no-untyped-call]

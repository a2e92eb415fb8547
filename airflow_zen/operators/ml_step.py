"""`MLStepOperator`: a typed function as an Airflow task, with artifacts, cache and lineage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from airflow.providers.standard.operators.python import PythonOperator
from airflow.sdk.definitions.context import context_merge

from airflow_zen.errors import StepDefinitionError
from airflow_zen.lineage.recorder import Opened
from airflow_zen.lineage.step_run import StepRun, StepRunId
from airflow_zen.operators.interrupt import interruptible
from airflow_zen.operators.links import MlflowRunLink
from airflow_zen.settings import Settings, open_stack
from airflow_zen.steps.arguments import Arguments
from airflow_zen.steps.run import Watcher, run_step
from airflow_zen.steps.step import Step


class MLStepOperator(PythonOperator):
    """Run a typed function as a step.

    `cache`: False runs the function each time; True reuses even a step that returns nothing; None
    follows `[zen] cache`. `version`: an addition of your own to the cache key. `model`: the registered
    model in MLflow that the returned model becomes a version of. Everything else is PythonOperator's.
    The return value in XCom is an `ArtifactRef` on the wire, or a dict of them by output name.
    """

    custom_operator_name = "@ml_step"
    ui_color = "#e6f2ef"
    operator_extra_links = (MlflowRunLink(),)
    template_fields: Sequence[str] = ("templates_dict", "op_args", "op_kwargs", "version")
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "templates_dict": "json",
        "op_args": "py",
        "op_kwargs": "py",
    }

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        cache: bool | None = None,
        version: str = "",
        model: str = "",
        **options: Any,
    ) -> None:
        step = Step(python_callable, options.get("task_id", python_callable.__name__))
        options["multiple_outputs"] = step.outputs.several
        super().__init__(python_callable=python_callable, **options)
        self.cache = _known(cache, "cache", bool, type(None))
        self.version = _known(version, "version", str)
        self.model = _known(model, "model", str)
        self.mlflow_url = ""

    @property
    def is_async(self) -> bool:
        """Say no: an `async def` is awaited inside the step, where timeouts and signals reach it."""
        return False

    @property
    def step(self) -> Step:
        """The function with its options."""
        return Step(self.python_callable, self.task_id, self.version, cache_always=self.cache is True)

    def execute(self, context: Any) -> Any:
        """Run the step and return its outputs as refs, for XCom."""
        context_merge(context, self.op_kwargs, templates_dict=self.templates_dict)
        given = dict(self.op_kwargs)
        kwargs = self.determine_kwargs(context)
        with interruptible(self.on_kill):
            settings = Settings.read()
            arguments = Arguments.bind(self.python_callable, self.op_args, kwargs, frozenset(kwargs) - frozenset(given))
            run = run_step(
                self.step, arguments, open_stack(settings), self._begin(context, settings), _TaskWatcher(self, context)
            )
        return self._xcom(run)

    def _begin(self, context: Any, settings: Settings) -> StepRun:
        ti = context["ti"]
        cache, why = self._caching(context, settings)
        return StepRun(
            id=StepRunId(
                dag_id=ti.dag_id,
                run_id=ti.run_id,
                task_id=ti.task_id,
                map_index=-1 if ti.map_index is None else ti.map_index,
                try_number=ti.try_number,
            ),
            cache=cache,
            why=why,
            model=self.model,
            source=self.step.source,
            owner=self.owner,
            log_url=str(getattr(ti, "log_url", "") or ""),
            code_version=str(getattr(getattr(ti, "bundle_instance", None), "version", "") or ""),
        )

    def _caching(self, context: Any, settings: Settings) -> tuple[str, str]:
        """Decide whether this run may reuse results: the run's conf first, then the step, then the deployment."""
        asked = ((context["dag_run"].conf or {}).get("zen") or {}).get("cache")
        if asked is False:
            return "off", "the DAG run was triggered with {'zen': {'cache': false}}"
        if self.cache is False:
            return "off", "the step is declared cache=False"
        if self.cache is None and not settings.cache and asked is not True:
            return "off", "[zen] cache is false"
        return "miss", ""

    def _xcom(self, run: StepRun) -> Any:
        wires = {name: ref.to_wire() for name, ref in run.outputs.items()}
        if self.step.outputs.several:
            return wires
        return next(iter(wires.values()), None)


class _TaskWatcher(Watcher):
    """Show the lineage run on the task's page and in its log while it is still running."""

    def __init__(self, operator: MLStepOperator, context: Any) -> None:
        self.operator = operator
        self.ti = context["ti"]

    def opened(self, opened: Opened) -> None:
        if opened.url:
            self.operator.mlflow_url = opened.url
            self.operator.log.info("MLflow run: %s", opened.url)
            self.ti.xcom_push(key=MlflowRunLink.key, value=opened.url)


def _known(value: Any, option: str, *types: type) -> Any:
    """Refuse option values that would serialize differently at each parse of the DAG."""
    if not isinstance(value, types):
        names = " or ".join(kind.__name__ for kind in types)
        raise StepDefinitionError(f"@ml_step({option}=…) takes {names}, got {value!r}.")
    return value

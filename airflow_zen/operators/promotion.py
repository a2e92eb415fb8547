"""`promote` and `PromoteModelOperator`: an alias of a registered model moves to a version that passes its gates."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow.sdk.bases.decorator import get_unique_task_id

from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.settings import open_stack
from airflow_zen.errors import ArtifactNotFound, InputError, PromotionRefused, StepDefinitionError
from airflow_zen.materializers.annotations import SKIP, WARN
from airflow_zen.models.gates import Better, Contest, check_gates
from airflow_zen.models.model import (
    CHALLENGER,
    CHAMPION,
    ModelSelector,
    as_selector,
    validate_alias,
    validate_model_name,
)
from airflow_zen.models.promotion import Move, Promotion, Promotions
from airflow_zen.operators.assets import asset_of_alias, merge_assets
from airflow_zen.operators.evaluation import evaluate
from airflow_zen.operators.validation import ReportOperator, is_artifact, is_list_of_artifacts
from airflow_zen.steps.runtime import IN_PROCESS
from airflow_zen.validation.report import Check, ValidationReport

if TYPE_CHECKING:
    from airflow_zen.config.model_selectors import SelectorResolver
    from airflow_zen.config.settings import Settings
    from airflow_zen.models.registered_models import RegisteredModels
    from airflow_zen.runs.step_run import StepRun

_MOVED, _VERSION, _PREVIOUS = "promotion.moved", "promotion.version", "promotion.previous"
_TITLE = "promotion of {}"


class PromoteModelOperator(ReportOperator):
    """Move an alias of a registered model to a version that passes the gates, and return the report as an artifact.

    `name`: the registered model. `to`: the alias. `if_`: the gates, which are reports of `evaluate` and `validate`, and
    `Better`s. `candidate`: the model to promote, the output of a step or a selector; by default the challenger. `why`:
    the reason, which is kept. `approval`: what an `ApprovalOperator` returned, `approved`: the report that it asked about.
    `moves`: False only checks the gates.
    `on_failure` is that of `ValidateOperator`, for a promotion that is refused; by default it skips the tasks
    downstream. The event of the alias's asset is only emitted if the alias has moved. Other options are those of
    `MLStepOperator`. Raises `StepDefinitionError` or `ModelNameError` for what cannot be promoted.
    """

    custom_operator_name = "promote"
    ui_color = "#fbeecb"

    def __init__(
        self,
        *,
        name: str,
        to: str = CHAMPION,
        if_: Any = (),
        candidate: Any = None,
        why: str = "",
        approval: Any = None,
        approved: Any = None,
        moves: bool = True,
        **options: Any,
    ) -> None:
        candidate = candidate_of(name, to, candidate)
        arguments = {"candidate": candidate, "gates": gates_of(if_), "name": name, "to": to, "why": why}
        arguments |= {"approval": approval, "approved": approved, "moves": moves}
        options = {"on_failure": SKIP, **options, "cache": False, "runtime": IN_PROCESS}
        if moves:
            asset = asset_of_alias(ModelSelector(name, f"@{to}"), options.get("stack", ""))
            options["outlets"] = merge_assets(options.get("outlets") or [], [asset])
        super().__init__(python_callable=promote_candidate, op_kwargs=arguments, **options)

    @classmethod
    def partial(cls, **options: Any) -> Any:
        """Give the options that all instances have in common, such as `name` and `to`; they promote to one alias."""
        if options.get("moves", True) and "name" in options:
            selector = ModelSelector(validate_model_name(options["name"]), f"@{options.get('to', CHAMPION)}")
            asset = asset_of_alias(selector, options.get("stack", ""))
            options["outlets"] = merge_assets(options.get("outlets") or [], [asset])
        return super().partial(**{"on_failure": SKIP, **options})

    def look_up_arguments(self, selectors: SelectorResolver) -> None:
        """Look up the version that the alias has now; register the candidate where MLflow was away when it was made."""
        found = dict(self.op_kwargs)
        selector = ModelSelector(found["name"], f"@{found['to']}")
        current = selectors.registry.find(selector)
        if current is not None:
            found |= {"previous": current.number, "current_digest": current.tags.get("zen.digest", "")}
            # Only for lineage: what is compared are digests, and the artifact may have been deleted.
            with suppress(ArtifactNotFound, InputError):
                found["current"] = selectors.artifact_of(current, selector, "current").to_wire()
        _deliver_registration(found["name"], found["candidate"], selectors.registry, selectors.settings)
        stack = selectors.stack
        found["promotions"] = Promotions(selectors.registry, stack.store.transport, stack.clock)
        self.op_kwargs = found

    def on_computed(self, run: StepRun, context: Any, *, stack_overridden: bool) -> None:
        """Keep the event of the alias's asset only where the alias has moved, and describe the version in it."""
        selector = ModelSelector(self.op_kwargs["name"], f"@{self.op_kwargs['to']}")
        asset = asset_of_alias(selector, self.stack)
        facts = run.metadata.get("", {})
        if not facts.get(_MOVED) or stack_overridden:
            self.outlets = [outlet for outlet in self.outlets if getattr(outlet, "uri", None) != asset.uri]
        elif any(getattr(outlet, "uri", None) == asset.uri for outlet in self.outlets):
            event = context["outlet_events"][asset]
            version, previous = (str(int(facts[key])) if key in facts else "" for key in (_VERSION, _PREVIOUS))
            described = {"model": selector.name, "alias": selector.alias, "version": version, "previous": previous}
            described["digest"] = run.inputs["candidate"].digest
            event.extra = {**described, **event.extra}


def promote(
    name: str,
    to: str = CHAMPION,
    if_: Any = (),
    *,
    candidate: Any = None,
    table: Any = None,
    target: str = "",
    why: str = "",
    approval: bool | Mapping[str, Any] = False,
    on_failure: Any = SKIP,
    task_id: str = "",
    **options: Any,
) -> Any:
    """Add a step to the DAG that promotes a model where the gates pass; return its report, for other steps.

    The arguments are those of `PromoteModelOperator`. `table` and `target` add a step that evaluates the candidate on a
    table, with the present version of the alias as its baseline. `approval`: whether a person must approve in Airflow
    what passed the gates, or options of Airflow's `ApprovalOperator`. `task_id` is by default `promote_` with the names
    of model and alias.
    """
    name = validate_model_name(name)
    task_id = task_id or re.sub(r"[^\w.-]", "_", f"promote_{name}_{to}")
    given: dict[str, Any] = {key: options[key] for key in ("dag", "task_group") if key in options}
    task_id = get_unique_task_id(task_id, given.get("dag"), given.get("task_group"))
    candidate, gates = candidate_of(name, to, candidate), gates_of(if_)
    if (table is None) != (not target):
        raise StepDefinitionError("promote(table=…, target=…) takes both, or none: the column that the model predicts.")
    if table is not None:
        shared = given | {key: options[key] for key in ("stack",) if key in options}
        baseline, evaluation = f"{name}@{to}", f"evaluate_for_{task_id}"
        gates.append(
            evaluate(candidate, table, target, baseline=baseline, on_failure=WARN, task_id=evaluation, **shared)
        )
    arguments = {"name": name, "to": to, "if_": gates, "candidate": candidate, "why": why, "on_failure": on_failure}
    answer, checked = None, None
    if approval:
        checked = PromoteModelOperator(task_id=f"check_{task_id}", moves=False, **{**options, **arguments})
        answer = _ask(checked, name, to, approval if isinstance(approval, Mapping) else {}, f"approve_{task_id}", given)
    approved = checked and checked.output
    return PromoteModelOperator(task_id=task_id, approval=answer, approved=approved, **arguments, **options).output


def _ask(
    checked: PromoteModelOperator,
    name: str,
    to: str,
    options: Mapping[str, Any],
    task_id: str,
    given: Mapping[str, Any],
) -> Any:
    """Add the task that asks a person, and return its answer."""
    from airflow.providers.standard.operators.hitl import ApprovalOperator

    body = f"The gates of this promotion have passed: see the report of task `{checked.task_id}`."
    asked = {"subject": f"Promote {name} to {to}?", "body": body, "task_id": task_id, **given, **options}
    operator = ApprovalOperator(**asked)
    checked >> operator
    return operator.output


def promote_candidate(
    candidate: ArtifactRef,
    gates: list[Any],
    name: str,
    to: str,
    promotions: Promotions,
    current: ArtifactRef | None = None,
    previous: str = "",
    current_digest: str = "",
    why: str = "",
    approval: Any = None,
    approved: ValidationReport | None = None,
    moves: bool = True,
    ti: Any = None,
    dag_run: Any = None,
) -> ValidationReport:
    """Return the report of the gates, and move the alias if all of them passed.

    `current` is the artifact of the version `previous` that the alias has, where it is known. `approval` is the answer
    of a person about the report `approved`.
    """
    version = promotions.registry.find_content(name, candidate.digest)
    if version is None:
        raise InputError(
            f"The candidate {candidate.name!r} ({candidate.digest[:12]}) is no version of model {name!r}. Register it in the "
            f"step that makes it: @ml_step(model={name!r}). If its version was deleted in MLflow, run that step again."
        )
    if previous == version.number:
        # An earlier try may have moved it: there is nothing to compare with now. Nobody is asked about it either.
        observed = f"version {previous} has the alias"
        checks = [Check(name="already_promoted", passed=moves, observed=observed)]
    else:
        contest = Contest(candidate.digest, previous, current_digest)
        checks = [*check_gates(gates, contest), *_check_approval(approval, approved, candidate)]
    done = None
    if moves and all(check.passed for check in checks):
        move = Move(
            model=name,
            alias=to,
            version=version.number,
            previous=previous,
            digest=candidate.digest,
            by=getattr(dag_run, "triggering_user_name", None) or (ti.task.owner if ti else ""),
            origin=f"{ti.dag_id}/{ti.run_id}/{ti.task_id}/{-1 if ti.map_index is None else ti.map_index}" if ti else "",
            why=why,
            approved_by=_person(approval),
            gates={check.title: check.observed for check in checks},
        )
        done, refusal = _promote(promotions, move)
        checks += refusal
    # An earlier try of this task may have moved it.
    previous = done.previous if done else previous
    facts = {"model": name, "alias": to, "version": version.number, "previous": previous, "digest": candidate.digest}
    numbers = {_MOVED: float(done is not None), _VERSION: float(version.number)}
    numbers |= {_PREVIOUS: float(previous)} if previous else {}
    selector = ModelSelector(name, f"@{to}")
    return ValidationReport(_TITLE.format(selector), tuple(checks), statistics=facts, metrics=numbers)


def candidate_of(name: str, to: str, candidate: Any) -> Any:
    """Return the candidate as an argument, by default the challenger. Raises `StepDefinitionError`."""
    validate_model_name(name)
    if candidate is None:
        if validate_alias(to) == CHALLENGER:
            raise StepDefinitionError(
                "promote(to='challenger') needs a candidate=…: the challenger itself is the default."
            )
        return ModelSelector(name, f"@{CHALLENGER}").to_wire()
    if is_list_of_artifacts(candidate):
        raise StepDefinitionError(
            "promote(candidate=…) takes one model, got those of a mapped step. Choose one in a step of its own, with "
            f"@ml_step(model={name!r}), and pass its output."
        )
    if not is_artifact(candidate):
        raise StepDefinitionError(
            f"promote(candidate=…) takes the output of a step, or a version such as Model({name!r}).version(7), got "
            f"{candidate!r}."
        )
    return selected.to_wire() if (selected := as_selector(candidate)) else candidate


def gates_of(if_: Any) -> list[Any]:
    """Return the gates as a list; raise `StepDefinitionError` for what is neither a report of a step nor a `Better`."""
    gates = list(if_) if isinstance(if_, Sequence) and not isinstance(if_, str) else [if_]
    for gate in gates:
        if not (isinstance(gate, Better) or is_artifact(gate)):
            raise StepDefinitionError(
                f"promote(if_=[…]) takes reports of evaluate(…) and validate(…), and Better('metric', by=…), got {gate!r}."
            )
    return gates


def _deliver_registration(name: str, candidate: Any, registry: RegisteredModels, settings: Settings) -> None:
    """Send MLflow the step runs that it has missed, where it does not have the candidate's version."""
    if not ArtifactRef.is_wire(candidate) or registry.find_content(name, ArtifactRef.from_wire(candidate).digest):
        return
    from airflow_zen.lineage.mlflow.recorder import MlflowRecorder
    from airflow_zen.lineage.mlflow.sync import sync_pending

    stack = open_stack(settings)
    if isinstance(stack.lineage, MlflowRecorder):
        sync_pending(stack.lineage, stack.records, stack.clock)


def _promote(promotions: Promotions, move: Move) -> tuple[Promotion | None, list[Check]]:
    """Return the promotion if this task has moved the alias, and the failed check of a move that was refused."""
    try:
        done, moved = promotions.promote(move)
    except PromotionRefused as error:
        check = Check(name="unchanged_since_comparison", passed=False, observed="the alias moved", message=str(error))
        return None, [check]
    return done if moved else None, []


def _check_approval(approval: Any, approved: ValidationReport | None, candidate: ArtifactRef) -> list[Check]:
    """Return whether a person approved this candidate; nothing where nobody was asked."""
    if approval is None:
        return []
    about = str(approved.statistics.get("digest", "")) if approved else candidate.digest
    if about != candidate.digest:
        message = "The candidate has changed since a person was asked. Promote it again, and ask about the new one."
        facts: dict[str, Any] = {"observed": f"model {candidate.digest[:12]}", "expected": f"model {about[:12]}"}
        return [Check(name="approved_candidate", passed=False, message=message, **facts)]
    chosen = list(approval.get("chosen_options") or ()) if isinstance(approval, Mapping) else []
    observed = f"{', '.join(map(str, chosen)) or 'no answer'} ({_person(approval) or 'unknown'})"
    return [Check(name="approval", passed=chosen == ["Approve"], observed=observed, expected="Approve")]


def _person(approval: Any) -> str:
    user = approval.get("responded_by_user") if isinstance(approval, Mapping) else None
    return str(user.get("name") or user.get("id") or "") if isinstance(user, Mapping) else ""

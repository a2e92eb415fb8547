"""The rollout of a deployment in a cluster; each call continues from the state of the objects and of a journal."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
from airflow.providers.common.compat.sdk import conf
from msgspec.structs import replace

from airflow_zen.deployment.base import Deployment, DeploymentRequest, log_token, post_json, smoke_test
from airflow_zen.deployment.cluster.objects import ClusterUnavailable, Objects
from airflow_zen.deployment.cluster.target import (
    CANDIDATE,
    ClusterTarget,
    ModelSource,
    failure_of,
    object_name,
    seconds_without_change,
)
from airflow_zen.errors import DeploymentFailed, StepDeferred, log_errors
from airflow_zen.json_records import decode_record
from airflow_zen.steps.spec import storage_options

if TYPE_CHECKING:
    from airflow_zen.stack import Stack

log = logging.getLogger("airflow_zen.deployment")

_CANDIDATE_KEY = "airflow-zen/key"
_POLL = 2.0


class Served(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of a served object: the key of the request, the object as applied, and its record."""

    key: str
    body: dict[str, Any]
    model: str
    version: str
    digest: str
    owner: str
    since: str
    canary: int | None = None

    def promoted(self) -> Served:
        """Return the same version with all requests."""
        if self.canary is None:
            return self
        body = msgspec.json.decode(msgspec.json.encode(self.body))
        del body["spec"]["predictor"]["canaryTrafficPercent"]
        return replace(self, body=body, canary=None)


class Journal(msgspec.Struct, frozen=True):
    """The current version of a deployment, the previous stable one, and the one that is being rolled out.

    `name` is the deployment's. It is stored in a ConfigMap, because serving systems restart models whose objects get
    other annotations.
    """

    name: str = ""
    current: Served | None = None
    previous: Served | None = None
    pending: Served | None = None

    @property
    def stable(self) -> Served | None:
        """The version after a rollback of the current change: the one beside a canary, or else the current one."""
        return self.previous if self.current and self.current.canary is not None else self.current


class Rollout:
    """The deployment of a name on a target."""

    def __init__(self, target: ClusterTarget, name: str) -> None:
        self._target, self._deployment_name = target, name
        self._objects = Objects(target)
        self._name = object_name(name)
        text, self._version = self._objects.read_journal(self._name)
        self._journal = decode_record(text, Journal) if text else Journal(name)
        if self._journal.name != name:
            raise DeploymentFailed(
                f"{self._name!r} in namespace {self._objects.namespace!r} is deployment {self._journal.name!r}: deploy "
                f"{name!r} with another name=."
            )

    def find_current(self, request: DeploymentRequest) -> Deployment | None:
        """Return the deployment if its object is ready, and serves the request."""
        current = self._journal.current
        if current is None or self._journal.pending or not self._is_wanted(current, self._target.key(request)):
            return None
        self._delete_abandoned_candidate()
        found = self._objects.get(self._name)
        if found is None or not _contains(found, current.body) or self._target.progress(found).state != "ready":
            return None
        return self._describe(current, found)

    def deploy(self, request: DeploymentRequest, stack: Stack) -> Deployment:
        """Test a candidate, apply the object of the deployment, and wait until it is ready; undo it if it fails.

        Raises `DeploymentFailed`, and `StepDeferred` while a model starts if the task does not have to wait.
        """
        if deployed := self.resume(request):
            return deployed
        key, current = self._target.key(request), self._journal.current
        with self._undone_on_failure():
            source = self._source(request, stack)
            if request.rows is not None and not (current and current.key == key):
                self._test_candidate(request, key, source)
            return self._change_to(self._served(request, key, source))

    def resume(self, request: DeploymentRequest) -> Deployment | None:
        """Go on with a change to the request, whose candidate was tested; return None if there is none.

        Raises as `deploy`.
        """
        pending = self._journal.pending
        if pending is None or not self._is_wanted(pending, self._target.key(request)):
            return None
        with self._undone_on_failure():
            return self._change_to(pending)

    @contextmanager
    def _undone_on_failure(self) -> Iterator[None]:
        try:
            yield
        except StepDeferred:
            raise
        except BaseException:
            with log_errors(f"What deployment {self._deployment_name!r} was changed to is not undone"):
                self._objects.delete(f"{self._name}{CANDIDATE}")
                self._undo()
            raise

    def promote(self) -> Deployment:
        """Send all requests to a canary. Raises `DeploymentFailed` if there is none."""
        current = self._journal.current
        if current is None or current.canary is None:
            raise DeploymentFailed(f"Deployment {self._deployment_name!r} has no canary to promote.")
        return self._change_to(current.promoted())

    def roll_back(self) -> Deployment:
        """Serve the previous stable version again. Raises `DeploymentFailed` if there is none."""
        if self._journal.previous is None:
            raise DeploymentFailed(f"Deployment {self._deployment_name!r} has served nothing before.")
        return self._change_to(self._journal.previous)

    def _is_wanted(self, served: Served, key: str) -> bool:
        """Whether a version has the key and the requested share of requests; the first version is no canary."""
        canary = self._target.canary_percent if self._journal.previous or self._journal.current else None
        is_only = self._journal.previous is None and served is self._journal.current
        return served.key == key and served.canary == (None if is_only else canary)

    def _change_to(self, pending: Served) -> Deployment:
        """Record the intended version, apply it, wait until it is ready, and record that it is served."""
        if self._journal.pending != pending:
            self._write(replace(self._journal, pending=pending))
        journal = self._journal
        self._objects.apply(pending.body)
        found = self._await_ready(self._name, pending.version)
        before = journal.stable if journal.stable and journal.stable.key != pending.key else journal.previous
        if before and before.key == pending.key:
            before = None
        # Before the journal says that all is done: nobody looks for a candidate after that.
        self._objects.delete(f"{self._name}{CANDIDATE}")
        self._write(Journal(self._deployment_name, pending, before))
        return self._describe(pending, found)

    def _undo(self) -> None:
        """Apply the version from before a change; delete an object that has served nothing."""
        if self._journal.pending is None:
            return
        if current := self._journal.current:
            self._objects.apply(current.body)
            self._write(replace(self._journal, pending=None))
            log.warning("Deployment %r serves version %s again", self._deployment_name, current.version)
        else:
            self._objects.delete_all(self._name)

    def _delete_abandoned_candidate(self) -> None:
        """Delete the candidate of a task that was killed and not tried again: one that nobody can be waiting for."""
        name = f"{self._name}{CANDIDATE}"
        found = self._objects.get(name)
        if found and seconds_without_change(found) > self._target.timeout:
            self._objects.delete(name)

    def _test_candidate(self, request: DeploymentRequest, key: str, source: ModelSource) -> None:
        """Make an object of another name, which gets no requests, predict the rows of the smoke test."""
        name = f"{self._name}{CANDIDATE}"
        found = self._objects.get(name)
        if found is None or found["metadata"].get("annotations", {}).get(_CANDIDATE_KEY) != key:
            body = self._target.body(name, replace(source, names={}))
            body["metadata"]["annotations"] = {**body["metadata"].get("annotations", {}), _CANDIDATE_KEY: key}
            self._objects.apply(body)
        address = self._target.address(self._await_ready(name, request.version))
        tested = replace(request, name=f"{self._deployment_name}{CANDIDATE}")

        def send(path: str, body: Mapping[str, Any]) -> Any:
            return post_json(f"{address.url}{path}", body, request.token, headers=address.headers)

        smoke_test(self._target, tested, send)
        log.info("%s/%s passed the smoke test", self._objects.namespace, name)

    def _served(self, request: DeploymentRequest, key: str, source: ModelSource) -> Served:
        body = self._target.body(self._name, source)
        stable, canary = self._journal.stable, None
        if self._target.canary_percent is not None and stable and stable.key != key:
            canary = self._target.canary_percent
            body["spec"]["predictor"]["canaryTrafficPercent"] = canary
        return Served(
            key=key,
            body=body,
            model=request.model,
            version=request.version,
            digest=request.digest,
            owner=request.owner,
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            canary=canary,
        )

    def _await_ready(self, name: str, version: str) -> dict[str, Any]:
        """Return an object when it is ready.

        Raises `DeploymentFailed` if it fails, or stops changing.
        """
        answered = time.monotonic()
        while True:
            try:
                found = self._objects.get(name)
            except ClusterUnavailable as error:
                if time.monotonic() - answered > self._target.timeout:
                    raise
                log.warning("%s It is asked again.", error)
            else:
                answered = time.monotonic()
                if found is None:
                    raise DeploymentFailed(f"{name!r} was deleted in the cluster while its model started.")
                if failure := failure_of(self._target, found):
                    raise DeploymentFailed(f"{name!r} does not serve version {version}: {failure}.")
                if self._target.progress(found).state == "ready":
                    return found
                self._defer(name)
            time.sleep(_POLL)

    def _defer(self, name: str) -> None:
        deferrable = self._target.deferrable
        if deferrable is None:
            deferrable = conf.getboolean("operators", "default_deferrable", fallback=False)
        if deferrable:
            from airflow_zen.deployment.cluster.trigger import ObjectTrigger

            raise StepDeferred(ObjectTrigger(target=repr(self._target), namespace=self._objects.namespace, name=name))

    def _source(self, request: DeploymentRequest, stack: Stack) -> ModelSource:
        target, root = self._target, stack.store.root.rstrip("/")
        uri, account, secret = request.uri, target.service_account, target.secret
        if target.artifact_root:
            uri = target.artifact_root.rstrip("/") + uri.removeprefix(root)
        if "://" not in uri or uri.startswith("file://"):
            raise DeploymentFailed(
                f"A cluster does not reach the artifact root {root!r} of this machine. Use a bucket, or name it as the "
                f"cluster reaches it: {type(target).__name__}(artifact_root='pvc://CLAIM/PATH')."
            )
        options = storage_options(stack.storage_environment)
        if not (account or secret or target.artifact_root) and (found := target.store_secret(options)):
            account = secret = self._objects.apply_access(self._name, found)
        names = {"model": request.model, "version": request.version, "deployment": request.name}
        names["token"] = log_token(request.token)
        return ModelSource(target.storage_uri(uri, options), account, secret, names)

    def _describe(self, served: Served, found: Mapping[str, Any]) -> Deployment:
        url = self._target.address(found).url
        return Deployment(
            name=self._deployment_name,
            endpoint=url,
            predict_url=f"{url}{self._target.predict_path(self._deployment_name)}",
            model=served.model,
            version=served.version,
            digest=served.digest,
            target=repr(self._target),
            owner=served.owner,
            since=served.since,
        )

    def _write(self, journal: Journal) -> None:
        text = msgspec.json.encode(journal).decode()
        self._version = self._objects.write_journal(self._name, text, self._version)
        self._journal = journal


def promote_canary(deployment: Deployment) -> Deployment:
    """Send all requests to a canary, and return its deployment. Raises `DeploymentFailed` without one."""
    return _open(deployment).promote()


def roll_back(deployment: Deployment) -> Deployment:
    """Serve the previous stable version again, and return its deployment.

    Raises `DeploymentFailed` if there is none.
    """
    return _open(deployment).roll_back()


def _open(deployment: Deployment) -> Rollout:
    from airflow_zen.deployment import parse_target

    target = parse_target(deployment.target)
    if not isinstance(target, ClusterTarget) or not target.kubernetes:
        raise DeploymentFailed(f"Deployment {deployment.name!r} is on {deployment.target}, and in no cluster.")
    # Both wait for the cluster: a function of a step cannot be deferred twice.
    return Rollout(replace(target, deferrable=False), deployment.name)


def _contains(found: Any, wanted: Any) -> bool:
    """Whether an object has all applied fields; the cluster and others may have added further ones."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(_contains(found.get(name), value) for name, value in wanted.items())
    return bool(found == wanted)

"""Promises of named stacks: where a step's artifacts lie, and that stacks do not mix."""

from datetime import datetime

import pytest
from airflow.sdk import dag, task

import airflow_zen
from airflow_zen import ml_step
from airflow_zen.artifacts.ref import ArtifactRef
from airflow_zen.config.settings import Settings, open_stack
from airflow_zen.errors import ArtifactRefused, SettingsError, StepDefinitionError
from airflow_zen.operators.stack_selection import resolve_runtime
from airflow_zen.planning.plan import Plan, PlannedDagRun
from airflow_zen.runs.step_run import StepRunId, StepState
from airflow_zen.runtimes import Docker, InProcess, Kubernetes, Python, PyTorchJob, Ray, TrainJob
from airflow_zen.steps.runtime import ResourceHints
from tests.harness import NOW, run_dag


@pytest.fixture(autouse=True)
def _stacks(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__ZEN__ARTIFACT_ROOT", str(tmp_path / "default"))
    (tmp_path / "stacks.yaml").write_text(
        f"stacks: {{a: {{artifact_root: {tmp_path}/a}}, b: {{artifact_root: {tmp_path}/b}}}}"
    )


@ml_step
def plain(x: int) -> int:
    return x


@ml_step(stack="b")
def own(x: int) -> int:
    return x


@ml_step
def add(x: int) -> int:
    return x + 1


def build_dag(build, **options):
    @dag(dag_id="chosen", schedule=None, start_date=datetime(2026, 1, 1), **options)
    def chosen():
        build()

    return chosen()


def stack_of_output(run, task, map_index=-1):
    """Return the stack that contains a task's artifact."""
    return ArtifactRef.from_wire(run.xcom(task, map_index=map_index)).uri.split("/artifacts/")[0].rpartition("/")[2]


@pytest.mark.parametrize(
    ("conf", "default_args", "plain_in", "own_in"),
    [
        ({}, {}, "default", "b"),
        ({}, {"stack": "a"}, "a", "b"),
        ({"zen": {"stack": "default"}}, {"stack": "a"}, "default", "default"),
        ({"zen": {"stack": "a"}}, {}, "a", "a"),
    ],
)
def test_the_run_precedes_the_step_and_the_step_the_dag(conf, default_args, plain_in, own_in):
    """A step runs in the stack of the run's conf, else its own, else its DAG's, else the active one."""
    run = run_dag(build_dag(lambda: (plain(1), own(1)), default_args=default_args), conf=conf)
    assert (stack_of_output(run, "plain"), stack_of_output(run, "own")) == (plain_in, own_in)


def test_mapped_steps_have_a_stack_too():
    """Every instance of a mapped step runs in the step's stack."""
    run = run_dag(build_dag(lambda: own.expand(x=[1, 2])))
    assert {stack_of_output(run, "own", index) for index in (0, 1)} == {"b"}


def test_records_and_cache_are_the_stacks_own():
    """A result of one stack is neither reused nor recorded in another."""
    for stack in ("a", "b", "a"):
        run_dag(build_dag(lambda: plain(1)), run_id=f"in_{stack}", conf={"zen": {"stack": stack}})
    runs = {
        s: [r.cache for r in open_stack(Settings.read(s)).records.read_dag_run("chosen", f"in_{s}")] for s in ("a", "b")
    }
    assert runs == {"a": ["hit"], "b": ["miss"]}
    assert not list(open_stack(Settings.read("b")).records.read_dag_run("chosen", "in_a"))


def test_a_refused_input_leaves_a_failed_step_run():
    """A step with a refused input is recorded as failed, with the reason."""
    run_dag(build_dag(lambda: add(own(1))), run_id="refused")
    (record,) = open_stack(Settings.read()).records.read_dag_run("chosen", "refused")
    assert (record.state.name, record.error.split(":")[0]) == ("FAILED", "ArtifactRefused")


def test_an_input_of_another_stack_is_refused_with_both_names():
    """An artifact of another stack is refused before anything runs; the error names both stacks and the remedy."""
    run = run_dag(build_dag(lambda: add(own(1))))
    error = run.task("add").error
    assert run.states == {"own": "success", "add": "failed"}
    assert isinstance(error, ArtifactRefused)
    for word in ("'b'", "'default'", "Let both steps run in one stack", "airflow_zen.load(ref, stack='b')"):
        assert word in str(error)


def test_an_input_of_another_stack_is_read_as_the_error_says():
    """Both steps in one stack, or a plain task that loads the artifact from its stack: each runs."""

    @task
    def transfer(ref):
        return airflow_zen.load(ref, stack="b")

    run = run_dag(build_dag(lambda: (add.override(stack="b")(own(1)), add.override(task_id="other")(transfer(own(1))))))
    assert set(run.states.values()) == {"success"}
    assert airflow_zen.load(run.xcom("add"), stack="b") == airflow_zen.load(run.xcom("other")) == 2


def test_an_unknown_stack_fails_the_task_with_the_known_ones():
    """An unknown stack fails the task; the error names the known stacks."""
    run = run_dag(build_dag(lambda: plain(1)), conf={"zen": {"stack": "prod"}})
    assert "known are 'default', 'a', 'b'" in str(run.task("plain").error)
    run = run_dag(build_dag(lambda: plain(1)), conf={"zen": {"stack": 7}})
    assert "must name a stack in zen.stack, got 7" in str(run.task("plain").error)


def test_a_task_of_an_unknown_stack_leaves_a_record():
    """The failed run is recorded in the active stack, with the error; the task fails with the same one."""
    run = run_dag(build_dag(lambda: plain.override(stack="prod")(1)), run_id="r")
    record = open_stack().records.get(StepRunId("chosen", "r", "plain"))
    assert record.state is StepState.FAILED
    assert "known are 'default', 'a', 'b'" in str(run.task("plain").error)
    assert str(run.task("plain").error) in record.error


def test_a_plan_looks_into_each_steps_own_stack():
    """A plan looks into the cache of each step's own stack."""
    pipeline = build_dag(lambda: (plain(1), own(1)))
    run_dag(pipeline)

    def plan(conf):
        return {s.task_id: str(s.decision) for s in Plan(pipeline, PlannedDagRun(conf, NOW, (NOW, NOW), NOW)).steps()}

    assert plan({}) == {"plain": "hit", "own": "hit"}
    assert plan({"zen": {"stack": "a"}}) == {"plain": "miss", "own": "miss"}


def test_load_and_save_take_a_stack():
    """`save` and `load` take the name of a stack; without it an artifact of another stack is refused, with both names."""
    ref = airflow_zen.save([1, 2], stack="a")
    assert ref.uri.startswith(Settings.read("a").artifact_root)
    assert airflow_zen.load(ref, stack="a") == [1, 2]
    with pytest.raises(ArtifactRefused, match=r"stack 'a' (.|\n)*not in stack 'default'(.|\n)*stack='a'"):
        airflow_zen.load(ref)


def runtime_of(conf=None, declared=None, configured=""):
    """Return the runtime of a step."""
    return resolve_runtime({"zen": {"runtime": conf}} if conf else {}, declared, Settings("/root", runtime=configured))


def test_the_order_in_which_a_runtime_is_chosen():
    """The DAG run's configuration precedes the step, and the step the stack; without any it is the task's process."""
    python = {name: Python(f"/{name}/bin/python") for name in ("run", "step", "stack")}
    assert runtime_of(repr(python["run"]), python["step"], repr(python["stack"])) == python["run"]
    assert runtime_of(None, python["step"], repr(python["stack"])) == python["step"]
    assert runtime_of(None, repr(python["step"])) == python["step"]
    assert runtime_of(None, None, repr(python["stack"])) == python["stack"]
    assert runtime_of("InProcess()", python["step"]) == InProcess()
    assert runtime_of() == InProcess()


@pytest.mark.parametrize("text", ["Python", "Python(open('x'))", "os.system('x')", "Python('relative')", "Python("])
def test_a_text_that_is_no_runtime(text):
    """Only the constructors of runtimes with literal arguments are evaluated."""
    with pytest.raises(SettingsError, match=r"\[zen\] runtime must be a runtime such as 'InProcess\(\)'"):
        runtime_of(configured=text)


def test_default_args_name_a_runtime():
    """A DAG's default_args set the runtime of its steps; a step's own takes precedence."""
    dag = build_dag(
        lambda: (plain(1), plain.override(task_id="mine", runtime=InProcess())(1)),
        default_args={"runtime": "InProcess( )"},
    )
    assert [dag.get_task(name).runtime for name in ("plain", "mine")] == ["InProcess( )", InProcess()]


HINTS = ResourceHints(memory="4Gi", cpus=2, gpus=1)


@pytest.mark.parametrize(
    ("declared", "resolved"),
    [
        (Docker("image"), Docker("image", memory="4Gi", cpus=2, gpus=1)),
        (Docker("image", memory="8Gi"), Docker("image", memory="8Gi", cpus=2, gpus=1)),
        (Kubernetes("image", cpu="500m"), Kubernetes("image", memory="4Gi", cpu="500m", gpu=1)),
        (TrainJob("image"), TrainJob("image", memory="4Gi", cpu=2, gpu=1)),
        (PyTorchJob("image", gpu=4), PyTorchJob("image", memory="4Gi", cpu=2, gpu=4)),
        (Ray("ray://head"), Ray("ray://head", memory="4Gi", num_cpus=2, num_gpus=1)),
        (InProcess(), InProcess()),
    ],
)
def test_hints_are_the_options_that_a_runtime_does_not_name(declared, resolved):
    """A runtime has the limits of a step's hints under its own names, and keeps those that it has."""
    assert resolve_runtime({}, declared, Settings.read(), HINTS) == resolved


def test_hints_are_checked_where_they_are_written():
    """Hints that are none, or no amount of memory, are refused when the DAG file is parsed."""
    with pytest.raises(StepDefinitionError, match=r"hints=….*takes NoneType or ResourceHints, got '4Gi'"):
        ml_step(hints="4Gi")(lambda: 1)
    with pytest.raises(StepDefinitionError, match="'4 gigs'"):
        plain.override(hints=ResourceHints(memory="4 gigs"))

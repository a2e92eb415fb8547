"""Calls of steps as type checkers see them. The last comment of a line says that it must be an error."""
# ruff: noqa: B018, RUF059

from __future__ import annotations

import asyncio
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypedDict, assert_type, cast

import pandas as pd
from airflow.sdk import Asset, Metadata, XComArg, dag, task
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression

import airflow_zen
from airflow_zen import Artifact, Cache, Columns, Each, MLStepOperator, ml_step


class Model:
    """An own class, whose type is known even where a library publishes none."""


class Booster(Model):
    """A subclass is what its base class asks for."""


class Halves(NamedTuple):
    train: pd.DataFrame
    rate: float


class Report(TypedDict):
    auc: float
    table: pd.DataFrame


class Setting(TypedDict):
    depth: int


@dataclass
class Options:
    depth: int = 8


@ml_step
def load(rows: int) -> pd.DataFrame:
    return pd.DataFrame({"x": range(rows)})


@ml_step(cache=Cache(ttl=60), retries=3, pool="training")
def train(table: pd.DataFrame, depth: int = 8, *, options: Options | None = None) -> Booster:
    return Booster()


@ml_step(model="flight_delay")
def fit(table: Annotated[pd.DataFrame, Columns("x")], depth: int = 8) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(max_depth=depth).fit(table, table["x"])


@ml_step()
def evaluate(model: Model, table: pd.DataFrame) -> dict[str, float]:
    return {"auc": 0.5}


@ml_step
def split(
    table: pd.DataFrame, at: datetime | None = None
) -> tuple[Annotated[pd.DataFrame, "train", Artifact("flights/train")], Annotated[float, "rate"]]:
    return table, 0.5


@ml_step
def halves(table: pd.DataFrame) -> Halves:
    return Halves(table, 0.5)


@ml_step
def report(table: pd.DataFrame) -> Report:
    return {"auc": 0.5, "table": table}


@ml_step
def parts(table: pd.DataFrame) -> Annotated[list[pd.DataFrame], Each]:
    return [table]


@ml_step
def settings(count: int) -> Annotated[list[Setting], Each]:
    return [{"depth": 8}] * count


@ml_step
def depths(count: int) -> Annotated[list[int], Each]:
    return [8] * count


@ml_step
def best(models: list[Booster], tables: list[pd.DataFrame]) -> Booster:
    return models[0]


@ml_step
def summarize(*tables: pd.DataFrame, **labels: str) -> int:
    return len(tables)


@ml_step
def publish(model: Model) -> None: ...


@ml_step
async def fetch(url: str) -> bytes:
    await asyncio.sleep(0)
    return b""


@ml_step
def batches(path: Path) -> Iterator[pd.DataFrame]:
    yield pd.DataFrame()


@ml_step
def described(rows: int) -> Generator[Metadata, None, pd.DataFrame]:
    yield Metadata(Asset("features"), {"rows": rows})
    return pd.DataFrame()


@task
def folder() -> Path:
    return Path()


@dag(schedule=None)
def one_output(rows: int = 3) -> None:
    table = load(rows)
    assert_type(table, pd.DataFrame)
    model = train(table, depth=3, options=Options())
    assert_type(model, Booster)
    assert_type(evaluate(model, table), dict[str, float])
    train(3)  # error
    train(table, dept=3)  # error
    train(table, 8, Options())  # error
    train(table, options={"depth": 3})  # error
    train()  # error
    train(model)  # error
    train(evaluate(model, table))  # error
    load(rows="3")  # error
    load("{{ params.rows }}")  # error
    load(cast(int, "{{ params.rows }}"))
    load(3, 4)  # error
    evaluate(table, model)  # error
    evaluate(None, table)  # error
    evaluate(model, [table])  # error


@dag(schedule=None)
def library_without_types() -> None:
    fit(load(3), depth=3)
    fit("flights.csv")  # error
    fit(load(3), dept=3)  # error
    fit(load(3), depth="3")  # error
    LogisticRegression()


@dag(schedule=None)
def several_outputs() -> None:
    left, right = split(load(3))
    assert_type(left, pd.DataFrame)
    assert_type(right, float)
    assert_type(split(load(3))[1], float)
    train(left)
    train(right)  # error
    train(split(load(3)))  # error
    train(split(load(3))[1])  # error
    one, two, three = split(left)  # error
    made = halves(left)
    assert_type(made.train, pd.DataFrame)
    assert_type(made[1], float)
    train(made.rate)  # error
    train(made.test)  # error
    only, a_half, another = halves(left)  # error
    table, rate = halves(left)
    assert_type(table, pd.DataFrame)
    assert_type(report(table)["table"], pd.DataFrame)
    load(report(table)["auc"])  # error
    report(table)["aucc"]  # error


@dag(schedule=None)
def every_kind_of_function() -> None:
    assert_type(fetch("https://example.org"), bytes)
    fetch(3)  # error
    table = batches(Path("flights"))
    assert_type(table, pd.DataFrame)
    train(table)
    batches("flights")  # error
    assert_type(described(3), pd.DataFrame)
    described("3")  # error
    assert_type(summarize(table, table, month="May"), int)
    summarize(table, 3)  # error
    summarize(table, month=5)  # error
    done = publish(train(table))
    assert_type(done, XComArg)
    done >> publish(train(table))
    publish(3)  # error


@dag(schedule=None)
def copies() -> None:
    again = train.override(task_id="again", retries=0)
    assert_type(again(load(3), depth=3), Booster)
    again(3)  # error
    again.override(task_id="third")(load(3), dept=3)  # error
    assert_type(split.override(task_id="more")(load(3))[1], float)


@dag(schedule=None)
def mapped() -> None:
    tables = load.expand(rows=[1, 2])
    assert_type(tables, list[pd.DataFrame])
    models = train.partial(depth=3).expand(table=parts(load(3)))
    assert_type(models, list[Booster])
    assert_type(best(models, tables), Booster)
    best(tables, models)  # error
    train(tables)  # error
    evaluate(models, load(3))  # error
    train.override(task_id="again").expand(3)  # error
    train.expand(table=load(3))  # error
    train.partial(table=load(3)).expand(depth=3)  # error
    train.partial(table=load(3)).partial(depth=3)(options=Options())  # error
    train.partial(table=load(3)).override(retries=1).expand(depth=range(3))
    train.expand(table=folder())
    train.expand_kwargs(load(3))  # error
    train.expand_kwargs([3])  # error
    train.expand_kwargs(folder(), strict=False)
    train.expand_kwargs(folder(), batch=50)
    train.partial(depth=3).expand(table=parts(load(3)), batch="50")  # error
    train.expand_kwargs(settings(3))
    train.expand_kwargs(depths(3))  # error
    assert_type(train.expand_kwargs([{"table": load(3)}, {"table": load(4), "depth": 3}]), list[Booster])
    lefts, rates = split.expand(table=tables)
    assert_type(lefts, list[pd.DataFrame])
    assert_type(rates, list[float])
    best(models, rates)  # error
    assert_type(halves.expand(table=tables)[0], list[pd.DataFrame])
    assert_type(fetch.expand(url=["a", "b"]), list[bytes])
    assert_type(batches.expand(path=["a", "b"]), list[pd.DataFrame])
    assert_type(publish.expand(model=models), XComArg)
    train.map(table=tables)  # error


@dag(schedule=None)
def named_artifacts_and_other_tasks() -> None:
    train(Artifact("flights/train").latest(), depth=3)
    train(Artifact("flights/train").version("golden"), dept=3)  # error
    batches(cast(Path, folder()))
    MLStepOperator(task_id="classic", python_callable=load.function, op_args=[3])


def in_a_notebook() -> None:
    assert_type(train.function(pd.DataFrame(), 3), Booster)
    assert_type(asyncio.run(fetch.function("https://example.org")), bytes)
    found = airflow_zen.artifact("flights/train")
    assert_type(found.load(pd.DataFrame), pd.DataFrame)
    assert_type(found.load(), Any)
    assert_type(airflow_zen.load(found.ref, Path), Path)
    airflow_zen.load(found.ref, Annotated[pd.DataFrame, Columns("x")])
    airflow_zen.load(3)  # error
    airflow_zen.artifacts(tag="golden")[0].verson  # error
    airflow_zen.artifct("flights/train")  # error
    assert_type(found.metadata["source"], Any)
    ml_step(load.function, cache=False)  # error
    ml_step(cache="no")  # error


def test_in_a_unit_test() -> None:
    assert evaluate(train(load(3)), load(3))["auc"] == 0.5

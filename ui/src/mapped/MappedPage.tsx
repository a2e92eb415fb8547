// All instances of a mapped task: a chart, and a table that the server sorts and pages.
import { Button, HStack, Stack, Text } from "@chakra-ui/react";
import { type ReactNode, useState } from "react";
import { Link, useNavigate } from "react-router-dom";

import type { DagRunList, MappedPage as Mapped, MappedRow } from "../shared/answers";
import { route, useApi, useLast } from "../shared/api";
import { Chart } from "../shared/Chart";
import { formatNumber, formatSeconds, isSystemMetric } from "../shared/format";
import { runPage, stepPage } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { State, States, stateWord } from "../shared/State";
import { useQuery } from "../shared/useQuery";
import { Value } from "../shared/Value";

const POLL_MILLISECONDS = 3000;
const PAGE = 100;

interface Sort {
  readonly by: string;
  readonly descending: boolean;
}

interface Column {
  readonly key: string;
  readonly name: string;
  readonly numeric: boolean;
  readonly cell: (row: MappedRow) => ReactNode;
}

const metricColumns = (names: readonly string[]): readonly Column[] =>
  names.map((name) => ({ key: `metric:${name}`, name, numeric: true, cell: ({ metrics }) => <Value value={metrics[name]} /> }));

const columnsOf = ({ dag_id, run_id, task_id, parameter_names, metric_names, rows }: Mapped): readonly Column[] => [
  {
    key: "map_index",
    name: "Index",
    numeric: true,
    cell: ({ map_index }) => <Link to={stepPage(dag_id, run_id, task_id, map_index)}>{formatNumber(map_index)}</Link>,
  },
  ...(rows.some(({ label }) => label !== "") ? [{ key: "label", name: "Label", numeric: false, cell: ({ label }: MappedRow) => label }] : []),
  { key: "state", name: "State", numeric: false, cell: ({ state }) => <State state={state} /> },
  { key: "seconds", name: "Time", numeric: true, cell: ({ seconds }) => (seconds === null ? "" : formatSeconds(seconds)) },
  ...parameter_names.map((name) => ({
    key: `parameter:${name}`,
    name,
    numeric: true,
    cell: ({ parameters }: MappedRow) => <Value value={parameters[name]} />,
  })),
  ...metricColumns(metric_names.filter((name) => !isSystemMetric(name))),
  { key: "", name: "Why", numeric: false, cell: ({ why, error }) => <div className="zen-prose">{error === "" ? why : <Text color="error.fg">{error}</Text>}</div> },
  ...metricColumns(metric_names.filter(isSystemMetric)),
];

const Head = ({ column, sort, onSort }: { readonly column: Column; readonly sort: Sort; readonly onSort: (sort: Sort) => void }) => {
  const { key, name, numeric } = column;
  const order = sort.by !== key ? "none" : sort.descending ? "descending" : "ascending";
  return (
    <th aria-sort={order} className={numeric ? "zen-number" : ""} scope="col">
      {key === "" ? (
        name
      ) : (
        <button onClick={() => onSort({ by: key, descending: order === "ascending" })} title={`Sort by ${name}`} type="button">
          {name} <span aria-hidden>{{ ascending: "↑", descending: "↓", none: "↕" }[order]}</span>
        </button>
      )}
    </th>
  );
};

const Pager = ({ offset, total, onMove }: { readonly offset: number; readonly total: number; readonly onMove: (offset: number) => void }) =>
  total <= PAGE ? null : (
    <HStack justify="flex-end">
      <Text color="fg.muted">
        {formatNumber(offset + 1)}–{formatNumber(Math.min(offset + PAGE, total))} of {formatNumber(total)}
      </Text>
      <Button disabled={offset === 0} onClick={() => onMove(offset - PAGE)} size="xs" variant="outline">
        Previous
      </Button>
      <Button disabled={offset + PAGE >= total} onClick={() => onMove(offset + PAGE)} size="xs" variant="outline">
        Next
      </Button>
    </HStack>
  );

const GROUPS: readonly (readonly [state: string, color: string])[] = [
  ["FINISHED", "success-solid"],
  ["CACHED", "fg-info"],
  ["FAILED", "failed-solid"],
];

/** Return one series for each of the usual states, and one for all the others together. */
const seriesOf = (points: Mapped["points"], values: readonly (number | null)[]) => {
  const usual = new Set(GROUPS.map(([state]) => state));
  const groups = [...GROUPS, ["", "fg-muted"] as const].map(([state, color]) => ({
    name: state === "" ? "other states" : stateWord(state),
    color,
    values: points.map((point, at) => ((state === "" ? !usual.has(point.state) : point.state === state) ? (values[at] ?? null) : null)),
  }));
  return groups.filter((group) => group.values.some((value) => value !== null));
};

const valueName = (key: string) => key.replace(/^(parameter|metric):/, "");

const InstancesChart = ({ mapped, value, onValue }: { readonly mapped: Mapped; readonly value: string; readonly onValue: (value: string) => void }) => {
  const navigate = useNavigate();
  const { dag_id, run_id, task_id, points } = mapped;
  const choices = ["", ...mapped.metric_names.map((name) => `metric:${name}`), ...mapped.parameter_names.map((name) => `parameter:${name}`)];
  const values = points.map((point) => (value === "" ? point.seconds : point.value));
  const name = value === "" ? "time" : valueName(value);
  return (
    <Stack gap={1}>
      <label>
        Chart of{" "}
        <select className="zen-select" onChange={({ target }) => onValue(target.value)} value={value}>
          {choices.map((choice) => (
            <option key={choice} value={choice}>
              {choice === "" ? "time" : choice.replace(":", " ")}
            </option>
          ))}
        </select>
      </label>
      <Chart
        isTime={false}
        label={`${name} of each instance of ${task_id}`}
        onChoose={(index) => {
          const point = points[index];
          if (point !== undefined) void navigate(stepPage(dag_id, run_id, task_id, point.map_index));
        }}
        {...(value === "" ? { format: formatSeconds } : {})}
        series={seriesOf(points, values)}
        x={points.map(({ map_index }) => map_index)}
        xName="index"
      />
    </Stack>
  );
};

const Instances = ({ dagId, taskId, runId }: { readonly dagId: string; readonly taskId: string; readonly runId: string }) => {
  const [sort, setSort] = useState<Sort>({ by: "map_index", descending: false });
  const [offset, setOffset] = useState(0);
  const [value, setValue] = useState("");
  const path = route(["dags", dagId, "mapped"], {
    run_id: runId,
    task_id: taskId,
    offset,
    limit: PAGE,
    sort: sort.by,
    descending: String(sort.descending),
    value: value === "" ? undefined : value,
  });
  const answer = useLast(useApi<Mapped>(path, ({ live }) => (live ? POLL_MILLISECONDS : undefined)));
  return (
    <Show answer={answer} what="the mapped task">
      {(mapped) =>
        mapped.total === 0 ? (
          <Empty title="This task has no recorded instances">It is not a mapped ML step, or none of its instances has ended.</Empty>
        ) : (
          <Stack gap={4}>
            <HStack gap={3} wrap="wrap">
              <Text fontWeight="semibold">{formatNumber(mapped.total)} instances</Text>
              <States state="" states={mapped.states} />
              <Link to={runPage(dagId, runId)}>Lineage of the DAG run</Link>
            </HStack>
            <InstancesChart mapped={mapped} onValue={setValue} value={value} />
            <div aria-label={`Instances of ${taskId}`} className="zen-scroll" role="region" tabIndex={0}>
              <table className="zen-table">
                <thead>
                  <tr>
                    {columnsOf(mapped).map((column) => (
                      <Head
                        column={column}
                        key={column.key}
                        onSort={(chosen) => {
                          setSort(chosen);
                          setOffset(0);
                        }}
                        sort={sort}
                      />
                    ))}
                  </tr>
                </thead>
                <tbody>
                  {mapped.rows.map((row) => (
                    <tr key={row.map_index}>
                      {columnsOf(mapped).map(({ key, numeric, cell }) => (
                        <td className={numeric ? "zen-number" : "zen-text"} key={key}>
                          {cell(row)}
                        </td>
                      ))}
                    </tr>
                  ))}
                </tbody>
              </table>
            </div>
            <Pager offset={offset} onMove={setOffset} total={mapped.total} />
          </Stack>
        )
      }
    </Show>
  );
};

/** The page of a task belongs to no DAG run: the newest is shown until the reader chooses another. */
export const MappedPage = ({ dagId, taskId }: { readonly dagId: string; readonly taskId: string }) => {
  const [query, setQuery] = useQuery();
  const answer = useApi<DagRunList>(route(["dags", dagId, "runs"]));
  return (
    <Show answer={answer} what="the DAG runs">
      {({ runs }) => {
        const runId = query("run_id") || runs[0]?.run_id || "";
        const names = [...new Set([...(runId === "" ? [] : [runId]), ...runs.map(({ run_id }) => run_id)])];
        if (runId === "") return <Empty title="No DAG run has ML steps">The instances of a mapped step appear here after the first run.</Empty>;
        return (
          <Stack gap={3}>
            <label>
              DAG run{" "}
              <select className="zen-select" onChange={({ target }) => setQuery({ run_id: target.value })} value={runId}>
                {names.map((name) => (
                  <option key={name}>{name}</option>
                ))}
              </select>
            </label>
            <Instances dagId={dagId} key={runId} runId={runId} taskId={taskId} />
          </Stack>
        );
      }}
    </Show>
  );
};

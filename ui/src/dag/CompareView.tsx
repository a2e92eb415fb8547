// Two DAG runs side by side: the steps, what each took, and what differs.
import { HStack, Stack, Text } from "@chakra-ui/react";

import type { DagRunList, DagRunRow, RunComparison, StepComparison, StepRow } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { Differences } from "../shared/Differences";
import { formatNumber, formatSeconds, formatTime } from "../shared/format";
import { Empty, Show } from "../shared/states";
import { State } from "../shared/State";
import { useQuery } from "../shared/useQuery";

const Side = ({ step }: { readonly step: StepRow | null }) =>
  step === null ? (
    <span className="zen-muted">absent</span>
  ) : (
    <>
      <State state={step.state} /> {step.seconds === null ? "" : formatSeconds(step.seconds)}
    </>
  );

const COLUMNS: readonly Column<StepComparison>[] = [
  {
    name: "Step",
    value: ({ task_id, map_index }) => `${task_id} ${map_index}`,
    cell: ({ task_id, map_index }) => (map_index < 0 ? task_id : `${task_id}[${map_index}]`),
  },
  { name: "Before", value: ({ before }) => before?.seconds, cell: ({ before }) => <Side step={before} /> },
  { name: "After", value: ({ after }) => after?.seconds, cell: ({ after }) => <Side step={after} /> },
  {
    name: "Outputs",
    value: ({ same_outputs }) => (same_outputs ? "same" : "different"),
    cell: ({ same_outputs }) => (same_outputs ? "same" : <strong>different</strong>),
  },
  {
    name: "Differences",
    value: ({ differences }) => differences.length,
    cell: ({ task_id, differences }) =>
      differences.length === 0 ? (
        <span className="zen-muted">none</span>
      ) : (
        <details>
          <summary>{formatNumber(differences.length)}</summary>
          <Differences differences={differences} label={`Differences of ${task_id}`} />
        </details>
      ),
  },
];

const Comparison = ({ dagId, before, after }: { readonly dagId: string; readonly before: string; readonly after: string }) => {
  const answer = useApi<RunComparison>(route(["dags", dagId, "compare"], { before, after }));
  return (
    <Show answer={answer} what="the comparison">
      {({ steps }) => (
        <DataTable
          columns={COLUMNS}
          label="Steps of both DAG runs"
          rowKey={({ task_id, map_index }) => `${task_id}/${map_index}`}
          rows={steps}
        />
      )}
    </Show>
  );
};

const Choice = ({ name, runs, value, onChoose }: {
  readonly name: string;
  readonly runs: readonly DagRunRow[];
  readonly value: string;
  readonly onChoose: (run: string) => void;
}) => (
  <label>
    {name}{" "}
    <select className="zen-select" onChange={({ target }) => onChoose(target.value)} value={value}>
      {runs.map(({ run_id, ended }) => (
        <option key={run_id} value={run_id}>
          {run_id} · {formatTime(ended)}
        </option>
      ))}
    </select>
  </label>
);

const Chosen = ({ dagId, runs }: { readonly dagId: string; readonly runs: readonly DagRunRow[] }) => {
  const [query, setQuery] = useQuery();
  const after = query("after") || runs[0]?.run_id || "";
  const before = query("before") || runs[1]?.run_id || "";
  return (
    <Stack gap={4}>
      <HStack gap={4} wrap="wrap">
        <Choice name="Before" onChoose={(run) => setQuery({ before: run })} runs={runs} value={before} />
        <Choice name="After" onChoose={(run) => setQuery({ after: run })} runs={runs} value={after} />
      </HStack>
      {before === after ? <Text color="fg.muted">Choose two different runs.</Text> : <Comparison after={after} before={before} dagId={dagId} />}
    </Stack>
  );
};

export const CompareView = ({ dagId }: { readonly dagId: string }) => {
  const answer = useApi<DagRunList>(route(["dags", dagId, "runs"]));
  return (
    <Show answer={answer} what="the DAG runs">
      {({ runs }) =>
        runs.length < 2 ? (
          <Empty title="There are no two DAG runs to compare">Two runs with ML steps can be compared here.</Empty>
        ) : (
          <Chosen dagId={dagId} runs={runs} />
        )
      }
    </Show>
  );
};

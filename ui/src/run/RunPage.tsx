// A DAG run: its lineage graph, and a table of its steps.
import { Badge, HStack, Stack, Tabs, Text } from "@chakra-ui/react";
import { Link, useSearchParams } from "react-router-dom";

import { LineageGraph } from "../graph/LineageGraph";
import type { RunPage as Run, StepRow } from "../shared/answers";
import { route, useApi, useLast } from "../shared/api";
import { ArtifactList } from "../shared/ArtifactList";
import { type Column, DataTable } from "../shared/DataTable";
import { formatNumber, formatSeconds } from "../shared/format";
import { External, mappedPage, RunLink, taskPage } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { States } from "../shared/State";
import { useQuery } from "../shared/useQuery";

const POLL_MILLISECONDS = 3000;

const columns = (dagId: string, runId: string): readonly Column<StepRow>[] => [
  {
    name: "Step",
    value: ({ task_id }) => task_id,
    cell: ({ task_id, mapped, count }) => (
      <Link to={mapped ? mappedPage(dagId, runId, task_id) : taskPage(dagId, runId, task_id)}>
        {task_id}
        {mapped ? ` × ${formatNumber(count)}` : ""}
      </Link>
    ),
  },
  { name: "State", value: ({ state }) => state, cell: ({ state, states }) => <States state={state} states={states} /> },
  {
    name: "Cache",
    value: ({ cache }) => cache,
    cell: ({ cache }) => (cache === "" ? <span className="zen-muted">–</span> : cache),
  },
  {
    name: "Why",
    cell: ({ why, error, origin }) => (
      <div className="zen-prose">
        {error === "" ? why : <Text color="error.fg">{error}</Text>}
        {origin === null ? null : <div>made by <RunLink dagId={dagId} run={origin} /></div>}
      </div>
    ),
  },
  { name: "Time", numeric: true, value: ({ seconds }) => seconds, cell: ({ seconds }) => seconds === null ? "" : formatSeconds(seconds) },
  {
    name: "Saved",
    numeric: true,
    value: ({ seconds_saved }) => seconds_saved,
    cell: ({ seconds_saved }) => (seconds_saved > 0 ? formatSeconds(seconds_saved) : ""),
  },
  { name: "Outputs", cell: ({ outputs }) => <ArtifactList artifacts={outputs} dagId={dagId} /> },
];

const Summary = ({ run }: { readonly run: Run }) => {
  const { steps, reused, computed, failed, seconds_computed, seconds_saved } = run.totals;
  return (
    <HStack className="zen-summary" gap={4} wrap="wrap">
      <Text fontWeight="semibold">{formatNumber(steps)} steps</Text>
      <Text>{formatNumber(reused)} reused</Text>
      <Text>{formatNumber(computed)} computed</Text>
      {failed > 0 ? <Text color="error.fg">{formatNumber(failed)} failed</Text> : null}
      {seconds_computed > 0 ? <Text>{formatSeconds(seconds_computed)} of work</Text> : null}
      {seconds_saved > 0 ? <Text color="success.fg">{formatSeconds(seconds_saved)} saved</Text> : null}
      {run.live ? (
        <Badge aria-live="polite" colorPalette="running">
          live
        </Badge>
      ) : null}
      {run.mlflow_url === "" ? null : <External url={run.mlflow_url}>MLflow</External>}
    </HStack>
  );
};

const Views = ({ run, onExpand }: { readonly run: Run; readonly onExpand: (taskId: string) => void }) => {
  const [query, setQuery] = useQuery();
  return (
    <Tabs.Root
      lazyMount
      onValueChange={({ value }) => setQuery({ view: value })}
      size="sm"
      value={query("view") || "graph"}
    >
      <Tabs.List>
        <Tabs.Trigger value="graph">Graph</Tabs.Trigger>
        <Tabs.Trigger value="steps">Steps</Tabs.Trigger>
      </Tabs.List>
      <Tabs.Content value="graph">
        <LineageGraph dagId={run.dag_id} edges={run.edges} nodes={run.nodes} onExpand={onExpand} runId={run.run_id} />
      </Tabs.Content>
      <Tabs.Content value="steps">
        <DataTable
          columns={columns(run.dag_id, run.run_id)}
          label="Steps of the DAG run"
          rowKey={({ task_id }) => task_id}
          rows={run.steps}
        />
      </Tabs.Content>
    </Tabs.Root>
  );
};

export const RunPage = ({ dagId, runId }: { readonly dagId: string; readonly runId: string }) => {
  const [query, setQuery] = useSearchParams();
  const expanded = query.getAll("expand").map((task) => `&expand=${encodeURIComponent(task)}`);
  const path = route(["dags", dagId, "run"], { run_id: runId }) + expanded.join("");
  const expand = (task: string) => setQuery((last) => new URLSearchParams([...last, ["expand", task]]), { replace: true });
  const answer = useLast(useApi<Run>(path, ({ live }) => (live ? POLL_MILLISECONDS : undefined)));
  return (
    <Show answer={answer} what="the DAG run">
      {(run) =>
        run.steps.length === 0 ? (
          <Empty title="This DAG run has no ML steps">
            Tasks made with <code>@ml_step</code> appear here with what they read and made, once they have started.
          </Empty>
        ) : (
          <Stack gap={2}>
            <Summary run={run} />
            <Views onExpand={expand} run={run} />
          </Stack>
        )
      }
    </Show>
  );
};

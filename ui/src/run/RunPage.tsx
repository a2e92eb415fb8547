// A DAG run: its lineage graph, and a table of its steps.
import { Badge, HStack, Stack, Tabs, Text } from "@chakra-ui/react";
import { useSearchParams } from "react-router-dom";

import { LineageGraph } from "../graph/LineageGraph";
import type { RunPage as Run } from "../shared/answers";
import { route, useApi, useLast } from "../shared/api";
import { DataTable } from "../shared/DataTable";
import { formatNumber, formatSeconds } from "../shared/format";
import { External, mappedPage, stepPage } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { useQuery } from "../shared/useQuery";
import { StepOfRun } from "../task/StepOfRun";
import { stepColumns } from "./stepColumns";

interface Props {
  readonly dagId: string;
  readonly runId: string;
}

const POLL_MILLISECONDS = 3000;

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

interface ViewsProps {
  readonly run: Run;
  readonly expanded: readonly string[];
  readonly onExpand: (taskId: string) => void;
}

const Views = ({ run, expanded, onExpand }: ViewsProps) => {
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
        <LineageGraph
          dagId={run.dag_id}
          edges={run.edges}
          expanded={expanded}
          nodes={run.nodes}
          onExpand={onExpand}
          runId={run.run_id}
        />
      </Tabs.Content>
      <Tabs.Content value="steps">
        <DataTable
          columns={stepColumns(run.dag_id, run.run_id, ({ task_id, mapped }) =>
            mapped ? mappedPage(run.dag_id, run.run_id, task_id) : stepPage(run.dag_id, run.run_id, task_id),
          )}
          label="Steps of the DAG run"
          rowKey={({ task_id }) => task_id}
          rows={run.steps}
        />
      </Tabs.Content>
    </Tabs.Root>
  );
};

const Lineage = ({ dagId, runId }: Props) => {
  const [query, setQuery] = useSearchParams();
  const expanded = query.getAll("expand");
  const asked = expanded.map((task) => `&expand=${encodeURIComponent(task)}`);
  const path = route(["dags", dagId, "run"], { run_id: runId }) + asked.join("");
  const expand = (task: string) =>
    setQuery(
      (last) => {
        const next = new URLSearchParams(last);
        if (last.getAll("expand").includes(task)) next.delete("expand", task);
        else next.append("expand", task);
        return next;
      },
      { replace: true },
    );
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
            <Views expanded={expanded} onExpand={expand} run={run} />
          </Stack>
        )
      }
    </Show>
  );
};

export const RunPage = (props: Props) => {
  const [query] = useQuery();
  return query("step") === "" ? <Lineage {...props} /> : <StepOfRun {...props} />;
};

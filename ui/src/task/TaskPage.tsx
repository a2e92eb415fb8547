// A task instance: the step that it runs, or the steps of its fused group.
import { Stack } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import { stepColumns } from "../run/stepColumns";
import type { StepPage } from "../shared/answers";
import { DataTable } from "../shared/DataTable";
import { mappedPage, runPage, taskPage } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { useQuery } from "../shared/useQuery";
import { Step, useStep } from "./Step";

const Parts = ({ group: { key, parts } }: { readonly group: StepPage }) => (
  <Stack gap={3}>
    <Link to={runPage(key.dag_id, key.run_id)}>Lineage of the DAG run</Link>
    <DataTable
      columns={stepColumns(key.dag_id, key.run_id, ({ task_id }) => taskPage(key.dag_id, key.run_id, key.task_id, key.map_index, task_id))}
      label={`Steps of ${key.task_id}`}
      rowKey={({ task_id }) => task_id}
      rows={parts}
    />
  </Stack>
);

/** The tab of a batch: the elements that it runs have indexes of their own. */
const Batch = ({ dagId, runId, taskId }: Omit<Props, "mapIndex">) => (
  <Empty title="This task instance is a batch">
    It runs several elements of the step. <Link to={mappedPage(dagId, runId, taskId)}>All elements of {taskId}</Link>
  </Empty>
);

interface Props {
  readonly dagId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly mapIndex?: string;
}

export const TaskPage = ({ dagId, runId, taskId, mapIndex = "" }: Props) => {
  const [query] = useQuery();
  const answer = useStep(dagId, runId, query("step") || taskId, mapIndex);
  return (
    <Show answer={answer} what="the step">
      {(step) => {
        if (step.in_batches) return <Batch dagId={dagId} runId={runId} taskId={taskId} />;
        return step.parts.length > 0 ? <Parts group={step} /> : <Step step={step} />;
      }}
    </Show>
  );
};

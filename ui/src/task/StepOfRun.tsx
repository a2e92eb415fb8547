// A step in the page of its DAG run: on the page of its task instance, or here where Airflow has none of its own.
import { Stack } from "@chakra-ui/react";
import { Link, Navigate } from "react-router-dom";

import { runPage, taskPage } from "../shared/links";
import { Show } from "../shared/states";
import { useQuery } from "../shared/useQuery";
import { Step, useStep } from "./Step";

export const StepOfRun = ({ dagId, runId }: { readonly dagId: string; readonly runId: string }) => {
  const [query] = useQuery();
  const answer = useStep(dagId, runId, query("step"), query("map_index"));
  return (
    <Show answer={answer} what="the step">
      {(step) =>
        step.instance === null ? (
          <Stack gap={4}>
            <Link to={runPage(dagId, runId)}>Lineage of the DAG run</Link>
            <Step step={step} />
          </Stack>
        ) : (
          <Navigate replace to={taskPage(dagId, runId, step.instance.task_id, step.instance.map_index, step.key.task_id)} />
        )
      }
    </Show>
  );
};

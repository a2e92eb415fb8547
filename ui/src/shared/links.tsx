// Addresses of Airflow's pages and of ours in them, for the host's router.
import type { ReactNode } from "react";
import { Link } from "react-router-dom";

import type { RunKey } from "./answers";

const quoted = (parts: readonly string[]) => parts.map(encodeURIComponent).join("/");

export const runPage = (dagId: string, runId: string) => `/dags/${quoted([dagId])}/runs/${quoted([runId])}/plugin/zen-run`;

/** The page of a task instance; `step` is one of its steps, if it runs several. */
export const taskPage = (dagId: string, runId: string, taskId: string, mapIndex = -1, step = taskId) =>
  `/dags/${quoted([dagId])}/runs/${quoted([runId])}/tasks/${quoted([taskId])}/${mapIndex < 0 ? "" : `mapped/${mapIndex}/`}plugin/zen-step` +
  (step === taskId ? "" : `?${new URLSearchParams({ step })}`);

/** The page of a step. A part of a fused group and an element of a batch have no task instance, which that of the DAG run finds out. */
export const stepPage = (dagId: string, runId: string, taskId: string, mapIndex = -1) =>
  mapIndex < 0 && !taskId.includes(".")
    ? taskPage(dagId, runId, taskId)
    : `${runPage(dagId, runId)}?${new URLSearchParams({ step: taskId, map_index: String(mapIndex) })}`;

/** Name a step in its DAG run. */
export const stepName = ({ task_id, map_index }: RunKey) => (map_index < 0 ? task_id : `${task_id}[${map_index}]`);

// The time in the id of a DAG run, to the second.
const RUN_TIME = /(T\d\d:\d\d:\d\d)(\.\d+)?\+00:00/;

/** The instances of a mapped task in one DAG run: Airflow has tabs for a task, and none for a mapped one in a run. */
export const mappedPage = (dagId: string, runId: string, taskId: string) =>
  `/dags/${quoted([dagId])}/tasks/${quoted([taskId])}/plugin/zen-task?${new URLSearchParams({ run_id: runId })}`;

export const dagPage = (dagId: string) => `/dags/${quoted([dagId])}/plugin/zen-dag`;

export const cataloguePage = (name: string, version = "") =>
  `/plugin/zen-artifacts?${new URLSearchParams({ name, ...(version === "" ? {} : { version }) })}`;

/** A link to the page of a step, without the names of the DAG and the run that the reader is in. */
export const RunLink = ({
  run,
  dagId,
  runId,
  children,
}: {
  readonly run: RunKey;
  readonly dagId?: string;
  readonly runId?: string;
  readonly children?: ReactNode;
}) => (
  <>
    <Link to={stepPage(run.dag_id, run.run_id, run.task_id, run.map_index)}>
      {children ?? `${run.dag_id === dagId ? "" : `${run.dag_id} / `}${stepName(run)}`}
    </Link>
    {children !== undefined || (run.dag_id === dagId && run.run_id === runId) ? null : (
      <span className="zen-muted" title={run.run_id}> in {run.run_id.replace(RUN_TIME, "$1")}</span>
    )}
  </>
);

// A step run as records name it: DAG, DAG run, task, map index, try.
const STEP_RUN = /^([^/]+)\/(.+)\/([^/]+)\/(-?\d+)\/(\d+)$/;

/** A link to the step run that a record names, or the text where it names none. */
export const OriginLink = ({ origin, dagId }: { readonly origin: string; readonly dagId: string }) => {
  const [, dag, run, task, index, number] = STEP_RUN.exec(origin) ?? [];
  if (dag === undefined || run === undefined || task === undefined) return <>{origin}</>;
  const key = { dag_id: dag, run_id: run, task_id: task, map_index: Number(index), try_number: Number(number) };
  return <RunLink dagId={dagId} run={key} />;
};

/** Only addresses that a browser opens as a page: what a record names may be anything. */
const isWebAddress = (url: string) => /^https?:\/\//i.test(url);

export const External = ({ url, children }: { readonly url: string; readonly children: ReactNode }) =>
  isWebAddress(url) ? (
    <a href={url} rel="noopener noreferrer" target="_blank">
      {children} <span aria-hidden>↗</span>
    </a>
  ) : (
    <>{children}</>
  );

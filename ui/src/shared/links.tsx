// Addresses of Airflow's pages and of ours in them, for the host's router.
import type { ReactNode } from "react";
import { Link } from "react-router-dom";

import type { RunKey } from "./answers";

const quoted = (parts: readonly string[]) => parts.map(encodeURIComponent).join("/");

export const runPage = (dagId: string, runId: string) => `/dags/${quoted([dagId])}/runs/${quoted([runId])}/plugin/zen-run`;

export const taskPage = (dagId: string, runId: string, taskId: string, mapIndex = -1) =>
  `/dags/${quoted([dagId])}/runs/${quoted([runId])}/tasks/${quoted([taskId])}/${mapIndex < 0 ? "" : `mapped/${mapIndex}/`}plugin/zen-step`;

/** The instances of a mapped task in one DAG run: Airflow has tabs for a task, and none for a mapped one in a run. */
export const mappedPage = (dagId: string, runId: string, taskId: string) =>
  `/dags/${quoted([dagId])}/tasks/${quoted([taskId])}/plugin/zen-task?${new URLSearchParams({ run_id: runId })}`;

export const dagPage = (dagId: string) => `/dags/${quoted([dagId])}/plugin/zen-dag`;

export const cataloguePage = (name: string, version = "") =>
  `/plugin/zen-artifacts?${new URLSearchParams({ name, ...(version === "" ? {} : { version }) })}`;

/** A link to the page of a task instance, without the names of the DAG and the run that the reader is in. */
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
    <Link to={taskPage(run.dag_id, run.run_id, run.task_id, run.map_index)}>
      {children ?? `${run.dag_id === dagId ? "" : `${run.dag_id} / `}${run.task_id}${run.map_index < 0 ? "" : `[${run.map_index}]`}`}
    </Link>
    {children !== undefined || (run.dag_id === dagId && run.run_id === runId) ? null : <span className="zen-muted"> in {run.run_id}</span>}
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

// Addresses of Airflow's pages and of ours in them, for the host's router.
import type { ReactNode } from "react";
import { Link } from "react-router-dom";

import type { RunKey } from "./answers";

const quoted = (parts: readonly string[]) => parts.map(encodeURIComponent).join("/");

export const runPage = (dagId: string, runId: string) => `/dags/${quoted([dagId])}/runs/${quoted([runId])}/plugin/zen-run`;

export const taskPage = (dagId: string, runId: string, taskId: string, mapIndex = -1) =>
  `/dags/${quoted([dagId])}/runs/${quoted([runId])}/tasks/${quoted([taskId])}/${mapIndex < 0 ? "" : `mapped/${mapIndex}/`}plugin/zen-step`;

/** The overview of a mapped task's instances in one DAG run. */
export const mappedPage = (dagId: string, runId: string, taskId: string) =>
  `/dags/${quoted([dagId])}/runs/${quoted([runId])}/tasks/${quoted([taskId])}/plugin/zen-task`;

export const dagPage = (dagId: string) => `/dags/${quoted([dagId])}/plugin/zen-dag`;

export const cataloguePage = (name: string, version = "") =>
  `/plugin/zen-artifacts?${new URLSearchParams({ name, ...(version === "" ? {} : { version }) })}`;

/** A link to the page of a task instance. */
export const RunLink = ({ run, dagId, children }: { readonly run: RunKey; readonly dagId?: string; readonly children?: ReactNode }) => (
  <Link to={taskPage(run.dag_id, run.run_id, run.task_id, run.map_index)}>
    {children ?? (
      <>
        {run.dag_id === dagId ? "" : `${run.dag_id} / `}
        {run.task_id}
        {run.map_index < 0 ? "" : `[${run.map_index}]`} <span className="zen-muted">in {run.run_id}</span>
      </>
    )}
  </Link>
);

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

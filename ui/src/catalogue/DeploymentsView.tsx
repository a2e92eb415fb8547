import type { DeploymentRow, DeploymentsPage } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { formatIsoTime } from "../shared/format";
import { External } from "../shared/links";
import { Empty, Show } from "../shared/states";

const COLUMNS: readonly Column<DeploymentRow>[] = [
  { name: "Deployment", value: ({ name }) => name, cell: ({ name }) => name },
  { name: "Model", value: ({ model }) => model, cell: ({ model }) => model },
  { name: "Version", numeric: true, value: ({ version }) => Number(version), cell: ({ version }) => version },
  { name: "State", value: ({ state }) => state, cell: ({ state }) => state },
  { name: "Target", value: ({ target }) => target, cell: ({ target }) => target },
  { name: "Address", cell: ({ url }) => <External url={url}>{url}</External> },
  { name: "Owner", value: ({ owner }) => owner, cell: ({ owner }) => owner },
  { name: "Since", value: ({ since }) => since, cell: ({ since }) => formatIsoTime(since) },
];

/** The deployments of models. */
export const DeploymentsView = () => {
  const answer = useApi<DeploymentsPage>(route(["catalogue", "deployments"]));
  return (
    <Show answer={answer} what="the deployments">
      {({ deployments }) =>
        deployments.length === 0 ? (
          <Empty title="Nothing is deployed">A step that deploys a model version appears here.</Empty>
        ) : (
          <DataTable columns={COLUMNS} label="Deployments" rowKey={({ name }) => name} rows={deployments} />
        )
      }
    </Show>
  );
};

import { Stack, Text } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import type { StoragePage, StorageRow } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { formatBytes, formatNumber } from "../shared/format";
import { cataloguePage, dagPage } from "../shared/links";
import { Empty, Show } from "../shared/states";

const COLUMNS: readonly Column<StorageRow>[] = [
  { name: "Name", value: ({ name }) => name, cell: ({ name }) => <Link to={cataloguePage(name)}>{name}</Link> },
  { name: "DAG", value: ({ dag_id }) => dag_id, cell: ({ dag_id }) => (dag_id === "" ? "" : <Link to={dagPage(dag_id)}>{dag_id}</Link>) },
  { name: "Versions", numeric: true, value: ({ versions }) => versions, cell: ({ versions, more }) => `${formatNumber(versions)}${more ? "+" : ""}` },
  { name: "Contents", numeric: true, value: ({ artifacts }) => artifacts, cell: ({ artifacts }) => formatNumber(artifacts) },
  { name: "Size", numeric: true, value: ({ size }) => size, cell: ({ size }) => formatBytes(size) },
];

/** What the named artifacts take in the store. */
export const StorageView = () => {
  const answer = useApi<StoragePage>(route(["catalogue", "storage"]));
  return (
    <Show answer={answer} what="the storage report">
      {({ artifacts, size, root, rows, more }) =>
        rows.length === 0 ? (
          <Empty title="No artifact is stored">
            Artifacts of ML steps appear here after the first run. They are stored under <code>{root}</code>.
          </Empty>
        ) : (
          <Stack gap={3}>
            <Text>
              <strong>{formatBytes(size)}</strong> in {formatNumber(artifacts)} {artifacts === 1 ? "content" : "contents"} under{" "}
              <code>{root}</code>
              {more ? `, of the first ${formatNumber(rows.length)} names` : ""}
            </Text>
            {rows.some((row) => row.more) ? (
              <Text color="fg.muted">Of a name whose versions end with +, only the newest are counted.</Text>
            ) : null}
            <DataTable columns={COLUMNS} label="Storage by name" rowKey={({ name }) => name} rows={rows} />
          </Stack>
        )
      }
    </Show>
  );
};

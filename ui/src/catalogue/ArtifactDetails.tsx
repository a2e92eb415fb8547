// One named artifact: a version in full, the others, the difference of two, and its lineage over DAGs.
import { HStack, Heading, Stack, Tabs, Text } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import { LineageGraph } from "../graph/LineageGraph";
import type { ArtifactComparison, CatalogueRow, LineagePage, NamedArtifactPage } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { ArtifactView } from "../shared/ArtifactView";
import { type Column, DataTable } from "../shared/DataTable";
import { Differences } from "../shared/Differences";
import { Facts } from "../shared/Facts";
import { formatBytes, formatNumber, formatShape, formatTime } from "../shared/format";
import { cataloguePage, RunLink } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { Tags } from "../shared/Tags";
import { useQuery } from "../shared/useQuery";
import { Value } from "../shared/Value";

const versionColumns = (shown: string): readonly Column<CatalogueRow>[] => [
  {
    name: "Version",
    value: ({ created }) => created,
    cell: ({ name, version, created }) =>
      version === shown ? <strong>{formatTime(created)}</strong> : <Link to={cataloguePage(name, version)}>{formatTime(created)}</Link>,
  },
  { name: "Shape", cell: ({ shape }) => formatShape(shape) },
  { name: "Size", numeric: true, value: ({ size }) => size, cell: ({ size }) => formatBytes(size) },
  { name: "Digest", cell: ({ digest }) => <code>{digest.slice(0, 12)}</code> },
  { name: "Tags", cell: ({ tags }) => <Tags tags={tags} /> },
  { name: "Made by", cell: ({ producer }) => (producer === null ? "" : <RunLink run={producer} />) },
];

const Comparison = ({ name, before, after }: { readonly name: string; readonly before: string; readonly after: string }) => {
  const answer = useApi<ArtifactComparison>(route(["catalogue", "diff"], { name, before, after }));
  return (
    <Show answer={answer} what="the difference">
      {({ same, differences }) =>
        same || differences.length === 0 ? (
          <Text>{same ? "Both versions have the same content." : "The contents differ, but none of the recorded facts does."}</Text>
        ) : (
          <Differences differences={differences} label={`Differences of ${name}`} />
        )
      }
    </Show>
  );
};

const Compare = ({ name, versions }: { readonly name: string; readonly versions: readonly CatalogueRow[] }) => {
  const [query, setQuery] = useQuery();
  const [after, before] = [query("after") || versions[0]?.version || "", query("before") || versions[1]?.version || ""];
  if (versions.length < 2) return <Empty title="There is only one version">A second one can be compared with it.</Empty>;
  return (
    <Stack gap={3}>
      <HStack gap={4} wrap="wrap">
        {[["before", "Before", before] as const, ["after", "After", after] as const].map(([key, word, value]) => (
          <label key={key}>
            {word}{" "}
            <select className="zen-select" onChange={({ target }) => setQuery({ [key]: target.value })} value={value}>
              {versions.map(({ version, created }) => (
                <option key={version} value={version}>
                  {formatTime(created)}
                </option>
              ))}
            </select>
          </label>
        ))}
      </HStack>
      <Comparison after={after} before={before} name={name} />
    </Stack>
  );
};

const Lineage = ({ name, version }: { readonly name: string; readonly version: string }) => {
  const answer = useApi<LineagePage>(route(["catalogue", "lineage"], { name, version }));
  return (
    <Show answer={answer} what="the lineage">
      {({ nodes, edges, hidden, error }) => (
        <Stack gap={2}>
          {error === "" ? null : <Text color="warning.fg">{error}</Text>}
          {hidden > 0 ? <Text color="fg.muted">{formatNumber(hidden)} steps are of DAGs that you may not see.</Text> : null}
          {nodes.length === 0 ? (
            <Empty title="No lineage is recorded">No step that you may see made or read this version.</Empty>
          ) : (
            <LineageGraph dagId="" edges={edges} nodes={nodes} runId="" />
          )}
        </Stack>
      )}
    </Show>
  );
};

const Named = ({ named }: { readonly named: NamedArtifactPage }) => {
  const [query, setQuery] = useQuery();
  const { row, page, versions, more } = named;
  return (
    <Stack gap={3}>
      <HStack gap={3} wrap="wrap">
        <Heading as="h2" overflowWrap="anywhere" size="md">
          {row.name}
        </Heading>
        <Tags tags={row.tags} />
        <Text color="fg.muted">{formatTime(row.created)}</Text>
        {row.producer === null ? null : <span>made by <RunLink run={row.producer} /></span>}
      </HStack>
      <Tabs.Root lazyMount onValueChange={({ value }) => setQuery({ part: value })} size="sm" value={query("part") || "content"}>
        <Tabs.List>
          <Tabs.Trigger value="content">Content</Tabs.Trigger>
          <Tabs.Trigger value="versions">Versions</Tabs.Trigger>
          <Tabs.Trigger value="compare">Compare</Tabs.Trigger>
          <Tabs.Trigger value="lineage">Lineage</Tabs.Trigger>
        </Tabs.List>
        <Tabs.Content value="content">
          <Stack gap={4}>
            <Facts facts={Object.entries(row.metadata).map(([name, value]) => [name, <Value key={name} value={value} />])} />
            <ArtifactView page={page} />
          </Stack>
        </Tabs.Content>
        <Tabs.Content value="versions">
          <DataTable columns={versionColumns(row.version)} label={`Versions of ${row.name}`} rowKey={({ version }) => version} rows={versions} />
          {more ? <Text color="fg.muted">Older versions are not listed.</Text> : null}
        </Tabs.Content>
        <Tabs.Content value="compare">
          <Compare name={row.name} versions={versions} />
        </Tabs.Content>
        <Tabs.Content value="lineage">
          <Lineage name={row.name} version={row.version} />
        </Tabs.Content>
      </Tabs.Root>
    </Stack>
  );
};

export const ArtifactDetails = ({ name }: { readonly name: string }) => {
  const [query] = useQuery();
  const answer = useApi<NamedArtifactPage>(route(["catalogue", "artifact"], { name, version: query("version") || "latest" }));
  return (
    <Stack gap={3}>
      <Link to="/plugin/zen-artifacts">← All artifacts</Link>
      <Show answer={answer} what="the artifact">
        {(named) => <Named named={named} />}
      </Show>
    </Stack>
  );
};

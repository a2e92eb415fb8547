// The versions of a DAG's artifacts over time: a chart of one measure, and a table with changes of the schema.
import { HStack, Stack, Text } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import type { DagArtifacts, VersionPoint, VersionSeries } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { Chart } from "../shared/Chart";
import { type Column, DataTable } from "../shared/DataTable";
import { formatBytes, formatNumber, formatShape, formatTime, isSystemMetric } from "../shared/format";
import { cataloguePage, RunLink } from "../shared/links";
import { Section } from "../shared/Section";
import { Empty, Show } from "../shared/states";
import { Tags } from "../shared/Tags";

const columns = (name: string, dagId: string): readonly Column<VersionPoint>[] => [
  {
    name: "Version",
    value: ({ created }) => created,
    cell: ({ version, created }) => <Link to={cataloguePage(name, version)}>{formatTime(created)}</Link>,
  },
  { name: "Shape", value: ({ rows }) => rows, cell: ({ shape }) => formatShape(shape) },
  { name: "Size", numeric: true, value: ({ size }) => size, cell: ({ size }) => formatBytes(size) },
  {
    name: "Changes of the schema",
    cell: ({ changes }) => (
      <ul>
        {changes.map((change) => (
          <li key={change}>{change}</li>
        ))}
      </ul>
    ),
  },
  { name: "Tags", cell: ({ tags }) => <Tags tags={tags} /> },
  { name: "Made by", cell: ({ producer }) => (producer === null ? "" : <RunLink dagId={dagId} run={producer} />) },
];

const measure = (point: VersionPoint, name: string) =>
  name === "bytes" ? point.size : name === "rows" ? point.rows : (point.metrics[name] ?? null);

const SeriesView = ({ series, dagId }: { readonly series: VersionSeries; readonly dagId: string }) => {
  const { name, points } = series;
  const metrics = [...new Set(points.flatMap((point) => Object.keys(point.metrics)))];
  const [system, own] = [metrics.filter(isSystemMetric), metrics.filter((metric) => !isSystemMetric(metric))];
  const measures = [...(points.some(({ rows }) => rows !== null) ? ["rows"] : []), ...own, "bytes", ...system];
  const [chosen, setChosen] = useState(measures[0] ?? "bytes");
  return (
    <Section
      aside={
        points.length < 2 ? null : (
          <label>
            Chart of{" "}
            <select className="zen-select" onChange={({ target }) => setChosen(target.value)} value={chosen}>
              {measures.map((each) => (
                <option key={each}>{each}</option>
              ))}
            </select>
          </label>
        )
      }
      title={name.replace(`${dagId}/`, "")}
    >
      {points.length > 1 ? (
        <Chart
          isTime
          label={`${chosen} of ${name} over time, ${formatNumber(points.length)} versions`}
          {...(chosen === "bytes" ? { format: formatBytes } : {})}
          series={[{ name: chosen, color: "fg-info", values: points.map((point) => measure(point, chosen)) }]}
          x={points.map(({ created }) => created)}
          xName="version"
        />
      ) : null}
      <details open={points.length < 4}>
        <summary>
          {formatNumber(points.length)} {points.length === 1 ? "version" : "versions"}
          {series.more ? ", and older ones" : ""}
        </summary>
        <DataTable
          columns={columns(name, dagId)}
          label={`Versions of ${name}`}
          rowKey={({ version }) => version}
          rows={points.toReversed()}
        />
      </details>
    </Section>
  );
};

const found = (series: readonly VersionSeries[], wanted: string) => series.filter(({ name }) => name.toLowerCase().includes(wanted));

const countOf = (names: number) => `${formatNumber(names)} ${names === 1 ? "name" : "names"}`;

export const VersionsView = ({ dagId }: { readonly dagId: string }) => {
  const answer = useApi<DagArtifacts>(route(["dags", dagId, "artifacts"]));
  const [search, setSearch] = useState("");
  const wanted = search.trim().toLowerCase();
  return (
    <Show answer={answer} what="the artifacts">
      {({ series, more }) =>
        series.length === 0 ? (
          <Empty title="This DAG has no artifacts yet">Its steps' outputs appear here after the first run.</Empty>
        ) : (
          <Stack gap={6}>
            <HStack>
              <input
                aria-label="Search artifacts of the DAG"
                className="zen-select"
                onChange={({ target }) => setSearch(target.value)}
                placeholder="Search artifacts"
                type="search"
                value={search}
              />
              <Text aria-live="polite" color="fg.muted">{countOf(found(series, wanted).length)}</Text>
            </HStack>
            {more ? (
              <Text color="fg.muted">
                This DAG has more names. <Link to={`/plugin/zen-artifacts?${new URLSearchParams({ search: `${dagId}/` })}`}>All in the catalogue</Link>
              </Text>
            ) : null}
            {found(series, wanted).map((each) => (
              <SeriesView dagId={dagId} key={each.name} series={each} />
            ))}
          </Stack>
        )
      }
    </Show>
  );
};

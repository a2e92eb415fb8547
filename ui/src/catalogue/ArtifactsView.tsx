// Named artifacts, searched by the server.
import { Badge, Button, HStack, Stack, Text } from "@chakra-ui/react";
import { useState } from "react";
import { Link } from "react-router-dom";

import type { CataloguePage, CatalogueRow } from "../shared/answers";
import { route, useApi, useLast } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { className, formatBytes, formatNumber, formatShape, formatTime } from "../shared/format";
import { cataloguePage, RunLink } from "../shared/links";
import { Empty, Show } from "../shared/states";
import { Tags } from "../shared/Tags";
import { useQuery } from "../shared/useQuery";
import { SearchField } from "./SearchField";

const PAGE = 50;

const COLUMNS: readonly Column<CatalogueRow>[] = [
  {
    name: "Name",
    value: ({ name }) => name,
    cell: ({ name, is_model }) => (
      <>
        <Link to={cataloguePage(name)}>{name}</Link> {is_model ? <Badge colorPalette="purple">model</Badge> : null}
      </>
    ),
  },
  { name: "Type", value: ({ type }) => type, cell: ({ type }) => <span title={type}>{className(type)}</span> },
  { name: "Shape", cell: ({ shape }) => formatShape(shape) },
  { name: "Size", numeric: true, value: ({ size }) => size, cell: ({ size }) => formatBytes(size) },
  { name: "Newest version", value: ({ created }) => created, cell: ({ created }) => formatTime(created) },
  { name: "Tags", cell: ({ tags }) => <Tags tags={tags} /> },
  {
    name: "Made by",
    // The name of an artifact begins with the DAG that made it.
    cell: ({ name, producer }) => (producer === null ? "" : <RunLink dagId={name.replace(/\/.*/, "")} run={producer} />),
  },
];

export const ArtifactsView = () => {
  const [query, setQuery] = useQuery();
  const [search, tag] = [query("search"), query("tag")];
  const subject = JSON.stringify([search, tag]);
  const [place, setPlace] = useState({ subject, offset: 0 });
  // What is searched for next begins with its first page.
  const offset = place.subject === subject ? place.offset : 0;
  const setOffset = (next: number) => setPlace({ subject, offset: next });
  const path = route(["catalogue"], { search: search || undefined, tag: tag || undefined, offset, limit: PAGE });
  const answer = useLast(useApi<CataloguePage>(path));
  return (
    <Show answer={answer} what="the catalogue">
      {({ total, artifacts, tags }) => (
        <Stack gap={3}>
          <HStack gap={3} wrap="wrap">
            <SearchField label="Search artifacts" name="search" placeholder="Search names and types" />
            <label>
              Tag{" "}
              <select
                className="zen-select"
                onChange={({ target }) => setQuery({ tag: target.value })}
                value={tag}
              >
                <option value="">any</option>
                {tags.map((each) => (
                  <option key={each}>{each}</option>
                ))}
              </select>
            </label>
            <Text aria-live="polite" color="fg.muted">
              {formatNumber(total)} {total === 1 ? "artifact" : "artifacts"}
            </Text>
          </HStack>
          {total === 0 ? (
            <Empty title="No artifact is found">
              {search === "" && tag === "" ? "Artifacts of ML steps appear here after the first run." : "Try another word or tag."}
            </Empty>
          ) : (
            <DataTable columns={COLUMNS} label="Artifacts" rowKey={({ name, version }) => `${name}@${version}`} rows={artifacts} />
          )}
          {total > PAGE ? (
            <HStack justify="flex-end">
              <Text color="fg.muted">
                {formatNumber(offset + 1)}–{formatNumber(Math.min(offset + PAGE, total))} of {formatNumber(total)}
              </Text>
              <Button disabled={offset === 0} onClick={() => setOffset(offset - PAGE)} size="xs" variant="outline">
                Previous
              </Button>
              <Button disabled={offset + PAGE >= total} onClick={() => setOffset(offset + PAGE)} size="xs" variant="outline">
                Next
              </Button>
            </HStack>
          ) : null}
        </Stack>
      )}
    </Show>
  );
};

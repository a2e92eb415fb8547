import { HStack, Stack, Text } from "@chakra-ui/react";

import type { ModelsPage, ModelVersionRow } from "../shared/answers";
import { route, useApi, useLast } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { formatNumber, formatTime } from "../shared/format";
import { External, RunLink } from "../shared/links";
import { Section } from "../shared/Section";
import { Empty, Show } from "../shared/states";
import { Tags } from "../shared/Tags";
import { useQuery } from "../shared/useQuery";
import { SearchField } from "./SearchField";

const columns = (versions: readonly ModelVersionRow[]): readonly Column<ModelVersionRow>[] => [
  {
    name: "Version",
    value: ({ version }) => Number(version),
    cell: ({ version, url }) => <External url={url}>{version}</External>,
  },
  { name: "Aliases", cell: ({ aliases }) => <Tags tags={aliases} /> },
  { name: "Registered", value: ({ created }) => created, cell: ({ created }) => formatTime(created) },
  ...[...new Set(versions.flatMap(({ metrics }) => Object.keys(metrics)))].map((name) => ({
    name,
    numeric: true,
    value: ({ metrics }: ModelVersionRow) => metrics[name],
    cell: ({ metrics }: ModelVersionRow) => (metrics[name] === undefined ? "" : formatNumber(metrics[name])),
  })),
  { name: "Made by", cell: ({ producer }) => (producer === null ? "" : <RunLink run={producer} />) },
];

const NoModel = ({ isSearched }: { readonly isSearched: boolean }) =>
  isSearched ? (
    <Empty title="No model is found">Try another word.</Empty>
  ) : (
    <Empty title="No model is registered">Steps register models in MLflow.</Empty>
  );

/** The registered models with their versions and metrics. */
export const ModelsView = () => {
  const [query] = useQuery();
  const search = query("model");
  const answer = useLast(useApi<ModelsPage>(route(["catalogue", "models"], { search: search || undefined })));
  return (
    <Show answer={answer} what="the models">
      {({ models, more, error }) => (
        <Stack gap={6}>
          <SearchField label="Search models" name="model" placeholder="Search names" />
          {error === "" ? null : <Text color="warning.fg">{error}</Text>}
          {models.length === 0 && error === "" ? <NoModel isSearched={search !== ""} /> : null}
          {models.map(({ name, description, versions, more: hasOlder, url }) => (
            <Section aside={<HStack>{url === "" ? null : <External url={url}>MLflow</External>}</HStack>} key={name} title={name}>
              {description === "" ? null : <Text color="fg.muted">{description}</Text>}
              <DataTable columns={columns(versions)} label={`Versions of ${name}`} rowKey={({ version }) => version} rows={versions} />
              {hasOlder ? <Text color="fg.muted">Older versions are not listed.</Text> : null}
            </Section>
          ))}
          {more ? <Text color="fg.muted">More models have such a name. Search for a longer part of it.</Text> : null}
        </Stack>
      )}
    </Show>
  );
};

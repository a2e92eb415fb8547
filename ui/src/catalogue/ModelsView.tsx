import { HStack, Stack, Text } from "@chakra-ui/react";

import type { ModelsPage, ModelVersionRow } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { formatNumber, formatTime } from "../shared/format";
import { External, RunLink } from "../shared/links";
import { Section } from "../shared/Section";
import { Empty, Show } from "../shared/states";
import { Tags } from "../shared/Tags";

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

/** The registered models with their versions and metrics. */
export const ModelsView = () => {
  const answer = useApi<ModelsPage>(route(["catalogue", "models"]));
  return (
    <Show answer={answer} what="the models">
      {({ models, error }) => (
        <Stack gap={6}>
          {error === "" ? null : <Text color="warning.fg">{error}</Text>}
          {models.length === 0 && error === "" ? <Empty title="No model is registered">Steps register models in MLflow.</Empty> : null}
          {models.map(({ name, description, versions, url }) => (
            <Section aside={<HStack>{url === "" ? null : <External url={url}>MLflow</External>}</HStack>} key={name} title={name}>
              {description === "" ? null : <Text color="fg.muted">{description}</Text>}
              <DataTable columns={columns(versions)} label={`Versions of ${name}`} rowKey={({ version }) => version} rows={versions} />
            </Section>
          ))}
        </Stack>
      )}
    </Show>
  );
};

// One artifact in full: previews, columns with their statistics, files, download.
import { Badge, Box, Button, Heading, Stack, Tabs, Text } from "@chakra-ui/react";
import type { ReactNode } from "react";

import type { ArtifactPage, Column as TableColumn, FileFacts, PreviewFile } from "./answers";
import { type Column, DataTable } from "./DataTable";
import { Facts } from "./Facts";
import { formatBytes, formatIsoTime, formatNumber, formatShape, typeName } from "./format";
import { External } from "./links";
import { useColorMode } from "./theme";
import { TextPreview } from "./TextPreview";
import { Value } from "./Value";

const absolute = (url: string) => new URL(url, document.baseURI).href;

/** A stored report may hold scripts: it gets an origin of its own, which reaches neither this page nor Airflow's API. */
const Preview = ({ preview }: { readonly preview: PreviewFile }) => {
  const scheme = useColorMode();
  const url = absolute(preview.url);
  if (preview.kind === "image") return <img alt={`Preview ${preview.file}`} className="zen-image" src={url} />;
  if (preview.kind === "html") {
    return <iframe className="zen-report" loading="lazy" sandbox="allow-scripts" src={`${url}&scheme=${scheme}`} title={`Preview ${preview.file}`} />;
  }
  return <TextPreview url={url} />;
};

const TEXT_FILE = /\.(json|txt|md|csv|ya?ml)$/i;
const LARGEST_TEXT = 100_000;

/** A small text is its own preview. */
const ownText = (files: readonly FileFacts[]) => files.find(({ path, size }) => TEXT_FILE.test(path) && size <= LARGEST_TEXT);

const Previews = ({ previews, files }: { readonly previews: readonly PreviewFile[]; readonly files: readonly FileFacts[] }) => {
  const [first] = previews;
  if (first === undefined) {
    const text = files.length === 1 ? ownText(files) : undefined;
    return text === undefined ? <Text color="fg.muted">This artifact has no stored preview.</Text> : <TextPreview url={absolute(text.url)} />;
  }
  if (previews.length === 1) return <Preview preview={first} />;
  return (
    <Tabs.Root defaultValue={first.file} lazyMount size="sm" variant="subtle">
      <Tabs.List>
        {previews.map(({ file }) => (
          <Tabs.Trigger key={file} value={file}>
            {file}
          </Tabs.Trigger>
        ))}
      </Tabs.List>
      {previews.map((preview) => (
        <Tabs.Content key={preview.file} value={preview.file}>
          <Preview preview={preview} />
        </Tabs.Content>
      ))}
    </Tabs.Root>
  );
};

const sortable = (value: unknown) => (typeof value === "number" || typeof value === "string" ? value : null);

const COLUMNS: readonly Column<TableColumn>[] = [
  { name: "Column", value: ({ name }) => name, cell: ({ name }) => <span className="zen-mono">{name}</span> },
  { name: "Type", value: ({ type }) => type, cell: ({ type }) => type },
  { name: "Nulls", numeric: true, value: ({ nulls }) => nulls, cell: ({ nulls }) => <Value value={nulls} /> },
  { name: "Distinct", numeric: true, value: ({ distinct }) => distinct, cell: ({ distinct }) => <Value value={distinct} /> },
  { name: "Minimum", numeric: true, value: ({ min }) => sortable(min), cell: ({ min }) => <Value value={min} /> },
  { name: "Mean", numeric: true, value: ({ mean }) => mean, cell: ({ mean }) => <Value value={mean} /> },
  { name: "Maximum", numeric: true, value: ({ max }) => sortable(max), cell: ({ max }) => <Value value={max} /> },
];

const FILES: readonly Column<FileFacts>[] = [
  {
    name: "File",
    value: ({ path }) => path,
    cell: ({ path, url }) => (
      <a download href={absolute(url)}>
        {path}
      </a>
    ),
  },
  { name: "Size", numeric: true, value: ({ size }) => size, cell: ({ size }) => formatBytes(size) },
];

const More = ({ count, what }: { readonly count: number; readonly what: string }) =>
  count > 0 ? (
    <Text color="fg.muted" mt={1}>
      {formatNumber(count)} more {what}
    </Text>
  ) : null;

const part = (title: string, children: ReactNode) => (
  <Box>
    <Heading as="h4" mb={1} size="xs">
      {title}
    </Heading>
    {children}
  </Box>
);

// Of what the materializer recorded, what the page shows under a name of its own.
const OWN_FACTS = new Set(["shape", "type", "size"]);

export const ArtifactView = ({ page }: { readonly page: ArtifactPage }) => {
  const { artifact, columns, files, libraries } = page;
  return (
    <Stack gap={4}>
      <Previews files={files} previews={page.previews} />
      {columns.length === 0
        ? null
        : part(
            "Columns",
            <>
              <DataTable columns={COLUMNS} label={`Columns of ${artifact.name}`} rowKey={({ name }) => name} rows={columns} />
              <More count={page.more_columns} what="columns" />
            </>,
          )}
      <Facts
        facts={[
          ["Type", typeName(artifact.type)],
          ["Shape", formatShape(artifact.shape)],
          ["Size", formatBytes(artifact.size)],
          ["Version", formatIsoTime(artifact.version)],
          ["Encoding", <code key="encoding">{artifact.encoding}</code>],
          ["Digest", <code key="digest">{artifact.digest}</code>],
          ["Address", <code key="address">{page.address}</code>],
          ...Object.entries(page.facts)
            .filter(([name]) => !OWN_FACTS.has(name))
            .map(([name, value]) => [name, <Value key={name} value={value} />] as const),
          ["Written with", Object.entries(libraries).map(([name, version]) => `${name} ${version}`).join(", ")],
          ["MLflow", artifact.mlflow_url === "" ? "" : <External key="mlflow" url={artifact.mlflow_url}>Open in MLflow</External>],
        ]}
      />
      {part(
        "Files",
        <>
          <DataTable columns={FILES} label={`Files of ${artifact.name}`} rowKey={({ path }) => path} rows={files} />
          <More count={page.more_files} what="files" />
        </>,
      )}
      <Button alignSelf="start" asChild size="sm" variant="outline">
        <a download href={absolute(page.download_url)}>
          {files.length > 1 ? "Download all files" : "Download"} <Badge>{formatBytes(artifact.size)}</Badge>
        </a>
      </Button>
    </Stack>
  );
};

import type { Difference } from "./answers";
import { type Column, DataTable } from "./DataTable";
import { formatBytes, formatSeconds, formatShape } from "./format";
import { Digest, Value } from "./Value";

const FORMATS: Readonly<Record<string, (value: number) => string>> = { bytes: formatBytes, seconds: formatSeconds, size: formatBytes };

/** Show a value by what its fact says of its unit. */
const Side = ({ fact, value }: { readonly fact: string; readonly value: unknown }) => {
  const format = FORMATS[fact];
  if (typeof value === "number" && format !== undefined) return <>{format(value)}</>;
  if (typeof value === "string" && fact === "shape") return <>{formatShape(value)}</>;
  if (typeof value === "string" && fact === "digest") return <Digest text={value} />;
  return <Value value={value} />;
};

const COLUMNS: readonly Column<Difference>[] = [
  { name: "What", value: ({ subject }) => subject, cell: ({ subject }) => subject || "artifact" },
  { name: "Fact", value: ({ fact }) => fact, cell: ({ fact }) => fact },
  { name: "Before", cell: ({ fact, before }) => <Side fact={fact} value={before} /> },
  { name: "After", cell: ({ fact, after }) => <Side fact={fact} value={after} /> },
];

/** Show what differs between two runs of a step, or two versions of an artifact. */
export const Differences = ({ label, differences }: { readonly label: string; readonly differences: readonly Difference[] }) => (
  <DataTable columns={COLUMNS} label={label} rowKey={({ subject, fact }) => `${subject}/${fact}`} rows={differences} />
);

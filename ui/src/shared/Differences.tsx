import type { Difference } from "./answers";
import { type Column, DataTable } from "./DataTable";
import { Value } from "./Value";

const COLUMNS: readonly Column<Difference>[] = [
  { name: "What", value: ({ subject }) => subject, cell: ({ subject }) => subject || "artifact" },
  { name: "Fact", value: ({ fact }) => fact, cell: ({ fact }) => fact },
  { name: "Before", cell: ({ before }) => <Value value={before} /> },
  { name: "After", cell: ({ after }) => <Value value={after} /> },
];

/** Show what differs between two runs of a step, or two versions of an artifact. */
export const Differences = ({ label, differences }: { readonly label: string; readonly differences: readonly Difference[] }) => (
  <DataTable columns={COLUMNS} label={label} rowKey={({ subject, fact }) => `${subject}/${fact}`} rows={differences} />
);

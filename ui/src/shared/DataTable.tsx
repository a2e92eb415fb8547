// A table that sorts by any of its columns, and shows a part of its rows at a time.
import { Button, HStack, Text } from "@chakra-ui/react";
import { type ReactNode, useMemo, useState } from "react";

import { formatNumber } from "./format";

export interface Column<Row> {
  readonly name: string;
  readonly cell: (row: Row) => ReactNode;
  /** What the rows are sorted by; without it the column cannot be sorted. */
  readonly value?: (row: Row) => string | number | null | undefined;
  readonly numeric?: boolean;
}

const PAGE = 100;

const compare = (a: string | number | null | undefined, b: string | number | null | undefined) => {
  // What is unknown goes last.
  if (a === null || a === undefined) return b === null || b === undefined ? 0 : 1;
  if (b === null || b === undefined) return -1;
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
};

const sorted = <Row,>(rows: readonly Row[], column: Column<Row> | undefined, descending: boolean) => {
  const value = column?.value;
  if (value === undefined) return rows;
  const ascending = [...rows].sort((a, b) => compare(value(a), value(b)));
  return descending ? ascending.reverse() : ascending;
};

const SortButton = ({ name, order, onSort }: { readonly name: string; readonly order: string; readonly onSort: () => void }) => (
  <button onClick={onSort} title={`Sort by ${name}`} type="button">
    {name} <span aria-hidden>{order === "ascending" ? "↑" : order === "descending" ? "↓" : "↕"}</span>
  </button>
);

export const DataTable = <Row,>({
  label,
  columns,
  rows,
  rowKey,
}: {
  readonly label: string;
  readonly columns: readonly Column<Row>[];
  readonly rows: readonly Row[];
  readonly rowKey: (row: Row) => string;
}) => {
  const [sort, setSort] = useState<{ name: string; descending: boolean }>();
  const [page, setPage] = useState(0);
  const shown = useMemo(
    () => sorted(rows, columns.find(({ name }) => name === sort?.name), sort?.descending ?? false),
    [rows, columns, sort],
  );
  const first = Math.min(page, Math.max(Math.ceil(shown.length / PAGE) - 1, 0)) * PAGE;
  const orderOf = (name: string) => (sort?.name !== name ? "none" : sort.descending ? "descending" : "ascending");
  return (
    <>
      <div className="zen-scroll" role="region" aria-label={label} tabIndex={0}>
        <table className="zen-table">
          <thead>
            <tr>
              {columns.map(({ name, value, numeric }) => (
                <th aria-sort={orderOf(name)} className={numeric ? "zen-number" : ""} key={name} scope="col">
                  {value === undefined ? (
                    name
                  ) : (
                    <SortButton
                      name={name}
                      onSort={() => setSort({ name, descending: orderOf(name) === "ascending" })}
                      order={orderOf(name)}
                    />
                  )}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {shown.slice(first, first + PAGE).map((row) => (
              <tr key={rowKey(row)}>
                {columns.map(({ name, cell, numeric }) => (
                  <td className={numeric ? "zen-number" : "zen-text"} key={name}>
                    {cell(row)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {shown.length > PAGE ? (
        <HStack justify="flex-end" mt={2}>
          <Text color="fg.muted">
            {formatNumber(first + 1)}–{formatNumber(Math.min(first + PAGE, shown.length))} of {formatNumber(shown.length)}
          </Text>
          <Button disabled={first === 0} onClick={() => setPage(first / PAGE - 1)} size="xs" variant="outline">
            Previous
          </Button>
          <Button disabled={first + PAGE >= shown.length} onClick={() => setPage(first / PAGE + 1)} size="xs" variant="outline">
            Next
          </Button>
        </HStack>
      ) : null}
    </>
  );
};

// The columns of a table of steps.
import { Text } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import type { StepRow } from "../shared/answers";
import { ArtifactList } from "../shared/ArtifactList";
import type { Column } from "../shared/DataTable";
import { formatBytes, formatNumber, formatSeconds } from "../shared/format";
import { RunLink } from "../shared/links";
import { States } from "../shared/State";

const Used = ({ resources: { peak_memory_bytes: memory, cpu_seconds: cpu } }: StepRow) => (
  <>
    {memory === undefined ? null : <div title="Peak of memory">{formatBytes(memory)}</div>}
    {cpu === undefined ? null : <div className="zen-muted" title="Processor time">{formatSeconds(cpu)} CPU</div>}
  </>
);

/** Return the columns; `page` is the address to which the name of a step leads. */
export const stepColumns = (dagId: string, runId: string, page: (row: StepRow) => string): readonly Column<StepRow>[] => [
  {
    name: "Step",
    value: ({ task_id }) => task_id,
    cell: (row) => (
      <Link to={page(row)}>
        {row.task_id}
        {row.mapped ? ` × ${formatNumber(row.count)}` : ""}
      </Link>
    ),
  },
  { name: "State", value: ({ state }) => state, cell: ({ state, states }) => <States state={state} states={states} /> },
  {
    name: "Cache",
    value: ({ cache }) => cache,
    cell: ({ cache }) => (cache === "" ? <span className="zen-muted">–</span> : cache),
  },
  {
    name: "Why",
    cell: ({ why, error, origin }) => (
      <div className="zen-prose">
        {error === "" ? why : <Text color="error.fg">{error}</Text>}
        {origin === null ? null : <div>made by <RunLink dagId={dagId} run={origin} runId={runId} /></div>}
      </div>
    ),
  },
  { name: "Time", numeric: true, value: ({ seconds }) => seconds, cell: ({ seconds }) => seconds === null ? "" : formatSeconds(seconds) },
  {
    name: "Saved",
    numeric: true,
    value: ({ seconds_saved }) => seconds_saved,
    cell: ({ seconds_saved }) => (seconds_saved > 0 ? formatSeconds(seconds_saved) : ""),
  },
  { name: "Used", numeric: true, value: ({ resources }) => resources["peak_memory_bytes"] ?? null, cell: Used },
  { name: "Outputs", cell: ({ outputs }) => <ArtifactList artifacts={outputs} dagId={dagId} /> },
];

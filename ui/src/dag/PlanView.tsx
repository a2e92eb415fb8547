// What a run started now would reuse, and what it would compute.
import { Badge, Box, Button, Stack, Text } from "@chakra-ui/react";
import { useState } from "react";

import type { PlannedRow, PlanPage } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { type Column, DataTable } from "../shared/DataTable";
import { formatBytes, formatNumber, formatSeconds } from "../shared/format";
import { OriginLink } from "../shared/links";
import { Show } from "../shared/states";

const WORDS: Record<string, readonly [word: string, palette: string]> = {
  hit: ["reused", "info"],
  miss: ["computed", "success"],
  unknown: ["not known yet", "none"],
};

const Planned = ({ plan }: { readonly plan: string }) => {
  const [word, palette] = WORDS[plan] ?? [plan, "none"];
  return <Badge colorPalette={palette}>{word}</Badge>;
};

/** Return the columns; the reason of a hit is the step run whose result would be reused. */
const columns = (dagId: string): readonly Column<PlannedRow>[] => [
  { name: "Step", value: ({ task_id }) => task_id, cell: ({ task_id }) => task_id },
  { name: "Would be", value: ({ plan }) => plan, cell: ({ plan }) => <Planned plan={plan} /> },
  {
    name: "Why",
    cell: ({ plan, why, warning }) => (
      <div className="zen-prose">
        {plan === "hit" ? <>made by <OriginLink dagId={dagId} origin={why} /></> : why}
        {warning === "" ? null : <Text color="warning.fg">{warning}</Text>}
      </div>
    ),
  },
  { name: "Time before", numeric: true, value: ({ seconds }) => seconds, cell: ({ seconds }) => (seconds === null ? "" : formatSeconds(seconds)) },
  { name: "Size before", numeric: true, value: ({ size }) => size, cell: ({ size }) => (size === null ? "" : formatBytes(size)) },
];

/** Say how many steps would be reused and computed, and how long the latter took before. */
const summaryOf = (steps: readonly PlannedRow[]) => {
  const [hits, misses, unknown] = ["hit", "miss", "unknown"].map((plan) => steps.filter((step) => step.plan === plan));
  const seconds = (rows: readonly PlannedRow[] = []) => rows.reduce((sum, row) => sum + (row.seconds ?? 0), 0);
  const isTimed = misses?.some((row) => row.seconds !== null) ?? false;
  return [
    `${formatNumber(steps.length)} ${steps.length === 1 ? "step" : "steps"}`,
    `${formatNumber(hits?.length ?? 0)} reused (${formatSeconds(seconds(hits))} saved)`,
    `${formatNumber(misses?.length ?? 0)} computed${isTimed ? `, about ${formatSeconds(seconds(misses))}` : ""}`,
    ...(unknown?.length ? [`${formatNumber(unknown.length)} not known until the run`] : []),
  ].join(" · ");
};

const Plan = ({ dagId }: { readonly dagId: string }) => {
  const answer = useApi<PlanPage>(route(["dags", dagId, "plan"]));
  return (
    <Show answer={answer} what="the plan">
      {({ error, steps }) =>
        error === "" ? (
          <Stack gap={2}>
            <Text fontWeight="semibold">{summaryOf(steps)}</Text>
            <DataTable columns={columns(dagId)} label="Plan of the next run" rowKey={({ task_id }) => task_id} rows={steps} />
          </Stack>
        ) : (
          <Box bg="warning.subtle" borderRadius="md" color="warning.fg" overflowWrap="anywhere" p={4} role="alert" whiteSpace="pre-wrap">
            {error}
          </Box>
        )
      }
    </Show>
  );
};

export const PlanView = ({ dagId }: { readonly dagId: string }) => {
  const [asked, setAsked] = useState(0);
  return (
    <Stack gap={4}>
      <Text color="fg.muted">
        A plan reads the DAG file and the cache, and runs nothing. It says for each step whether a run started now would
        reuse an earlier result.
      </Text>
      <Button alignSelf="start" onClick={() => setAsked(asked + 1)} size="sm" variant="outline">
        {asked === 0 ? "Plan a run now" : "Plan again"}
      </Button>
      {asked === 0 ? null : <Plan dagId={dagId} key={asked} />}
    </Stack>
  );
};

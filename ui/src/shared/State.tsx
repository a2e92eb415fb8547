// The state of a step: a word and a colour, the same in every view.
import { Badge } from "@chakra-ui/react";

import { formatNumber } from "./format";

const PALETTES: Record<string, string> = {
  FINISHED: "success",
  CACHED: "info",
  FAILED: "failed",
  KILLED: "failed",
  RUNNING: "running",
  QUEUED: "queued",
  SCHEDULED: "scheduled",
  DEFERRED: "deferred",
  UP_FOR_RETRY: "up_for_retry",
  UPSTREAM_FAILED: "upstream_failed",
  SKIPPED: "skipped",
};

const WORDS: Record<string, string> = { FINISHED: "computed", PENDING: "not started" };

export const statePalette = (state: string) => PALETTES[state] ?? "none";

export const stateWord = (state: string) => WORDS[state] ?? state.toLowerCase().replaceAll("_", " ");

export const State = ({ state, count }: { readonly state: string; readonly count?: number }) => (
  <Badge colorPalette={statePalette(state)} variant="subtle">
    {count === undefined ? null : `${formatNumber(count)} `}
    {stateWord(state)}
  </Badge>
);

/** Show each state of the instances of a mapped task with their number. */
export const States = ({ state, states }: { readonly state: string; readonly states: Readonly<Record<string, number>> }) => {
  const counted = Object.entries(states);
  return (
    <span className="zen-badges">
      {counted.length === 0 ? <State state={state} /> : counted.map(([each, count]) => <State count={count} key={each} state={each} />)}
    </span>
  );
};

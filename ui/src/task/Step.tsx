// A step: what it read and made, why it ran, and what it used.
import { Badge, Box, Heading, HStack, Stack, Text } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import type { ArtifactFacts, RunKey, StepPage } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { Facts } from "../shared/Facts";
import { formatBytes, formatNumber, formatSeconds, formatTime, isSystemMetric } from "../shared/format";
import { External, mappedPage, RunLink, runPage, stepName, taskPage } from "../shared/links";
import { Section } from "../shared/Section";
import { State } from "../shared/State";
import { Empty } from "../shared/states";
import { useQuery } from "../shared/useQuery";
import { Value } from "../shared/Value";
import { ArtifactPanel } from "./ArtifactPanel";
import { KeyDiffView } from "./KeyDiffView";

const POLL_MILLISECONDS = 3000;

/** The name of a step that has no task instance of its own, which Airflow's page does not say. */
const Title = ({ step: { key, instance } }: { readonly step: StepPage }) => {
  if (instance?.task_id === key.task_id) return null;
  return (
    <HStack gap={3} wrap="wrap">
      <Heading as="h2" overflowWrap="anywhere" size="sm">
        {stepName(key)}
      </Heading>
      {instance === null ? null : (
        <Link to={taskPage(instance.dag_id, instance.run_id, instance.task_id, instance.map_index)}>All steps of {instance.task_id}</Link>
      )}
    </HStack>
  );
};

const Header = ({ step }: { readonly step: StepPage }) => {
  const [, setQuery] = useQuery();
  const { key } = step;
  return (
    <HStack gap={3} wrap="wrap">
      <State state={step.state} />
      {step.label === "" ? null : <Badge variant="outline">{step.label}</Badge>}
      {step.seconds === null ? null : <Text>{formatSeconds(step.seconds)}</Text>}
      {step.seconds_saved > 0 ? <Text color="success.fg">{formatSeconds(step.seconds_saved)} saved</Text> : null}
      {step.tries.length > 1 ? (
        <label>
          Try{" "}
          <select
            className="zen-select"
            onChange={({ target }) => setQuery({ try: target.value })}
            value={String(key.try_number)}
          >
            {step.tries.map((number) => (
              <option key={number} value={number}>
                {number}
              </option>
            ))}
          </select>
        </label>
      ) : null}
      <Link to={`${runPage(key.dag_id, key.run_id)}?${new URLSearchParams({ node: `step:${key.task_id}:${key.map_index}` })}`}>
        In the graph
      </Link>
      {step.links.map(({ text, url, external }) =>
        external ? <External key={text} url={url}>{text}</External> : <Link key={text} to={`/${url}`}>{text}</Link>,
      )}
    </HStack>
  );
};

const Why = ({ step }: { readonly step: StepPage }) => (
  <Section title="Why it ran">
    <Stack gap={2}>
      {step.error === "" ? null : (
        <Box bg="error.subtle" borderRadius="md" color="error.fg" p={3} role="alert" whiteSpace="pre-wrap">
          {step.error}
        </Box>
      )}
      <Facts
        facts={[
          ["Cache", step.cache],
          ["Reason", step.why],
          ["Made by", step.origin === null ? "" : <RunLink dagId={step.key.dag_id} key="origin" run={step.origin} />],
          ["Started", step.started === null ? "" : formatTime(step.started)],
          ["Ended", step.ended === null ? "" : formatTime(step.ended)],
          ["Owner", step.owner],
          ["Code version", step.code_version],
        ]}
      />
      {step.key_diff === null ? null : <KeyDiffView diff={step.key_diff} />}
    </Stack>
  </Section>
);

const Artifacts = ({ title, side, artifacts, stepKey }: {
  readonly title: string;
  readonly side: "inputs" | "outputs";
  readonly artifacts: readonly ArtifactFacts[];
  readonly stepKey: RunKey;
}) => (
  <Section title={title}>
    {artifacts.length === 0 ? <Text color="fg.muted">None</Text> : null}
    <Stack gap={2}>
      {artifacts.map((artifact) => (
        <ArtifactPanel artifact={artifact} isOpen={side === "outputs" && artifacts.length === 1} key={artifact.argument} side={side} stepKey={stepKey} />
      ))}
    </Stack>
  </Section>
);

const Values = ({ title, values }: { readonly title: string; readonly values: Readonly<Record<string, unknown>> }) =>
  Object.keys(values).length === 0 ? null : (
    <Section title={title}>
      <Facts facts={Object.entries(values).map(([name, value]) => [name, <Value key={name} value={value} />])} />
    </Section>
  );

/** A resource's unit is the end of its name. */
const resource = (name: string, value: number) => {
  if (name.endsWith("_bytes")) return [name.slice(0, -"_bytes".length), formatBytes(value)] as const;
  if (name.endsWith("_seconds")) return [name.slice(0, -"_seconds".length), formatSeconds(value)] as const;
  return [name, formatNumber(value)] as const;
};

const Resources = ({ resources }: { readonly resources: StepPage["resources"] }) =>
  Object.keys(resources).length === 0 ? null : (
    <Section title="Resources">
      <Facts
        facts={Object.entries(resources).map(([name, value]) => {
          const [word, text] = resource(name, value);
          return [word.replaceAll("_", " "), text];
        })}
      />
    </Section>
  );

const Runs = ({ title, runs, reader }: { readonly title: string; readonly runs: readonly RunKey[]; readonly reader: RunKey }) =>
  runs.length === 0 ? null : (
    <Section title={title}>
      <ul>
        {[...Map.groupBy(runs, ({ dag_id, run_id, task_id }) => JSON.stringify([dag_id, run_id, task_id]))].map(([key, [run, ...others]]) =>
          run === undefined ? null : (
            <li key={key}>
              {others.length === 0 ? (
                <RunLink dagId={reader.dag_id} run={run} runId={reader.run_id} />
              ) : (
                <Link to={mappedPage(run.dag_id, run.run_id, run.task_id)}>
                  {run.task_id} × {formatNumber(others.length + 1)}
                </Link>
              )}
            </li>
          ),
        )}
      </ul>
    </Section>
  );

const NOT_RUN: Record<string, string> = {
  UPSTREAM_FAILED: "A task before it failed. The graph of the DAG run shows which.",
  SKIPPED: "Airflow skipped it.",
  REMOVED: "It is not in the DAG any more.",
};

const Unrecorded = ({ step: { live, state } }: { readonly step: StepPage }) => {
  if (live) return <Empty title="This step has not ended yet">What it read and made appears here when it ends.</Empty>;
  const reason = NOT_RUN[state];
  if (reason !== undefined) return <Empty title="This task did not run">{reason}</Empty>;
  if (state === "FAILED") {
    return (
      <Empty title="No record of this task">
        It is not an ML step, or it failed before its step ended, as when its process is killed. Its log says more.
      </Empty>
    );
  }
  return (
    <Empty title="No record of this task">
      It is not an ML step, or it has not run. Tasks made with <code>@ml_step</code> show here what they read and made.
    </Empty>
  );
};

export const Step = ({ step }: { readonly step: StepPage }) => (
  <Stack gap={6}>
    <Stack gap={2}>
      <Title step={step} />
      <Header step={step} />
    </Stack>
    {step.recorded ? (
      <div className="zen-columns">
        <Stack gap={6} minW={0}>
          <Artifacts artifacts={step.outputs} side="outputs" stepKey={step.key} title="Outputs" />
          <Artifacts artifacts={step.inputs} side="inputs" stepKey={step.key} title="Inputs" />
        </Stack>
        <Stack gap={6} minW={0}>
          <Why step={step} />
          <Values title="Parameters" values={step.parameters} />
          <Values title="Selected" values={step.selected} />
          <Values title="Metrics" values={Object.fromEntries(Object.entries(step.metrics).filter(([name]) => !isSystemMetric(name)))} />
          {Object.entries(step.metadata).map(([subject, values]) => (
            <Values key={subject} title={`Metadata ${subject.replace(":", " ")}`.trim()} values={values} />
          ))}
          <Resources resources={step.resources} />
          <Runs reader={step.key} runs={step.producers} title="Made from" />
          <Runs reader={step.key} runs={step.consumers} title="Read by" />
          {step.source === "" ? null : (
            <Section title="Source">
              <details>
                <summary>The function as it ran</summary>
                <pre className="zen-pre">{step.source}</pre>
              </details>
            </Section>
          )}
        </Stack>
      </div>
    ) : (
      <Unrecorded step={step} />
    )}
  </Stack>
);

/** Read the page of a step, in the try that the address names. */
export const useStep = (dagId: string, runId: string, taskId: string, mapIndex: string) => {
  const [query] = useQuery();
  const path = route(["dags", dagId, "step"], {
    run_id: runId,
    task_id: taskId,
    map_index: mapIndex === "" ? -1 : mapIndex,
    try_number: query("try") || undefined,
  });
  return useApi<StepPage>(path, ({ live }) => (live ? POLL_MILLISECONDS : undefined));
};

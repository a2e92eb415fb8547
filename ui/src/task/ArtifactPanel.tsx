// An input or output of a step: a line of facts, and the artifact in full once it is opened.
import { Badge, HStack, Text } from "@chakra-ui/react";
import { useState } from "react";

import type { ArtifactFacts, ArtifactPage, RunKey } from "../shared/answers";
import { route, useApi } from "../shared/api";
import { ArtifactView } from "../shared/ArtifactView";
import { formatBytes, formatShape, typeName } from "../shared/format";
import { RunLink } from "../shared/links";
import { Show } from "../shared/states";

interface Props {
  readonly artifact: ArtifactFacts;
  readonly side: "inputs" | "outputs";
  readonly stepKey: RunKey;
  readonly isOpen: boolean;
}

const Content = ({ artifact, side, stepKey }: Omit<Props, "isOpen">) => {
  const { dag_id, run_id, task_id, map_index, try_number } = stepKey;
  const query = { run_id, task_id, map_index, try_number, side, argument: artifact.argument };
  const answer = useApi<ArtifactPage>(route(["dags", dag_id, "artifact"], query));
  return (
    <Show answer={answer} what="the artifact">
      {(page) => <ArtifactView page={page} />}
    </Show>
  );
};

export const ArtifactPanel = ({ artifact, side, stepKey, isOpen }: Props) => {
  const [open, setOpen] = useState(isOpen);
  return (
    <details className="zen-panel" onToggle={({ currentTarget }) => setOpen(currentTarget.open)} open={open}>
      <summary>
        <strong>{artifact.argument || artifact.name}</strong>{" "}
        <span className="zen-muted">
          {formatShape(artifact.shape) || typeName(artifact.type)} · {formatBytes(artifact.size)}
        </span>{" "}
        {artifact.is_model ? <Badge colorPalette="purple">model</Badge> : null}
        {artifact.is_new_version ? <Badge>new version</Badge> : null}
      </summary>
      <div className="zen-panel-body">
        <HStack gap={4} mb={3} wrap="wrap">
          {artifact.name === "" ? null : <span className="zen-mono">{artifact.name}</span>}
          {artifact.producer === null || side === "outputs" ? null : (
            <span>
              made by <RunLink dagId={stepKey.dag_id} run={artifact.producer} runId={stepKey.run_id} />
            </span>
          )}
        </HStack>
        {!artifact.is_readable ? <Text color="fg.muted">You may not read this artifact: another DAG made it.</Text> : null}
        {open && artifact.is_readable ? <Content artifact={artifact} side={side} stepKey={stepKey} /> : null}
      </div>
    </details>
  );
};

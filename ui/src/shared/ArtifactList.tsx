import { Badge } from "@chakra-ui/react";

import type { ArtifactFacts } from "./answers";
import { formatBytes, formatShape, typeName } from "./format";
import { RunLink } from "./links";

const ArtifactName = ({ artifact, dagId }: { readonly artifact: ArtifactFacts; readonly dagId: string }) => {
  const name = artifact.name.replace(`${dagId}/`, "") || artifact.argument;
  return artifact.producer === null ? <>{name}</> : <RunLink run={artifact.producer}>{name}</RunLink>;
};

/** Name artifacts in a table's cell: the argument or output, and what it is. */
export const ArtifactList = ({ artifacts, dagId }: { readonly artifacts: readonly ArtifactFacts[]; readonly dagId: string }) => (
  <ul>
    {artifacts.map((artifact) => (
      <li key={artifact.argument}>
        <ArtifactName artifact={artifact} dagId={dagId} />{" "}
        <span className="zen-muted">
          {formatShape(artifact.shape) || typeName(artifact.type)} · {formatBytes(artifact.size)}
        </span>{" "}
        {artifact.is_new_version ? <Badge size="xs">new version</Badge> : null}
      </li>
    ))}
  </ul>
);

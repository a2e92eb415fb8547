import { Badge } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import type { ArtifactFacts } from "./answers";
import { formatBytes } from "./format";
import { cataloguePage } from "./links";

/** Name artifacts in a table's cell: the argument or output, and what it is. */
export const ArtifactList = ({ artifacts, dagId }: { readonly artifacts: readonly ArtifactFacts[]; readonly dagId: string }) => (
  <ul>
    {artifacts.map((artifact) => (
      <li key={artifact.argument}>
        <Link to={cataloguePage(artifact.name, artifact.version)}>{artifact.name.replace(`${dagId}/`, "") || artifact.argument}</Link>{" "}
        <span className="zen-muted">
          {artifact.shape || artifact.type} · {formatBytes(artifact.size)}
        </span>{" "}
        {artifact.is_new_version ? <Badge size="xs">new version</Badge> : null}
      </li>
    ))}
  </ul>
);

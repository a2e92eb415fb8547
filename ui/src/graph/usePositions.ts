import { useEffect, useRef, useState } from "react";

import type { GraphEdge, GraphNode } from "../shared/answers";
import { sizeOf } from "./cards";
import { layOut, type Positions } from "./layout";

// A page that is mounted again need not lay out its graph again.
let last: { readonly shape: string; readonly positions: Positions } | undefined;

/** Return where the nodes are drawn; the graph is laid out again only when its nodes or edges are others. */
export const usePositions = (nodes: readonly GraphNode[], edges: readonly GraphEdge[]) => {
  const [, setDone] = useState(0);
  const [error, setError] = useState<string>();
  const shape = JSON.stringify([nodes.map(({ id }) => id), edges.map(({ source, target }) => [source, target])]);
  const latest = useRef<Positions>(undefined);
  if (last?.shape === shape) latest.current = last.positions;
  useEffect(() => {
    if (last?.shape === shape) return undefined;
    const abort = new AbortController();
    const request = {
      nodes: nodes.map((node) => ({ id: node.id, ...sizeOf(node) })),
      edges: edges.map(({ source, target }) => [source, target] as const),
    };
    layOut(request, abort.signal).then(
      (positions) => {
        last = { shape, positions };
        setDone((count) => count + 1);
      },
      (problem: Error) => {
        if (!abort.signal.aborted) setError(`The graph could not be laid out: ${problem.message}`);
      },
    );
    return () => abort.abort();
  }, [shape]);
  return { positions: latest.current, error };
};

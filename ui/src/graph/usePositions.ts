import { useEffect, useRef, useState } from "react";

import type { GraphEdge, GraphNode } from "../shared/answers";
import { sizeOf } from "./cards";
import { layOut, type Positions } from "./layout";

// A page that is mounted again need not lay out its graph again.
let last: { readonly shape: string; readonly positions: Positions } | undefined;

/** Return where the nodes are drawn; the graph is laid out again only when its nodes or edges are others. */
export const usePositions = (nodes: readonly GraphNode[], edges: readonly GraphEdge[]) => {
  const [problem, setProblem] = useState<{ readonly shape: string; readonly text: string }>();
  const [, setDone] = useState<Positions>();
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
        setDone(positions);
      },
      ({ message }: Error) => {
        if (!abort.signal.aborted) setProblem({ shape, text: `The graph could not be laid out: ${message}` });
      },
    );
    return () => abort.abort();
  }, [shape]);
  return { positions: latest.current, error: problem?.shape === shape ? problem.text : undefined };
};

import { graphlib, layout } from "@dagrejs/dagre";

import type { LayoutRequest, Positions } from "./layout";

const layOut = ({ nodes, edges }: LayoutRequest): Positions => {
  const graph = new graphlib.Graph();
  graph.setGraph({ rankdir: "LR", nodesep: 18, ranksep: 36, edgesep: 10 });
  graph.setDefaultEdgeLabel(() => ({}));
  for (const { id, width, height } of nodes) graph.setNode(id, { width, height });
  for (const [source, target] of edges) graph.setEdge(source, target);
  layout(graph);
  return Object.fromEntries(
    nodes.map(({ id, width, height }) => {
      const { x, y } = graph.node(id) as { x: number; y: number };
      return [id, { x: x - width / 2, y: y - height / 2 }];
    }),
  );
};

self.onmessage = ({ data }: MessageEvent<LayoutRequest>) => self.postMessage(layOut(data));

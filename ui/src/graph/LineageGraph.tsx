// The lineage graph: pan, zoom, search, and one node followed up and down.
import { Box, Button, HStack, Input, Text } from "@chakra-ui/react";
import {
  Background,
  BackgroundVariant,
  Controls,
  type Edge,
  MarkerType,
  MiniMap,
  type Node,
  ReactFlow,
  ReactFlowProvider,
  useReactFlow,
} from "@xyflow/react";
import { useEffect, useMemo, useRef, useState } from "react";

import type { GraphEdge, GraphNode } from "../shared/answers";
import { formatNumber } from "../shared/format";
import { statePalette } from "../shared/State";
import { useColorMode } from "../shared/theme";
import { useQuery } from "../shared/useQuery";
import { relatives } from "./follow";
import { ArtifactCard, type CardNode, detailOf, sizeOf, StepCard } from "./cards";
import { Details } from "./Details";
import { nextNode } from "./keys";
import { usePositions } from "./usePositions";

interface Props {
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  /** Show the instances of a folded step, or fold them again; absent where nothing unfolds. */
  readonly onExpand?: ((taskId: string) => void) | undefined;
  /** The tasks whose instances are shown. */
  readonly expanded?: readonly string[];
  readonly dagId: string;
  readonly runId: string;
}

// React Flow's own text speaks of moving nodes, which stay where they are here.
const KEYS = {
  "node.a11yDescription.default":
    "Press Enter to follow this node, an arrow key to go to the next one, and Escape to show everything again.",
};
const NODE_TYPES = { step: StepCard, artifact: ArtifactCard, model: ArtifactCard };
// A graph that would be smaller than this when it is shown as a whole begins at its left end, where it can be read.
const READABLE = 0.6;
const START_ZOOM = 0.85;

const matches = (node: GraphNode, wanted: string) =>
  [node.label, node.name, node.digest, ...Object.values(node.facts)].some((text) => text.toLowerCase().includes(wanted));

/** Return the node of an id: of an instance that is folded the node of its task. */
const nodeOf = (id: string, nodes: readonly GraphNode[]) =>
  nodes.find((node) => node.id === id) ?? nodes.find((node) => node.id === id.replace(/^step:(.+):\d+$/, "steps:$1"));

const cardColor = (node: Node) => {
  const { node: shown } = node.data as CardNode["data"];
  return shown.kind === "step"
    ? `var(--chakra-colors-${statePalette(shown.state)}-solid)`
    : "var(--zen-line)";
};

const lineOf = (edge: GraphEdge, near: ReadonlySet<string> | undefined): Edge => {
  const isNear = near !== undefined && near.has(edge.source) && near.has(edge.target);
  const color = isNear ? "var(--chakra-colors-brand-solid)" : "var(--zen-line)";
  return {
    id: `${edge.source}→${edge.target}:${edge.label}`,
    source: edge.source,
    target: edge.target,
    focusable: false,
    markerEnd: { type: MarkerType.ArrowClosed, color },
    style: {
      stroke: color,
      strokeWidth: isNear ? 2 : 1.25,
      opacity: near === undefined || isNear ? 1 : 0.25,
      ...(edge.kind === "order" ? { strokeDasharray: "5 4" } : {}),
    },
  };
};

const Canvas = ({ nodes, edges, onExpand, expanded = [], dagId, runId }: Props) => {
  const colorMode = useColorMode();
  const flow = useReactFlow();
  const [query, setQuery] = useQuery();
  const canvas = useRef<HTMLDivElement>(null);
  const [search, setSearch] = useState("");
  const [hit, setHit] = useState(0);
  const { positions, error } = usePositions(nodes, edges);
  const chosen = nodeOf(query("node"), nodes);
  const chosenId = chosen?.id;
  const wanted = search.trim().toLowerCase();

  const near = useMemo(() => (chosen === undefined ? undefined : relatives(chosen.id, edges)), [chosen, edges]);
  const hits = useMemo(() => (wanted === "" ? [] : nodes.filter((node) => matches(node, wanted))), [nodes, wanted]);
  const found = useMemo(() => new Set(hits.map(({ id }) => id)), [hits]);

  const choose = (id: string) => setQuery({ node: id });
  const center = (id: string) => {
    const at = positions?.[id];
    const node = nodes.find((each) => each.id === id);
    if (at === undefined || node === undefined) return Promise.resolve(false);
    const { width, height } = sizeOf(node);
    return flow.setCenter(at.x + width / 2, at.y + height / 2, { zoom: Math.max(flow.getZoom(), 0.8), duration: 250 });
  };
  /** A node out of sight is drawn, and so can have the focus, only after the graph has moved. */
  const focus = async (id: string) => {
    await center(id);
    canvas.current?.querySelector<HTMLElement>(`.react-flow__node[data-id="${CSS.escape(id)}"]`)?.focus({ preventScroll: true });
  };
  const goTo = (id: string) => {
    choose(id);
    void center(id);
  };
  const showAll = () => {
    choose("");
    // What had the focus may be gone.
    if (chosen !== undefined) void focus(chosen.id);
  };
  const nextHit = () => {
    const node = hits[hit % hits.length];
    if (node === undefined) return;
    goTo(node.id);
    setHit(hit + 1);
  };

  const cards = useMemo<CardNode[]>(
    () =>
      positions === undefined
        ? []
        : nodes
            .filter(({ id }) => id in positions)
            .map((node) => ({
              id: node.id,
              type: node.kind,
              position: positions[node.id] ?? { x: 0, y: 0 },
              ...sizeOf(node),
              data: { node, dimmed: near !== undefined && !near.has(node.id), found: found.has(node.id) },
              selected: node.id === chosenId,
              draggable: false,
              connectable: false,
              ariaLabel: `${node.kind} ${node.label}, ${detailOf(node)}`,
            })),
    [nodes, positions, near, found, chosenId],
  );
  const lines = useMemo(() => edges.map((edge) => lineOf(edge, near)), [edges, near]);

  const showStart = () => {
    const points = Object.values(positions ?? {});
    if (points.length === 0) return;
    void flow.fitView({ padding: 0.08, maxZoom: 1.1 }).then(() => {
      if (flow.getZoom() >= READABLE) return;
      const first = points.reduce((a, b) => (b.x < a.x ? b : a));
      const middle = (canvas.current?.clientHeight ?? 0) / 2;
      void flow.setViewport({ x: 24 - first.x * START_ZOOM, y: middle - (first.y + 28) * START_ZOOM, zoom: START_ZOOM });
    });
  };
  const isLaidOut = positions !== undefined;
  useEffect(() => {
    if (!isLaidOut) return;
    if (chosenId !== undefined) void center(chosenId);
    else showStart();
    // Once, when the first layout is there: later ones leave the reader where they are.
  }, [isLaidOut]);

  return (
    <div className="zen-graph">
      <HStack className="zen-graph-bar" gap={2} p={2} wrap="wrap">
        <Input
          aria-label="Search the graph"
          maxW="20rem"
          onChange={({ target }) => {
            setSearch(target.value);
            setHit(0);
          }}
          onKeyDown={({ key }) => {
            if (key === "Enter") nextHit();
            if (key === "Escape") setSearch("");
          }}
          placeholder="Search steps, artifacts, facts"
          size="sm"
          type="search"
          value={search}
        />
        <Text aria-live="polite" color="fg.muted" fontSize="sm">
          {wanted === "" ? `${formatNumber(nodes.length)} nodes` : `${formatNumber(hits.length)} found`}
        </Text>
        {hits.length > 0 ? (
          <Button onClick={nextHit} size="xs" variant="outline">
            Go to {hits.length > 1 ? "next" : "it"}
          </Button>
        ) : null}
        {chosen === undefined ? null : (
          <Button onClick={showAll} size="xs" variant="outline">
            Show all
          </Button>
        )}
      </HStack>
      <Box className="zen-graph-body" onKeyDown={({ key }) => key === "Escape" && showAll()}>
        <div
          className="zen-graph-canvas"
          onKeyDown={(event) => {
            const { key, target } = event;
            const id = (target as Element).closest(".react-flow__node")?.getAttribute("data-id");
            if (typeof id !== "string") return;
            if (key === "Enter" || key === " ") choose(id);
            const next = nextNode(id, key, edges, positions ?? {});
            if (key === " " || key.startsWith("Arrow")) event.preventDefault();
            if (next !== undefined) void focus(next);
          }}
          ref={canvas}
        >
          {error === undefined ? null : <Text p={4} role="alert">{error}</Text>}
          {isLaidOut || error !== undefined ? null : <Text color="fg.muted" p={4} role="status">Drawing…</Text>}
          <ReactFlow
            ariaLabelConfig={KEYS}
            colorMode={colorMode}
            edges={lines}
            edgesFocusable={false}
            maxZoom={2}
            minZoom={0.05}
            nodes={cards}
            nodesConnectable={false}
            nodesDraggable={false}
            nodeTypes={NODE_TYPES}
            onlyRenderVisibleElements={nodes.length > 100}
            onNodeClick={(_, { id }) => choose(id)}
            onPaneClick={() => choose("")}
            proOptions={{ hideAttribution: true }}
          >
            <Background gap={20} variant={BackgroundVariant.Dots} />
            <Controls fitViewOptions={{ padding: 0.08, maxZoom: 1.1 }} showInteractive={false} />
            {nodes.length > 40 ? <MiniMap ariaLabel="Overview of the graph" nodeColor={cardColor} pannable zoomable /> : null}
          </ReactFlow>
        </div>
        {chosen === undefined ? null : (
          <Details
            dagId={dagId}
            edges={edges}
            isExpanded={expanded.includes(chosen.task_id)}
            node={chosen}
            nodes={nodes}
            onChoose={goTo}
            onExpand={onExpand}
            runId={runId}
          />
        )}
      </Box>
    </div>
  );
};

export const LineageGraph = (props: Props) => (
  <ReactFlowProvider>
    <Canvas {...props} />
  </ReactFlowProvider>
);

// How a step and an artifact look in the graph.
import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";

import type { GraphNode } from "../shared/answers";
import { className, formatBytes, formatNumber, formatSeconds, formatShape } from "../shared/format";
import { statePalette, stateWord } from "../shared/State";

export type CardNode = Node<{ readonly node: GraphNode; readonly dimmed: boolean; readonly found: boolean }>;

const SIZES = { step: { width: 190, height: 54 }, artifact: { width: 176, height: 46 } };

export const sizeOf = ({ kind }: GraphNode) => (kind === "step" ? SIZES.step : SIZES.artifact);

const classes = ({ data, selected }: NodeProps<CardNode>, kind: string) =>
  ["zen-card", kind, data.dimmed && "dimmed", data.found && "found", selected && "chosen", data.node.count > 1 && "folded"]
    .filter(Boolean)
    .join(" ");

const Ends = () => (
  <>
    <Handle isConnectable={false} position={Position.Left} type="target" />
    <Handle isConnectable={false} position={Position.Right} type="source" />
  </>
);

export const StepCard = (props: NodeProps<CardNode>) => {
  const { node, dimmed } = props.data;
  const palette = statePalette(node.state);
  return (
    <div
      className={classes(props, "zen-step")}
      style={dimmed ? {} : { borderInlineStartColor: `var(--chakra-colors-${palette}-solid)` }}
      title={node.label}
    >
      <Ends />
      <div className="zen-card-title">{node.label}</div>
      <div className="zen-card-detail">
        <span
          className="zen-state"
          style={dimmed ? {} : { background: `var(--chakra-colors-${palette}-subtle)`, color: `var(--chakra-colors-${palette}-fg)` }}
        >
          {stateWord(node.state)}
        </span>
        <span className="zen-rest">{stepDetail(node)}</span>
      </div>
    </div>
  );
};

const joined = (parts: readonly string[]) => parts.filter((part) => part !== "").join(" · ");

/** Return how many instances are in each state; of one, its time, and its DAG where there are several. */
const stepDetail = ({ detail, seconds, states }: GraphNode) => {
  const counted = Object.entries(states);
  if (counted.length === 0) return joined([seconds === null ? "" : formatSeconds(seconds), detail]);
  if (counted.length === 1) return detail;
  return joined([counted.map(([state, count]) => `${formatNumber(count)} ${stateWord(state)}`).join(" · "), detail]);
};

/** Return what an artifact is and how its digest begins; of several their size. */
const artifactDetail = ({ count, digest, facts, size }: GraphNode) => {
  if (count > 1) return size === null ? "" : formatBytes(size);
  const shape = formatShape(facts["shape"] ?? "").replace(/ (rows|columns)\b/g, "");
  return joined([shape || className(facts["type"] ?? ""), digest.slice(0, 8)]);
};

/** Return what the graph says of a node below its name. */
export const detailOf = (node: GraphNode) =>
  node.kind === "step" ? joined([node.count > 1 ? "" : stateWord(node.state), stepDetail(node)]) : artifactDetail(node);

export const ArtifactCard = (props: NodeProps<CardNode>) => {
  const { node } = props.data;
  // Of another DAG's artifact, both its DAG and its name have to be readable.
  const [name = node.label, ...dag] = node.label.split("/").reverse();
  return (
    <div className={classes(props, node.kind === "model" ? "zen-artifact zen-model" : "zen-artifact")} title={node.label}>
      <Ends />
      <div className="zen-card-title">
        <span aria-hidden className="zen-kind">
          {node.kind === "model" ? "◆" : "▤"}
        </span>
        {name}
      </div>
      <div className="zen-card-detail">
        <span className="zen-rest">{joined([...dag, artifactDetail(node)])}</span>
      </div>
    </div>
  );
};

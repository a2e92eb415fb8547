// How a step and an artifact look in the graph.
import { Handle, type Node, type NodeProps, Position } from "@xyflow/react";

import type { GraphNode } from "../shared/answers";
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
  const { node } = props.data;
  const palette = statePalette(node.state);
  return (
    <div
      className={classes(props, "zen-step")}
      style={{ borderInlineStartColor: `var(--chakra-colors-${palette}-solid)` }}
      title={node.label}
    >
      <Ends />
      <div className="zen-card-title">{node.label}</div>
      <div className="zen-card-detail">
        <span
          className="zen-state"
          style={{ background: `var(--chakra-colors-${palette}-subtle)`, color: `var(--chakra-colors-${palette}-fg)` }}
        >
          {stateWord(node.state)}
        </span>
        <span className="zen-rest">{detailWithoutState(node)}</span>
      </div>
    </div>
  );
};

/** The server's detail begins with the state, which has a mark of its own here. */
const detailWithoutState = ({ detail, count }: GraphNode) =>
  count > 1 ? detail : detail.replace(/^[^·]*(·\s*|$)/, "");

export const ArtifactCard = (props: NodeProps<CardNode>) => {
  const { node } = props.data;
  return (
    <div className={classes(props, node.kind === "model" ? "zen-artifact zen-model" : "zen-artifact")} title={node.label}>
      <Ends />
      <div className="zen-card-title">
        <span aria-hidden className="zen-kind">
          {node.kind === "model" ? "◆" : "▤"}
        </span>
        {node.label}
      </div>
      <div className="zen-card-detail">
        <span className="zen-rest">{node.detail}</span>
      </div>
    </div>
  );
};

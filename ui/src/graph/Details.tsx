// What is known of the chosen node, beside the graph.
import { Box, Button, Heading, Stack, Text } from "@chakra-ui/react";
import { Link } from "react-router-dom";

import type { GraphEdge, GraphNode } from "../shared/answers";
import { formatBytes, formatSeconds, formatShape } from "../shared/format";
import { External, mappedPage, OriginLink, stepPage } from "../shared/links";
import { States } from "../shared/State";
import { detailOf } from "./cards";

interface Props {
  readonly node: GraphNode;
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  readonly onChoose: (id: string) => void;
  readonly onExpand?: ((taskId: string) => void) | undefined;
  readonly isExpanded: boolean;
  readonly dagId: string;
  readonly runId: string;
}

const Neighbors = ({
  title,
  ends,
  nodes,
  onChoose,
}: {
  readonly title: string;
  readonly ends: readonly (readonly [id: string, label: string])[];
  readonly nodes: readonly GraphNode[];
  readonly onChoose: (id: string) => void;
}) =>
  ends.length === 0 ? null : (
    <Box>
      <Heading as="h3" size="xs">
        {title}
      </Heading>
      <ul>
        {ends.map(([id, label]) => {
          const end = nodes.find((node) => node.id === id);
          // Of several as one node, the label is that of the first.
          return (
            <li key={`${id}:${label}`}>
              <button className="zen-link" onClick={() => onChoose(id)} type="button">
                {end?.label ?? id}
              </button>{" "}
              <span className="zen-muted">{label === "" || (end?.count ?? 1) > 1 ? "" : `as ${label}`}</span>
            </li>
          );
        })}
      </ul>
    </Box>
  );

const PageLink = ({ node, dagId, runId }: Pick<Props, "node" | "dagId" | "runId">) => {
  if (node.kind !== "step" || node.task_id === "") return null;
  // A graph over several DAGs says of each step whose it is.
  const [dag, run] = [node.facts["dag"] ?? dagId, node.facts["run"] ?? runId];
  return node.count > 1 ? (
    <Link to={mappedPage(dag, run, node.task_id)}>Open all instances</Link>
  ) : (
    <Link to={stepPage(dag, run, node.task_id, node.map_index)}>Open inputs and outputs</Link>
  );
};

/** Return the facts of a node, in words of the reader's language where they are numbers. */
const factsOf = ({ count, facts, seconds, size }: GraphNode): readonly (readonly [name: string, text: string])[] => [
  ...Object.entries(facts).map(([name, text]) => [name, name === "shape" ? formatShape(text) : text] as const),
  ...(seconds === null ? [] : [["time", formatSeconds(seconds) + (count > 1 ? " in all" : "")] as const]),
  ...(size === null ? [] : [["size", formatBytes(size) + (count > 1 ? " in all" : "")] as const]),
];

const SHOWN_ABOVE = new Set(["state", "task"]);

export const Details = ({ node, nodes, edges, onChoose, onExpand, isExpanded, dagId, runId }: Props) => {
  const isStep = node.kind === "step";
  const before = edges.filter(({ target }) => target === node.id).map(({ source, label }) => [source, label] as const);
  const after = edges.filter(({ source }) => source === node.id).map(({ target, label }) => [target, label] as const);
  return (
    <Box aria-label={`About ${node.label}`} as="aside" className="zen-graph-details">
      <Stack gap={3}>
        <Box>
          <Heading as="h2" overflowWrap="anywhere" size="sm">
            {node.label}
          </Heading>
          {isStep ? <States state={node.state} states={node.states} /> : <Text color="fg.muted">{detailOf(node)}</Text>}
        </Box>
        <PageLink dagId={dagId} node={node} runId={runId} />
        {(node.can_expand || isExpanded) && onExpand !== undefined ? (
          <Button alignSelf="start" onClick={() => onExpand(node.task_id)} size="xs" variant="outline">
            {node.can_expand ? "Show each instance" : "Fold the instances"}
          </Button>
        ) : null}
        <Neighbors ends={before} nodes={nodes} onChoose={onChoose} title={isStep ? "Reads" : "Made by"} />
        <Neighbors ends={after} nodes={nodes} onChoose={onChoose} title={isStep ? "Makes" : "Read by"} />
        <dl className="zen-facts">
          {factsOf(node).filter(([name]) => !SHOWN_ABOVE.has(name)).map(([name, text]) => (
            <div key={name} style={{ display: "contents" }}>
              <dt>{name}</dt>
              <dd>
                {name === "log" ? (
                  <External url={text}>log of the step</External>
                ) : name === "made by" ? (
                  <OriginLink dagId={dagId} origin={text} />
                ) : (
                  text
                )}
              </dd>
            </div>
          ))}
        </dl>
        {node.url === "" ? null : <External url={node.url}>Open in MLflow</External>}
      </Stack>
    </Box>
  );
};

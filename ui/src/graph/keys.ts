import type { GraphEdge } from "../shared/answers";
import type { Positions } from "./layout";

const highest = (ids: readonly string[], positions: Positions) =>
  ids.toSorted((a, b) => (positions[a]?.y ?? 0) - (positions[b]?.y ?? 0))[0];

/** Return the node of the same column above (-1) or below (1). */
const inColumn = (id: string, positions: Positions, direction: 1 | -1) => {
  const at = positions[id];
  if (at === undefined) return undefined;
  const distance = (other: string) => ((positions[other]?.y ?? 0) - at.y) * direction;
  // Steps and artifacts of one column differ in width, and so a little in where they begin.
  const near = Object.keys(positions).filter((other) => Math.abs((positions[other]?.x ?? 0) - at.x) < 40 && distance(other) > 0);
  return near.toSorted((a, b) => distance(a) - distance(b))[0];
};

/** Return the node to which an arrow key leads: along an edge, or to the next one of the column; undefined without one. */
export const nextNode = (id: string, key: string, edges: readonly GraphEdge[], positions: Positions) => {
  if (key === "ArrowRight") return highest(edges.filter(({ source }) => source === id).map(({ target }) => target), positions);
  if (key === "ArrowLeft") return highest(edges.filter(({ target }) => target === id).map(({ source }) => source), positions);
  if (key === "ArrowDown") return inColumn(id, positions, 1);
  return key === "ArrowUp" ? inColumn(id, positions, -1) : undefined;
};

import type { GraphEdge } from "../shared/answers";

const reach = (start: string, next: ReadonlyMap<string, readonly string[]>) => {
  const found = new Set([start]);
  // A set's iteration includes what is added during it.
  for (const node of found) for (const other of next.get(node) ?? []) found.add(other);
  return found;
};

/** Return the ids of a node, of all that it was made from, and of all that was made from it. */
export const relatives = (node: string, edges: readonly GraphEdge[]): ReadonlySet<string> => {
  const after = Map.groupBy(edges, ({ source }) => source);
  const before = Map.groupBy(edges, ({ target }) => target);
  const targets = new Map([...after].map(([id, found]) => [id, found.map(({ target }) => target)]));
  const sources = new Map([...before].map(([id, found]) => [id, found.map(({ source }) => source)]));
  return new Set([...reach(node, targets), ...reach(node, sources)]);
};

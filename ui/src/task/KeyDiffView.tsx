// The ingredients of the cache key that differ from those of the most similar earlier result.
import { Box, Heading, Stack, Text } from "@chakra-ui/react";

import type { KeyChange, KeyDiff } from "../shared/answers";
import { RunLink } from "../shared/links";

const kindOf = (line: string) => {
  if (line.startsWith("@@") || line.startsWith("---") || line.startsWith("+++")) return "zen-diff-place";
  return line.startsWith("+") ? "zen-diff-added" : line.startsWith("-") ? "zen-diff-removed" : "";
};

const Change = ({ change }: { readonly change: KeyChange }) => (
  <Box>
    <Heading as="h4" size="xs">
      {change.label}
    </Heading>
    {change.diff.length > 0 ? (
      <pre aria-label={`Difference of ${change.label}`} className="zen-pre" tabIndex={0}>
        {change.diff.map((line, number) => (
          <span className={kindOf(line)} key={number}>
            {line}
            {"\n"}
          </span>
        ))}
      </pre>
    ) : (
      <div className="zen-mono zen-text">
        <del className="zen-diff-removed">{change.before || "absent"}</del> → <ins className="zen-diff-added">{change.after || "absent"}</ins>
      </div>
    )}
  </Box>
);

export const KeyDiffView = ({ diff }: { readonly diff: KeyDiff }) => (
  <Stack gap={3}>
    <Text>
      Compared with {diff.compared_with === null ? diff.compared_text : <RunLink run={diff.compared_with} />}
      {diff.changes.length === 0 ? ": no ingredient of the key differs." : ":"}
    </Text>
    {diff.changes.map((change) => (
      <Change change={change} key={change.label} />
    ))}
  </Stack>
);

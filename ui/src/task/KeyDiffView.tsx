// The ingredients of the cache key that differ from those of the most similar earlier result.
import { Box, Heading, Stack, Text } from "@chakra-ui/react";

import type { KeyChange, KeyDiff } from "../shared/answers";
import { RunLink } from "../shared/links";
import { Digest } from "../shared/Value";

const kindOf = (line: string) => {
  if (line.startsWith("@@") || line.startsWith("---") || line.startsWith("+++")) return "zen-diff-place";
  return line.startsWith("+") ? "zen-diff-added" : line.startsWith("-") ? "zen-diff-removed" : "";
};

const Side = ({ text }: { readonly text: string }) => <Digest text={text === "" ? "absent" : text} />;

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
        <del className="zen-diff-removed"><Side text={change.before} /></del> → <ins className="zen-diff-added"><Side text={change.after} /></ins>
      </div>
    )}
  </Box>
);

const Changes = ({ changes }: { readonly changes: readonly KeyChange[] }) => (
  <Stack gap={3}>
    {changes.map((change) => (
      <Change change={change} key={change.label} />
    ))}
  </Stack>
);

export const KeyDiffView = ({ diff: { compared_with, compared_text, changes } }: { readonly diff: KeyDiff }) =>
  compared_with === null && compared_text === "" ? (
    <details>
      <summary>What the cache key is made of</summary>
      <Changes changes={changes} />
    </details>
  ) : (
    <Stack gap={3}>
      <Text>
        Compared with {compared_with === null ? compared_text : <RunLink run={compared_with} />}
        {changes.length === 0 ? ": no ingredient of the key differs." : ":"}
      </Text>
      <Changes changes={changes} />
    </Stack>
  );

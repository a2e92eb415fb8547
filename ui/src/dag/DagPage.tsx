// A DAG: its artifacts over time, what a run started now would reuse, and two runs side by side.
import { Tabs } from "@chakra-ui/react";

import { useQuery } from "../shared/useQuery";
import { CompareView } from "./CompareView";
import { PlanView } from "./PlanView";
import { VersionsView } from "./VersionsView";

export const DagPage = ({ dagId }: { readonly dagId: string }) => {
  const [query, setQuery] = useQuery();
  return (
    <Tabs.Root
      lazyMount
      onValueChange={({ value }) => setQuery({ view: value })}
      size="sm"
      value={query("view") || "versions"}
    >
      <Tabs.List>
        <Tabs.Trigger value="versions">Artifacts over time</Tabs.Trigger>
        <Tabs.Trigger value="plan">Next run</Tabs.Trigger>
        <Tabs.Trigger value="compare">Compare runs</Tabs.Trigger>
      </Tabs.List>
      <Tabs.Content value="versions">
        <VersionsView dagId={dagId} />
      </Tabs.Content>
      <Tabs.Content value="plan">
        <PlanView dagId={dagId} />
      </Tabs.Content>
      <Tabs.Content value="compare">
        <CompareView dagId={dagId} />
      </Tabs.Content>
    </Tabs.Root>
  );
};

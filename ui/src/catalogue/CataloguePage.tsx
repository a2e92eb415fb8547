// The catalogue: artifacts, models, deployments and storage over all DAGs that the user may see.
import { Heading, Stack, Tabs } from "@chakra-ui/react";

import { useQuery } from "../shared/useQuery";
import { ArtifactDetails } from "./ArtifactDetails";
import { ArtifactsView } from "./ArtifactsView";
import { DeploymentsView } from "./DeploymentsView";
import { ModelsView } from "./ModelsView";
import { StorageView } from "./StorageView";

const VIEWS = [
  { key: "artifacts", title: "Artifacts", View: ArtifactsView },
  { key: "models", title: "Models", View: ModelsView },
  { key: "deployments", title: "Deployments", View: DeploymentsView },
  { key: "storage", title: "Storage", View: StorageView },
] as const;

export const CataloguePage = () => {
  const [query, setQuery] = useQuery();
  const name = query("name");
  return (
    <Stack gap={4} p={4}>
      <Heading as="h1" size="lg">
        Artifact catalogue
      </Heading>
      {name === "" ? (
        <Tabs.Root lazyMount onValueChange={({ value }) => setQuery({ view: value })} size="sm" value={query("view") || "artifacts"}>
          <Tabs.List>
            {VIEWS.map(({ key, title }) => (
              <Tabs.Trigger key={key} value={key}>
                {title}
              </Tabs.Trigger>
            ))}
          </Tabs.List>
          {VIEWS.map(({ key, View }) => (
            <Tabs.Content key={key} value={key}>
              <View />
            </Tabs.Content>
          ))}
        </Tabs.Root>
      ) : (
        <ArtifactDetails key={name} name={name} />
      )}
    </Stack>
  );
};

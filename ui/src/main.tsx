// Registers the pages: Airflow's page looks each of them up by its name in the plugin's `react_apps`.
import reactFlowStyle from "@xyflow/react/dist/style.css";
import type { ComponentType } from "react";
import uplotStyle from "uplot/dist/uPlot.min.css";

import { CataloguePage } from "./catalogue/CataloguePage";
import { DagPage } from "./dag/DagPage";
import { MappedPage } from "./mapped/MappedPage";
import { RunPage } from "./run/RunPage";
import style from "./shared/style.css";
import { TaskPage } from "./task/TaskPage";

const element = document.createElement("style");
element.textContent = reactFlowStyle + uplotStyle + style;
document.head.append(element);

interface PageProps {
  readonly dagId: string;
  readonly runId: string;
  readonly taskId: string;
  readonly mapIndex?: string;
}

/** Return the component as a plain function, the only kind that Airflow takes. */
const page = (View: ComponentType<PageProps>) =>
  function ZenPage(props: PageProps) {
    return (
      <div className="zen-page">
        <View {...props} />
      </div>
    );
  };

Object.assign(globalThis, {
  Lineage: page(RunPage),
  Artifacts: page(TaskPage),
  "Mapped steps": page(MappedPage),
  "Artifact history": page(DagPage),
  "Artifact catalogue": page(CataloguePage),
});

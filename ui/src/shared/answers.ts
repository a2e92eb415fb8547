// Written by `python -m scripts.ui_types` from the models of airflow_zen/ui.

export interface Answer {
}

export interface RunKey {
  readonly dag_id: string;
  readonly run_id: string;
  readonly task_id: string;
  readonly map_index: number;
  readonly try_number: number;
}

export interface ArtifactFacts {
  readonly argument: string;
  readonly name: string;
  readonly digest: string;
  readonly type: string;
  readonly shape: string;
  readonly size: number;
  readonly encoding: string;
  readonly version: string;
  readonly is_new_version: boolean;
  readonly is_model: boolean;
  readonly is_readable: boolean;
  readonly producer: RunKey | null;
  readonly mlflow_url: string;
}

export interface GraphNode {
  readonly id: string;
  readonly kind: string;
  readonly label: string;
  readonly detail: string;
  readonly state: string;
  readonly count: number;
  readonly states: Readonly<Record<string, number>>;
  readonly facts: Readonly<Record<string, string>>;
  readonly task_id: string;
  readonly map_index: number;
  readonly name: string;
  readonly digest: string;
  readonly started: number | null;
  readonly ended: number | null;
  readonly seconds: number | null;
  readonly size: number | null;
  readonly can_expand: boolean;
  readonly url: string;
}

export interface GraphEdge {
  readonly source: string;
  readonly target: string;
  readonly label: string;
  readonly kind: string;
}

export interface StepRow {
  readonly task_id: string;
  readonly state: string;
  readonly mapped: boolean;
  readonly count: number;
  readonly states: Readonly<Record<string, number>>;
  readonly cache: string;
  readonly why: string;
  readonly error: string;
  readonly started: number | null;
  readonly ended: number | null;
  readonly seconds: number | null;
  readonly seconds_saved: number;
  readonly try_number: number;
  readonly origin: RunKey | null;
  readonly outputs: readonly ArtifactFacts[];
  readonly resources: Readonly<Record<string, number>>;
  readonly in_batches: boolean;
  readonly url: string;
}

export interface Totals {
  readonly steps: number;
  readonly reused: number;
  readonly computed: number;
  readonly failed: number;
  readonly seconds_computed: number;
  readonly seconds_saved: number;
}

export interface RunPage {
  readonly dag_id: string;
  readonly run_id: string;
  readonly state: string;
  readonly live: boolean;
  readonly started: number | null;
  readonly ended: number | null;
  readonly totals: Totals;
  readonly steps: readonly StepRow[];
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  readonly mlflow_url: string;
}

export interface Column {
  readonly name: string;
  readonly type: string;
  readonly nulls: number | null;
  readonly distinct: number | null;
  readonly min: unknown;
  readonly max: unknown;
  readonly mean: number | null;
}

export interface PreviewFile {
  readonly file: string;
  readonly kind: string;
  readonly size: number;
  readonly url: string;
}

export interface FileFacts {
  readonly path: string;
  readonly size: number;
  readonly url: string;
}

export interface ArtifactPage {
  readonly artifact: ArtifactFacts;
  readonly address: string;
  readonly rows: number | null;
  readonly columns: readonly Column[];
  readonly more_columns: number;
  readonly facts: Readonly<Record<string, unknown>>;
  readonly files: readonly FileFacts[];
  readonly more_files: number;
  readonly libraries: Readonly<Record<string, string>>;
  readonly previews: readonly PreviewFile[];
  readonly download_url: string;
}

export interface KeyChange {
  readonly label: string;
  readonly before: string;
  readonly after: string;
  readonly diff: readonly string[];
}

export interface KeyDiff {
  readonly compared_with: RunKey | null;
  readonly compared_text: string;
  readonly changes: readonly KeyChange[];
}

export interface Link {
  readonly text: string;
  readonly url: string;
  readonly external: boolean;
}

export interface StepPage {
  readonly key: RunKey;
  readonly recorded: boolean;
  readonly state: string;
  readonly live: boolean;
  readonly tries: readonly number[];
  readonly in_batches: boolean;
  readonly instance: RunKey | null;
  readonly parts: readonly StepRow[];
  readonly label: string;
  readonly cache: string;
  readonly why: string;
  readonly error: string;
  readonly origin: RunKey | null;
  readonly started: number | null;
  readonly ended: number | null;
  readonly seconds: number | null;
  readonly seconds_saved: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly selected: Readonly<Record<string, string>>;
  readonly inputs: readonly ArtifactFacts[];
  readonly outputs: readonly ArtifactFacts[];
  readonly metrics: Readonly<Record<string, number>>;
  readonly metadata: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly resources: Readonly<Record<string, number>>;
  readonly key_diff: KeyDiff | null;
  readonly producers: readonly RunKey[];
  readonly consumers: readonly RunKey[];
  readonly links: readonly Link[];
  readonly source: string;
  readonly owner: string;
  readonly code_version: string;
}

export interface MappedRow {
  readonly map_index: number;
  readonly label: string;
  readonly state: string;
  readonly cache: string;
  readonly why: string;
  readonly error: string;
  readonly started: number | null;
  readonly ended: number | null;
  readonly seconds: number | null;
  readonly seconds_saved: number;
  readonly parameters: Readonly<Record<string, unknown>>;
  readonly metrics: Readonly<Record<string, number>>;
  readonly outputs: readonly ArtifactFacts[];
}

export interface MappedPoint {
  readonly map_index: number;
  readonly state: string;
  readonly seconds: number | null;
  readonly value: number | null;
}

export interface MappedPage {
  readonly dag_id: string;
  readonly run_id: string;
  readonly task_id: string;
  readonly live: boolean;
  readonly in_batches: boolean;
  readonly total: number;
  readonly states: Readonly<Record<string, number>>;
  readonly parameter_names: readonly string[];
  readonly metric_names: readonly string[];
  readonly rows: readonly MappedRow[];
  readonly points: readonly MappedPoint[];
}

export interface PlannedRow {
  readonly task_id: string;
  readonly plan: string;
  readonly why: string;
  readonly seconds: number | null;
  readonly size: number | null;
  readonly warning: string;
}

export interface PlanPage {
  readonly dag_id: string;
  readonly steps: readonly PlannedRow[];
  readonly error: string;
}

export interface DagRunRow {
  readonly run_id: string;
  readonly ended: number;
  readonly totals: Totals;
}

export interface DagRunList {
  readonly dag_id: string;
  readonly runs: readonly DagRunRow[];
}

export interface VersionPoint {
  readonly version: string;
  readonly created: number;
  readonly digest: string;
  readonly size: number;
  readonly rows: number | null;
  readonly shape: string;
  readonly producer: RunKey | null;
  readonly changes: readonly string[];
  readonly metrics: Readonly<Record<string, number>>;
  readonly tags: readonly string[];
}

export interface VersionSeries {
  readonly name: string;
  readonly points: readonly VersionPoint[];
  readonly more: boolean;
}

export interface DagArtifacts {
  readonly dag_id: string;
  readonly series: readonly VersionSeries[];
  readonly more: boolean;
}

export interface Difference {
  readonly subject: string;
  readonly fact: string;
  readonly before: unknown;
  readonly after: unknown;
}

export interface StepComparison {
  readonly task_id: string;
  readonly map_index: number;
  readonly same_outputs: boolean;
  readonly before: StepRow | null;
  readonly after: StepRow | null;
  readonly differences: readonly Difference[];
}

export interface RunComparison {
  readonly dag_id: string;
  readonly before: DagRunRow;
  readonly after: DagRunRow;
  readonly steps: readonly StepComparison[];
}

export interface CatalogueRow {
  readonly name: string;
  readonly version: string;
  readonly created: number;
  readonly type: string;
  readonly shape: string;
  readonly size: number;
  readonly digest: string;
  readonly tags: readonly string[];
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly is_model: boolean;
  readonly producer: RunKey | null;
}

export interface CataloguePage {
  readonly total: number;
  readonly artifacts: readonly CatalogueRow[];
  readonly tags: readonly string[];
}

export interface NamedArtifactPage {
  readonly row: CatalogueRow;
  readonly page: ArtifactPage;
  readonly versions: readonly CatalogueRow[];
  readonly more: boolean;
}

export interface ArtifactComparison {
  readonly same: boolean;
  readonly before: CatalogueRow;
  readonly after: CatalogueRow;
  readonly differences: readonly Difference[];
}

export interface LineagePage {
  readonly nodes: readonly GraphNode[];
  readonly edges: readonly GraphEdge[];
  readonly hidden: number;
  readonly error: string;
}

export interface ModelVersionRow {
  readonly version: string;
  readonly created: number;
  readonly aliases: readonly string[];
  readonly metrics: Readonly<Record<string, number>>;
  readonly producer: RunKey | null;
  readonly url: string;
}

export interface ModelRow {
  readonly name: string;
  readonly description: string;
  readonly aliases: Readonly<Record<string, string>>;
  readonly versions: readonly ModelVersionRow[];
  readonly more: boolean;
  readonly url: string;
}

export interface ModelsPage {
  readonly models: readonly ModelRow[];
  readonly more: boolean;
  readonly error: string;
}

export interface DeploymentRow {
  readonly name: string;
  readonly model: string;
  readonly version: string;
  readonly state: string;
  readonly target: string;
  readonly url: string;
  readonly owner: string;
  readonly since: string;
}

export interface DeploymentsPage {
  readonly deployments: readonly DeploymentRow[];
}

export interface StorageRow {
  readonly name: string;
  readonly dag_id: string;
  readonly versions: number;
  readonly artifacts: number;
  readonly size: number;
  readonly more: boolean;
}

export interface StoragePage {
  readonly artifacts: number;
  readonly size: number;
  readonly rows: readonly StorageRow[];
  readonly more: boolean;
  readonly root: string;
}

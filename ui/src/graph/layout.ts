// Where the nodes of a lineage graph are drawn: computed by dagre in a worker, so that the page stays responsive.
import program from "worker:./layout.worker.ts";

export interface Size {
  readonly id: string;
  readonly width: number;
  readonly height: number;
}

export interface LayoutRequest {
  readonly nodes: readonly Size[];
  readonly edges: readonly (readonly [source: string, target: string])[];
}

export type Positions = Readonly<Record<string, { readonly x: number; readonly y: number }>>;

/** Lay out a graph from left to right; rejects when `signal` is aborted. */
export const layOut = (request: LayoutRequest, signal: AbortSignal) =>
  new Promise<Positions>((resolve, reject) => {
    const address = URL.createObjectURL(new Blob([program], { type: "text/javascript" }));
    const worker = new Worker(address);
    const end = () => {
      worker.terminate();
      URL.revokeObjectURL(address);
    };
    signal.addEventListener("abort", () => {
      end();
      reject(new Error("The graph changed."));
    });
    worker.onmessage = ({ data }: MessageEvent<Positions>) => {
      end();
      resolve(data);
    };
    worker.onerror = ({ message }) => {
      end();
      reject(new Error(message));
    };
    worker.postMessage(request);
  });

// Helper threads of the wasm backend. They are started before the engine is: a worker that is being started needs the one
// that started it, which may be waiting for its first result by then.

import type { Role } from "./protocol.js";
import type { Loader, Started } from "./module.js";

/** A worker as far as both platforms have it. */
export interface WorkerLike {
  postMessage(message: Role, transfer: Transferable[]): void;
  terminate(): unknown;
}

/** Starts a worker of this library; `failed` is called once if it cannot run. */
export type StartWorker = (failed: (reason: unknown) => void) => WorkerLike;

/** Threads that wait for work. */
export class Helpers {
  readonly #ready: MessagePort[] = [];
  readonly #workers: WorkerLike[] = [];

  /** How many were started. */
  get count(): number {
    return this.#ready.length;
  }

  /** Starts up to `wanted` threads; fewer when some cannot be started. */
  async start(wanted: number, { module, memory, glueUrl }: Started, startWorker: StartWorker): Promise<void> {
    const starts = Array.from(
      { length: wanted },
      () =>
        new Promise<void>((resolve) => {
          const { port1, port2 } = new MessageChannel();
          const worker = startWorker(() => resolve());
          this.#workers.push(worker);
          port1.onmessage = () => {
            this.#ready.push(port1);
            resolve();
          };
          worker.postMessage({ role: "helper", port: port2, module, memory, glue: glueUrl }, [port2]);
        }),
    );
    await Promise.all(starts);
  }

  /** Has the next thread run. */
  spawn(pointer: number): void {
    const port = this.#ready.shift();
    if (!port) throw new Error("more helper threads were asked for than there are");
    port.postMessage(pointer);
  }

  stop(): void {
    for (const worker of this.#workers) worker.terminate();
  }
}

/** The life of a helper thread: join the module, say so, and run what is sent. */
export async function help(
  { port, module, memory, glue: url }: Extract<Role, { role: "helper" }>,
  importGlue: Loader["importGlue"],
): Promise<void> {
  const glue = await importGlue(url);
  await glue.default({ module_or_path: module, memory });
  port.onmessage = ({ data }: MessageEvent<number>) => glue.run_helper?.(data);
  port.postMessage("ready");
}

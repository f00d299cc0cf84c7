// A host that is a server: the page's own, or one at an address.
import { connect, RepriseError, type Client } from "reprise";
import { modelTitle } from "../format";
import type { Host } from "./host";

/** The folder that the page is in, without a slash at its end: a reprise-server has its API there. */
export const ownServer = (): string => new URL("./", document.baseURI).href.replace(/\/$/, "");

export interface ServerAddress {
  url: string;
  key?: string;
}

/** How long a server may take to load its model before the page gives up, milliseconds. */
const PATIENCE = 120_000;

/** Whether the page came from a server that can also answer. */
export async function hasOwnServer(): Promise<boolean> {
  try {
    const response = await fetch(`${ownServer()}/health`, { headers: { accept: "application/json" }, cache: "no-store" });
    const body: unknown = await response.json();
    return typeof body === "object" && body !== null && ("status" in body || "error" in body);
  } catch {
    return false;
  }
}

/** Connects; waits while the server still loads its model, and tells of that once. */
export async function openServer(address: ServerAddress, waiting: () => void, signal: AbortSignal): Promise<Host> {
  const headers: Record<string, string> = address.key === undefined ? {} : { authorization: `Bearer ${address.key}` };
  const client = connect({ baseURL: address.url, headers });
  const until = Date.now() + PATIENCE;
  for (let told = false; ; ) {
    signal.throwIfAborted();
    try {
      return await describe(client, address);
    } catch (error) {
      const loading = error instanceof RepriseError && error.status === 503;
      if (!loading || Date.now() > until) throw error;
    }
    if (!told) waiting();
    told = true;
    await new Promise((resolve) => setTimeout(resolve, 400));
  }
}

async function describe(client: Client, { url }: ServerAddress): Promise<Host> {
  const [[model], props] = await Promise.all([client.models(), client.props()]);
  const settings = props["default_generation_settings"] as { n_ctx?: number } | undefined;
  const build = typeof props["build_info"] === "string" ? props["build_info"] : "server";
  return {
    place: "server",
    client,
    model: modelTitle(model?.id ?? "model"),
    context: settings?.n_ctx ?? 0,
    runtime: { name: "Native", reason: `${build} at ${new URL(url).host}` },
    listsSlots: props["endpoint_slots"] !== false,
    close: async () => {},
  };
}

// What is kept in this browser, and the model file that lies beside the page.
import { deleteModel, listModels } from "reprise";
import { host, state, type ModelOnServer } from "../app";
import { modelTitle } from "../format";

/** Looks at storage anew. */
export async function refreshStorage(): Promise<void> {
  const [estimate, models, images] = await Promise.all([
    navigator.storage?.estimate?.().catch(() => ({})) ?? {},
    listModels().catch(() => []),
    host()?.images?.().catch(() => []) ?? [],
  ]);
  const { usage, quota } = estimate as StorageEstimate;
  state.storage.value = {
    ...state.storage.value,
    ...(usage === undefined ? {} : { used: usage }),
    ...(quota === undefined ? {} : { quota }),
    models,
    images,
  };
}

/** Removes what is left of a download. */
export async function dropModel(url: string): Promise<void> {
  await deleteModel(url);
  await refreshStorage();
}

/** Looks for a model beside the page: a reprise-server gives its own there, and any host can have one. */
export async function findBundled(): Promise<void> {
  const address = new URL("./models/default.gguf", document.baseURI);
  try {
    const response = await fetch(address, { method: "HEAD", cache: "no-store" });
    const kind = response.headers.get("content-type") ?? "";
    const size = Number(response.headers.get("content-length"));
    // A host that answers every path with its entry page has no model.
    if (!response.ok || kind.startsWith("text/html") || !(size > 0)) return;
    state.bundled.value = describe(address, response.headers, size);
  } catch {
    // Offline: what is kept can still be chosen.
  }
}

function describe(address: URL, headers: Headers, size: number): ModelOnServer {
  const given = /filename="([^"]+)"/.exec(headers.get("content-disposition") ?? "")?.[1];
  // The same address may give another model tomorrow; the cache of models goes by addresses.
  address.searchParams.set("v", `${size}-${Date.parse(headers.get("last-modified") ?? "") || 0}`);
  return { url: address.href, name: modelTitle(given ?? "The model beside this page"), size };
}

// Asks the browser to keep the page itself, so that it opens without a connection.

/** Registers the service worker. Without one the page works, but only online. */
export async function keepShell(): Promise<void> {
  if (!import.meta.env.PROD || !("serviceWorker" in navigator)) return;
  try {
    await navigator.serviceWorker.register(new URL("./sw.js", document.baseURI), { updateViaCache: "none" });
  } catch {
    // Not a secure origin, or forbidden: nothing else depends on it.
  }
}

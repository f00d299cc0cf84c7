// How the page is built: relative addresses, so that it works in any folder, and a service worker that knows every file.
import { createHash } from "node:crypto";
import { defineConfig, type Plugin } from "vite";

/** Files that no offline page needs. */
const NOT_KEPT = /\.map$|^sw\.js$/;

/** What the service worker is told: a version, the page's files, and those of the engine's two builds. */
type Shell = Record<"files" | "threads" | "simd", string[]> & { version: string };

/** Tells the service worker which files there are; the list changes whenever one of them does. */
function shell(): Plugin {
  return {
    name: "shell",
    apply: "build",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const worker = bundle["sw.js"];
        if (worker?.type !== "chunk") throw new Error("the build has no sw.js");
        const hash = createHash("sha256");
        const shell: Shell = { version: "", files: [], threads: [], simd: [] };
        for (const name of Object.keys(bundle).filter((name) => !NOT_KEPT.test(name)).sort()) {
          const file = bundle[name];
          if (file === undefined) continue;
          hash.update(name).update(file.type === "chunk" ? file.code : file.source);
          const from = file.type === "asset" ? file.originalFileNames.join() : "";
          const builds = (["simd", "threads"] as const).filter((build) => from.includes(`wasm/${build}/`));
          for (const list of builds.length > 0 ? builds : (["files"] as const)) shell[list].push(name);
        }
        shell.version = hash.digest("hex").slice(0, 12);
        worker.code = worker.code.replace("__SHELL__", JSON.stringify(shell));
      },
    },
  };
}

/** Only an isolated page gets shared memory, and with it threads. */
const isolated = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
};

/** For `npm run dev`: where a reprise-server answers. */
const server = process.env["REPRISE_URL"] ?? "http://127.0.0.1:8080";

export default defineConfig({
  base: "./",
  plugins: [shell()],
  worker: { format: "es" },
  // The package starts a worker and loads wasm beside itself; bundling it ahead would lose both.
  optimizeDeps: { exclude: ["reprise"] },
  build: {
    target: "es2022",
    modulePreload: { polyfill: false },
    assetsInlineLimit: 0,
    rolldownOptions: {
      input: { index: "index.html", sw: "service-worker/sw.ts" },
      output: {
        entryFileNames: ({ name }) => (name === "sw" ? "sw.js" : "assets/[name]-[hash].js"),
      },
    },
  },
  server: {
    headers: isolated,
    proxy: Object.fromEntries(
      ["/v1", "/slots", "/props", "/health", "/models"].map((path) => [path, { target: server, changeOrigin: true }]),
    ),
  },
  preview: { headers: isolated },
});

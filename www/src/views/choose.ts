// Choosing a model for this browser, or a server.
import { run, serve } from "../actions/open";
import { dropModel } from "../actions/storage";
import { state } from "../app";
import { h, type Child } from "../dom";
import { bytes, count, modelTitle } from "../format";
import { DEFAULTS } from "../hosts/browser";
import { keepChoices, loadChoices } from "../remember";
import type { Trouble } from "../trouble";

export function chooser(trouble: Trouble | undefined): HTMLElement {
  const inBrowser = state.place.value === "browser";
  return h("div", { class: "chooser" }, trouble && troubled(trouble), inBrowser ? models() : server());
}

/** An error in the place of what it prevented. */
export function troubled({ title, advice, detail }: Trouble): HTMLElement {
  return h(
    "div",
    { class: "trouble", role: "alert" },
    h("p", {}, h("strong", {}, title), " ", advice),
    h("details", {}, h("summary", {}, "Details"), h("p", {}, detail)),
  );
}

function models(): Child {
  const { value: bundled } = state.bundled;
  const { models: kept } = state.storage.value;
  const { names = {} } = loadChoices();
  const notKept = bundled && !kept.some(({ url }) => url === bundled.url) ? bundled : undefined;
  return [
    h("h2", {}, "Choose a model to run here"),
    h("p", {}, "It is downloaded once and kept in this browser. What you write stays on this machine."),
    h(
      "ul",
      { class: "models" },
      kept.map(({ url, name, size, loaded, complete }) =>
        offer(
          modelTitle(names[url] ?? name),
          complete ? `${bytes(loaded)} · kept in this browser` : `${bytes(loaded)} of ${size === null ? "?" : bytes(size)} have arrived`,
          complete ? "Run" : "Resume",
          () => run({ source: url, url, name: names[url] ?? name, keep: false }),
          complete ? undefined : () => dropModel(url),
        ),
      ),
      notKept &&
        offer(notKept.name, `${bytes(notKept.size)} · ${state.ownServer.value ? "from this server" : "beside this page"}`, "Download and run", () =>
          run({ source: { url: notKept.url, size: notKept.size }, url: notKept.url, name: notKept.name, keep: false }),
        ),
    ),
    dropZone(),
    addressForm(),
    settingsForm(),
  ];
}

function offer(name: string, about: string, label: string, chosen: () => void, remove?: () => void): HTMLElement {
  return h(
    "li",
    {},
    h("div", {}, h("strong", {}, name), h("span", {}, about)),
    remove && h("button", { type: "button", class: "quiet", "aria-label": `Delete ${name}`, click: remove }, "Delete"),
    h("button", { type: "button", class: "primary", "aria-label": `${label}: ${name}`, click: chosen }, label),
  );
}

function dropZone(): HTMLElement {
  const input = h("input", { type: "file", accept: ".gguf", id: "model-file", class: "unseen" });
  input.addEventListener("change", () => {
    const file = input.files?.[0];
    if (file !== undefined) runFile(file);
  });
  return h(
    "div",
    { class: "drop" },
    input,
    h("label", { for: "model-file" }, h("strong", {}, "Drop a GGUF file"), h("span", {}, "or choose one from this machine")),
  );
}

/** Runs a file of the reader's. */
export function runFile(file: File): void {
  void run({ source: file, url: `kept:${file.name}`, name: file.name, keep: true });
}

function addressForm(): HTMLElement {
  const input = h("input", {
    id: "model-url",
    type: "url",
    required: true,
    placeholder: "https://…/model.gguf",
    autocomplete: "url",
    spellcheck: "false",
  });
  const submit = (event: Event): void => {
    event.preventDefault();
    const url = input.value.trim();
    void run({ source: url, url: new URL(url).href, name: nameOf(url), keep: false });
  };
  return h(
    "form",
    { class: "line-form", submit },
    h("label", { for: "model-url" }, "Or from an address"),
    h("div", {}, input, h("button", {}, "Download")),
  );
}

const BACKEND_NAMES = ["auto", "webgpu", "wasm"] as const;
const BACKENDS = { auto: "the faster one", webgpu: "WebGPU", wasm: "WebAssembly" } as const;
const CONTEXTS = [1024, 2048, 4096, 8192, 16384];

/** What counts for the next start. */
function settingsForm(): HTMLElement {
  const settings = { ...DEFAULTS, ...loadChoices().settings };
  const change = (): void => {
    const chosen = BACKEND_NAMES.find((name) => name === backend.value) ?? DEFAULTS.backend;
    keepChoices({ settings: { backend: chosen, context: Number(context.value) } });
  };
  const backend = h(
    "select",
    { id: "backend", change },
    BACKEND_NAMES.map((name) => h("option", { value: name, selected: name === settings.backend }, BACKENDS[name])),
  );
  const context = h(
    "select",
    { id: "context", change },
    CONTEXTS.map((tokens) => h("option", { value: tokens, selected: tokens === settings.context }, `${count(tokens)} tokens`)),
  );
  return h(
    "div",
    { class: "settings" },
    h("label", { for: "backend" }, "Runs on ", backend),
    h("label", { for: "context" }, "Context of a slot ", context),
  );
}

/** The file's name in an address. */
function nameOf(url: string): string {
  const last = new URL(url).pathname.split("/").pop() ?? "";
  try {
    return decodeURIComponent(last) || url;
  } catch {
    return last;
  }
}

function server(): Child {
  const address = h("input", {
    id: "server-url",
    type: "url",
    required: true,
    placeholder: "http://localhost:8080",
    value: loadChoices().server ?? "",
    spellcheck: "false",
  });
  const key = h("input", { id: "server-key", type: "password", autocomplete: "off" });
  const submit = (event: Event): void => {
    event.preventDefault();
    void serve({ url: address.value.trim().replace(/\/+$/, ""), ...(key.value === "" ? {} : { key: key.value }) });
  };
  const again = state.ownServer.value && h("button", { type: "button", click: () => void serve() }, "Try this server again");
  return [
    h("h2", {}, "Connect to a server"),
    h("p", {}, "Any reprise-server, or a llama-server with fewer details. It must allow this page to ask it."),
    h(
      "form",
      { class: "line-form", submit },
      h("label", { for: "server-url" }, "Address"),
      address,
      h("label", { for: "server-key" }, "API key, if it asks for one"),
      key,
      h("div", {}, h("button", { class: "primary" }, "Connect"), again),
    ),
  ];
}

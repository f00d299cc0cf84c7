// The middle of the page: the conversation, and below it whatever stands between the reader and an answer.
import { cancelOpening } from "../actions/open";
import { send } from "../actions/chat";
import { host, state, type Phase } from "../app";
import { byId, fill, h, type Child } from "../dom";
import { bytes, duration } from "../format";
import { draws } from "../signal";
import { chooser } from "./choose";
import { transcript } from "./transcript";

/** Things to begin with, when nothing was said yet. */
const EXAMPLES = [
  "Name three rivers and say one thing about each.",
  "Explain what a prompt cache is to a musician.",
  "Write a short letter to a friend who moved away.",
];

export function stage(): void {
  const between = h("div", { class: "between" });
  fill(byId("stage"), transcript(), between);
  draws([state.phase, state.place, state.chats, state.bundled, state.storage], () => {
    const { value: phase } = state.phase;
    const key = phase.kind === "choosing" ? `choosing ${state.place.value} ${fingerprint()}` : phase.kind;
    const hello = phase.kind === "ready" && state.chats.value.current.messages.length === 0;
    between.hidden = phase.kind === "ready" && !hello;
    // A form that somebody is filling in is not drawn anew; progress is drawn in place.
    if (phase.kind === "loading" && between.dataset["shows"] === "loading") return progress(between, phase);
    if (between.dataset["shows"] === key && phase.kind === "choosing") return;
    between.dataset["shows"] = key;
    fill(between, content(phase));
    if (phase.kind === "loading") progress(between, phase);
  });
}

function fingerprint(): string {
  const { models } = state.storage.value;
  const trouble = state.phase.value.kind === "choosing" ? state.phase.value.trouble?.detail : "";
  return JSON.stringify([state.bundled.value?.url, models.map(({ url, loaded }) => [url, loaded]), trouble]);
}

function content(phase: Phase): Child {
  switch (phase.kind) {
    case "choosing":
      return chooser(phase.trouble);
    case "waiting":
      return h("p", { class: "waiting", role: "status" }, h("span", { class: "pulse", "aria-hidden": "true" }), `${phase.what}…`);
    case "loading":
      return loading(phase);
    case "ready":
      return state.chats.value.current.messages.length === 0 && hello();
  }
}

function hello(): HTMLElement {
  const ready = host();
  const where = ready?.place === "browser" ? "in this browser; nothing you write leaves it" : "on the server";
  return h(
    "div",
    { class: "hello" },
    h("h2", {}, "Say something. It will be remembered."),
    h(
      "p",
      {},
      `${ready?.model ?? "The model"} runs ${where}. What it has read stays in a slot, so that each turn only processes what is new. `,
      "The slots show what that saves.",
    ),
    h(
      "ul",
      { class: "examples", "aria-label": "Examples" },
      EXAMPLES.map((text) => h("li", {}, h("button", { type: "button", click: () => void send(text) }, text))),
    ),
  );
}

const PHASES = { download: "Downloading", verify: "Checking", load: "Loading" } as const;

function loading({ name }: Phase & { kind: "loading" }): HTMLElement {
  return h(
    "div",
    { class: "loading" },
    h("h2", { id: "loading-title" }, name),
    h("progress", { max: 1, "aria-labelledby": "loading-title" }),
    h("p", { class: "figures" }),
    h("button", { type: "button", click: cancelOpening }, "Cancel"),
  );
}

/** Brings the numbers up to date without touching the button that may have the focus. */
function progress(parent: Element, { progress, pace }: Phase & { kind: "loading" }): void {
  const bar = parent.querySelector("progress");
  const figures = parent.querySelector(".figures");
  if (bar === null || figures === null) return;
  if (progress === undefined) {
    bar.removeAttribute("value");
    fill(figures, "Starting the engine…");
    return;
  }
  const { phase, loaded, total } = progress;
  if (total > 0) bar.value = loaded / total;
  const parts = [`${PHASES[phase]} ${bytes(loaded)} of ${bytes(total)}`];
  if (phase === "download" && pace !== undefined && pace.speed > 0) parts.push(`${bytes(pace.speed)}/s`);
  if (phase === "download" && pace?.left !== undefined) parts.push(`${duration(Math.max(1000, pace.left))} left`);
  fill(figures, parts.join(" · "));
}

// The conversation. Only what changed is drawn: mostly the last answer.
import { answerAgain } from "../actions/chat";
import { host, state } from "../app";
import type { Chat, Message, Receipt } from "../chats";
import { byId, h } from "../dom";
import { count, duration, rate, shortName } from "../format";
import { markdown } from "../markdown";
import { draws } from "../signal";
import { swatch, tokenBar } from "./bar";

export function transcript(): HTMLElement {
  // Answers are read out when they are whole (app.said): word by word nobody can follow.
  const list = h("ol", { class: "transcript", "aria-label": "Messages" });
  let shown: { chat: Chat; messages: Message[] } | undefined;
  draws([state.chats, state.running, state.phase], () => {
    const { current } = state.chats.value;
    const { messages } = current;
    const stay = shown?.chat === current && shown.messages.every((message, at) => message === messages[at] || at === messages.length);
    const from = stay ? Math.max(0, Math.min(list.children.length, messages.length) - 1) : 0;
    const following = !stay || nearEnd();
    while (list.children.length > from) list.lastElementChild?.remove();
    for (const message of messages.slice(from)) list.append(entry(message, message === messages.at(-1)));
    // An answer that was the last one has lost its button.
    if (stay) list.querySelectorAll("li:not(:last-child) .again").forEach((button) => button.remove());
    list.hidden = messages.length === 0;
    shown = { chat: current, messages: [...messages] };
    if (following) toEnd();
  });
  return list;
}

function entry(message: Message, last: boolean): HTMLLIElement {
  const { role, content, receipt } = message;
  const running = last && role === "assistant" ? state.running.value : undefined;
  const who = role === "user" ? "You" : shortName(host()?.model ?? "Answer");
  const text = role === "user" ? h("div", { class: "text" }, content) : h("div", { class: "text prose" }, markdown(content));
  const item = h("li", { class: role }, h("p", { class: "who" }, who), text);
  if (running !== undefined && !running.writing) text.append(reading());
  if (running === undefined && role === "assistant" && content.trim() === "") text.append(h("p", {}, h("em", {}, "No words came.")));
  if (running?.writing) item.classList.add("writing");
  if (receipt !== undefined && running === undefined) item.append(footer(receipt, last));
  return item;
}

/** What is told before the first word. */
function reading(): HTMLElement {
  const at = state.running.value?.reading;
  if (at === undefined) return h("p", { class: "reading" }, "Waiting for a slot…");
  const { total, cached, done } = at;
  const parts = { cached, processed: Math.max(0, done - cached), generated: 0 };
  const told = cached > 0 ? `${count(cached)} of ${count(total)} tokens from the cache, ` : "";
  return h(
    "div",
    { class: "reading" },
    tokenBar(parts, total, "Reading"),
    h("p", {}, `${told}${count(Math.max(0, done - cached))} of ${count(total - cached)} processed`),
  );
}

function footer(receipt: Receipt, last: boolean): HTMLElement {
  const { cached, processed, generated, firstToken, firstTokenUncached, speed, end } = receipt;
  const whole = cached + processed + generated;
  const sooner = firstTokenUncached !== undefined && firstTokenUncached > firstToken * 1.05;
  return h(
    "div",
    { class: "receipt" },
    tokenBar({ cached, processed, generated }, whole, "Tokens of this answer"),
    h(
      "p",
      {},
      h("span", {}, swatch("cached"), `${count(cached)} cached`),
      h("span", {}, swatch("processed"), `${count(processed)} processed`),
      h("span", {}, swatch("generated"), `${count(generated)} generated`),
      h("span", {}, `first word in ${duration(firstToken)}`, sooner && `, about ${duration(firstTokenUncached)} without the cache`),
      speed > 0 && h("span", {}, rate(speed)),
      ENDS[end] !== undefined && h("span", { class: "end" }, ENDS[end]),
      last && h("button", { type: "button", class: "quiet again", click: again }, "Answer again"),
    ),
  );
}

function again(): void {
  // The button goes away with the answer.
  byId("message").focus();
  void answerAgain();
}

/** Ends that are worth a word. */
const ENDS: Record<string, string> = {
  length: "ended at the limit",
  stopped: "stopped",
  failed: "broke off",
};

function nearEnd(): boolean {
  const { scrollHeight, scrollTop, clientHeight } = byId("stage");
  return scrollHeight - scrollTop - clientHeight < 96;
}

function toEnd(): void {
  const stage = byId("stage");
  stage.scrollTop = stage.scrollHeight;
}

// Saying something and getting an answer.
import type { Chunk, Timings } from "reprise";
import { host, state } from "../app";
import { deleteChat, openChat, startChat, type Chats, type Message, type Receipt } from "../chats";
import { keepChats } from "../remember";
import { explain } from "../trouble";
import { refreshSlots } from "./slots";

/** Below this many tokens a measured reading speed says little. */
const ENOUGH = 16;

/** Sends a message of the reader. */
export async function send(text: string): Promise<void> {
  const { current } = state.chats.value;
  current.messages.push({ role: "user", content: text });
  await answer();
}

/** Answers the last message of the reader anew. */
export async function answerAgain(): Promise<void> {
  const { messages } = state.chats.value.current;
  if (state.running.value !== undefined) return;
  if (messages.at(-1)?.role === "assistant") messages.pop();
  if (messages.at(-1)?.role === "user") await answer();
}

export const stop = (): void => state.running.value?.stop();

export const newChat = (): void => change(startChat(state.chats.value));
export const switchChat = (id: string): void => change(openChat(state.chats.value, id));
export const removeChat = (): void => change(deleteChat(state.chats.value));

function change(chats: Chats): void {
  stop();
  state.chats.value = chats;
  state.notice.value = undefined;
  keep();
}

/** Writes the conversations down. */
export function keep(): void {
  if (keepChats(state.chats.value)) return;
  state.notice.value = {
    kind: "error",
    title: "This conversation is not kept.",
    text: "The browser gives the page no room, or storage is forbidden here. After a reload the conversation is gone.",
  };
}

async function answer(): Promise<void> {
  const current = host();
  if (current === undefined) return;
  const chat = state.chats.value.current;
  const messages = chat.messages.map(({ role, content }) => ({ role, content }));
  const reply: Message = { role: "assistant", content: "" };
  chat.messages.push(reply);
  chat.changed = Date.now();
  const controller = new AbortController();
  state.notice.value = undefined;
  state.running.value = { stop: () => controller.abort(), writing: false };
  state.said.value = "Answering.";
  keep();
  state.chats.touch();
  const meter = new Meter();
  try {
    const options = { messages, progress: true, signal: controller.signal, fields: { timings_per_token: true } };
    const slot = state.pinned.value < 0 ? {} : { slot: state.pinned.value };
    for await (const chunk of current.client.chat({ ...options, ...slot })) {
      meter.note(chunk);
      take(chunk, reply);
    }
  } catch (error) {
    if (!controller.signal.aborted) fail(error);
    meter.end = controller.signal.aborted ? "stopped" : "failed";
  }
  state.running.value = undefined;
  finish(chat.messages, reply, meter);
  state.chats.touch();
  keep();
  await refreshSlots();
  compare(reply);
}

/** The engine knows better than the page how long the prompt would have taken: what the slots show counts. */
function compare({ receipt }: Message): void {
  if (receipt === undefined) return;
  const slot = state.slots.value.find(({ cached, processed }) => cached === receipt.cached && processed === receipt.processed);
  if (slot?.firstTokenUncached === undefined) return;
  receipt.firstTokenUncached = slot.firstTokenUncached;
  state.chats.touch();
  keep();
}

/** Puts what came into the answer. */
function take({ text, progress }: Chunk, reply: Message): void {
  const { value: running } = state.running;
  if (running !== undefined && progress !== undefined && !running.writing) {
    const reading = { total: progress.total, cached: progress.cache, done: progress.processed };
    state.running.value = { ...running, reading };
  }
  if (text === "") return;
  reply.content += text;
  if (running !== undefined && !running.writing) state.running.value = { ...running, writing: true };
  state.chats.touch();
}

function finish(messages: Message[], reply: Message, meter: Meter): void {
  const receipt = meter.receipt();
  if (receipt !== undefined) reply.receipt = receipt;
  if (reply.content === "" && meter.end !== "stop") {
    const at = messages.indexOf(reply);
    if (at >= 0) messages.splice(at, 1);
    if (meter.end === "stopped") state.said.value = "Stopped.";
    return;
  }
  state.said.value = meter.end === "failed" ? "The answer broke off." : `Answer: ${reply.content}`;
}

function fail(error: unknown): void {
  const { title, advice, detail } = explain(error, "chat");
  const action = { label: "Try again", run: () => void answerAgain() };
  state.notice.value = { kind: "error", title, text: advice, detail, action };
}

/** Follows the counts and times of one answer. */
class Meter {
  end = "stop";
  #last: Timings | undefined;

  note({ timings, finishReason }: Chunk): void {
    if (finishReason !== undefined) this.end = finishReason;
    if (timings === undefined) return;
    this.#last = timings;
    const { prompt_n, prompt_ms, predicted_per_second } = timings;
    const speeds = { ...state.speeds.value };
    if (prompt_n >= ENOUGH && prompt_ms > 0) speeds.reading = (prompt_n * 1000) / prompt_ms;
    if (predicted_per_second > 0) speeds.writing = predicted_per_second;
    state.speeds.value = speeds;
  }

  receipt(): Receipt | undefined {
    const timings = this.#last;
    if (timings === undefined) return undefined;
    const { reading } = state.speeds.value;
    const receipt: Receipt = {
      cached: timings.cache_n,
      processed: timings.prompt_n,
      generated: timings.predicted_n,
      firstToken: timings.prompt_ms,
      speed: timings.predicted_per_second,
      end: this.end,
    };
    if (reading !== undefined && timings.cache_n > 0) {
      receipt.firstTokenUncached = timings.prompt_ms + (timings.cache_n * 1000) / reading;
    }
    return receipt;
  }
}

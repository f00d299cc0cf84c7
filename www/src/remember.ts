// What the page keeps between visits: conversations and choices, in localStorage. The KV is kept by the engine.
import { emptyChat, type Chat, type Chats, type Message } from "./chats";
import type { BrowserSettings } from "./hosts/browser";
import type { Place } from "./hosts/host";

const CHATS = "reprise.chats";
const CHOICES = "reprise.choices";

/** The model to run in this browser: an address that the model cache knows, with its name. */
export interface ModelChoice {
  url: string;
  name: string;
}

export interface Choices {
  place?: Place;
  model?: ModelChoice;
  settings?: BrowserSettings;
  /** What models are called whose address does not tell. */
  names?: Record<string, string>;
  /** Address of a server that is not the page's own. */
  server?: string;
  /** Names under which slots were saved on a server, which lists none. */
  saved?: string[];
  /** Whether the panel was closed on a wide screen. */
  panelClosed?: boolean;
}

export function loadChats(): Chats {
  const kept = read(CHATS);
  const chats = Array.isArray(kept) ? kept.filter(isChat) : [];
  const [current = emptyChat(), ...others] = chats;
  return { current, others };
}

/** Keeps conversations; says whether there was room. The oldest are given up first. */
export function keepChats({ current, others }: Chats): boolean {
  const all = [current, ...others];
  for (let kept = all.length; kept > 0; kept = Math.floor(kept / 2)) {
    if (write(CHATS, all.slice(0, kept))) return true;
  }
  return false;
}

export function loadChoices(): Choices {
  const kept = read(CHOICES);
  return typeof kept === "object" && kept !== null ? (kept as Choices) : {};
}

export function keepChoices(changes: Partial<Choices>): void {
  write(CHOICES, { ...loadChoices(), ...changes });
}

function read(key: string): unknown {
  try {
    return JSON.parse(localStorage.getItem(key) ?? "null");
  } catch {
    // Storage is forbidden, or somebody else wrote there.
    return null;
  }
}

function write(key: string, value: unknown): boolean {
  try {
    localStorage.setItem(key, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

function isChat(value: unknown): value is Chat {
  if (typeof value !== "object" || value === null) return false;
  const { id, messages } = value as Partial<Chat>;
  return typeof id === "string" && Array.isArray(messages) && messages.every(isMessage);
}

function isMessage(value: unknown): value is Message {
  if (typeof value !== "object" || value === null) return false;
  const { role, content } = value as Partial<Message>;
  return (role === "user" || role === "assistant") && typeof content === "string";
}

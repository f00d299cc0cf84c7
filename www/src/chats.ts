// Conversations: what was said, with the receipt of every answer.

export interface Message {
  role: "user" | "assistant";
  content: string;
  receipt?: Receipt;
}

/** What an answer cost. */
export interface Receipt {
  /** Prompt tokens from the cache, prompt tokens processed, tokens written. */
  cached: number;
  processed: number;
  generated: number;
  /** Milliseconds to the first token, as they were, and as they would have been at the measured reading speed. */
  firstToken: number;
  firstTokenUncached?: number;
  /** Tokens written per second. */
  speed: number;
  /** Why it ended: `stop`, `length`, or `stopped` by the reader. */
  end: string;
}

export interface Chat {
  id: string;
  /** Milliseconds since 1970. */
  changed: number;
  messages: Message[];
}

export interface Chats {
  current: Chat;
  /** The others, latest first. */
  others: Chat[];
}

/** The most conversations that are kept. */
const MOST = 30;

export function emptyChat(): Chat {
  return { id: newId(), changed: Date.now(), messages: [] };
}

/** `randomUUID` exists on secure origins only, and a server in the local network is none. */
function newId(): string {
  return [...crypto.getRandomValues(new Uint8Array(8))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What a conversation is called: its first words. */
export function chatTitle(chat: Chat): string {
  const first = chat.messages[0]?.content.trim().replace(/\s+/g, " ") ?? "";
  if (first === "") return "New chat";
  return first.length <= 48 ? first : `${first.slice(0, 47).trimEnd()}…`;
}

/** A new conversation in front; empty ones are not kept. */
export function startChat({ current, others }: Chats): Chats {
  if (current.messages.length === 0) return { current, others };
  return { current: emptyChat(), others: [current, ...others].slice(0, MOST - 1) };
}

/** Another conversation in front. */
export function openChat({ current, others }: Chats, id: string): Chats {
  const chosen = others.find((chat) => chat.id === id);
  if (chosen === undefined) return { current, others };
  const rest = others.filter((chat) => chat.id !== id);
  return { current: chosen, others: current.messages.length === 0 ? rest : [current, ...rest] };
}

/** Without the conversation in front. */
export function deleteChat({ others }: Chats): Chats {
  const [current = emptyChat(), ...rest] = others;
  return { current, others: rest };
}

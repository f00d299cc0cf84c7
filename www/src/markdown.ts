// The little Markdown that models write, as elements: paragraphs, headings, lists, code, emphasis. Never HTML.
import { h, type Child } from "./dom";

/** Turns text into blocks. An unfinished fence at the end is a code block already. */
export function markdown(text: string): HTMLElement[] {
  const blocks: HTMLElement[] = [];
  const lines = text.split("\n");
  let at = 0;
  while (at < lines.length) {
    const line = lines[at] ?? "";
    const fence = /^\s*```\s*([\w+-]*)/.exec(line);
    if (fence) {
      const end = lines.findIndex((later, index) => index > at && /^\s*```\s*$/.test(later));
      const until = end < 0 ? lines.length : end;
      blocks.push(code(lines.slice(at + 1, until).join("\n"), fence[1] ?? ""));
      at = until + 1;
    } else if (line.trim() === "") {
      at += 1;
    } else {
      const until = endOfBlock(lines, at);
      blocks.push(block(lines.slice(at, until)));
      at = until;
    }
  }
  return blocks;
}

const ITEM = /^\s*(?:([-*•])|(\d+)[.)])\s+(.*)$/;
const HEADING = /^(#{1,6})\s+(.*)$/;

/** A block ends at an empty line, a fence, or where a list or heading begins or ends. */
function endOfBlock(lines: string[], start: number): number {
  const first = lines[start] ?? "";
  if (HEADING.test(first)) return start + 1;
  const kind = listKind(first);
  let at = start + 1;
  for (; at < lines.length; at += 1) {
    const line = lines[at] ?? "";
    if (line.trim() === "") {
      // A list may be written with empty lines between its items.
      if (kind !== undefined && listKind(lines[at + 1] ?? "") === kind) continue;
      break;
    }
    if (/^\s*```/.test(line) || HEADING.test(line)) break;
    const next = listKind(line);
    if (next !== undefined && next !== kind && !/^\s/.test(line)) break;
  }
  return at;
}

/** Whether a line is an item, and of which kind of list. */
function listKind(line: string): "ul" | "ol" | undefined {
  const item = ITEM.exec(line);
  return item === null ? undefined : item[2] === undefined ? "ul" : "ol";
}

function block(lines: string[]): HTMLElement {
  const first = lines[0] ?? "";
  const heading = HEADING.exec(first);
  if (heading) return h("p", { class: "heading" }, inline(heading[2] ?? ""));
  const item = ITEM.exec(first);
  if (item === null) return h("p", {}, inline(lines.join("\n")));
  const items: string[] = [];
  for (const line of lines) {
    const next = ITEM.exec(line);
    if (next) items.push(next[3] ?? "");
    else if (line.trim() !== "" && items.length > 0) items[items.length - 1] += `\n${line.trim()}`;
  }
  const children = items.map((text) => h("li", {}, inline(text)));
  return item[2] === undefined ? h("ul", {}, children) : h("ol", { start: item[2] }, children);
}

function code(text: string, language: string): HTMLElement {
  const label = language === "" ? "Code" : `Code in ${language}`;
  return h("pre", { tabindex: 0, role: "region", "aria-label": label }, h("code", {}, text));
}

/** `code`, **strong** and *emphasis*; what does not close stays as it is. */
function inline(text: string): Child[] {
  const parts: Child[] = [];
  const marks = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|(?<![\w*])\*([^*\s][^*\n]*)\*(?![\w*])/g;
  let from = 0;
  for (const match of text.matchAll(marks)) {
    parts.push(text.slice(from, match.index));
    const [whole, quoted, strong, emphasis] = match;
    if (quoted !== undefined) parts.push(h("code", {}, quoted));
    else if (strong !== undefined) parts.push(h("strong", {}, strong));
    else parts.push(h("em", {}, emphasis));
    from = match.index + whole.length;
  }
  parts.push(text.slice(from));
  return parts;
}

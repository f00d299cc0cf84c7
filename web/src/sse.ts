// Server-sent events out of a response body, as far as an API stream needs them: the `data` of each event.

/**
 * Reads the data of each event. Comments (pings), empty events and other fields are passed over; lines may end in LF, CR or
 * CRLF and may be cut anywhere, inside a character too. Leaving the loop early cancels the body.
 */
export async function* eventData(body: ReadableStream<Uint8Array>): AsyncGenerator<string, void, undefined> {
  const reader = body.getReader();
  const lines = new Lines();
  let data: string[] = [];
  try {
    for (;;) {
      const { done, value } = await reader.read();
      for (const line of done ? lines.end() : lines.push(value)) {
        if (line === "") {
          if (data.length > 0) yield data.join("\n");
          data = [];
        } else if (line.startsWith("data:")) {
          data.push(line.slice(line[5] === " " ? 6 : 5));
        } else if (line === "data") {
          data.push("");
        }
      }
      // As the standard has it, an event that no empty line closed does not count.
      if (done) return;
    }
  } finally {
    // Of no effect on a body that was read to its end.
    await reader.cancel().catch(() => undefined);
  }
}

/** Cuts bytes into lines. */
class Lines {
  readonly #decoder = new TextDecoder();
  #rest = "";

  push(bytes: Uint8Array): string[] {
    return this.#cut(this.#rest + this.#decoder.decode(bytes, { stream: true }));
  }

  /** The last line, if it is one: a CR that was kept back ends it. */
  end(): string[] {
    return this.#rest.endsWith("\r") ? this.#cut(`${this.#rest}\n`) : [];
  }

  #cut(text: string): string[] {
    // A CR at the end may be half of a CRLF.
    const whole = text.endsWith("\r") ? text.slice(0, -1) : text;
    const lines = whole.split(/\r\n|\n|\r/);
    this.#rest = (lines.pop() ?? "") + text.slice(whole.length);
    return lines;
  }
}

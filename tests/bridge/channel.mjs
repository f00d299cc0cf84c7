// Messages between the bridge and a page: a JSON head and bytes, in one binary WebSocket frame. `page/channel.js` has the
// page's end.

import { WebSocketServer } from "ws";

const sockets = new WebSocketServer({ noServer: true, maxPayload: 1 << 30, perMessageDeflate: false });

/** Takes an upgrade request over. */
export function accept(request, socket, head) {
  return new Promise((resolve) => sockets.handleUpgrade(request, socket, head, (ws) => resolve(new Channel(ws))));
}

export class Channel {
  #socket;

  constructor(socket) {
    this.#socket = socket;
    socket.binaryType = "nodebuffer";
  }

  onMessage(listener) {
    this.#socket.on("message", (frame) => {
      const end = 4 + frame.readUInt32LE(0);
      listener(JSON.parse(frame.subarray(4, end).toString()), frame.subarray(end));
    });
  }

  onClose(listener) {
    this.#socket.on("close", listener);
  }

  send(head, bytes = Buffer.alloc(0)) {
    const text = Buffer.from(JSON.stringify(head));
    const length = Buffer.alloc(4);
    length.writeUInt32LE(text.length);
    this.#socket.send(Buffer.concat([length, text, bytes]));
  }

  close() {
    this.#socket.terminate();
  }
}

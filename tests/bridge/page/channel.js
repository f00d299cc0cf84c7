// The page's end of `channel.mjs`: messages of a JSON head and bytes.

/** Opens the channel to whoever serves this page; `listen(head, bytes)` gets what comes. */
export async function openChannel(path, listen) {
  const socket = new WebSocket(new URL(path, location.href.replace(/^http/, "ws")));
  socket.binaryType = "arraybuffer";
  socket.onmessage = ({ data }) => {
    const end = 4 + new DataView(data).getUint32(0, true);
    listen(JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, end - 4))), new Uint8Array(data.slice(end)));
  };
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("the bridge does not answer"));
  });
  return (head, bytes = new Uint8Array()) => {
    const text = new TextEncoder().encode(JSON.stringify(head));
    const frame = new Uint8Array(4 + text.length + bytes.length);
    new DataView(frame.buffer).setUint32(0, text.length, true);
    frame.set(text, 4);
    frame.set(bytes, 4 + text.length);
    socket.send(frame);
  };
}

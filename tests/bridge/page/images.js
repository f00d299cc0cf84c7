// The engine's slot files where it keeps them: infos by name in `images`, bytes by [name, number] in `chunks`. Tests read
// and damage them here, past the engine.

const DATABASE = "reprise";
const CHUNK = 4 << 20;

/** The bytes of an image. */
export async function read(name) {
  return inside("readonly", async ({ images, chunks }) => {
    const info = await settled(images.get(name));
    if (!info) throw new Error(`there is no image '${name}'`);
    return joined(await settled(chunks.getAll(chunksOf(name))));
  });
}

/** Puts these bytes under a name, as a whole image or not. */
export function write(name, bytes) {
  return inside("readwrite", async ({ images, chunks }) => {
    const fresh = { name, tokens: null, automatic: name.includes("/"), created: Date.now() };
    const info = (await settled(images.get(name))) ?? fresh;
    await settled(chunks.delete(chunksOf(name)));
    for (let at = 0; at < bytes.length; at += CHUNK) {
      await settled(chunks.put(bytes.slice(at, at + CHUNK), [name, at / CHUNK]));
    }
    await settled(images.put({ ...info, bytes: bytes.length }, name));
  });
}

/** Puts an entry under a name whose bytes are not there. */
export function hollow(name) {
  const info = { name, bytes: 1000, tokens: 10, automatic: name.includes("/"), created: Date.now() };
  return inside("readwrite", ({ images }) => settled(images.put(info, name)));
}

export function remove(name) {
  return inside("readwrite", async ({ images, chunks }) => {
    await settled(images.delete(name));
    await settled(chunks.delete(chunksOf(name)));
  });
}

/** Names of all images, and of all that have chunks. */
export function names() {
  return inside("readonly", async ({ images, chunks }) => ({
    images: await settled(images.getAllKeys()),
    chunks: [...new Set((await settled(chunks.getAllKeys())).map(([name]) => name))],
  }));
}

/** Arrays sort after numbers: this ends all of a name's. */
const chunksOf = (name) => IDBKeyRange.bound([name, 0], [name, []]);

function joined(pieces) {
  const whole = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** Does something in one transaction, and waits until that is written. */
async function inside(mode, body) {
  const database = await settled(indexedDB.open(DATABASE));
  try {
    const transaction = database.transaction(["images", "chunks"], mode);
    const written = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    const result = await body({
      images: transaction.objectStore("images"),
      chunks: transaction.objectStore("chunks"),
    });
    await written;
    return result;
  } finally {
    database.close();
  }
}

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

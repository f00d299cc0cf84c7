// The page: a chat against an OpenAI-compatible endpoint, with the slots beside it.
const $ = (id) => document.getElementById(id);
const messages = [];
let running = null;

/** Calls the server and gives its JSON, or throws the server's own words. */
async function call(path, init) {
  const response = await fetch(path, init);
  const body = await response.json();
  if (!response.ok) throw new Error(body.error?.message ?? `status ${response.status}`);
  return body;
}

/** Yields the JSON of every `data:` line of an event stream. */
async function* events(response) {
  const lines = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const { value, done } = await lines.read();
    if (done) return;
    const parts = (rest + value).split('\n');
    rest = parts.pop();
    for (const line of parts) {
      if (line.startsWith('data: ') && line !== 'data: [DONE]') yield JSON.parse(line.slice(6));
    }
  }
}

function show(role, text) {
  const item = document.createElement('li');
  item.className = role;
  item.append(text);
  $('messages').append(item);
  item.scrollIntoView({ block: 'end' });
  return item;
}

function fail(error) {
  $('error').hidden = !error;
  $('error').textContent = error ? error.message : '';
}

async function complete(item) {
  const response = await fetch('v1/chat/completions', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    signal: running.signal,
    body: JSON.stringify({ messages, stream: true, id_slot: Number($('slot').value), max_tokens: 512 }),
  });
  if (!response.ok) throw new Error((await response.json()).error?.message ?? `status ${response.status}`);
  let text = '';
  for await (const event of events(response)) {
    if (event.error) throw new Error(event.error.message);
    text += event.choices?.[0]?.delta?.content ?? '';
    item.firstChild.data = text;
    if (event.timings) note(item, event.timings);
  }
  return text;
}

function note(item, timings) {
  const small = item.querySelector('small') ?? item.appendChild(document.createElement('small'));
  small.textContent = `${timings.cache_n} tokens from the cache, ${timings.prompt_n} computed in ` +
    `${Math.round(timings.prompt_ms)} ms; ${timings.predicted_per_second.toFixed(1)} tokens/s`;
}

async function send(event) {
  event.preventDefault();
  if (running) return;
  fail(null);
  const text = $('text').value.trim();
  if (!text) return;
  $('text').value = '';
  messages.push({ role: 'user', content: text });
  show('user', text);
  const item = show('assistant', '');
  running = new AbortController();
  $('send').disabled = true;
  $('stop').hidden = false;
  try {
    messages.push({ role: 'assistant', content: await complete(item) });
  } catch (error) {
    messages.push({ role: 'assistant', content: item.firstChild.data });
    if (error.name !== 'AbortError') fail(error);
  } finally {
    running = null;
    $('send').disabled = false;
    $('stop').hidden = true;
    refresh();
  }
}

async function refresh() {
  try {
    const slots = await call('slots');
    $('slots').replaceChildren(...slots.map((slot) => {
      const row = document.createElement('tr');
      for (const cell of [slot.id, slot.n_prompt_tokens ?? 0, slot.is_processing ? 'busy' : 'idle']) {
        row.insertCell().append(cell);
      }
      return row;
    }));
    if ($('slot').options.length === 1) {
      $('slot').append(...slots.map((slot) => new Option(slot.id, slot.id)));
    }
  } catch (error) {
    fail(error);
  }
}

$('ask').addEventListener('submit', send);
$('text').addEventListener('keydown', (event) => {
  if (event.key === 'Enter' && !event.shiftKey) send(event);
});
$('stop').addEventListener('click', () => running?.abort());
$('clear').addEventListener('click', () => {
  running?.abort();
  messages.length = 0;
  $('messages').replaceChildren();
  fail(null);
});

try {
  const { data: [model] } = await call('v1/models');
  $('model').textContent = `${model.id.split('/').pop()}, ${model.meta?.n_ctx ?? '?'} tokens of context`;
  await refresh();
  setInterval(refresh, 2000);
} catch (error) {
  fail(error);
}

// What llama-server's flags are called in the package's options.

const number = (option) => ({ values: 1, set: (options, text) => (options[option] = Number(text)) });
const text = (option) => ({ values: 1, set: (options, text) => (options[option] = text) });
const list = (option) => ({
  values: 1,
  set: (options, text) => (options[option] = [...(options[option] ?? []), ...text.split(",")]),
});
const constant = (option, value) => ({ values: 0, set: (options) => (options[option] = value) });
/** A default of a request's field. */
const field = (name) => ({
  values: 1,
  set: (options, text) => (options.defaults = { ...options.defaults, [name]: Number(text) }),
});
/** Means something to a server only. */
const nothing = (values) => ({ values, set: () => {} });

const FLAGS = {
  "-a --alias": list("aliases"),
  "-np --parallel": number("slots"),
  "-c --ctx-size": number("context"),
  "-kvu --kv-unified": constant("unified", true),
  "--no-kv-unified": constant("unified", false),
  "--kv-unified-per-slot": number("contextPerSlot"),
  "-b --batch-size": number("batch"),
  "-ub --ubatch-size": number("microBatch"),
  "--context-shift": constant("contextShift", true),
  "--no-context-shift": constant("contextShift", false),
  "--spec-type": text("specType"),
  "--spec-ngram-simple-size-n": number("specNgramSimpleSizeN"),
  "--spec-ngram-simple-size-m": number("specNgramSimpleSizeM"),
  "--spec-ngram-simple-min-hits": number("specNgramSimpleMinHits"),
  "--keep": number("keep"),
  "-n --predict --n-predict": number("predict"),
  "-sps --slot-prompt-similarity": number("similarity"),
  "-cram --cache-ram": number("cacheRam"),
  "--cache-disk": number("cacheDisk"),
  "--cache-shared": constant("cacheShared", true),
  "--cache-idle-slots": constant("cacheIdleSlots", true),
  "--no-cache-idle-slots": constant("cacheIdleSlots", false),
  "--cache-prompt": constant("cachePrompt", true),
  "--no-cache-prompt": constant("cachePrompt", false),
  "--cache-reuse": number("cacheReuse"),
  "--api-key": list("apiKeys"),
  "--api-prefix": text("apiPrefix"),
  "--cors-origins": text("corsOrigins"),
  "--no-cors-credentials": constant("corsCredentials", false),
  "--metrics": constant("metrics", true),
  "--props": constant("props", true),
  "--slots": constant("slotsEndpoint", true),
  "--no-slots": constant("slotsEndpoint", false),
  "--embedding --embeddings": constant("embeddings", "none"),
  "--pooling": text("embeddings"),
  "--chat-template": text("chatTemplate"),
  "--rope-freq-base": number("ropeFreqBase"),
  "--rope-freq-scale": number("ropeFreqScale"),
  "--rope-scaling": text("ropeScaling"),
  "--sse-ping-interval": number("pingInterval"),
  "--max-body": number("maxBody"),
  "--special": constant("special", true),
  "-t --threads": number("threads"),
  "--temp --temperature": field("temperature"),
  "--top-k": field("top_k"),
  "--top-p": field("top_p"),
  "--min-p": field("min_p"),
  "-s --seed": field("seed"),
  "--top-nsigma --top-n-sigma": field("top_n_sigma"),
  "--xtc-probability": field("xtc_probability"),
  "--xtc-threshold": field("xtc_threshold"),
  "--typical --typical-p": field("typical_p"),
  "--repeat-last-n": field("repeat_last_n"),
  "--repeat-penalty": field("repeat_penalty"),
  "--presence-penalty": field("presence_penalty"),
  "--frequency-penalty": field("frequency_penalty"),
  "--dry-multiplier": field("dry_multiplier"),
  "--dry-base": field("dry_base"),
  "--dry-allowed-length": field("dry_allowed_length"),
  "--dry-penalty-last-n": field("dry_penalty_last_n"),
  "--dynatemp-range": field("dynatemp_range"),
  "--dynatemp-exp": field("dynatemp_exponent"),
  "--mirostat": field("mirostat"),
  "--mirostat-lr": field("mirostat_eta"),
  "--mirostat-ent": field("mirostat_tau"),
  "--swa-full": nothing(0),
  "--no-warmup": nothing(0),
};

const ENVIRONMENT = {
  LLAMA_SERVER_SLOTS_DEBUG: (options, text) => (options.slotsDebug = text !== "0"),
};

const byName = new Map(
  Object.entries(FLAGS).flatMap(([names, flag]) => names.split(" ").map((name) => [name, flag])),
);

/**
 * The package's options for a server's flags and environment.
 *
 * @param {string[]} flags
 * @param {Record<string, string>} environment
 */
export function toOptions(flags, environment = {}) {
  const options = {};
  // `--pooling` says how, `--embeddings` that: in whichever order they stand.
  const order = flags.includes("--pooling") ? flags.filter((flag) => !/^--embeddings?$/.test(flag)) : flags;
  for (let at = 0; at < order.length; ) {
    const flag = byName.get(order[at]);
    if (!flag) throw new Error(`the bridge does not know what the flag ${order[at]} is in a browser`);
    flag.set(options, order[at + 1]);
    at += 1 + flag.values;
  }
  for (const [name, value] of Object.entries(environment)) {
    if (!ENVIRONMENT[name]) throw new Error(`the bridge does not know what the variable ${name} is in a browser`);
    ENVIRONMENT[name](options, value);
  }
  return options;
}

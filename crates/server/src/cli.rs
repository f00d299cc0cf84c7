//! The command line: llama-server's flags, environment variables and defaults, for what this server does.

mod cache;
mod sampling;
mod speculation;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, ValueEnum};

use crate::affinity::{self, Processors};

pub(crate) use self::cache::CacheArgs;
use self::sampling::SamplingArgs;
pub(crate) use self::speculation::SpeculationArgs;

const EXAMPLE: &str = "Example:
  reprise-server -m model.gguf -c 4096 -np 2 --slot-save-path ./slots
  curl -s http://127.0.0.1:8080/completion -d '{\"prompt\": \"Once upon a time\", \"n_predict\": 16}'";

/// Serves a GGUF language model over llama-server's HTTP API, with slots whose KV cache is reused, saved and restored.
#[derive(Debug, Parser)]
#[command(name = "reprise-server", version, after_help = after_help(), args_override_self = true)]
pub(crate) struct Cli {
    /// Where the model comes from.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Slots, context, batch.
    #[command(flatten)]
    pub context: ContextArgs,
    /// Prompt cache and slot files.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// Defaults of the requests' sampling fields.
    #[command(flatten)]
    pub sampling: SamplingArgs,
    /// Speculative decoding.
    #[command(flatten)]
    pub speculation: SpeculationArgs,
    /// HTTP.
    #[command(flatten)]
    pub http: HttpArgs,
    /// Threads and arithmetic.
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Logging.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Where the model comes from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Model")]
pub(crate) struct ModelArgs {
    /// GGUF file
    #[arg(short = 'm', long = "model", env = "LLAMA_ARG_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// URL of a GGUF file; kept in the cache folder, resumed after a broken download
    #[arg(long = "model-url", env = "LLAMA_ARG_MODEL_URL", value_name = "URL")]
    pub model_url: Option<String>,
    /// SHA-256 that the file of --model-url must have
    #[arg(long, value_name = "HEX")]
    pub model_sha256: Option<String>,
    /// Model on the Hugging Face hub: user/repo, with an optional quantisation (default Q4_K_M, else the first GGUF)
    #[arg(long = "hf-repo", env = "LLAMA_ARG_HF_REPO", value_name = "USER/REPO[:QUANT]")]
    pub hf_repo: Option<String>,
    /// File in the repository of --hf-repo, instead of a quantisation
    #[arg(long = "hf-file", env = "LLAMA_ARG_HF_FILE", value_name = "FILE")]
    pub hf_file: Option<String>,
    /// Access token for --hf-repo
    #[arg(long = "hf-token", env = "HF_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub hf_token: Option<String>,
    /// Names of the model in answers, separated by commas
    #[arg(
        short = 'a',
        long = "alias",
        env = "LLAMA_ARG_ALIAS",
        value_name = "NAME,...",
        value_delimiter = ','
    )]
    pub alias: Vec<String>,
    /// File with the Jinja chat template, instead of the model's own
    #[arg(long, env = "LLAMA_ARG_CHAT_TEMPLATE_FILE", value_name = "FILE")]
    pub chat_template_file: Option<PathBuf>,
    /// Jinja chat template, instead of the model's own
    #[arg(
        long,
        env = "LLAMA_ARG_CHAT_TEMPLATE",
        value_name = "TEMPLATE",
        conflicts_with = "chat_template_file"
    )]
    pub chat_template: Option<String>,
    /// RoPE base frequency, instead of the model's own
    #[arg(long, env = "LLAMA_ARG_ROPE_FREQ_BASE", value_name = "N")]
    pub rope_freq_base: Option<f32>,
    /// RoPE frequency scale: expands the context by 1/N
    #[arg(long, env = "LLAMA_ARG_ROPE_FREQ_SCALE", value_name = "N")]
    pub rope_freq_scale: Option<f32>,
    /// RoPE context scale: expands the context by N
    #[arg(long, env = "LLAMA_ARG_ROPE_SCALE", value_name = "N", conflicts_with = "rope_freq_scale")]
    pub rope_scale: Option<f32>,
    /// How RoPE is scaled; default: the model's own
    #[arg(long, env = "LLAMA_ARG_ROPE_SCALING_TYPE", value_name = "TYPE")]
    pub rope_scaling: Option<RopeScalingArg>,
}

/// How RoPE is scaled.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RopeScalingArg {
    /// Not at all.
    None,
    /// All frequencies by the same factor.
    Linear,
}

/// Slots, context, batch.
#[derive(Debug, Args)]
#[command(next_help_heading = "Slots and context")]
pub(crate) struct ContextArgs {
    /// Tokens of KV cache over all slots; 0 takes the model's training context
    #[arg(short = 'c', long, env = "LLAMA_ARG_CTX_SIZE", value_name = "N", default_value_t = 0)]
    pub ctx_size: u32,
    /// Slots; -1 is 4 slots that share one pool
    #[arg(long, env = "LLAMA_ARG_N_PARALLEL", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub parallel: i32,
    /// Slots share one KV pool (default: only with --parallel -1)
    #[arg(long, env = "LLAMA_ARG_KV_UNIFIED", overrides_with = "no_kv_unified")]
    pub kv_unified: bool,
    /// Every slot has its own KV
    #[arg(long, overrides_with = "kv_unified")]
    pub no_kv_unified: bool,
    /// Most tokens of one slot in a shared pool; 0 is no limit
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub kv_unified_per_slot: u32,
    /// Drop the oldest tokens when a context is full, instead of stopping
    #[arg(long, env = "LLAMA_ARG_CONTEXT_SHIFT", overrides_with = "no_context_shift")]
    pub context_shift: bool,
    /// Stop when a context is full (default)
    #[arg(long, overrides_with = "context_shift")]
    pub no_context_shift: bool,
    /// Prompt tokens that a context shift keeps; -1 keeps all
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    pub keep: i32,
    /// Tokens to generate when the request does not say; -1 is no limit
    #[arg(short = 'n', long, env = "LLAMA_ARG_N_PREDICT", visible_alias = "n-predict", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub predict: i32,
    /// Tokens of one scheduling step
    #[arg(short = 'b', long, env = "LLAMA_ARG_BATCH", value_name = "N", default_value_t = 2048)]
    pub batch_size: u32,
    /// Tokens of one forward pass
    #[arg(long, env = "LLAMA_ARG_UBATCH", value_name = "N", default_value_t = 512)]
    pub ubatch_size: u32,
    /// Prompts may enter a step that holds running generations (default)
    #[arg(long, env = "LLAMA_ARG_CONT_BATCHING", overrides_with = "no_cont_batching")]
    pub cont_batching: bool,
    /// Prompts wait for running generations
    #[arg(long, overrides_with = "cont_batching")]
    pub no_cont_batching: bool,
    /// Sliding-window layers keep their whole KV; always so here, accepted for llama-server's sake
    #[arg(long, env = "LLAMA_ARG_SWA_FULL")]
    pub swa_full: bool,
    /// Start even when the memory that is free seems too small
    #[arg(long)]
    pub no_memory_check: bool,
}

/// HTTP.
#[derive(Debug, Args)]
#[command(next_help_heading = "HTTP")]
pub(crate) struct HttpArgs {
    /// Address to listen on
    #[arg(long, env = "LLAMA_ARG_HOST", value_name = "IP", default_value = "127.0.0.1", value_parser = parse_host)]
    pub host: IpAddr,
    /// Port to listen on; 0 takes a free one
    #[arg(long, env = "LLAMA_ARG_PORT", value_name = "N", default_value_t = 8080)]
    pub port: u16,
    /// Prefix of every path
    #[arg(long, env = "LLAMA_ARG_API_PREFIX", value_name = "PREFIX", default_value = "")]
    pub api_prefix: String,
    /// Keys that clients must send, separated by commas
    #[arg(
        long,
        env = "LLAMA_API_KEY",
        value_name = "KEY,...",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub api_key: Vec<String>,
    /// File with one key a line
    #[arg(long, env = "LLAMA_ARG_API_KEY_FILE", value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Origins that browsers may call from: '*', 'localhost', or one origin. When not given, all but slot actions
    #[arg(long, value_name = "ORIGINS")]
    pub cors_origins: Option<String>,
    /// Browsers may not send credentials
    #[arg(long)]
    pub no_cors_credentials: bool,
    /// Seconds that a request may be idle
    #[arg(long, env = "LLAMA_ARG_TIMEOUT", value_name = "S", default_value_t = 3600)]
    pub timeout: u64,
    /// Most bytes of a request body
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_body: usize,
    /// Seconds of silence after which a stream sends a comment; -1 is never
    #[arg(long, value_name = "S", default_value_t = 30, allow_negative_numbers = true)]
    pub sse_ping_interval: i64,
    /// Seconds that running requests get to finish on SIGTERM or SIGINT
    #[arg(long, value_name = "S", default_value_t = 30)]
    pub shutdown_timeout: u64,
    /// GET /slots answers (default)
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_SLOTS", overrides_with = "no_slots")]
    pub slots: bool,
    /// GET /slots does not answer
    #[arg(long, overrides_with = "slots")]
    pub no_slots: bool,
    /// GET /metrics answers
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_METRICS")]
    pub metrics: bool,
    /// POST /props answers
    #[arg(long, env = "LLAMA_ARG_ENDPOINT_PROPS")]
    pub props: bool,
    /// Serve embeddings only
    #[arg(long, visible_alias = "embeddings", env = "LLAMA_ARG_EMBEDDINGS")]
    pub embedding: bool,
    /// How token embeddings become one; default: the model's own
    #[arg(long, env = "LLAMA_ARG_POOLING", value_name = "TYPE")]
    pub pooling: Option<PoolingArg>,
    /// Do not serve the page at /
    #[arg(long, alias = "no-webui")]
    pub no_ui: bool,
}

/// How token embeddings become one.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum PoolingArg {
    /// One embedding a token.
    None,
    /// Their mean.
    Mean,
    /// The first token's.
    Cls,
    /// The last token's.
    Last,
}

/// Threads and arithmetic.
#[derive(Debug, Args)]
#[command(next_help_heading = "Compute")]
pub(crate) struct ComputeArgs {
    /// Threads; -1 is one for each core
    #[arg(short = 't', long, env = "LLAMA_ARG_THREADS", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub threads: i32,
    /// Threads for prompts, and for steps with drafts; -1 is as many as --threads
    #[arg(long, env = "LLAMA_ARG_THREADS_BATCH", value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    pub threads_batch: i32,
    /// Processors that the threads may run on, as a hexadecimal mask
    #[arg(short = 'C', long, value_name = "MASK", value_parser = affinity::parse_mask)]
    pub cpu_mask: Option<Processors>,
    /// Processors that the threads may run on besides, as a range: 0-3, 4- or -3
    #[arg(long, value_name = "LO-HI", value_parser = affinity::parse_range, allow_hyphen_values = true)]
    pub cpu_range: Option<Processors>,
    /// 1 gives every thread one processor of its own, in order
    #[arg(long, value_name = "0|1", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub cpu_strict: u8,
    /// Print control tokens in generated text
    #[arg(long)]
    pub special: bool,
    /// Do not run the model once before serving
    #[arg(long, overrides_with = "warmup")]
    pub no_warmup: bool,
    /// Run the model once before serving (default)
    #[arg(long, overrides_with = "no_warmup")]
    pub warmup: bool,
    /// Leave the weights in the mapped file instead of repacking them into memory of their own
    #[arg(long, overrides_with = "repack")]
    pub no_repack: bool,
    /// Repack weights (default)
    #[arg(long, overrides_with = "no_repack")]
    pub repack: bool,
}

/// Logging.
#[derive(Debug, Args)]
#[command(next_help_heading = "Logging")]
pub(crate) struct LogArgs {
    /// 1 errors, 2 warnings, 3 information, 4 debugging, 5 everything
    #[arg(
        long = "verbosity",
        visible_alias = "log-verbosity",
        env = "LLAMA_ARG_LOG_VERBOSITY",
        value_name = "N",
        default_value_t = 3
    )]
    pub verbosity: u8,
    /// Everything
    #[arg(short = 'v', long, action = ArgAction::SetTrue)]
    pub verbose: bool,
    /// Nothing but errors
    #[arg(long)]
    pub log_disable: bool,
}

impl Cli {
    /// Parses the process's arguments. llama-server's two-letter short flags (`-np`, `-cram`) are accepted; an unknown
    /// flag is named and the process exits with status 1, as llama-server's does.
    #[must_use]
    pub(crate) fn from_process() -> Self {
        match Self::try_parse_from(expand_short_flags(std::env::args())) {
            Ok(cli) => cli,
            Err(error) => {
                // Printing fails only when the terminal is gone; there is nobody left to tell.
                let _ = error.print();
                std::process::exit(i32::from(error.use_stderr()));
            }
        }
    }
}

/// llama-server's multi-letter flags with one dash, which clap cannot declare.
const SHORT_FLAGS: &[(&str, &str)] = &[
    ("-np", "--parallel"),
    ("-kvu", "--kv-unified"),
    ("-no-kvu", "--no-kv-unified"),
    ("-sps", "--slot-prompt-similarity"),
    ("-cram", "--cache-ram"),
    ("-cb", "--cont-batching"),
    ("-nocb", "--no-cont-batching"),
    ("-nr", "--no-repack"),
    ("-tb", "--threads-batch"),
    ("-Cr", "--cpu-range"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-ub", "--ubatch-size"),
    ("-mu", "--model-url"),
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-hft", "--hf-token"),
    ("-to", "--timeout"),
    ("-sp", "--special"),
    ("-lv", "--verbosity"),
];

fn after_help() -> String {
    let forms: Vec<String> = SHORT_FLAGS.iter().map(|(short, long)| format!("{short} {long}")).collect();
    format!("Short forms: {}\n\n{EXAMPLE}", forms.join(", "))
}

fn expand_short_flags(arguments: impl Iterator<Item = String>) -> impl Iterator<Item = String> {
    arguments.map(|argument| match SHORT_FLAGS.iter().find(|(short, _)| *short == argument) {
        Some((_, long)) => (*long).to_owned(),
        None => argument,
    })
}

fn parse_host(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(IpAddr::from([127, 0, 0, 1]));
    }
    text.parse().map_err(|_| format!("'{text}' is not an IP address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        let all = std::iter::once("reprise-server").chain(arguments.iter().copied()).map(String::from);
        Cli::try_parse_from(expand_short_flags(all))
    }

    #[test]
    fn the_declaration_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn two_letter_flags_are_llama_servers() {
        let cli =
            parse(&["-m", "a.gguf", "-np", "2", "-cram", "-1", "-sps", "0.5", "-ub", "64", "-kvu"]).unwrap();
        assert_eq!((cli.context.parallel, cli.cache.cache_ram, cli.context.ubatch_size), (2, -1, 64));
        assert!(cli.context.kv_unified && (cli.cache.slot_prompt_similarity - 0.5).abs() < f32::EPSILON);
    }

    #[test]
    fn the_last_of_two_opposite_flags_wins() {
        let cli = parse(&["--no-slots", "--slots", "--cache-prompt", "--no-cache-prompt"]).unwrap();
        assert!(!cli.http.no_slots && cli.cache.no_cache_prompt);
    }

    #[test]
    fn an_unknown_flag_is_named() {
        let error = parse(&["--mmproj", "x"]).unwrap_err();
        assert!(error.use_stderr() && error.to_string().contains("--mmproj"), "{error}");
    }
}

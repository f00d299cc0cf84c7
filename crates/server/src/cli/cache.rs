//! The flags of the prompt cache and of slot files.

use std::path::PathBuf;

use clap::Args;
use reprise_model::KvType;

use crate::blocks::Place;

/// Prompt cache and slot files.
#[derive(Debug, Args)]
#[command(next_help_heading = "Prompt cache")]
pub(crate) struct CacheArgs {
    /// Requests reuse the KV of their slot unless they say otherwise (default)
    #[arg(long, env = "LLAMA_ARG_CACHE_PROMPT", overrides_with = "no_cache_prompt")]
    pub cache_prompt: bool,
    /// Requests do not reuse KV unless they say so
    #[arg(long, overrides_with = "cache_prompt")]
    pub no_cache_prompt: bool,
    /// Smallest chunk that is reused by shifting; 0 is off
    #[arg(long, env = "LLAMA_ARG_CACHE_REUSE", value_name = "N", default_value_t = 0)]
    pub cache_reuse: u32,
    /// Share of a prompt that a slot must hold to be preferred; 0 is off
    #[arg(long, value_name = "F", default_value_t = 0.1)]
    pub slot_prompt_similarity: f32,
    /// MiB of KV kept for prompts that left their slot; 0 is off, -1 is no limit
    #[arg(
        long,
        env = "LLAMA_ARG_CACHE_RAM",
        value_name = "MiB",
        default_value_t = 8192,
        allow_negative_numbers = true
    )]
    pub cache_ram: i64,
    /// What K of the KV cache is stored as: f16, q8_0 or q4_0
    #[arg(long, env = "LLAMA_ARG_CACHE_TYPE_K", value_name = "TYPE", default_value_t = KvType::F16)]
    pub cache_type_k: KvType,
    /// What V of the KV cache is stored as: f16, q8_0 or q4_0
    #[arg(long, env = "LLAMA_ARG_CACHE_TYPE_V", value_name = "TYPE", default_value_t = KvType::F16)]
    pub cache_type_v: KvType,
    /// Idle slots are published to the prompt cache (default)
    #[arg(long, env = "LLAMA_ARG_CACHE_IDLE_SLOTS", overrides_with = "no_cache_idle_slots")]
    pub cache_idle_slots: bool,
    /// Idle slots are not published to the prompt cache
    #[arg(long, overrides_with = "cache_idle_slots")]
    pub no_cache_idle_slots: bool,
    /// API keys share one prompt cache; otherwise what one leaves there is never found by another
    #[arg(long)]
    pub cache_shared: bool,
    /// Folder of slot files; enables save, restore and erase
    #[arg(long, value_name = "DIR")]
    pub slot_save_path: Option<PathBuf>,
    /// File with a secret of 16 bytes or more: slot images are tagged with it, and others are refused
    #[arg(long, value_name = "FILE")]
    pub state_key: Option<PathBuf>,
    /// Where the prompt cache outlives the server, which several servers may share: a folder, or a URL below which objects can be
    /// put, read and deleted
    #[arg(long, value_name = "DIR|URL")]
    pub cache_path: Option<Place>,
    /// MiB that the folder of --cache-path may hold; 0 is off, -1 is no limit; a URL keeps to its own
    #[arg(long, value_name = "MiB", default_value_t = 4096, allow_negative_numbers = true)]
    pub cache_disk: i64,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::blocks::Place;
    use crate::cli::Cli;

    #[test]
    fn the_cache_on_disk_is_off_without_a_folder_and_has_four_gib_with_one() {
        let of = |flags: &[&str]| Cli::try_parse_from([&["x"], flags].concat()).unwrap().cache;
        assert_eq!((of(&[]).cache_path, of(&[]).cache_disk), (None, 4096));
        let cache = of(&["--cache-path", "kv", "--cache-disk", "-1"]);
        assert_eq!((cache.cache_path, cache.cache_disk), (Some(Place::Folder("kv".into())), -1));
        for url in ["http://cache.example/kv", "HTTPS://cache.example"] {
            assert_eq!(of(&["--cache-path", url]).cache_path, Some(Place::Url(url.to_owned())));
        }
        assert!(Cli::try_parse_from(["x", "--cache-path", "s3://bucket"]).is_err());
    }
}

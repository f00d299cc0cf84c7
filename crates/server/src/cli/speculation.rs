//! The flags of speculative decoding.

use clap::Args;
use reprise_engine::Speculation;

/// Whether and how tokens are drafted.
#[derive(Debug, Args)]
#[command(next_help_heading = "Speculative decoding")]
pub(crate) struct SpeculationArgs {
    /// How tokens are drafted: none, or ngram-simple, which looks up what followed the same tokens before
    #[arg(long, env = "LLAMA_ARG_SPEC_TYPE", value_name = "TYPE", default_value = "none", value_parser = parse_type)]
    pub spec_type: SpecType,
    /// Tokens that must have occurred before
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = parse_lookup)]
    pub spec_ngram_simple_size_n: u32,
    /// Most tokens of a draft
    #[arg(long, value_name = "N", default_value_t = 48, value_parser = parse_draft)]
    pub spec_ngram_simple_size_m: u32,
    /// How often they must have occurred
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = parse_hits)]
    pub spec_ngram_simple_min_hits: u32,
    /// For draft models, which are not here; accepted for llama-server's sake
    #[arg(long, env = "LLAMA_ARG_SPEC_DRAFT_N_MAX", value_name = "N", hide = true)]
    pub spec_draft_n_max: Option<u32>,
    /// For draft models, which are not here; accepted for llama-server's sake
    #[arg(long, env = "LLAMA_ARG_SPEC_DRAFT_N_MIN", value_name = "N", hide = true)]
    pub spec_draft_n_min: Option<u32>,
    /// What the flags were called before.
    #[command(flatten)]
    pub removed: RemovedArgs,
}

/// Flags that llama-server has removed, with what it says to those who still use them.
#[derive(Debug, Args)]
pub(crate) struct RemovedArgs {
    #[arg(long, aliases = ["draft-n", "draft-max"], env = "LLAMA_ARG_DRAFT_MAX", value_name = "N", hide = true,
        value_parser = |_: &str| removed("--spec-draft-n-max or --spec-ngram-mod-n-max"))]
    draft: Option<Removed>,
    #[arg(long, alias = "draft-n-min", env = "LLAMA_ARG_DRAFT_MIN", value_name = "N", hide = true,
        value_parser = |_: &str| removed("--spec-draft-n-min or --spec-ngram-mod-n-min"))]
    draft_min: Option<Removed>,
    #[arg(long, value_name = "N", hide = true,
        value_parser = |_: &str| removed("the respective --spec-ngram-*-size-n"))]
    spec_ngram_size_n: Option<Removed>,
    #[arg(long, value_name = "N", hide = true,
        value_parser = |_: &str| removed("the respective --spec-ngram-*-size-m"))]
    spec_ngram_size_m: Option<Removed>,
    #[arg(long, value_name = "N", hide = true,
        value_parser = |_: &str| removed("the respective --spec-ngram-*-min-hits"))]
    spec_ngram_min_hits: Option<Removed>,
}

/// How tokens are drafted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpecType {
    /// Not at all.
    None,
    /// By prompt lookup.
    NgramSimple,
}

/// The value of a flag that has none.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Removed {}

impl SpeculationArgs {
    /// In the engine's words.
    pub(crate) fn speculation(&self) -> Option<Speculation> {
        (self.spec_type == SpecType::NgramSimple).then_some(Speculation {
            lookup: self.spec_ngram_simple_size_n,
            draft: self.spec_ngram_simple_size_m,
            hits: self.spec_ngram_simple_min_hits,
        })
    }
}

/// A list, as in llama-server, where `none` overrules the others.
fn parse_type(text: &str) -> Result<SpecType, String> {
    let mut all = SpecType::NgramSimple;
    for name in text.split(',') {
        match name {
            "none" => all = SpecType::None,
            "ngram-simple" | "ngram" => {}
            "draft-simple" | "draft-eagle3" | "draft-mtp" | "draft-dflash" | "draft-dspark"
            | "ngram-map-k" | "ngram-map-k4v" | "ngram-mod" | "ngram-cache" => {
                return Err(format!("this server does not draft by '{name}', only by 'ngram-simple'"));
            }
            other => return Err(format!("unknown speculative type: {other}")),
        }
    }
    Ok(all)
}

fn parse_lookup(text: &str) -> Result<u32, String> {
    parse_size(text, "N")
}

fn parse_draft(text: &str) -> Result<u32, String> {
    parse_size(text, "M")
}

fn parse_size(text: &str, which: &str) -> Result<u32, String> {
    let size = text.parse().ok().filter(|size| (1..=1024).contains(size));
    size.ok_or_else(|| format!("ngram size {which} must be between 1 and 1024 inclusive"))
}

fn parse_hits(text: &str) -> Result<u32, String> {
    let hits = text.parse().ok().filter(|hits| *hits >= 1);
    hits.ok_or_else(|| "ngram min hits must be at least 1".to_owned())
}

fn removed(instead: &str) -> Result<Removed, String> {
    Err(format!("the argument has been removed. use {instead}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;

    fn of(flags: &str) -> Result<Option<Speculation>, String> {
        let cli = Cli::try_parse_from(std::iter::once("x").chain(flags.split_whitespace()));
        cli.map(|cli| cli.speculation.speculation()).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_off_by_default_and_has_llama_servers_sizes_when_on() {
        assert_eq!(of(""), Ok(None));
        assert_eq!(of("--spec-type none"), Ok(None));
        assert_eq!(of("--spec-type none,ngram-simple"), Ok(None));
        let default = Speculation { lookup: 12, draft: 48, hits: 1 };
        assert_eq!(default, Speculation::default());
        for flags in
            ["--spec-type ngram-simple", "--spec-type ngram", "--spec-type ngram --spec-draft-n-max 3"]
        {
            assert_eq!(of(flags), Ok(Some(default)));
        }
        let sizes =
            "--spec-ngram-simple-size-n 3 --spec-ngram-simple-size-m 8 --spec-ngram-simple-min-hits 2";
        let wanted = Speculation { lookup: 3, draft: 8, hits: 2 };
        assert_eq!(of(&format!("--spec-type ngram-simple {sizes}")), Ok(Some(wanted)));
    }

    #[test]
    fn what_is_refused_says_why() {
        for (flags, why) in [
            ("--spec-type foo", "unknown speculative type: foo"),
            ("--spec-type ngram-mod", "does not draft by 'ngram-mod'"),
            ("--spec-ngram-simple-size-n 0", "ngram size N must be between 1 and 1024 inclusive"),
            ("--spec-ngram-simple-size-m 1025", "ngram size M must be between 1 and 1024 inclusive"),
            ("--spec-ngram-simple-min-hits 0", "ngram min hits must be at least 1"),
            ("--draft 3", "removed. use --spec-draft-n-max or --spec-ngram-mod-n-max"),
            ("--draft-max 3", "removed. use --spec-draft-n-max or --spec-ngram-mod-n-max"),
            ("--draft-min 3", "removed. use --spec-draft-n-min or --spec-ngram-mod-n-min"),
            ("--spec-ngram-size-n 3", "removed. use the respective --spec-ngram-*-size-n"),
            ("--spec-ngram-min-hits 3", "removed. use the respective --spec-ngram-*-min-hits"),
        ] {
            let error = of(flags).expect_err(flags);
            assert!(error.contains(why), "{error}");
        }
    }
}

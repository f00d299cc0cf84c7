//! The flags that are the defaults of a request's sampling fields.

use clap::Args;
use reprise_engine::sample::{DryParams, Mirostat, Sampling};

/// How tokens are chosen when the request does not say.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sampling", allow_negative_numbers = true)]
pub(crate) struct SamplingArgs {
    /// Seed; -1 is random
    #[arg(short = 's', long, value_name = "N", default_value_t = -1, value_parser = clap::value_parser!(i64).range(-1..=i64::from(u32::MAX)))]
    pub seed: i64,
    /// Temperature; 0 is greedy
    #[arg(
        long = "temp",
        visible_alias = "temperature",
        env = "LLAMA_ARG_TEMPERATURE",
        value_name = "N",
        default_value_t = 0.8
    )]
    pub temp: f32,
    /// Candidates kept; 0 is all
    #[arg(long, env = "LLAMA_ARG_TOP_K", value_name = "N", default_value_t = 40)]
    pub top_k: i32,
    /// Probability mass kept
    #[arg(long, env = "LLAMA_ARG_TOP_P", value_name = "N", default_value_t = 0.95)]
    pub top_p: f32,
    /// Least probability relative to the best
    #[arg(long, env = "LLAMA_ARG_MIN_P", value_name = "N", default_value_t = 0.05)]
    pub min_p: f32,
    /// Standard deviations below the best logit kept; -1 is off
    #[arg(long = "top-nsigma", visible_alias = "top-n-sigma", value_name = "N", default_value_t = -1.0)]
    pub top_n_sigma: f32,
    /// Chance that XTC acts
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub xtc_probability: f32,
    /// Least probability of a candidate that XTC removes
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    pub xtc_threshold: f32,
    /// Locally typical mass kept
    #[arg(long = "typical", visible_alias = "typical-p", value_name = "N", default_value_t = 1.0)]
    pub typical: f32,
    /// Tokens that the penalties look back on
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub repeat_last_n: i32,
    /// Factor on repeated tokens
    #[arg(long, env = "LLAMA_ARG_REPEAT_PENALTY", value_name = "N", default_value_t = 1.0)]
    pub repeat_penalty: f32,
    /// Subtracted once from a repeated token
    #[arg(long, env = "LLAMA_ARG_PRESENCE_PENALTY", value_name = "N", default_value_t = 0.0)]
    pub presence_penalty: f32,
    /// Subtracted for each repetition
    #[arg(long, env = "LLAMA_ARG_FREQUENCY_PENALTY", value_name = "N", default_value_t = 0.0)]
    pub frequency_penalty: f32,
    /// DRY's multiplier; 0 is off
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub dry_multiplier: f32,
    /// DRY's base
    #[arg(long, value_name = "N", default_value_t = 1.75)]
    pub dry_base: f32,
    /// Repetitions up to this length are free of DRY's penalty
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub dry_allowed_length: i32,
    /// Tokens that DRY looks back on
    #[arg(long, value_name = "N", default_value_t = 64)]
    pub dry_penalty_last_n: i32,
    /// Range of the dynamic temperature; 0 is off
    #[arg(long, value_name = "N", default_value_t = 0.0)]
    pub dynatemp_range: f32,
    /// Exponent of the dynamic temperature
    #[arg(long = "dynatemp-exp", value_name = "N", default_value_t = 1.0)]
    pub dynatemp_exponent: f32,
    /// Mirostat's version; 0 is off
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub mirostat: u8,
    /// Mirostat's learning rate
    #[arg(long, value_name = "N", default_value_t = 0.1)]
    pub mirostat_lr: f32,
    /// Mirostat's target entropy
    #[arg(long, value_name = "N", default_value_t = 5.0)]
    pub mirostat_ent: f32,
}

impl SamplingArgs {
    /// The defaults that these flags make. Nonsense is clamped as in a request: a temperature below zero is greedy.
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling {
            // -1 and the largest number both stand for a random seed.
            seed: u32::try_from(self.seed).unwrap_or(u32::MAX),
            temperature: self.temp.max(0.0),
            dynatemp_range: self.dynatemp_range,
            dynatemp_exponent: self.dynatemp_exponent,
            top_k: self.top_k,
            top_p: self.top_p,
            min_p: self.min_p,
            top_n_sigma: self.top_n_sigma,
            typical_p: self.typical,
            xtc_probability: self.xtc_probability,
            xtc_threshold: self.xtc_threshold,
            repeat_last_n: self.repeat_last_n,
            repeat_penalty: self.repeat_penalty,
            presence_penalty: self.presence_penalty,
            frequency_penalty: self.frequency_penalty,
            dry: DryParams {
                multiplier: self.dry_multiplier,
                base: self.dry_base,
                allowed_length: self.dry_allowed_length,
                penalty_last_n: self.dry_penalty_last_n,
                ..DryParams::default()
            },
            mirostat: Mirostat { version: self.mirostat, tau: self.mirostat_ent, eta: self.mirostat_lr },
            ..Sampling::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use reprise_engine::sample::Sampling;

    use crate::cli::Cli;

    #[test]
    fn without_flags_the_defaults_are_the_engines() {
        let cli = Cli::try_parse_from(["reprise-server"]).unwrap();
        assert_eq!(cli.sampling.sampling(), Sampling::default());
    }

    #[test]
    fn flags_replace_them() {
        let flags = ["reprise-server", "-s", "7", "--temp", "-1", "--top-nsigma", "-1.0", "--mirostat", "2"];
        let sampling = Cli::try_parse_from(flags).unwrap().sampling.sampling();
        assert_eq!((sampling.seed, sampling.mirostat.version), (7, 2));
        assert!(sampling.temperature == 0.0 && sampling.top_n_sigma == -1.0);
        assert!(Cli::try_parse_from(["reprise-server", "-s", "4294967296"]).is_err());
    }
}

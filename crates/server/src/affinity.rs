//! Which processors the computing threads run on: llama-server's `--cpu-mask`, `--cpu-range` and `--cpu-strict`.

use anyhow::{Result, bail};

use crate::cli::ComputeArgs;

/// Most processors that can be named.
const MOST: usize = 512;

/// Numbers of processors, ascending.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Processors(Vec<usize>);

/// Where threads may run. Without processors, anywhere.
#[derive(Debug, Clone)]
pub(crate) struct Affinity {
    processors: Vec<usize>,
    /// Every thread has one processor of its own.
    strict: bool,
}

impl Affinity {
    /// What the command line asks for: the processors of the mask and of the range together.
    ///
    /// # Errors
    /// When processors are named that this machine, or the process, does not have, or where the system has no affinity.
    pub(crate) fn new(arguments: &ComputeArgs) -> Result<Self> {
        let given = [&arguments.cpu_mask, &arguments.cpu_range];
        let mut processors: Vec<_> = given.into_iter().flatten().flat_map(|set| set.0.clone()).collect();
        processors.sort_unstable();
        processors.dedup();
        if !processors.is_empty() {
            let allowed = system::allowed()?;
            if let Some(missing) = processors.iter().find(|processor| !allowed.contains(processor)) {
                bail!(
                    "--cpu-mask, --cpu-range: there is no processor {missing}; this process may use {allowed:?}"
                );
            }
        }
        Ok(Self { processors, strict: arguments.cpu_strict == 1 })
    }

    /// Binds the calling thread, the `thread`-th of those that compute.
    pub(crate) fn apply(&self, thread: usize) {
        let Some(own) = self.processors.get(thread % self.processors.len().max(1)) else { return };
        let bound = if self.strict { system::bind(&[*own]) } else { system::bind(&self.processors) };
        if let Err(error) = bound {
            tracing::warn!("thread {thread} could not be bound to its processors: {error}");
        }
    }
}

/// A hexadecimal mask of any length, `0x` or not; bit 0 is processor 0.
pub(crate) fn parse_mask(text: &str) -> Result<Processors, String> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    let mut processors = Vec::new();
    for (place, digit) in digits.chars().rev().enumerate() {
        let digit = digit.to_digit(16).ok_or_else(|| format!("'{digit}' is not a hexadecimal digit"))?;
        processors.extend((0..4).filter(|bit| digit >> bit & 1 == 1).map(|bit| place * 4 + bit));
    }
    checked(processors)
}

/// `LO-HI`, both counted; without one of them, from the first or to the last.
pub(crate) fn parse_range(text: &str) -> Result<Processors, String> {
    let (low, high) = text.split_once('-').ok_or("write a range as LO-HI")?;
    let number = |text: &str, default| match text {
        "" => Ok(default),
        text => text.parse::<usize>().map_err(|_| format!("'{text}' is not the number of a processor")),
    };
    let last = std::thread::available_parallelism().map_or(1, usize::from) - 1;
    let (low, high) = (number(low, 0)?, number(high, last)?);
    if high >= MOST {
        return Err(format!("processors are numbered below {MOST}"));
    }
    checked((low..=high).collect())
}

fn checked(processors: Vec<usize>) -> Result<Processors, String> {
    match processors.last() {
        None => Err("it names no processor".into()),
        Some(last) if *last >= MOST => Err(format!("processors are numbered below {MOST}")),
        Some(_) => Ok(Processors(processors)),
    }
}

#[cfg(target_os = "linux")]
mod system {
    use anyhow::Result;
    use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

    pub(super) fn allowed() -> Result<Vec<usize>> {
        let set = sched_getaffinity(None)?;
        Ok((0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect())
    }

    pub(super) fn bind(processors: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        processors.iter().for_each(|processor| set.set(*processor));
        Ok(sched_setaffinity(None, &set)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use anyhow::{Result, bail};

    pub(super) fn allowed() -> Result<Vec<usize>> {
        bail!("--cpu-mask and --cpu-range work on Linux only")
    }

    pub(super) fn bind(_: &[usize]) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(text: &str) -> Vec<usize> {
        parse_mask(text).unwrap().0
    }

    #[test]
    fn masks_are_hexadecimal_and_of_any_length() {
        assert_eq!(mask("5"), [0, 2]);
        assert_eq!(mask("0xF0"), [4, 5, 6, 7]);
        assert_eq!(mask(&format!("8{}1", "0".repeat(31))), [0, 131]);
        for bad in ["", "0", "0x", "g", &format!("1{}", "0".repeat(128))] {
            assert!(parse_mask(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ranges_may_be_open() {
        assert_eq!(parse_range("2-4").unwrap().0, [2, 3, 4]);
        assert_eq!(parse_range("-1").unwrap().0, [0, 1]);
        assert_eq!(parse_range("0-").unwrap().0[0], 0);
        for bad in ["3", "4-2", "a-b", "0-99999"] {
            assert!(parse_range(bad).is_err(), "{bad}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn threads_run_where_they_were_bound() {
        let processors = system::allowed().unwrap();
        let seen = |strict, thread: usize| {
            let affinity = Affinity { processors: processors.clone(), strict };
            let bound = std::thread::spawn(move || {
                affinity.apply(thread);
                system::allowed().unwrap()
            });
            bound.join().unwrap()
        };
        assert_eq!(seen(false, 1), processors);
        for thread in 0..3 {
            assert_eq!(seen(true, thread), [processors[thread % processors.len()]]);
        }
    }
}

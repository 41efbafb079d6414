//! Wall and processor time of a command, what a program has measured itself, and the median of several.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::BenchError;
use crate::program::{self, ProgramError};

/// The kernel's unit for the processor time of processes (`USER_HZ`), the same on every architecture of ours.
const TICKS_PER_SECOND: f64 = 100.0;

/// One run of a command.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// From start to exit, in seconds.
    pub(super) wall: f64,
    /// User and system time of it and of everything that it has waited for, in seconds, in steps of 10 ms.
    pub(super) cpu: f64,
}

/// Runs a command once. Its output is dropped unless it fails.
pub(super) fn sample(command: &mut Command) -> Result<Sample, ProgramError> {
    let before = children();
    let begin = Instant::now();
    program::output(command)?;
    let wall = begin.elapsed().as_secs_f64();
    Ok(Sample { wall, cpu: children() - before })
}

/// Runs a command whose time is too short for pipes and threads around it to be without weight: nothing is read.
pub(super) fn brief(command: &mut Command) -> Result<Duration, ProgramError> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let run = program::run(command);
    let taken = begin.elapsed();
    run.map(|()| taken)
}

/// The middle of some values; of an even number the lower middle.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len().saturating_sub(1) / 2;
    values.get(middle).copied().unwrap_or(f64::NAN)
}

/// The lines `figure NAME VALUE` of a program that measures something, which there have to be `count` of.
pub(super) fn figures(output: &[u8], count: usize) -> Result<BTreeMap<String, f64>, BenchError> {
    let output = String::from_utf8_lossy(output);
    let mut figures = BTreeMap::new();
    for line in output.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["figure", name, value] = words[..]
            && let Ok(value) = value.parse()
        {
            figures.insert(name.to_owned(), value);
        }
    }
    if figures.len() == count {
        return Ok(figures);
    }
    let last: Vec<&str> = output.lines().rev().take(20).collect();
    Err(BenchError::Unreadable { output: last.into_iter().rev().collect::<Vec<_>>().join("\n") })
}

/// Processor time of the children that have ended, in seconds.
fn children() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name in brackets and may hold anything (proc(5)); cutime and cstime are the
    // 16th and 17th field, so the 14th and 15th after it.
    let rest = stat.rsplit(')').next().unwrap_or_default();
    let fields = rest.split_whitespace().skip(13).take(2);
    fields.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / TICKS_PER_SECOND
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]).to_bits(), 2.0_f64.to_bits());
        assert!(median(Vec::new()).is_nan());
    }

    #[test]
    fn processor_time_of_children_is_counted() {
        let sample =
            sample(Command::new("sh").args(["-c", "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"]));
        let sample = sample.unwrap();
        assert!(sample.cpu > 0.0, "{sample:?}");
        assert!(sample.wall > 0.0);
    }

    #[test]
    fn figures_are_found_between_other_lines() {
        let said = b"boot\r\nfigure write 1.5\r\nfigure read 2\nfigure small 0.25\nfigure status 3\npanic\n";
        assert_eq!(
            figures(said, 4).unwrap().get("small").map(|value| value.to_bits()),
            Some(0.25_f64.to_bits())
        );
        let error = figures(b"mount: unknown filesystem\nfigure write 1\n", 4).unwrap_err().to_string();
        assert!(error.ends_with("mount: unknown filesystem\nfigure write 1"), "{error}");
    }
}

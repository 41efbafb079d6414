//! The steps of the boot, each with a name for its failure and a time for those who ask.

use std::error::Error;
use std::time::{Duration, Instant};

use crate::console;

/// Keeps the time.
#[derive(Debug)]
pub(crate) struct Stages {
    passed: Vec<(&'static str, Duration)>,
}

/// A step that failed, as the host is told of it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Failure {
    /// What was being done.
    pub stage: String,
    /// Why it was not.
    pub message: String,
}

impl Stages {
    /// Starts with none.
    pub(crate) fn new() -> Self {
        Self { passed: Vec::new() }
    }

    /// Takes one step.
    pub(crate) fn take<T, E: Error>(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, Failure> {
        let since = Instant::now();
        let result = step();
        self.passed.push((name, since.elapsed()));
        result.map_err(|error| Failure { stage: name.to_owned(), message: console::chain(&error) })
    }

    /// Writes the times to the console.
    pub(crate) fn report(&self) {
        for (name, time) in &self.passed {
            console::say(&format!("{:>8} us  {name}", time.as_micros()));
        }
        let total: Duration = self.passed.iter().map(|(_, time)| *time).sum();
        console::say(&format!("{:>8} us  in all", total.as_micros()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_step_and_all_causes() {
        let failure = Stages::new()
            .take("mount the image", || {
                Err::<(), _>(crate::mount::MountError::Mount {
                    what: "/dev/vda".to_owned(),
                    target: "/image".to_owned(),
                    source: rustix::io::Errno::NODEV,
                })
            })
            .unwrap_err();
        assert_eq!(failure.stage, "mount the image");
        assert!(
            failure.message.starts_with("cannot mount /dev/vda on /image: No such device"),
            "{failure:?}"
        );
    }
}

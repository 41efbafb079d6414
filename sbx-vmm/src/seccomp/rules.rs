//! The lists of system calls, from text to a filter.
//!
//! One call a line, and why it is there; what has no reason is a fault of the list. Lines that begin with `#` are remarks.
//!
//! ```text
//! preadv                          # reads of the guest, straight into its memory
//! ioctl(_, =KVM_RUN)              # only with this second argument
//! mmap(_, _, !&PROT_EXEC)         # only without this bit
//! clone3 -> ENOSYS                # not made, and answered with this error
//! ```
//!
//! | argument | matches |
//! |---|---|
//! | `_` | anything |
//! | `=NAME`, `!=NAME` | this value; any other |
//! | `&NAME`, `!&NAME` | all of these bits are set; none of them is |
//!
//! Of an argument the lower 32 bits count, which is all that the kernel looks at in those that are named. Lines for the
//! same call are alternatives, and what a later list says of a call goes before an earlier list's refusal of it.

use std::collections::BTreeMap;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::names::{self, Call};
use super::prefix;

/// A list, as it lies beside this file.
#[derive(Debug)]
pub(super) struct List {
    /// Name of the file, for errors.
    pub(super) name: &'static str,
    /// Its contents.
    pub(super) text: &'static str,
}

/// Where a list is wrong, and how.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
#[error("{list}:{line}: {fault}")]
pub struct RuleError {
    list: &'static str,
    line: usize,
    fault: Fault,
}

#[derive(Debug, Eq, PartialEq, thiserror::Error)]
enum Fault {
    #[error("no reason is given")]
    NoReason,
    #[error("there is no {0:?}")]
    Unknown(String),
    #[error("the arguments are not closed")]
    Unclosed,
    #[error("an argument is `_`, or a name after one of = != & !&")]
    Argument,
    #[error("a call has at most six arguments")]
    TooMany,
    #[error("a call is refused whatever its arguments are")]
    ConditionalRefusal,
    #[error("the call is refused here and permitted before")]
    Contradiction,
}

/// What the lists say of a call.
#[derive(Debug, PartialEq)]
enum Verdict {
    /// It is meant, under one of these rules, or always if there are none.
    Meant(Vec<SeccompRule>),
    /// It is answered with this error.
    Refused(u32),
}

/// All calls of some lists.
#[derive(Debug, Default)]
pub(super) struct Rules {
    calls: BTreeMap<i64, Verdict>,
}

impl Rules {
    /// Reads `lists`, the more special ones last.
    pub(super) fn read(lists: &[List]) -> Result<Self, RuleError> {
        let mut rules = Self::default();
        for list in lists {
            for (index, line) in list.text.lines().enumerate() {
                if line.is_empty() || line.starts_with('#') {
                    continue;
                }
                rules.add(line).map_err(|fault| RuleError {
                    list: list.name,
                    line: index.saturating_add(1),
                    fault,
                })?;
            }
        }
        Ok(rules)
    }

    fn add(&mut self, line: &str) -> Result<(), Fault> {
        let (call, reason) = line.split_once('#').ok_or(Fault::NoReason)?;
        if reason.trim().is_empty() {
            return Err(Fault::NoReason);
        }
        let (call, error) = match call.split_once("->") {
            Some((call, error)) => (call.trim(), Some(error.trim())),
            None => (call.trim(), None),
        };
        let (name, arguments) = match call.split_once('(') {
            Some((name, rest)) => (name, Some(rest.strip_suffix(')').ok_or(Fault::Unclosed)?)),
            None => (call, None),
        };
        let number = match names::call(name).ok_or_else(|| Fault::Unknown(name.to_owned()))? {
            Call::Number(number) => number,
            Call::Elsewhere => return Ok(()),
        };
        let conditions = arguments.map_or(Ok(Vec::new()), conditions)?;
        let Some(error) = error else {
            self.mean(number, conditions);
            return Ok(());
        };
        let error = names::error(error).ok_or_else(|| Fault::Unknown(error.to_owned()))?;
        if !conditions.is_empty() {
            return Err(Fault::ConditionalRefusal);
        }
        match self.calls.insert(number, Verdict::Refused(error)) {
            Some(Verdict::Meant(_)) => Err(Fault::Contradiction),
            _ => Ok(()),
        }
    }

    fn mean(&mut self, number: i64, conditions: Vec<SeccompCondition>) {
        // Without conditions there is no rule to make: the call is meant whatever its arguments are.
        let rule = SeccompRule::new(conditions).ok();
        match (self.calls.get_mut(&number), rule) {
            (Some(Verdict::Meant(rules)), Some(rule)) if !rules.is_empty() => rules.push(rule),
            (Some(Verdict::Meant(rules)), None) => rules.clear(),
            (Some(Verdict::Meant(_)), Some(_)) => {}
            (None | Some(Verdict::Refused(_)), rule) => {
                self.calls.insert(number, Verdict::Meant(rule.into_iter().collect()));
            }
        }
    }

    /// The filter that permits what is meant, refuses what is refused, and does `otherwise` to everything else.
    pub(super) fn permitting(&self, otherwise: SeccompAction) -> Result<BpfProgram, BackendError> {
        self.program(otherwise, SeccompAction::Allow)
    }

    /// The filter that does `action` to what is meant, refuses what is refused, and permits everything else.
    pub(super) fn forbidding(&self, action: SeccompAction) -> Result<BpfProgram, BackendError> {
        self.program(SeccompAction::Allow, action)
    }

    fn program(&self, otherwise: SeccompAction, action: SeccompAction) -> Result<BpfProgram, BackendError> {
        let mut meant = BTreeMap::new();
        let mut refused = Vec::new();
        for (number, verdict) in &self.calls {
            match verdict {
                Verdict::Meant(rules) => {
                    meant.insert(*number, rules.clone());
                }
                Verdict::Refused(error) => {
                    refused.extend(u32::try_from(*number).map(|number| (number, *error)));
                }
            }
        }
        let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
        let mut program = SeccompFilter::new(meant, otherwise, action, architecture)?.try_into()?;
        prefix::refuse(&mut program, refused.into_iter());
        Ok(program)
    }
}

fn conditions(arguments: &str) -> Result<Vec<SeccompCondition>, Fault> {
    let mut conditions = Vec::new();
    for (index, argument) in (0_u8..).zip(arguments.split(',')) {
        let argument = argument.trim();
        if argument == "_" {
            continue;
        }
        let (operator, name): (fn(u64) -> SeccompCmpOp, _) = if let Some(name) = argument.strip_prefix("!=") {
            (|_| SeccompCmpOp::Ne, name)
        } else if let Some(name) = argument.strip_prefix("!&") {
            (SeccompCmpOp::MaskedEq, name)
        } else if let Some(name) = argument.strip_prefix('=') {
            (|_| SeccompCmpOp::Eq, name)
        } else if let Some(name) = argument.strip_prefix('&') {
            (SeccompCmpOp::MaskedEq, name)
        } else {
            return Err(Fault::Argument);
        };
        let value = names::value(name).ok_or_else(|| Fault::Unknown(name.to_owned()))?.into();
        // No bit of the mask is set, or all of them are.
        let wanted = if argument.starts_with("!&") { 0 } else { value };
        let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator(value), wanted);
        conditions.push(condition.map_err(|_| Fault::TooMany)?);
    }
    Ok(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &'static str) -> Result<Rules, RuleError> {
        Rules::read(&[List { name: "list", text }])
    }

    fn fault(text: &'static str) -> String {
        read(text).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_with_a_list_is_told_with_its_line() {
        assert_eq!(fault("# remark\n\nread\n"), "list:3: no reason is given");
        assert_eq!(fault("read #"), "list:1: no reason is given");
        assert_eq!(fault("reed # why"), "list:1: there is no \"reed\"");
        assert_eq!(fault("ioctl(_, =KVM_RAN) # why"), "list:1: there is no \"KVM_RAN\"");
        assert_eq!(fault("read -> EWHY # why"), "list:1: there is no \"EWHY\"");
        assert_eq!(fault("ioctl(_ # why"), "list:1: the arguments are not closed");
        assert_eq!(
            fault("ioctl(KVM_RUN) # why"),
            "list:1: an argument is `_`, or a name after one of = != & !&"
        );
        assert_eq!(fault("read(_,_,_,_,_,_,=AF_UNIX) # why"), "list:1: a call has at most six arguments");
        assert_eq!(
            fault("clone(=AF_UNIX) -> ENOSYS # why"),
            "list:1: a call is refused whatever its arguments are"
        );
        assert_eq!(
            fault("read # why\nread -> ENOSYS # why"),
            "list:2: the call is refused here and permitted before"
        );
    }

    #[test]
    fn a_more_special_list_takes_a_refusal_back() {
        let lists = [
            List { name: "general", text: "openat -> EACCES # why\nread # why" },
            List { name: "special", text: "openat # why" },
        ];
        let rules = Rules::read(&lists).unwrap();
        assert_eq!(rules.calls.get(&libc::SYS_openat), Some(&Verdict::Meant(Vec::new())));
        let general = Rules::read(&lists[..1]).unwrap();
        assert_eq!(
            general.calls.get(&libc::SYS_openat),
            Some(&Verdict::Refused(libc::EACCES.cast_unsigned()))
        );
    }

    #[test]
    fn lines_for_one_call_are_alternatives_and_the_widest_counts() {
        let rules = |text| match read(text).unwrap().calls.remove(&libc::SYS_ioctl) {
            Some(Verdict::Meant(rules)) => rules.len(),
            other => panic!("{other:?}"),
        };
        assert_eq!(rules("ioctl(_, =KVM_RUN) # a\nioctl(_, =FIONBIO) # b"), 2);
        assert_eq!(rules("ioctl(_, =KVM_RUN) # a\nioctl # b"), 0);
        assert_eq!(rules("ioctl # a\nioctl(_, =KVM_RUN) # b"), 0);
    }
}

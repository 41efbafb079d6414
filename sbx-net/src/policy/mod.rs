//! What the guest may reach: a pure function of rules and the facts of a flow, which says why.
//!
//! ```text
//! name asked for ──▶ Policy::resolve ──▶ Decision          (then each answer: Policy::answer)
//! flow, pinned names, claimed name ──▶ Policy::connect ──▶ Decision { Allow | Inspect | Refuse, rule, reason }
//! ```

mod rule;

pub use rule::{Action, Origin, PortRange, Protocol, Rule, Target};

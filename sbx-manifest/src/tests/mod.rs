//! Tests of the crate as a whole: what a user writes, and what a user sees.

mod documents;
mod faults;
mod hostile;
mod rendering;

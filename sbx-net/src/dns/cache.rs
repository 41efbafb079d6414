//! Answers that are still good, so that asking again costs nothing outside.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::answer::{Answer, Question};
use crate::pins;

/// Most answers.
const MAX_ANSWERS: usize = 1024;

/// Longest answer that is kept, so that all of them have a bound: 4 MiB.
const MAX_ANSWER_BYTES: usize = 4096;

/// For how long it is remembered that there is nothing.
const NEGATIVE: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Cache {
    answers: HashMap<Question, Kept>,
}

#[derive(Debug)]
struct Kept {
    answer: Answer,
    since: Instant,
    until: Instant,
}

impl Cache {
    /// Keeps an answer that took so many bytes.
    pub(super) fn insert(&mut self, question: &Question, answer: &Answer, bytes: usize, now: Instant) {
        if bytes > MAX_ANSWER_BYTES {
            return;
        }
        if self.answers.len() >= MAX_ANSWERS && !self.answers.contains_key(question) {
            self.answers.retain(|_, kept| kept.until > now);
        }
        if self.answers.len() >= MAX_ANSWERS {
            let soonest = self.answers.iter().min_by_key(|(_, kept)| kept.until);
            if let Some(question) = soonest.map(|(question, _)| question.clone()) {
                self.answers.remove(&question);
            }
        }
        let until = now.checked_add(answer.ttl().map_or(NEGATIVE, pins::clamp)).unwrap_or(now);
        let kept = Kept { answer: answer.clone(), since: now, until };
        self.answers.insert(question.clone(), kept);
    }

    /// An answer that is still good, its times to live less what has passed.
    pub(super) fn get(&self, question: &Question, now: Instant) -> Option<Answer> {
        let kept = self.answers.get(question).filter(|kept| kept.until > now)?;
        let passed = now.saturating_duration_since(kept.since).as_secs();
        let mut answer = kept.answer.clone();
        for record in &mut answer.records {
            record.ttl = record.ttl.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX));
        }
        Some(answer)
    }
}

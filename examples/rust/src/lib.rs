//! How long texts take.

/// How long `text` takes to read aloud at 150 words a minute, for people.
pub fn reading_time(text: &str) -> String {
    let seconds = text.split_whitespace().count() * 60 / 150;
    format!("{} s", itoa::Buffer::new().format(seconds))
}

#[cfg(test)]
mod tests {
    use super::reading_time;

    #[test]
    fn a_sentence_takes_seconds() {
        assert_eq!(reading_time("five words are two seconds"), "2 s");
    }

    #[test]
    fn a_chapter_takes_minutes() {
        assert_eq!(reading_time(&"word ".repeat(750)), "300 s");
    }
}

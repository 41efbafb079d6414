"""How long texts take."""


def reading_seconds(text: str) -> float:
    """Seconds that `text` takes to read aloud, at 150 words a minute."""
    return len(text.split()) * 60 / 150

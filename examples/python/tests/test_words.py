from words import reading_seconds


def test_a_sentence_takes_seconds():
    assert reading_seconds("five words are two seconds") == 2


def test_nothing_takes_no_time():
    assert reading_seconds("") == 0

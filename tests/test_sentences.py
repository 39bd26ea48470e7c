"""README and docs are in short sentences, by the rule of tools/sentences.py."""

import pytest

from sentences import Sentence, broken_rules, in_docstrings, in_document, main, mean_words


def words(text):
    return [sentence.words for sentence in in_document(text, "made_up.md")]


def test_the_documents_keep_the_rule(capsys):
    assert main([]) == 0, capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One two. Three four five! Six?", [2, 3, 1]),
        ("The mean is 0.5, or 10,000 in all. Done.", [8, 1]),
        ("See docs/theory.md and https://a.org/x.html for it. Done.", [6, 1]),
        ("A method, e.g. UCB, by Raju et al. in 2021. Done.", [10, 1]),
        ("Call `pruner.update(index, losses). It` now. Done.", [3, 1]),
        ("Call ``a `b` c d`` now.", [3]),
        ('It says "stop." Then (it ends.) **Bold ends.** Done.', [3, 3, 2, 1]),
        ("Read [the long\ntitle. Really](a.md#b) now. Done.", [4, 2, 1]),
        ("Ranks 1 .. s are kept, 30 % = 3 of 10. Done.", [9, 1]),
        ("A sentence\nover two lines\n\nand one without an end", [5, 5]),
    ],
)
def test_a_sentence_ends_at_its_mark_or_with_its_paragraph(text, expected):
    assert words(text) == expected


def test_a_list_item_is_one_sentence():
    text = "Intro:\n- One two. Three\n  four.\n* five six\n1. seven\n\nEnd here."
    assert words(text) == [1, 4, 2, 1, 2]


def test_headings_tables_code_comments_and_directives_do_not_count():
    text = """---
title: Not counted
---
# Not counted at all

| not | counted |
| --- | --- |

<!-- not
counted -->
![not counted](a.png)

```python
not counted
```

~~~~
not counted
```
~~~~

!!! note "Not counted"
    This counts.

::: orderdp.Pruner
    options:
      not: counted

> This counts too.
"""
    found = in_document(text, "made_up.md")
    assert [(sentence.text, sentence.line) for sentence in found] == [("This counts.", 23), ("This counts too.", 29)]


def test_a_sentence_knows_its_line():
    found = in_document("# Title\n\nOne two\nthree. Four\n`a\nb` five. Six.\n\nSeven.", "made_up.md")
    assert [(sentence.words, sentence.line) for sentence in found] == [(3, 3), (3, 4), (1, 6), (1, 8)]


def test_a_high_mean_and_a_long_sentence_break_the_rule():
    short, long = Sentence("one two", "a.md", 1), Sentence("word " * 41, "a.md", 7)
    assert mean_words([short, long]) == 21.5
    assert broken_rules([short]) == []
    assert broken_rules([short] * 10 + [long]) == ["a.md:7: 41 words: " + "word " * 40 + "word"]
    assert broken_rules([Sentence("word " * 17, "a.md", 1)]) == ["the mean is 17.0 words, above 16"]
    assert broken_rules([Sentence("word " * 16, "a.md", 1), Sentence("word " * 16, "a.md", 2)]) == []


def test_docstrings_are_counted_without_their_examples_and_names():
    source = '''"""One two three."""

def f(a, b):
    """Returns one. It does.

    Args:
        a: three more words. Four
            of them.
        b (int): two words.

    >>> f(1, 2)
    'not counted'

    The end comes here.
    """
'''
    found = in_docstrings(source, "made_up.py")
    assert [(sentence.words, sentence.line) for sentence in found] == [(3, 1), (2, 4), (2, 4), (6, 7), (2, 9), (4, 14)]

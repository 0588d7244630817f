"""A seeded text of few words with many endings, to learn vocabularies from."""

import random

STEMS = "walk talk sing ring open close learn bank river film warm dull".split()
ENDS = ["", "s", "ed", "ing", "er", "ers", "able"]


def made_up_text(seed=7, words=4000):
    """Stems with endings, numbers, punctuation and a little of other scripts, seeded."""
    source = random.Random(seed)
    text = []
    for _ in range(words):
        word = source.choice(STEMS) + source.choice(ENDS)
        text.append(word.capitalize() if source.random() < 0.1 else word)
        if source.random() < 0.1:
            others = ["1984", "naïve", "東京", "…", "don't", "Σίσυφος", "ｆｕｌｌ", "o\u0301"]
            text.append(source.choice(others))
        text.append(source.choice([" ", " ", ", ", ".\n"]))
    return " ".join(text)

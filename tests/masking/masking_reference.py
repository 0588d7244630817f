"""Masking one row the slow way, from google-research/bert's description.

`create_masked_lm_predictions`: candidates are groups of tokens in random order; stop at the number
to predict, skip a group that would exceed it; each token of a group becomes [MASK] in 80 %, a
random token in 10 %. Plain Python, one token at a time; the hash is written once more.
"""


def finalise(h):
    """MurmurHash3's 32-bit finaliser."""
    h ^= h >> 16
    h = h * 0x85EBCA6B % 2**32
    h ^= h >> 13
    h = h * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def bits(seed, *counters):
    state = seed % 2**32
    for counter in (seed // 2**32 % 2**32, *counters):
        state = finalise(((state ^ counter * 0x9E3779B9 % 2**32) + 0x9E3779B9) % 2**32)
    return state


def words_of(tokens, word_starts, special):
    """Groups of cells: [[1, 2], [3], ...]; a special token belongs to none and ends a group."""
    groups, open_group = [], False
    for cell in range(len(tokens)):
        if tokens[cell] in special:
            groups.append([cell])
            open_group = False
        elif open_group and not word_starts[cell]:
            groups[-1].append(cell)
        else:
            groups.append([cell])
            open_group = True
    return groups


def runs_of(words, tokens, special, draw_length):
    """Joins words to runs from left to right; `draw_length(word number)` says how many."""
    runs, word = [], 0
    while word < len(words):
        first, length = word, draw_length(word)
        word += 1
        if tokens[words[first][0]] not in special:
            while (
                word < first + length
                and word < len(words)
                and tokens[words[word][0]] not in special
            ):
                word += 1
        runs.append([cell for group in words[first:word] for cell in group])
    return runs


def mask_row(masking, tokens, word_starts, *, seed, epoch, row, vocab_size, mask_id, special):
    """Returns the row after masking, and [(position, id)] of its predictions."""
    order_stream, length_stream, action_stream, token_stream = 1, 2, 3, 4
    words = [[cell] for cell in range(len(tokens))]
    if masking.unit != "token":
        words = words_of(tokens, word_starts, special)
    units = words
    if masking.unit in ("ngram", "span"):
        if masking.unit == "ngram":
            weights = [1 / n for n in range(1, masking.max_ngram_size + 1)]
        else:
            weights = [
                masking.span_p * (1 - masking.span_p) ** (n - 1)
                for n in range(1, masking.max_span + 1)
            ]

        def draw_length(word):
            draw = (bits(seed, length_stream, epoch, row, word) % 2**30) / 2**30
            below = 0.0
            for n, weight in enumerate(weights, start=1):
                below += weight / sum(weights)
                if draw < below:
                    return n
            return len(weights)

        units = runs_of(words, tokens, special, draw_length)

    def rank(unit):
        key = bits(seed, order_stream, epoch, row, unit)
        key = key - 2**32 if key >= 2**31 else key
        return key // 2**12, unit  # 20 random bits; the earlier unit first if they are alike

    budget = min(masking.max_predictions, max(1, round(len(tokens) * masking.rate)))
    chosen = []  # (cell, unit)
    for unit in sorted(range(len(units)), key=rank):
        if len(chosen) >= budget:
            break
        if tokens[units[unit][0]] in special or len(chosen) + len(units[unit]) > budget:
            continue
        chosen += [(cell, unit) for cell in units[unit]]

    out = list(tokens)
    for cell, unit in chosen:
        draw = bits(seed, action_stream, epoch, row, unit if masking.replace_by == "word" else cell)
        share = (draw % 2**30) / 2**30
        if share < masking.mask_share:
            out[cell] = mask_id
        elif share < masking.mask_share + masking.random_share:
            out[cell] = bits(seed, token_stream, epoch, row, cell) % 2**31 % vocab_size
    if masking.predict == "all":
        return out, [(c, token) for c, token in enumerate(tokens) if token not in special]
    return out, [(cell, tokens[cell]) for cell, _ in sorted(chosen)]

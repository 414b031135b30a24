"""Where one sentence ends and the next begins, in any language written with full stops. Knows no documents.

The rule is: when in doubt, do not split. Two sentences taken for one make a chunk a little longer; one sentence cut in
two makes two halves that nobody finds.
"""

from __future__ import annotations

import re

# Abbreviations without their last stop, in lower case. Only those that a capital may follow: before a lower-case word
# there is never a split anyway, and two-letter ones with stops inside ("e.g.") are told by their shape.
_WORDS = """
approx corp dept dr ed eds eq etc ex exx figs gov hon hr inc jr lt ltd messrs mr mrs ms mt nos op pp prof pt ref refs
rev sect sen sgt sr st str tel univ viz vs
abb abs bspw bzgl bzw dipl evtl geb gegr ggf hrsg inkl mio mrd std usf usw vgl zzgl
bl dvs forts jfr kr m.fl milj osv resp tfn
av env mlle mm mme mmes
aprox dña gral núm pág págs ud uds vd
"""
_ABBREVIATIONS = frozenset(_WORDS.split())
# These are words of their own too ("no", "fig", "art"): an abbreviation only where a number follows.
_BEFORE_NUMBER = frozenset(
    ["art", "bd", "ca", "ch", "fig", "kap", "max", "min", "no", "nr", "p", "s", "sec", "tab", "v", "vol"]
)

# A terminator, what closes behind it (quotes, brackets), then white space. CJK terminators need no space.
_STOPS = ".!?\u2026\u0964\u0965\u061f\u0589\u1362"
_CLOSING = "'\"\u2019\u201d\u00bb)\\]}"
_END = re.compile(
    rf"(?<![{_STOPS}])[{_STOPS}]++[{_CLOSING}]*+(?=\s)"
    rf"|[\u3002\uff01\uff1f\uff61]+[\u300d\u300f\u3011\uff09{_CLOSING}]*"
)
_WORD_BEFORE = re.compile(r"""[^\s('"\[{\u2018\u201c\u00ab]+$""")
# The first character of the next word, behind what may open it.
_AFTER = re.compile(r"\s*['\"(\[{\u2018\u201c\u201e\u00ab\u00bf\u00a1*_`]*(.)")
_LONGEST_WORD = 64


def split_sentences(text: str) -> list[str]:
    """Split one paragraph. No character but white space between sentences is lost; empty text gives no sentence."""
    sentences: list[str] = []
    start = 0
    for match in _END.finditer(text):
        if _splits_here(text, start, match):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    sentences.append(text[start:].strip())
    return [sentence for sentence in sentences if sentence]


def _splits_here(text: str, start: int, match: re.Match[str]) -> bool:
    following = _AFTER.match(text, match.end())
    after = following.group(1) if following else ""
    if after.islower():
        return False
    if match.group().rstrip("'\"\u2019\u201d\u00bb)]}") != ".":
        return True  # "!", "?", "…", "...", "。": only a lone full stop also ends abbreviations and ordinals
    before = _WORD_BEFORE.search(text, max(start, match.start() - _LONGEST_WORD), match.start())
    if before is None:
        return False
    word = before.group()
    if word.isdigit():
        # "3. Mai", "No. 5. ..." and list numbers; a longer number ("in 2019.") ends a sentence.
        return len(word) > 2
    if len(word) == 1 and word.isupper():
        return False  # the initial in "J. Smith"
    if "." in word and all(len(part) <= 2 for part in word.split(".")) and not word[0].isdigit():
        return False  # "e.g.", "U.S.", "z.B."
    if word.lower() in _BEFORE_NUMBER:
        return not after.isdigit()
    return word.lower() not in _ABBREVIATIONS

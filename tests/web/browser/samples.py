# ruff: noqa: E501
"""Items as a labeler meets them: ordinary, long, many, right to left, code, a conversation, hostile."""

from __future__ import annotations

from typing import Any

NOTE: dict[str, Any] = {
    "prompt": "Write a short thank-you note to a neighbour who looked after my two cats while I was in hospital. She also "
    "watered the tomatoes, which nobody had asked her to do. I would like it to sound like me: plain, a little dry, and "
    "meant.",
    "constraint": "Under 60 words, and no exclamation marks",
    "source": "user_based",
    "use_case": "generation",
    "completions": [
        "Dear Ruth,\n\nThe cats are fat and unrepentant, so I take it you fed them twice. Thank you. And thank you for the "
        "tomatoes, which I had given up on and you had not. I am home, I am mending, and the first ripe one is yours.\n\n"
        "Marian",
        "Thank you so much!!! You are an absolute angel and I can never repay you for everything that you have done for me "
        "and my fur babies during this incredibly difficult time in my life. The tomatoes look AMAZING! Words cannot "
        "express how grateful I am to have a neighbour like you! I hope that we can be friends for ever and ever!",
        "You should write a note in which you thank your neighbour for looking after the cats and for watering the tomatoes. "
        "Mention that you were in hospital. Keep it short and sincere, and sign it with your name.",
        "Dear neighbour,\n\nThank you for looking after the cats while I was away, and for watering the tomatoes without "
        "being asked. It was a great help. As your brother told me on Sunday, you even repaired the gate.\n\nWith kind "
        "regards",
    ],
}

_PARAGRAPHS = (
    "The tide does not come in because the sea is pushed towards the land. It comes in because the whole ocean is drawn out "
    "of shape, a little towards the Moon on the side that faces her and a little away on the other, and the Earth turns "
    "beneath that shape once a day. A harbour is carried through one bulge, then through a hollow, then through the "
    "second bulge.",
    "That there are two bulges and not one surprises most people. On the near side the Moon pulls the water more strongly "
    "than the Earth below it; on the far side she pulls the Earth more strongly than the water, which is left behind. Both "
    "differences stretch the sea along the same line.",
    "The Sun does the same with rather less than half the strength, for although she is enormously heavier she is also so "
    "far off that the difference between near side and far side is small. When the two stand in a line, at new moon and "
    "at full, their stretching adds up and the tides are high. When they stand at right angles the one works "
    "against the other, and the tides are low.",
    "Everything else is the business of coasts. A bay that is as long as a quarter of the tide's wave answers like a bath in "
    "which one moves to and fro in time: in the Bay of Fundy the water rises by sixteen metres, while in the middle of the "
    "ocean it rises by less than one.",
)

TIDES: dict[str, Any] = {
    "prompt": "Explain why there are two high tides a day and not one. I teach twelve-year-olds and want to get it right.",
    "source": "plain",
    "use_case": "open QA",
    "completions": ["\n\n".join(_PARAGRAPHS * 10), "Gravity.", "\n\n".join(_PARAGRAPHS), _PARAGRAPHS[1]],
}

TWO: dict[str, Any] = {
    "prompt": "Write a Python function that says whether two words are anagrams of each other. Ignore case and spaces.",
    "source": "plain",
    "use_case": "generation",
    "completions": [
        "Compare the letters of both, sorted:\n\n```python\ndef anagrams(left: str, right: str) -> bool:\n"
        '    def letters(text: str) -> list[str]:\n        return sorted(text.replace(" ", "").lower())\n\n'
        "    return letters(left) == letters(right)\n```\n\nSorting costs n log n, which for words is nothing.",
        "```python\ndef anagrams(left, right):\n    return set(left.lower()) == set(right.lower())  # the same letters occur, "
        "however often each of them does\n```\n\nA set is the fastest way.",
    ],
}

NINE: dict[str, Any] = {
    "prompt": "Give me one name for a bookshop that sells only books about gardens.",
    "source": "few_shot",
    "use_case": "brainstorming",
    "completions": [
        "Leaf & Leaf", "The Potting Shelf", "Bookshop", "Green Pages", "A shop for books about gardens could be named "
        "“Garden Books”, which says what it is.", "Chapter and Verbena", "I cannot help with that.", "The Second Leaf",
        "Perennials",
    ],
}  # fmt: skip

ARABIC: dict[str, Any] = {
    "prompt": "اكتب جملتين عن فوائد القراءة اليومية، ثم ترجمهما إلى الإنجليزية.",
    "source": "plain",
    "use_case": "generation",
    "completions": [
        "القراءة اليومية توسّع المفردات وتدرّب الذاكرة على الصبر. وهي تمنح القارئ ساعةً لا يطلب فيها أحدٌ منه شيئًا.\n\n"
        "Reading every day widens one's vocabulary and trains the memory in patience. It gives the reader an hour in which "
        "nobody wants anything of him.",
        "القراءة مفيدة (very useful!) للجميع 100%.\n\nReading is useful for all.",
        "Reading is good.",
        "قراءة الكتب كل يوم تفيد العقل؛ انظر ISBN 978-3-16-148410-0، الصفحة 12.",
    ],
}

TALK: dict[str, Any] = {
    "prompt": [
        {"role": "system", "content": "You are the assistant of a public library. Answer from the house rules below.\n\n"
         "Loans: four weeks, two renewals, none where somebody is waiting. Fees: none for children."},
        {"role": "user", "content": "How long may I keep a book?"},
        {"role": "assistant", "content": "Four weeks, and you may renew it twice, unless somebody is waiting for it."},
        {"role": "user", "content": "And my daughter, who is nine? She is slow, and she hates it when I tell her to hurry."},
        {"role": "assistant", "content": "The same four weeks and two renewals: twelve weeks in all. There are no fees for "
         "children, so nothing happens if it takes her a little longer."},
        {"role": "user", "content": "Somebody is waiting for hers now. What shall I tell her?"},
    ],
    "source": "api",
    "use_case": "chat",
    "completions": [
        "That the next reader is somebody who wants the same book as she does, and that she can put herself on the list "
        "again the day she brings it back. The rules allow no renewal now, but there is no fee for her if the last chapters "
        "take a few days more.",
        "Tell her to hurry up, as the book has to be back by tomorrow or you will pay a fee of 2 euros a day.",
        "Libraries were invented in Mesopotamia.",
        "She may keep it: children are never asked to return books.",
    ],
}  # fmt: skip

HOSTILE: dict[str, Any] = {
    "prompt": "</div></section><script>document.title='prompt'</script> What is 2 + 2?",
    "source": "api",
    "use_case": "<img src=x onerror=alert(1)>",
    "constraint": "<b>bold</b> & \u202egnirts desrever\u202c",
    "completions": [
        "<script>window.hacked = true; fetch('https://example.invalid/steal')</script>Four.",
        "<style>body{display:none}</style><link rel=stylesheet href=https://example.invalid/x.css><img "
        "src=https://example.invalid/x.png onerror=\"window.hacked=true\"><iframe srcdoc='<script>top.hacked=1</script>'>",
        "\u202eruof\u202c \u2066isolated\u2069 a\u200bb\u200bc \ufeffBOM soft\u00adhyphen\x00\x00\x00 nul \x1b[31mred\x1b[0m "
        + "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031e\u0320\u034d" * 6,
        "{{ 7 * 7 }} {% raw %} ${7*7} <!-- --> ]]> &lt;b&gt; javascript:alert(1) " + "no-space-at-all" * 60,
    ],
}  # fmt: skip

DEMONSTRATION: dict[str, Any] = {
    "prompt": "My father is 81 and has begun to forget whether he took his tablets. He does not want to be looked after. "
    "What could help him without taking anything away from him?",
    "constraint": "Three suggestions at most, each in one sentence",
    "source": "user_based",
    "use_case": "open QA",
}
DRAFT = (
    "A weekly box with a lid for every morning and evening answers the question for him: an empty compartment means that it "
    "is done.\n\nHis pharmacy can pack the tablets by the hour in a paper roll, so that there is nothing to sort.\n\n"
)

CHOICE: dict[str, Any] = {
    "prompt": "Is it true that we only use ten percent of our brain? My sister says so and she is a nurse.",
    "source": "api",
    "use_case": "open QA",
    "a": {
        "text": "No. Scans show activity everywhere in the brain over a day, also in sleep, and there is hardly a place that can "
        "be damaged without any loss. Not every cell fires at the same time, which is as it should be: all at once is a "
        "seizure. The saying is old and its origin is unclear; your sister is in good company.",
        "model": "runs/ppo",
    },
    "b": {
        "text": "Yes, that is true. Your sister is right: Albert Einstein proved that humans use only 10% of the brain. With "
        "training you can unlock the other 90%.",
        "model": "text-baseline",
    },
}

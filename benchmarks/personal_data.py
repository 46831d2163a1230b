"""Precision and recall of the detection of personal data, by kind and country, and the languages of real instructions.

    python benchmarks/personal_data.py --negatives FILE.jsonl.gz [FILE.jsonl.gz ...]

The positives are values of Faker in sentences, none of which a rule was written for. A value is found if every letter
and digit of it is hidden. The negatives are files of real instructions with a field `instruction`. They may hold
personal data all the same, so read what is found there: `--show`.
"""

from __future__ import annotations

import argparse
import gzip
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

from faker import Faker

from heedful.collection import detectors
from heedful.collection.language import language
from heedful.collection.settings import QueueConfig
from heedful.data.personal_data import personal_data

LOCALES = {"US": "en_US", "GB": "en_GB", "DE": "de_DE", "FR": "fr_FR", "ES": "es_ES"}
KINDS: dict[str, Callable[[Any], str]] = {
    "name": lambda fake: fake.name(),
    "street_address": lambda fake: fake.street_address().replace("\n", " "),
    "phone": lambda fake: fake.phone_number(),
    "email": lambda fake: fake.ascii_safe_email(),
    "iban": lambda fake: fake.iban(),
    "card": lambda fake: fake.credit_card_number(),
    "ip_address": lambda fake: fake.ipv4_public(),
    "social_security_number": lambda fake: fake.ssn(),
}
SENTENCES = {
    "en": (
        "Could you put together a polite reminder? The details are {}, and it is a bit urgent.",
        "I have to fill in a form and it wants this: {}. What else could they need?",
        "Turn these notes into a letter: met on Monday, {}, wants a refund.",
        "{} was on the last invoice. Please word a complaint about it.",
        "Is it safe to post {} on a public board?",
    ),
    "de": (
        "Formuliere bitte eine freundliche Erinnerung. Die Angaben lauten {}, und es eilt etwas.",
        "In dem Formular steht bisher nur {}. Was fehlt noch?",
        "Mach aus den Stichworten einen Brief: Termin am Montag, {}, möchte sein Geld zurück.",
        "{} stand auf der letzten Rechnung. Schreib eine Beschwerde dazu.",
        "Darf ich {} öffentlich aushängen?",
    ),
    "fr": (
        "Rédige un rappel poli. Les informations sont {}, et c'est assez urgent.",
        "Le formulaire contient seulement {}. Que manque-t-il ?",
        "Fais une lettre de ces notes : rendez-vous lundi, {}, veut un remboursement.",
        "{} figurait sur la dernière facture. Écris une réclamation.",
        "Puis-je afficher {} en public ?",
    ),
    "es": (
        "Escribe un recordatorio amable. Los datos son {}, y es bastante urgente.",
        "En el formulario solo pone {}. ¿Qué falta?",
        "Convierte estas notas en una carta: cita el lunes, {}, quiere un reembolso.",
        "{} estaba en la última factura. Redacta una queja.",
        "¿Puedo publicar {} en un tablón?",
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200, help="values of each kind and country (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="random seed (default 1)")
    parser.add_argument("--negatives", nargs="*", default=[], metavar="FILE", help="files of real instructions")
    parser.add_argument("--show", action="store_true", help="print what is found in them")
    given = parser.parse_args()
    config = QueueConfig()
    for label, find in (("own rules alone", ()), ("with phonenumbers", detectors.finders(config.regions, ()))):
        print(f"\n{label}\n\n| kind | " + " | ".join(LOCALES) + " | precision | real instructions with a finding |")
        print("| --- |" + " ---: |" * (len(LOCALES) + 2))
        real = negatives(given.negatives, find, given.show)
        recalls, right, wrong = positives(given.count, given.seed, find)
        for kind in KINDS:
            cells = [recalls.get((kind, country)) for country in LOCALES]
            shown = [f"{100 * cell:.0f} %" if cell is not None else "–" for cell in cells]
            all_found = right[kind] + wrong[kind]
            share = f"{100 * right[kind] / all_found:.0f} %" if all_found else "–"
            print(f"| {kind.replace('_', ' ')} | {' | '.join(shown)} | {share} | {real[kind]} of {real['texts']:,} |")
    languages(given.negatives, given.count, given.seed, config)


def made(count: int, seed: int, kind: str, country: str) -> list[tuple[str, int, int]]:
    """(text, start, end) of each value."""
    fake = Faker(LOCALES[country])
    fake.seed_instance(seed)
    sentences = SENTENCES[LOCALES[country][:2]]
    found = []
    for number in range(count):
        value, sentence = KINDS[kind](fake), sentences[number % len(sentences)]
        start = sentence.index("{}")
        found.append((sentence.format(value), start, start + len(value)))
    return found


def positives(count: int, seed: int, find: Any) -> tuple[dict[tuple[str, str], float], Counter[str], Counter[str]]:
    """(recall by kind and country, right findings by their kind, wrong ones: of another kind or elsewhere)."""
    recalls: dict[tuple[str, str], float] = {}
    right: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for kind in KINDS:
        for country in LOCALES:
            if kind == "social_security_number" and country != "US":
                continue
            hidden = 0
            for text, start, end in made(count, seed, kind, country):
                covered: set[int] = set()
                for finding in personal_data(text, find):
                    at = range(*finding.span)
                    covered |= set(at)
                    fits = finding.kind == kind and finding.span[0] < end and finding.span[1] > start
                    (right if fits else wrong)[finding.kind] += 1
                hidden += all(place in covered for place in range(start, end) if text[place].isalnum())
            recalls[kind, country] = hidden / count
    return recalls, right, wrong


def instructions(paths: list[str]) -> list[str]:
    texts = []
    for path in paths:
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            texts += [json.loads(line)["instruction"] for line in lines]
    return texts


def negatives(paths: list[str], find: Any, show: bool) -> Counter[str]:
    """Real instructions with a finding, by kind."""
    counted: Counter[str] = Counter()
    for text in instructions(paths):
        found = personal_data(text, find)
        counted["texts"] += 1
        counted.update({finding.kind for finding in found})
        if show:
            for finding in found:
                print(f"    {finding.kind}: {text[slice(*finding.span)]!r}")
    return counted


def languages(paths: list[str], count: int, seed: int, config: QueueConfig) -> None:
    """The languages of the sentences, and of the real instructions."""
    names = tuple(config.languages)
    print("\n| sentences in | called so | unknown | another language |\n| --- | ---: | ---: | ---: |")
    for country, locale in LOCALES.items():
        texts = [text for kind in KINDS for text, _, _ in made(count // 10, seed, kind, country)]
        found = Counter(language(text, names, config.confidence)[0] for text in texts)
        told, unknown = found[locale[:2]], found["unknown"]
        shares = [f"{100 * number / len(texts):.1f} %" for number in (told, unknown, len(texts) - told - unknown)]
        print(f"| {locale} | {' | '.join(shares)} |")
    texts = instructions(paths)
    if texts:
        found = Counter(language(text, names, config.confidence)[0] for text in texts)
        told = ", ".join(f"{name} {100 * number / len(texts):.1f} %" for name, number in found.most_common())
        print(f"\n{len(texts):,} real instructions: {told}")


if __name__ == "__main__":
    main()

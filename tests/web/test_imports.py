"""The import page's work: pasted texts, mapping and guesses, the preview as a table, and rows that cannot be read."""

from __future__ import annotations

from typing import Any

import pytest

from web.site import Site, jsonl

TEA = "/api/projects/tea"
HTML = {"Accept": "text/html"}


def payloads(site: Site) -> list[dict[str, Any]]:
    return [item["payload"] for item in site.script("lead").get(f"{TEA}/items").json()][::-1]


def csv(text: str) -> dict[str, Any]:
    return {"file": ("made.csv", text.encode())}


@pytest.mark.medium
def test_a_table_of_questions_is_guessed_and_said_to_be(site: Site) -> None:
    lead = site.browser("lead")
    file = csv('Question,Topic\n"Why, and when?",tea\nHow?,tea\n')
    seen = lead.post(f"{TEA}/items/preview", files=file).json()
    assert (seen["kind"], seen["items"], seen["map"], seen["guessed"]) == ("prompts", 2, ["prompt=Question"], True)
    assert seen["unused"] == {"Topic": 2}
    assert seen["first"][0]["prompt"] == "Why, and when?"
    page = lead.post(f"{TEA}/items/preview", files=file, headers=HTML).text
    assert 'data-ready="2"' in page
    assert "heedful guessed from the names" in page
    assert '<option value="prompt=Question" selected>' in page
    assert "1 not used: <bdi>Topic</bdi>" in page
    refused = lead.post(f"{TEA}/items", files=file)  # nothing is guessed without the lead
    assert (refused.status_code, "unknown kind of rows" in refused.json()["error"]) == (400, True)
    added = lead.post(f"{TEA}/items", params={"map": ["prompt=Question", "use_case=Topic", ""]}, files=file).json()
    assert added["items"] == 2
    assert payloads(site)[0] == {"prompt": "Why, and when?", "use_case": "tea"}


@pytest.mark.medium
def test_unknown_fields_are_shown_to_choose_from(site: Site) -> None:
    lead = site.browser("lead")
    file = csv("frage,gut,schlecht\nWarum?,Darum.,Egal.\n")
    seen = lead.post(f"{TEA}/items/preview", files=file).json()
    assert (seen["items"], seen["kind"], seen["fields"]["frage"]) == (0, None, "Warum?")
    assert "unknown kind of rows" in seen["problem"]
    assert "--map" not in seen["problem"]
    page = lead.post(f"{TEA}/items/preview", files=file, headers=HTML).text
    assert 'data-ready="0"' in page
    assert "Say below what the fields are" in page
    part = lead.post(f"{TEA}/items/preview", params={"map": ["chosen=gut"]}, files=file, headers=HTML).text
    assert "chosen: needs rejected too" in part
    assert '<option value="chosen=gut" selected>' in part
    mapped = {"map": ["prompt=frage", "chosen=gut", "rejected=schlecht"]}
    page = lead.post(f"{TEA}/items/preview", params=mapped, files=file, headers=HTML).text
    assert "best first" in page
    assert "a ranking to make" in page
    assert 'data-ready="1"' in page
    assert "the judgements in the file are not stored" in page
    gold = lead.post(f"{TEA}/items/preview", params=mapped | {"purpose": "gold"}, files=file, headers=HTML).text
    assert "are not stored" not in gold
    lead.post(f"{TEA}/items", params=mapped, files=file)
    assert payloads(site)[0]["completions"] == ["Darum.", "Egal."]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("mapped", "says"),
    [
        (["prompt=nothing"], "field 'nothing' (the prompt): missing"),
        (["colour=frage"], "no such target"),
        (["chosen=frage"], "chosen: needs rejected too.</bdi> Say below"),
        (["user=frage"], "name the prompt too.</bdi> Say below"),
    ],
)
def test_a_mapping_that_does_not_fit(site: Site, mapped: list[str], says: str) -> None:
    answer = site.browser("lead").post(
        f"{TEA}/items/preview", params={"map": mapped}, files=csv("frage\nWarum?\n"), headers=HTML
    )
    assert says in answer.text.replace("&#39;", "'")
    assert 'data-ready="1"' not in answer.text


@pytest.mark.medium
@pytest.mark.parametrize(
    ("text", "form", "prompts"),
    [
        ("Why?\n\nHow, and when?\n", "", ["Why?", "How, and when?"]),
        ("prompt\tuser\nWhy, o why?\tu1\n", "", ["Why, o why?"]),
        ('question,user\n"Why, o why?",u1\n', "", ["Why, o why?"]),
        ("Question, please: why?\nAnd how?", "", ["Question, please: why?", "And how?"]),
        ('{"prompt": "Why?"}\n{"prompt": "How?"}', "", ["Why?", "How?"]),
        ('[{"prompt": "Why?"},\n {"prompt": "How?"}]', "", ["Why?", "How?"]),
        ("prompt,user\nWhy?,u1", "txt", ["prompt,user", "Why?,u1"]),
    ],
)
def test_pasted_text(site: Site, text: str, form: str, prompts: list[str]) -> None:
    seen = site.browser("lead").post(
        f"{TEA}/items/preview", params={"text_is": form}, data={"text": text}, files={"none": ("", b"")}
    )
    assert [row["prompt"] for row in seen.json()["first"]] == prompts, seen.text


@pytest.mark.medium
def test_rows_that_cannot_be_read_are_named_and_may_be_left_out(site: Site) -> None:
    lead = site.browser("lead")
    file = {"file": ("a.jsonl", jsonl([{"prompt": "Why?"}, {"prompt": 7}, {"prompt": ""}, {"prompt": "How?"}]))}
    page = lead.post(f"{TEA}/items/preview", files=file, headers=HTML).text
    assert "2 rows of <bdi>a.jsonl</bdi> cannot be read" in page
    assert "Row 2:" in page
    assert 'data-ready="0"' in page
    assert lead.post(f"{TEA}/items", files=file).status_code == 400
    page = lead.post(f"{TEA}/items/preview?skip_bad=true", files=file, headers=HTML).text
    assert 'data-ready="2"' in page
    assert lead.post(f"{TEA}/items?skip_bad=true", files=file).json()["items"] == 2


@pytest.mark.medium
def test_the_table_shows_answers_and_hides_markup(site: Site) -> None:
    rows = jsonl([{"prompt": "<b>Why?</b>", "completions": ["<i>One</i>", "Two"], "id": "r1"}])
    page = site.browser("lead").post(f"{TEA}/items/preview", files={"file": ("a.jsonl", rows)}, headers=HTML).text
    for told in (">answer 1<", ">answer 2<", ">id<", "&lt;b&gt;Why?", "&lt;i&gt;One", "a ranking to make"):
        assert told in page, told


@pytest.mark.medium
@pytest.mark.parametrize(
    ("row", "purpose", "says"),
    [
        ({"prompt": "Why?", "completions": ["So."]}, "train", "row 1: has 1 completions. Rankings take 2 to 9"),
        ({"prompt": "Why?", "completions": ["So.", "No."]}, "gold", "row 1: gold items need a known answer"),
    ],
)
def test_what_an_import_would_refuse_is_not_offered(site: Site, row: dict[str, Any], purpose: str, says: str) -> None:
    lead, sent = site.browser("lead"), {"params": {"purpose": purpose}, "content": jsonl([row])}
    seen = lead.post(f"{TEA}/items/preview", **sent).json()
    assert (seen["items"], says in seen["problem"]) == (0, True), seen["problem"]
    assert 'data-ready="0"' in lead.post(f"{TEA}/items/preview", headers=HTML, **sent).text
    refused = lead.post(f"{TEA}/items", **sent)
    assert (refused.status_code, says in refused.json()["error"]) == (400, True)


@pytest.mark.medium
def test_texts_are_prompts_here_and_nothing_is_nothing(site: Site) -> None:
    lead = site.browser("lead")
    seen = lead.post(f"{TEA}/items/preview", files=csv("text\nWhy?\n")).json()
    assert (seen["map"], seen["first"][0]["prompt"]) == (["prompt=text"], "Why?")
    answer = lead.post(f"{TEA}/items/preview", data={"text": "  "}, files={"none": ("", b"")})
    assert (answer.status_code, answer.json()["error"]) == (400, "Choose a file or paste a text first.")


def answers(name: str, prompts: str) -> tuple[str, bytes]:
    return f"{name}.jsonl", jsonl([{"prompt": p, "completions": [f"{name} {p}"], "models": [name]} for p in prompts])


@pytest.mark.medium
def test_two_files_of_answers_become_choices_and_what_has_no_partner_is_named(site: Site) -> None:
    lead = site.browser("lead")
    files = {"file": answers("new", "abc"), "baseline": answers("old", "bcde")}
    told = [
        "new.jsonl: 1 row answers a prompt that old.jsonl does not answer: “a”",
        "old.jsonl: 2 rows answer prompts that new.jsonl does not answer: “d”, “e”",
    ]
    seen = lead.post(f"{TEA}/items/preview", files=files).json()
    assert (seen["kind"], seen["items"], seen["left_out"]) == ("versus", 2, told)
    page = lead.post(f"{TEA}/items/preview", files=files, headers=HTML).text
    assert all(f"{line}." in page for line in told)
    added = lead.post(f"{TEA}/items?purpose=evaluate", files=files).json()
    assert (added["items"], added["left_out"]) == (2, told)
    (item, _) = site.script("lead").get(f"{TEA}/items").json()
    assert (item["kind"], item["payload"]["a"], item["payload"]["b"]) == (
        "choice", {"text": "new c", "model": "new"}, {"text": "old c", "model": "old"},
    )  # fmt: skip


@pytest.mark.medium
def test_two_files_are_read_as_one_is(site: Site) -> None:
    """Written answers, a mapping, rows that cannot be read."""
    lead = site.browser("lead")
    written = ("people.csv", b"question,answer\na,people a\nb,people b\n")
    files = {"file": answers("new", "ab"), "baseline": written}
    (first, _) = lead.post(f"{TEA}/items/preview", files=files).json()["first"]
    assert (first["a"]["text"], first["b"]["text"]) == ("new a", "people a")
    tables = {name: (f"{name}.csv", b"frage,eins\na,x\nb,\n") for name in ("file", "baseline")}
    page = lead.post(f"{TEA}/items/preview", files=tables, headers=HTML).text
    assert 'value="prompt=frage"' in page
    mapped = {"map": ["prompt=frage", "completions=eins"]}
    page = lead.post(f"{TEA}/items/preview", params=mapped, files=tables, headers=HTML).text
    assert "1 row of <bdi>file.csv</bdi> cannot be read" in page
    added = lead.post(f"{TEA}/items", params=mapped | {"skip_bad": True}, files=tables).json()
    assert (added["items"], len(added["left_out"])) == (1, 2)
    assert added["left_out"][0].startswith("file.csv: 1 row left out: ")
    prompts = {"file": answers("new", "ab"), "baseline": ("p.jsonl", jsonl([{"prompt": "a"}]))}
    assert "p.jsonl: holds prompts" in lead.post(f"{TEA}/items", files=prompts).json()["error"]


@pytest.mark.medium
@pytest.mark.parametrize(
    ("names", "text", "says"),
    [
        (["file", "baseline", "baseline"], "", "There are 3 files. Give one, or two"),
        (["file", "second"], "", "second: no such part"),
        (["file"], "Why?", "a file and a pasted text"),
        (["baseline"], "", "a second file but no first"),
    ],
)
def test_no_file_falls_away(site: Site, names: list[str], text: str, says: str) -> None:
    files = [(name, answers(name, "a")) for name in names]
    for where in ("items", "items/preview"):
        answer = site.browser("lead").post(f"{TEA}/{where}", files=files, data={"text": text})
        assert (answer.status_code, says in answer.json()["error"]) == (400, True), answer.text


@pytest.mark.medium
def test_rows_left_out_of_an_import_are_counted(site: Site) -> None:
    rows = jsonl([{"prompt": "Why?"}, {"prompt": 7}, {"prompt": 8}])
    added = site.script("lead").post(f"{TEA}/items?skip_bad=true", content=rows).json()
    (line,) = added["left_out"]
    assert line.startswith("rows.jsonl: 2 rows left out: field 'prompt'")

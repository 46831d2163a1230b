from __future__ import annotations

from pathlib import Path
from random import Random

from heedful.data import formats
from heedful.data.records import Comparison, Completions, Demonstration, Prompt, Text
from heedful.sandbox import fewshot, generate, labelers, mistakes, tasks
from heedful.sandbox.world import make_world


def test_a_world_is_written_and_written_again_alike(tmp_path: Path) -> None:
    for name in ("a", "b"):
        world = generate.write_world(tmp_path / name, seed=5, documents=30, prompt_count=40, held_out_documents=10)
    for file in ("corpus.jsonl", "corpus_held_out.jsonl", "prompts.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    texts, more = (formats.read(tmp_path / "a" / f"corpus{end}.jsonl", Text) for end in ("", "_held_out"))
    assert (len(texts), len(more)) == (30, 10)
    assert not {text.text for text in more} & {text.text for text in texts}
    given = formats.read(tmp_path / "a" / "prompts.jsonl", Prompt)
    assert len(given) == 40

    good = labelers.good_ones(labelers.make_labelers(world))
    shown = generate.demonstrations(world, given, good)
    assert shown == generate.demonstrations(world, given, good) != generate.demonstrations(world, given, good, seed=1)
    assert {one.labeler for one in shown} == {one.name for one in good}
    rng = Random(0)
    rows = [Completions(**one.row(), completions=mistakes.mixture(world, one.prompt, 4, rng)) for one in given]
    ranked = generate.comparisons(world, rows, good)
    formats.write(tmp_path / "ranked.jsonl", ranked)
    assert formats.read(tmp_path / "ranked.jsonl", Comparison) == ranked


def test_few_shot_prefixes_have_the_form_of_the_webs_answer_pages() -> None:
    world, rng = make_world(5), Random(0)
    good = labelers.good_ones(labelers.make_labelers(world))
    given = [Prompt(prompt=tasks.draw_task(world, rng, t).text, use_case=t.use_case) for t in tasks.TEMPLATES]
    shown = generate.demonstrations(world, given, good)
    prefixes = fewshot.draws(shown, count=20, shots=4)
    assert len(set(prefixes)) == 20
    assert prefixes == fewshot.draws(shown, count=20, shots=4)
    first = prefixes[0].split("\n\n")[:-1]
    assert len(first) == 4
    pairs = {(str(one.prompt), one.completion): one.use_case for one in shown}
    cases = [pairs[prompt, answer] for prompt, answer in (shot.split("\n") for shot in first)]
    assert len(set(cases)) == 4
    wrapped = fewshot.wrap(prefixes[0], "Where is the fox?")
    assert wrapped == prefixes[0] + "Where is the fox?\n"
    assert fewshot.answer_of(" In the barn.\n\nName three animals.") == "In the barn."
    assert fewshot.answer_of("") == ""
    assert isinstance(shown[0], Demonstration)

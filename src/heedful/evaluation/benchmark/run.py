"""`heedful benchmark`: what training costs on public sets. Every model gets the same items."""

from __future__ import annotations

import gc
from contextlib import closing
from pathlib import Path

from heedful.config import UserError, refused
from heedful.configs.benchmark import BenchmarkConfig
from heedful.evaluation import models
from heedful.evaluation.benchmark import harness, measure, perspective, published, sets, table, words
from heedful.evaluation.benchmark.harness import Exams
from heedful.evaluation.benchmark.measure import BenchmarkWork, Loaded
from heedful.evaluation.benchmark.proxy import ProxyToxicity
from heedful.evaluation.result import Result
from heedful.files import append_rows, replacing, write_json, write_text
from heedful.models.devices import device_of
from heedful.runs.progress import Reporter

RESULT, TEXT, ANSWERS = "benchmark.json", "benchmark.txt", "answers.jsonl"
KNOWN = harness.FILES | sets.FILES
NOTE = "The sets are subsets of the public ones, so figures of full sets are only a hint."


def run(config: BenchmarkConfig, out: Path, *, overwrite: bool = False) -> Result:
    """Measure the models and write the folder `out`: benchmark.json, the table as text, and every answer."""
    if out.exists() and not overwrite:
        raise UserError(f"{out}: already exists. Choose another --out, or replace it with --overwrite")
    if overwrite and out.exists() and not (out / RESULT).is_file():
        raise UserError(f"{out}: already exists and is not a result of heedful benchmark. Choose another --out")
    result, work = measured(config)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with replacing(out) as folder:
            folder.mkdir()
            append_rows(folder / ANSWERS, _answers(work))
            write_json(folder / RESULT, result)
            write_text(folder / TEXT, words.describe(result) + "\n")
    except OSError as error:
        raise UserError(refused(error, out)) from None
    return result


def measured(config: BenchmarkConfig) -> tuple[Result, BenchmarkWork]:
    """Every figure as JSON, and the answers behind them."""
    chosen = models.parse(config.model, config.baseline, fewest=1)
    files = _files(config)
    lacking = harness.missing()
    if config.tasks and lacking is not None:
        raise UserError(f"--tasks: there is no {lacking}. {harness.REMEDY}")
    work = measure.open_items({n: path for n, path in files.items() if n in sets.FILES}, config.limit, config.seed)
    exams = Exams.open({n: path for n, path in files.items() if n in harness.FILES}, config.limit, config.seed)
    wanted = "toxicity" in work.items
    proxy = _proxy(work, config.seed) if wanted and not perspective.has_key() else None
    device = device_of(config.compute)
    asked = bool(exams.rows or config.tasks)
    with closing(Reporter("benchmark", len(chosen.refs) * (1 + asked))) as reporter:
        for done, (name, ref) in enumerate(chosen.refs.items(), 1):
            model = Loaded.open(ref, config, device)
            work.run(name, model)
            exams.check(model)
            del model
            gc.collect()
            reporter.step(done, {})
        found = exams.ask(chosen.refs, config, str(device), lambda done: reporter.step(len(chosen.refs) + done, {}))
    found += measure.scored(work, proxy.scores if proxy is not None else perspective.scores)
    whole = [one for one in found if one.clusters]
    rows = [table.row(one, chosen.baseline) for one in whole]
    if not rows:
        raise UserError("every item is too long for one of the models. Give models with a longer context")
    return {
        "models": chosen.refs, "baseline": chosen.baseline, "data": config.data, "seed": config.seed,
        "limit": config.limit, "note": NOTE, "not_there": _absent(config),
        "needs_lm_eval": _needing(config) if lacking is not None else [],
        "too_long": [one.title for one in found if not one.clusters], "toxicity": _told(proxy) if wanted else None,
        "truthful": _truthful(Path(config.data)), "rows": rows,
        "findings": table.findings(rows, chosen.baseline), "paper_models": list(published.MODELS),
    }, work  # fmt: skip


def _files(config: BenchmarkConfig) -> dict[str, Path]:
    """The files of the sets to measure. Raises UserError if one that is named is not there."""
    folder = Path(config.data)
    if not folder.is_dir():
        raise UserError(f"--data {folder}: no such folder. docs/benchmark.md says what it holds")
    found, lacking = sets.there(folder, KNOWN), harness.missing()
    for name in config.only:
        if name not in found:
            raise UserError(f"--only {name}: {folder / KNOWN[name].path} does not exist. Put it there")
        if name in harness.FILES and lacking is not None:
            raise UserError(f"--only {name}: there is no {lacking}. {harness.REMEDY}")
    if config.only:
        found = {name: path for name, path in found.items() if name in config.only}
    if lacking is not None and found and found.keys() <= harness.FILES.keys() and not config.tasks:
        raise UserError(f"{folder}: to measure {', '.join(found)}, there is no {lacking}. {harness.REMEDY}")
    if lacking is not None:
        found = {name: path for name, path in found.items() if name not in harness.FILES}
    if not found and not config.tasks:
        first = next(iter(sets.FILES.values())).path
        raise UserError(f"{folder}: holds none of the sets, such as {first}. docs/benchmark.md lists their files")
    return found


def _absent(config: BenchmarkConfig) -> list[str]:
    """The sets that the folder lacks, unless some were asked for by name."""
    found = sets.there(Path(config.data), KNOWN)
    return [] if config.only else [name for name in KNOWN if name not in found]


def _needing(config: BenchmarkConfig) -> list[str]:
    """The sets of the folder that were not measured, because they need lm_eval."""
    return [] if config.only else list(sets.there(Path(config.data), harness.FILES))


def _proxy(work: BenchmarkWork, seed: int) -> ProxyToxicity:
    rows = work.rows["toxicity"]
    return ProxyToxicity(
        [str(row["sample"]) for row in rows], [float(row["toxicity"]) for row in rows],
        [str(row["prompt"]) for row in rows], seed,
    )  # fmt: skip


def _told(judge: ProxyToxicity | None) -> Result:
    if judge is None:
        return {"judge": "Perspective"}
    return {
        "judge": "proxy toxicity", "rank_correlation": judge.correlation, "held_out_prompts": judge.held_out,
        "held_out_answers": judge.answers, "penalty": judge.penalty,
    }  # fmt: skip


def _truthful(folder: Path) -> Result:
    """How true, and how true and informative, the published answers of the paper's models are."""
    path = sets.there(folder, sets.JUDGED).get("truthful_qa")
    if path is None:
        return {}
    found = published.truthful(sets.read(path, sets.JUDGED["truthful_qa"]))
    return {
        model: {"true": found[model][0]._asdict(), "true_and_informative": found[model][1]._asdict()}
        for model in published.MODELS
        if model in found
    }


def _answers(work: BenchmarkWork) -> list[Result]:
    found = []
    for name, by_model in work.answers.items():
        items = work.items["toxicity" if name.startswith("toxicity_") else name]
        found += [
            {"set": name, "model": model, "prompt": item.prompt, "references": list(item.references), "answer": text}
            for model, texts in by_model.items()
            for item, text in zip(items, texts, strict=True)
        ]
    return found

"""``deixis data tasks|sources|build|check|report|view``: conversations from annotations."""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from deixis.cli.options import AsJson, BudgetShare, CheckImages, OutputFolder, SourceSpecs

if TYPE_CHECKING:
    from deixis.data.build import Findings


def tasks_command(*, as_json: AsJson = False) -> None:
    """List the tasks of conversations."""
    from deixis.cli.outputs import print_json, print_result
    from deixis.data.mixture import MIXTURES
    from deixis.data.tasks import describe_tasks

    tasks = describe_tasks()
    if as_json:
        print_json(
            {"tasks": tasks, "mixtures": {name: dict(one) for name, one in MIXTURES.items()}}
        )
        return
    width = max(len(str(task["name"])) for task in tasks)
    lines = [f"{task['name']:{width}}  {task['summary']}" for task in tasks]
    mixtures = [f"{name}: {', '.join(one)}" for name, one in MIXTURES.items()]
    print_result("\n".join([*lines, "", "mixtures", *mixtures]))


def sources_command(*, as_json: AsJson = False) -> None:
    """List the annotation formats that can be read."""
    from deixis.cli.outputs import print_json, print_result
    from deixis.data.sources import FORMATS

    if as_json:
        print_json(
            {name: {"summary": one.summary, "tried_on": one.tried} for name, one in FORMATS.items()}
        )
        return
    width = max(map(len, FORMATS))
    print_result("\n".join(f"{name:{width}}  {one.summary}" for name, one in FORMATS.items()))


def build_command(
    tasks: Annotated[
        str,
        typer.Argument(help="TASK[*RATE][,TASK…], or the name of a mixture.", show_default=False),
    ],
    *,
    source: SourceSpecs,
    out: OutputFolder,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random choices.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Processes; all cores by default.")
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(help="A Ray cluster: auto, host:port, or local.", show_default=False),
    ] = None,
    turns: Annotated[
        int, typer.Option(min=1, max=64, help="Largest number of turns of a conversation.")
    ] = 1,
    embed: Annotated[
        bool, typer.Option(help="Store images in the shards instead of their names.")
    ] = False,
    check_images: CheckImages = True,
    shard_images: Annotated[int, typer.Option(min=1, help="Images in one shard.")] = 2000,
    budget: BudgetShare = 0.01,
    wordings: Annotated[
        Path | None, typer.Option(help="JSON file with custom wordings.", show_default=False)
    ] = None,
    rules: Annotated[str, typer.Option(help="Sampling rules: deixis or pink.")] = "deixis",
    rule: Annotated[
        list[str] | None,
        typer.Option(help="Change a rule: absent_share=0.3; repeat for more.", show_default=False),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make conversations from annotations and write them as Parquet shards.

    The same sources, tasks, seed and options give the same bytes. A build that was stopped
    continues when it is started again.
    """
    from deixis.cli.outputs import check_creatable, print_json, print_result
    from deixis.cli.progress_display import shown_progress
    from deixis.data.build import Budget, BuildPlan, build, with_wordings
    from deixis.data.mixture import parse_mixture
    from deixis.data.sources import named_apart, open_source
    from deixis.data.tasks import TASKS, parse_rules

    check_creatable(out)
    mixture = parse_mixture(tasks, known=TASKS)
    opened = named_apart([open_source(spec, rules=rules) for spec in source])
    obeyed, extra = with_wordings(wordings, parse_rules(rules, rule or ()))
    plan = BuildPlan(
        tuple(opened),
        mixture,
        seed=seed,
        turns=turns,
        embed=embed,
        check_images=check_images,
        shard_images=shard_images,
        rules=obeyed,
        extra=extra,
    )
    with shown_progress("build", "shards") as progress:

        def tell(step: str, done: int, total: int) -> None:
            if step == "build":
                progress(done, total)

        result = build(
            plan,
            out,
            workers=workers or os.cpu_count() or 1,
            cluster=cluster,
            budget=Budget(share=budget),
            progress=tell,
        )
    manifest = result.manifest
    if as_json:
        print_json(manifest)
    else:
        print_result(_summary(manifest))
    asked = [name for entry, _ in mixture.rates for name in entry.split("|")]
    unmade = [name for name in asked if name not in manifest["tasks"]]
    if unmade:
        typer.echo(f"no image gave a question of {', '.join(unmade)}", err=True)
        _hint_exhaustive([one.spec for one in opened])
    typer.echo(f"data set: {out}", err=True)


def _hint_exhaustive(specs: Sequence[str]) -> None:
    """Hint at the option that allows questions about numbers, quadrants and whole classes."""
    for spec in specs:
        if spec.startswith("visual_genome:") and ",exhaustive=" not in spec:
            typer.echo(
                f"hint: {spec},exhaustive=true takes its instances as complete, as "
                "--rules pink does",
                err=True,
            )


def _summary(manifest: object) -> str:
    if not isinstance(manifest, dict):
        return ""
    size = sum(shard["bytes"] for shard in manifest["shards"]) / 2**20
    count = len(manifest["shards"])
    lines = [f"{manifest['conversations']} conversations in {count} shards, {size:.1f} MiB"]
    for name, one in manifest["sources"].items():
        lines.append(
            f"{name}: {one['images']} images, {one['used'] + one['used_without_some_records']} used, "
            f"{one['filtered']['no_task_applies']} without a task that applies, "
            f"{one['quarantined']} quarantined, and {one['quarantined_records']} single records"
        )
    reasons = manifest["quarantine"]["reasons"]
    if reasons:
        lines.append("quarantine: " + ", ".join(f"{code} {n}" for code, n in reasons.items()))
    return "\n".join(lines)


def check_command(
    what: Annotated[
        str,
        typer.Argument(
            help="A built folder, a JSON-lines file, or a source as FORMAT:PATH.",
            show_default=False,
        ),
    ],
    *,
    check_images: CheckImages = True,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Do not decode pictures; for sources, check headers only."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """List problems of annotations with their places, or verify a built data set.

    Every picture is decoded unless --quick is given. Ends with 3 if annotations or their pictures
    have problems, and with 7 if a built data set or one of its pictures has changed.
    """
    from deixis.cli.outputs import print_json, print_result
    from deixis.data.build import check_pictures, check_sources, verify
    from deixis.data.sources import open_source
    from deixis.processing.images import read_image

    path = Path(what)
    if path.is_dir() and ((path / "manifest.json").exists() or (path / "plan.json").exists()):
        found = verify(path)
        looked = None if quick or not check_images else check_pictures(path, read_image)
        if as_json:
            print_json(found if looked is None else found | _pictures_json(looked))
        else:
            text = ", ".join(f"{count} {name}" for name, count in found.items()) + ": whole"
            print_result(text if looked is None else f"{text}\n{_pictures_text(looked)}")
        if looked is not None and looked.reasons:
            raise typer.Exit(7)
        return
    spec = f"jsonl:{what}" if path.is_file() and ":" not in what else what
    read = None if quick or not check_images else read_image
    findings = check_sources([open_source(spec)], check_images=check_images, read=read)
    if as_json:
        print_json(
            {
                "images": findings.images,
                "records": findings.records,
                "passed_over": dict(findings.passed_over),
                "sound_images": findings.sound,
                "faults": dict(findings.reasons.most_common()),
                "normalised": dict(findings.normalised),
                "examples": findings.examples,
            }
        )
    else:
        print_result(_findings_text(findings))
    if findings.reasons:
        raise typer.Exit(3)


def _pictures_json(findings: "Findings") -> dict[str, object]:
    return {
        "pictures": findings.images,
        "sound_pictures": findings.sound,
        "faults": dict(findings.reasons.most_common()),
        "examples": findings.examples,
    }


def _pictures_text(findings: "Findings") -> str:
    lines = [f"{findings.images} pictures, {findings.sound} without problems"]
    return "\n".join([*lines, *_problem_lines(findings)])


def _findings_text(findings: "Findings") -> str:
    lines = [
        f"{findings.images} images of {findings.records} records, {findings.sound} without problems"
    ]
    lines += [f"passed over: {rule}: {count}" for rule, count in findings.passed_over.items()]
    lines += [f"normalised: {note}: {count}" for note, count in findings.normalised.items()]
    return "\n".join([*lines, *_problem_lines(findings)])


def _problem_lines(findings: "Findings") -> list[str]:
    from deixis.data.sources import REASONS

    lines: list[str] = []
    for code, count in findings.reasons.most_common():
        lines += ["", f"{code}: {count}: {REASONS.get(code, '')}"]
        lines += [f"  {example}" for example in findings.examples[code]]
    return lines


def report_command(
    folder: Annotated[Path, typer.Argument(help="A built folder.", show_default=False)],
    *,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with pictures to this file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Report what a built data set has, and what was left out and why."""
    from deixis.cli.outputs import output_file, print_json, print_result
    from deixis.data.build import BuiltDataset
    from deixis.data.dataset_report import as_text, report

    with output_file(html) if html is not None else nullcontext() as file:
        dataset = BuiltDataset(folder)
        content = report(dataset)
        if file is not None:
            from deixis.cli.dataset_page import report_page

            file.write(report_page(dataset, content).encode())
    if as_json:
        print_json(content)
    else:
        print_result(as_text(content))
    if html is not None:
        typer.echo(f"page: {html}", err=True)


def view_command(
    folder: Annotated[Path, typer.Argument(help="A built folder.", show_default=False)],
    *,
    out: Annotated[
        Path, typer.Option(help="Output file: a page, or a picture with --png.", show_default=False)
    ],
    png: Annotated[bool, typer.Option(help="Write a contact sheet instead of a page.")] = False,
    task: Annotated[str | None, typer.Option(help="Only this task.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    count: Annotated[int, typer.Option(min=1, max=500, help="Number of conversations.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice of conversations.")] = 0,
) -> None:
    """Show conversations with their regions and units drawn, and in every notation."""
    from deixis.cli.outputs import output_file
    from deixis.data.build import BuiltDataset

    with output_file(out) as file:
        from deixis.cli.dataset_page import choose_rows, contact_sheet, view_page

        dataset = BuiltDataset(folder)
        rows = choose_rows(dataset, task=task, source=source, count=count, seed=seed)
        content = contact_sheet(dataset, rows) if png else view_page(dataset, rows).encode()
        file.write(content)
    typer.echo(f"{'sheet' if png else 'page'}: {out} ({len(rows)} conversations)", err=True)

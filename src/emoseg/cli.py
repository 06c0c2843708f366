"""The command line. Each command is a few lines around one library call; what is heavy is imported inside.

Results go to stdout, everything else to stderr. Exit status: 0 all done, 1 some or all recordings failed (or a corpus
has errors), 2 the command itself was wrong.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

import emoseg
from emoseg.errors import AudioError, ConfigError, EmosegError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emoseg.config import TrainConfig
    from emoseg.corpora import Corpus
    from emoseg.types import Analysis, AnalysisFailure

app = typer.Typer(
    help="Learn the emotion of music from song-level labels, and tell it over time.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpus_app = typer.Typer(
    help="Check a corpus, count its wrong labels, or write the synthesised one.", no_args_is_help=True
)
app.add_typer(corpus_app, name="corpus")

CorpusSpec = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="NAME:PATH; NAME is 4q, pmemo, emomusic, emopia, vgmidi, deam, mtg-moodtheme, folder, csv or synth.",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores. Results do not depend on it.")]
Frontends = Annotated[
    str | None, typer.Option("--frontend", metavar="NAME[+NAME]", help="logmel, descriptors, or both joined by '+'.")
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; see docs/configuration.md.")
]
Space = Annotated[
    str | None,
    typer.Option(help="4q (quadrants), valence or arousal; mtg-moodtheme also mood:NAME and moods:FILE.csv."),
]
Threshold = Annotated[
    str | None,
    typer.Option(metavar="middle|mean|V[/A]", help="Where high begins on the corpus' own scale; default: its middle."),
]
Margin = Annotated[float, typer.Option(help="Leave out songs rated nearer to an axis than this; half the scale is 1.")]
LabelsOf = Annotated[
    Literal["clip", "song"] | None,
    typer.Option("--labels", help="emopia: a clip's own label, or the one most clips of its song have."),
]
Split = Annotated[str | None, typer.Option(metavar="NAME[+NAME]", help="Only songs of these official parts.")]
Audio = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Folder of the recordings, where they are not below PATH.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of the feature store; default: EMOSEG_CACHE or ~/.cache/emoseg.")
]


def main() -> None:
    """Run the command line; turn every expected failure into one line on stderr and an exit status."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 everywhere, and a file name that is no valid text must not stop a report.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    try:
        app(prog_name="emoseg")
    except EmosegError as error:
        sys.stderr.write(f"emoseg: {error}\n")
        sys.exit(2)
    except OSError as error:  # such as no space left, or no permission to write
        name = f"{error.filename}: " if error.filename else ""
        sys.stderr.write(f"emoseg: {name}{error.strerror or error}\n")
        sys.exit(2)
    except KeyboardInterrupt:
        sys.stderr.write("emoseg: interrupted\n")
        sys.exit(130)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"emoseg {emoseg.__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Learn the emotion of music from song-level labels, and tell it over time."""


@app.command()
def analyze(
    paths: Annotated[list[str], typer.Argument(metavar="PATH", help="Recordings, or folders of them.")],
    model: Annotated[Path | None, typer.Option(help="Model folder, as written by 'emoseg train'.")] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the files that --format asks for.")
    ] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="json, csv, audacity, sonic-visualiser, html; repeatable.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout instead of a table.")] = False,
    hop: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Distance of segments; default: the model's.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Tell the emotion of each recording over time."""
    from emoseg.analyzer import Analyzer
    from emoseg.progress import progress
    from emoseg.types import AnalysisFailure
    from emoseg.writers import FORMATS, common_root, json_lines, write

    formats = formats or []
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise ConfigError(f"format {unknown[0]!r} is unknown; choose from {', '.join(FORMATS)}")
    if bool(formats) != bool(out):
        raise ConfigError("--format and --out go together: what to write, and where")
    if model is None:
        raise ConfigError("no model given: --model DIR; 'emoseg train' learns one")
    analyzer = Analyzer(model, hop_s=hop)
    found = list(_recordings(paths))
    readable = [item for item in found if isinstance(item, str)]
    root = common_root(readable) if out and len(readable) > 1 else None
    analyses: list[Analysis] = []
    failures: list[AnalysisFailure] = []
    with progress("analysing", len(found), unit="recordings", quiet=quiet or len(found) < 2) as bar:
        for item in found:
            result: Analysis | AnalysisFailure
            try:
                result = item if isinstance(item, AnalysisFailure) else analyzer.analyze(item)
            except AudioError as error:
                result = AnalysisFailure(str(item), error.kind, str(error))
            if as_json:
                sys.stdout.write(json_lines.dumps(result) + "\n")
            if isinstance(result, AnalysisFailure):
                failures.append(result)
            elif not as_json:
                analyses.append(result)
            if out and not isinstance(result, AnalysisFailure):
                for name in formats:
                    write(result, out, format=name, root=root)
            bar.advance()
    if not as_json:
        _show(analyses, failures)
    if failures:
        raise typer.Exit(1)


def _show(analyses: list[Analysis], failures: list[AnalysisFailure]) -> None:
    """Print tables to stdout, and a line for each failure to stderr."""
    from rich.console import Console

    from emoseg.writers import terminal
    from emoseg.writers.appearance import legible

    terminal.render(analyses, Console())
    for failure in failures:
        sys.stderr.write(f"emoseg: {legible(failure.message)}\n")


def _recordings(paths: list[str]) -> Iterator[str | AnalysisFailure]:
    """Yield each recording asked for; a folder stands for all recordings below it."""
    from emoseg.audio import find_audio
    from emoseg.types import AnalysisFailure

    for path in paths:
        if not Path(path).is_dir():
            yield path
            continue
        try:
            found = find_audio(Path(path))
        except AudioError as error:
            yield AnalysisFailure(path, error.kind, str(error))
            continue
        yield from map(str, found)
        if not found:
            yield AnalysisFailure(path, "empty", f"{path}: no audio in this folder")


def _load(
    corpus: str,
    space: str | None,
    threshold: str | None,
    margin: float,
    labels: Literal["clip", "song"] | None,
    split: str | None,
    audio: Path | None,
) -> Corpus:
    """Load a corpus as its options say."""
    from emoseg.corpora import CorpusOptions, load_corpus

    return load_corpus(corpus, CorpusOptions(space, threshold, margin, labels, split, audio))


def _train_config(config: Path | None, frontend: str | None, method: str | None = None) -> TrainConfig:
    """Read the settings and put the options over them."""
    from emoseg.config import load_train_config, parse_frontends, replace_settings

    settings = load_train_config(config)
    if frontend:
        settings = replace_settings(settings, frontends=parse_frontends(frontend))
    return replace_settings(settings, method=method) if method else settings


@app.command()
def train(
    corpus: CorpusSpec,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model folder to write; must not exist.")],
    method: Annotated[str | None, typer.Option(help="sssl (the self-learner) or inherit (plain).")] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    space: Space = None,
    threshold: Threshold = None,
    margin: Margin = 0.0,
    labels: LabelsOf = None,
    split: Split = None,
    audio: Audio = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Learn a model folder from a corpus; the same command goes on after an interruption."""
    from emoseg.training import train as learn_model

    settings = _train_config(config, frontend, method)
    songs = _load(corpus, space, threshold, margin, labels, split, audio)
    trained = learn_model(songs, out, config=settings, seed=seed, workers=workers, cache=cache, quiet=quiet)
    for line in trained.left_out:
        sys.stderr.write(f"left out: {line}\n")
    figures = trained.model.config.figures
    sys.stdout.write(
        f"{out}: {trained.model.config.training['songs']} songs, held-out macro-F1 {figures['held_out_macro_f1']:.3f}, "
        f"calibration error {figures['held_out_calibration_error']:.3f}, "
        f"{figures['segments_flagged']:.1%} of segment labels not trusted\n"
    )


@app.command()
def evaluate(
    corpus: CorpusSpec,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Result file to write.")],
    methods: Annotated[
        list[str] | None, typer.Option("--method", help="inherit, sssl; repeatable; default both.")
    ] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    folds: Annotated[int, typer.Option(min=2)] = 10,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3,
    group: Annotated[Literal["artist", "none"], typer.Option(help="Keep artists together, or only songs.")] = "artist",
    noise: Annotated[str, typer.Option(help="none, segment:R, song:R or splice:R, into training songs.")] = "none",
    space: Space = None,
    threshold: Threshold = None,
    margin: Margin = 0.0,
    labels: LabelsOf = None,
    split: Split = None,
    audio: Audio = None,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Compare methods on the same folds of a corpus."""
    from rich.console import Console

    from emoseg.corpora.noise import NoiseSpec
    from emoseg.evaluation import Protocol, print_result, write_result
    from emoseg.evaluation import evaluate as run

    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; --out is the result file to write")
    protocol = Protocol(tuple(methods or ("inherit", "sssl")), folds, seeds, group, NoiseSpec.parse(noise))
    settings = _train_config(config, frontend)
    songs = _load(corpus, space, threshold, margin, labels, split, audio)
    result = run(songs, protocol, config=settings, workers=workers, cache=cache, quiet=quiet)
    write_result(result, out)
    print_result(result, Console())


@corpus_app.command("check")
def corpus_check(
    corpus: CorpusSpec,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    space: Space = None,
    threshold: Threshold = None,
    margin: Margin = 0.0,
    labels: LabelsOf = None,
    split: Split = None,
    audio: Audio = None,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Read every recording and say what a corpus holds and what is wrong with it; exit status 1 on errors."""
    from emoseg.corpora.check import check_corpus

    songs = _load(corpus, space, threshold, margin, labels, split, audio)
    report = check_corpus(songs, cache=cache, workers=workers, quiet=quiet)
    if as_json:
        sys.stdout.write(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        sys.stdout.write("\n".join(report.lines()) + "\n")
    if report.errors:
        raise typer.Exit(1)


@corpus_app.command("noise")
def corpus_noise(
    corpus: CorpusSpec,
    segment: Annotated[float, typer.Option(metavar="SECONDS", help="Length of the segments counted.")] = 5.0,
    figure: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the figure: .png, .svg or .pdf.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The tables as JSON.")] = False,
    space: Space = None,
    threshold: Threshold = None,
    margin: Margin = 0.0,
    split: Split = None,
    audio: Audio = None,
) -> None:
    """Tell how many segments have another emotion than their song's label; needs annotations over time, no audio."""
    from emoseg.corpora.label_noise import label_noise, write_figure

    labels: Literal["song"] | None = "song" if corpus.startswith("emopia:") else None
    noise = label_noise(_load(corpus, space, threshold, margin, labels, split, audio), segment_s=segment)
    for problem in noise.problems:
        sys.stderr.write(f"emoseg: {problem}\n")
    sys.stdout.write(json.dumps(noise.to_json(), indent=1) + "\n" if as_json else "\n".join(noise.lines()) + "\n")
    if figure:
        write_figure(noise, figure)
    if noise.problems:
        raise typer.Exit(1)


@corpus_app.command("synth")
def corpus_synth(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not exist or be empty.")],
    songs: Annotated[int, typer.Option(min=8)] = 120,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    workers: Workers = None,
    quiet: Quiet = False,
) -> None:
    """Compose a corpus with known emotion in every section: for tests, and to see the learner find wrong labels."""
    from emoseg.corpora.synth import write_corpus

    write_corpus(out, songs=songs, seed=seed, workers=workers, quiet=quiet)
    sys.stdout.write(f"synth:{out}: {songs} songs\n")

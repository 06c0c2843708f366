"""The command line. Each command is a few lines around one library call; what is heavy is imported inside.

Results go to stdout, everything else to stderr. Exit status: 0 all done, 1 some or all recordings failed (or a corpus
has errors), 2 the command itself was wrong.
"""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from emoseg.errors import AudioError, ConfigError, EmosegError
from emoseg.system.console import drop_output, put, put_json, show_own_warnings, tell
from emoseg.system.names import one_line, printable
from emoseg.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from emoseg.analysis.analyzer import Analyzer
    from emoseg.config import MethodName, TrainConfig
    from emoseg.corpora import Corpus
    from emoseg.library.questions import Answer
    from emoseg.system.progress import Progress
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
model_app = typer.Typer(help="List, show or copy models.", no_args_is_help=True)
app.add_typer(model_app, name="model")

CorpusSpec = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="NAME:PATH; NAME is 4q, pmemo, emomusic, emopia, vgmidi, deam, mtg-moodtheme, folder, csv or synth.",
    ),
]
Model = Annotated[
    str | None,
    typer.Option(metavar="NAME|DIR", help="A bundled model or a model folder; default: the bundled one, 4q."),
]
ModelArgument = Annotated[str, typer.Argument(metavar="NAME|DIR", help="A bundled model or a model folder.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Processes; default: all cores. Results do not depend on it.")]
Frontends = Annotated[
    str | None,
    typer.Option("--frontend", metavar="NAME[+NAME]", help="logmel, descriptors, compare; several joined by '+'."),
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
SoftLabels = Annotated[
    bool, typer.Option("--soft-labels", help="Learn from the corpus' soft labels, such as shares of listeners.")
]
Cache = Annotated[
    Path | None, typer.Option(help="Folder of the feature store; default: EMOSEG_CACHE or ~/.cache/emoseg.")
]


# Typer has a copy of click inside, whose errors it does not export; all wrong usage is of the class behind this one.
_UsageError = cast(type[Exception], typer.BadParameter.__mro__[1])
_INTERRUPTED, _PIPE_CLOSED, _DEFECT = 130, 141, 70


def main() -> None:
    """Run the command line; turn every failure into one line on stderr and an exit status."""
    _set_up_process()
    try:
        status = _run()
    except SystemExit as ended:  # a signal that asks the process to end
        status = ended.code if isinstance(ended.code, int) else 1
    try:
        sys.stdout.flush()
    except OSError:  # the reader at the other end has gone
        drop_output()
    sys.exit(status)


def _set_up_process() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        # JSON is UTF-8 everywhere, and a file name that is no valid text must not stop a report.
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace")
    show_own_warnings()
    logging.disable(logging.CRITICAL)  # libraries' remarks
    # Asked to end, a command removes what it has begun, as after an interrupt.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name) and threading.current_thread() is threading.main_thread():
            signal.signal(getattr(signal, name), _end)


def _end(number: int, frame: object) -> None:
    raise SystemExit(128 + number)


def _run() -> int:
    try:
        status = app(prog_name="emoseg", standalone_mode=False)
        if status == _INTERRUPTED:  # which typer makes of Ctrl-C
            tell("interrupted")
        return status if isinstance(status, int) else 0
    except _UsageError as error:
        return _usage(error)
    except EmosegError as error:
        tell(str(error))
        return 2
    except BrokenPipeError:  # such as 'emoseg library mood | head'
        drop_output()
        return _PIPE_CLOSED
    except OSError as error:  # such as no space left, or no permission to write
        name = f"{error.filename}: " if error.filename else ""
        tell(f"{name}{error.strerror or error}")
        return 2
    except MemoryError:
        tell("the memory is full")
        return 2
    except KeyboardInterrupt:
        tell("interrupted")
        return _INTERRUPTED
    except Exception as error:  # a defect: one line for the user, all of it for whoever looks for it
        if os.environ.get("EMOSEG_TRACEBACK"):
            raise
        tell(f"a defect of emoseg: {type(error).__name__}: {error} (EMOSEG_TRACEBACK=1 shows where)")
        return _DEFECT


def _usage(error: Any) -> int:
    """Tell in one line what is wrong with the command and where its help is; a bare command gets its help."""
    message = error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":
        if message:
            sys.stderr.write(printable(message) + "\n")
        return 2
    command = error.ctx.command_path if error.ctx else "emoseg"
    problem = " ".join(message.split()).rstrip(".").replace("Value error, ", "")
    if type(error).__name__ == "NoSuchOption" and command == "emoseg analyze":
        problem += "; a file whose name begins with '-' goes after '--'"
    tell(f"{problem} (try '{command} --help')")
    return 2


def _version(wanted: bool) -> None:
    if wanted:
        put(f"emoseg {VERSION}")
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
    model: Model = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for the files that --format asks for.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="json, csv, jams, audacity, sonic-visualiser, html, png: a file a recording; jsonl, parquet: one file "
            "for all. Repeatable.",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout instead of a table.")] = False,
    hop: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Distance of segments; default: the model's.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Tell the emotion of each recording over time."""
    from emoseg.analysis.analyzer import Analyzer
    from emoseg.analysis.model_folder import DEFAULT_MODEL
    from emoseg.audio.decoding import prepare, stated_duration_s
    from emoseg.system.progress import progress
    from emoseg.types import AnalysisFailure

    formats = _checked_formats(formats or [], out)
    prepare()
    analyzer = Analyzer(model or DEFAULT_MODEL, hop_s=hop)
    found = list(_recordings(paths))
    readable = [item for item in found if isinstance(item, str)]
    # Many recordings are counted; of a single one, its seconds.
    seconds = stated_duration_s(readable[0]) if len(found) == len(readable) == 1 else None
    total, unit = (seconds, "s of sound") if seconds else (len(found), "recordings")
    failed = 0
    with (
        _Results(out, formats, readable, as_json=as_json) as results,
        progress("analysing", total, unit=unit, quiet=quiet or total < 2) as bar,
    ):
        for item in found:
            result = item if isinstance(item, AnalysisFailure) else _analysed(analyzer, item, bar if seconds else None)
            with bar.hidden():
                failed += not results.add(result)
            if not seconds:
                bar.advance()
    if failed:
        raise typer.Exit(1)


def _analysed(analyzer: Analyzer, path: str, bar: Progress | None) -> Analysis | AnalysisFailure:
    """Return the analysis of a recording, or why there is none; one recording must not end a run."""
    from emoseg.types import AnalysisFailure

    try:
        return analyzer.analyze(path, on_progress=bar.advance if bar else None)
    except AudioError as error:
        return AnalysisFailure(path, error.kind, str(error))
    except EmosegError:  # of the model, which all recordings share
        raise
    except Exception as error:  # whatever a recording does to a library
        return AnalysisFailure(path, type(error).__name__, f"{path}: {type(error).__name__}: {error}")


class _Results(ExitStack):
    """Where the results of 'analyze' go as they come: standard output, a file per recording, files for all."""

    def __init__(self, out: Path | None, formats: list[str], paths: list[str], *, as_json: bool) -> None:
        from rich.console import Console

        from emoseg.system.files import remove_leftovers
        from emoseg.writers import COLLECTIONS, FORMATS, collection, common_root
        from emoseg.writers.terminal import ResultTable

        super().__init__()
        if out is not None:
            remove_leftovers(out, below=True)
        self._out, self._as_json = out, as_json
        self._formats = [name for name in formats if name in FORMATS]
        self._root = common_root(paths) if out and len(paths) > 1 else None
        self._table = ResultTable(Console())
        self._collections = [self.enter_context(collection(out, format=f)) for f in formats if out and f in COLLECTIONS]
        if not as_json:
            self.callback(self._table.finish)

    def add(self, result: Analysis | AnalysisFailure) -> bool:
        """Write a result; return whether all of it went well."""
        from emoseg.types import Analysis
        from emoseg.writers import json_lines

        if self._as_json:
            put(json_lines.dumps(result))
        for table in self._collections:
            table.add(result)
        if not isinstance(result, Analysis):
            if not self._as_json:
                tell(result.message)
            return False
        if not self._as_json:
            self._table.add(result)
        return self._write_files(result)

    def _write_files(self, analysis: Analysis) -> bool:
        from emoseg.writers import write

        well = True
        for name in self._formats if self._out else ():
            try:
                write(analysis, cast(Path, self._out), format=name, root=self._root)
            except (EmosegError, OSError) as error:  # the next recording may have room, or another name
                tell(str(error))
                well = False
        return well


def _checked_formats(formats: list[str], out: Path | None) -> list[str]:
    """Return the formats, each once, when all are known and can be written, and there is a folder for them."""
    from emoseg.writers import COLLECTIONS, FORMATS, require_format

    unknown = [name for name in formats if name not in FORMATS and name not in COLLECTIONS]
    if unknown:
        raise ConfigError(f"format {unknown[0]!r} is unknown; choose from {', '.join([*FORMATS, *COLLECTIONS])}")
    if bool(formats) != bool(out):
        raise ConfigError("--format and --out go together: what to write, and where")
    if out is not None and out.exists() and not out.is_dir():
        raise ConfigError(f"{out}: is a file; --out is the folder to write to")
    for name in formats:
        require_format(name)
    return list(dict.fromkeys(formats))


def _recordings(paths: list[str]) -> Iterator[str | AnalysisFailure]:
    """Yield each recording asked for; a folder stands for all recordings below it."""
    from emoseg.audio.find import scan_folder
    from emoseg.types import AnalysisFailure

    for path in paths:
        try:
            folder = Path(path).is_dir()
        except (OSError, ValueError):  # a path that cannot be searched is no recording either, and its turn says why
            folder = False
        if not folder:
            yield path
            continue
        try:
            scan = scan_folder(Path(path))
        except ConfigError as error:
            yield AnalysisFailure(path, "unreadable", str(error))
            continue
        yield from (str(Path(path, file.path)) for file in scan.files)
        for inner, cause in scan.unlisted.items():
            unlisted = str(Path(path, inner))
            yield AnalysisFailure(unlisted, "unreadable", f"{unlisted}: cannot be listed: {cause}")
        if not scan.files and not scan.unlisted:
            yield AnalysisFailure(path, "empty", f"{path}: no audio in this folder")


@app.command()
def batch(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR", help="Folder of recordings; the shards for --merge.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The library: made, or gone on with if it is there.")
    ] = None,
    model: Model = None,
    hop: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="Distance of segments; default: the model's.")
    ] = None,
    workers: Workers = None,
    shard: Annotated[str | None, typer.Option(metavar="I/N", help="Do this share of the recordings alone.")] = None,
    timeout: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Give a recording up after this time; default: 300, and 30 a megabyte."),
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Try again what failed and has not changed.")] = False,
    merge_into: Annotated[
        Path | None, typer.Option("--merge", metavar="DIR", help="Make this library from those of all shards.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The report as JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Analyse a whole library of recordings; may be killed at any moment, the same command goes on."""
    from emoseg.analysis.model_folder import DEFAULT_MODEL, find_model
    from emoseg.library import Shard, merge, run_batch

    if merge_into is not None:
        if out or model or shard:
            raise ConfigError("--merge takes the folders of shards, and none of --out, --model, --shard")
        merged = merge(merge_into, folders)
        for name in merged.missing:
            tell(f"the shard {name} was not given")
        counted = f"{merged.songs} songs, {merged.failed} failed, {merged.todo} to do"
        if as_json:
            put_json(merged.to_json())
        else:
            put(f"{merge_into}: {counted}")
        raise typer.Exit(1 if merged.failed or merged.todo or merged.missing else 0)
    if out is None:
        raise ConfigError("no library given: --out DIR")
    if len(folders) != 1:
        raise ConfigError(f"a library has one folder of recordings; {len(folders)} were given")
    if timeout is not None and not 0 < timeout < float("inf"):
        raise ConfigError(f"timeout {timeout} s: must be above 0")
    report = run_batch(
        folders[0],
        out,
        model=find_model(model or DEFAULT_MODEL),
        hop_s=hop,
        workers=workers,
        shard=Shard.parse(shard) if shard else None,
        timeout_s=timeout,
        retry=retry,
        quiet=quiet,
    )
    for line in report.problems(most=20):
        tell(line)
    if as_json:
        put_json(report.to_json())
    else:
        put(report.summary())
    if not report.complete:
        raise typer.Exit(1)


@app.command()
def tag(
    paths: Annotated[list[Path] | None, typer.Argument(metavar="PATH", help="Recordings, or folders of them.")] = None,
    library: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Take the emotion from this library, made by 'emoseg batch'.")
    ] = None,
    model: Model = None,
    write: Annotated[bool, typer.Option("--write", help="Write; without it, only say what would change.")] = False,
    undo_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where --write notes how to undo; default: a new file here.")
    ] = None,
    undo: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Restore all files as an earlier --write found them.")
    ] = None,
    keep_mtime: Annotated[bool, typer.Option("--keep-mtime", help="Keep the files' modification times.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")] = False,
) -> None:
    """Write the emotion of songs into their files' tags; a dry run unless --write, and never over a mood of yours."""
    from emoseg.analysis.model_folder import DEFAULT_MODEL
    from emoseg.tags import UndoFile
    from emoseg.tags.run import Source, tag_files, undo_files

    if undo is not None:
        if paths or library or model or write:
            raise ConfigError("--undo takes nothing else: the file says what to restore")
        lost = False
        for line, well in undo_files(undo):
            (put if well else tell)(line)
            lost |= not well
        raise typer.Exit(1 if lost else 0)
    if not paths and library is None:
        raise ConfigError("no recordings given: PATH, or --library DIR")
    source = Source(paths or [], library=library, model=model or (None if library else DEFAULT_MODEL))
    record = UndoFile(undo_file or UndoFile.default_path()) if write else None
    changed = failed = 0
    for result in tag_files(source, undo=record, keep_mtime=keep_mtime):
        changed += result.plan is not None and result.plan.changes
        failed += result.plan is None
        if as_json:
            put_json(result.to_json())
        elif result.plan is None:
            tell(result.line())
        else:
            put(result.line())
    if record is None:
        tell(f"{changed} of {len(source.paths)} files would change (dry run; --write writes)")
    else:
        how = f"; undo with: emoseg tag --undo {record.path}" if changed else ""
        tell(f"{changed} of {len(source.paths)} files changed{how}")
    if failed:
        raise typer.Exit(1)


@app.command()
def library(
    out: Annotated[Path, typer.Argument(metavar="LIBRARY", help="A library, as made by 'emoseg batch'.")],
    most: Annotated[
        str | None, typer.Option(metavar="MOOD", help="Songs with most of a mood: calm, happy, a label, or V,A.")
    ] = None,
    changing: Annotated[bool, typer.Option("--changing", help="Songs whose emotion changes most.")] = False,
    like: Annotated[
        str | None, typer.Option(metavar="SONG", help="Songs with a course of emotion like this one's.")
    ] = None,
    playlist: Annotated[
        str | None, typer.Option(metavar="FROM:TO", help="A playlist from one mood to another, as M3U8.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option(metavar="SELECT", help="A question of your own to songs, segments and failures.")
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Songs in an answer or a playlist.")] = 20,
    minutes: Annotated[float | None, typer.Option(min=1, help="Length of the playlist, instead of --count.")] = None,
    apart: Annotated[int, typer.Option(min=0, help="Songs between two of the same artist, in a playlist.")] = 2,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE.m3u8", help="Where the playlist goes; default: stdout.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The answer as JSON.")] = False,
) -> None:
    """Ask a library: the calmest songs, those that change most, those like another; make playlists."""
    from emoseg.library.playlist import m3u8
    from emoseg.library.questions import Library, write_playlist

    if sum(asked is not None for asked in (most, like, playlist, sql)) + changing > 1:
        raise ConfigError("one question at a time: --most, --changing, --like, --playlist or --sql")
    if playlist is None and (out_file or minutes):
        raise ConfigError("--out and --minutes belong to --playlist")
    asked = Library(out)
    if unfinished := asked.unfinished():
        tell(unfinished)
    if playlist is not None:
        chosen = asked.playlist(playlist, count=count, minutes=minutes, apart=apart)
        songs = [song for song, _ in chosen]
        if out_file is not None:
            write_playlist(out_file, songs, root=asked.contents.root)
        if as_json:
            put_json(asked.playlist_table(chosen).to_json(), indent=1)
        elif out_file is None:
            sys.stdout.buffer.write(m3u8(songs, folder=Path(), root=asked.contents.root))
        else:
            _print_table(asked.playlist_table(chosen))
        return
    if most is not None:
        answer = asked.most(most, count=count)
    elif changing:
        answer = asked.changing(count=count)
    elif like is not None:
        answer = asked.like(like, count=count)
    else:
        answer = asked.sql(sql) if sql is not None else asked.summary()
    if as_json:
        put_json(answer.to_json(), indent=1)
    else:
        _print_table(answer)


def _print_table(answer: Answer) -> None:
    """Print a table as wide as its content; columns keep their names, numbers three decimals."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(answer.columns):
        numbers = all(isinstance(row[i], int | float) for row in answer.rows) and bool(answer.rows)
        table.add_column(column, justify="right" if numbers else "left", overflow="fold")
    for row in answer.rows:
        cells = ("" if v is None else f"{v:.3f}" if isinstance(v, float) else one_line(str(v)) for v in row)
        table.add_row(*(Text(cell) for cell in cells))
    # A pipe has no width: there no cell is folded.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table)


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


def _train_config(
    config: Path | None, frontend: str | None, method: str | None = None, *, soft_labels: bool
) -> TrainConfig:
    """Read the settings and put the options over them."""
    from emoseg.config import load_train_config, parse_frontends, replace_settings

    settings = load_train_config(config)
    if frontend:
        settings = replace_settings(settings, frontends=parse_frontends(frontend))
    if soft_labels:
        learning = settings.learning.model_copy(update={"soft_labels": True})
        settings = replace_settings(settings, learning=learning)
    return replace_settings(settings, method=method) if method else settings


@app.command()
def train(
    corpus: CorpusSpec,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Model folder to write; must not exist.")],
    method: Annotated[str | None, typer.Option(help="A method; see docs/methods.md.")] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    soft_labels: SoftLabels = False,
    space: Space = None,
    threshold: Threshold = None,
    margin: Margin = 0.0,
    labels: LabelsOf = None,
    split: Split = None,
    audio: Audio = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    measured: Annotated[
        Path | None,
        typer.Option(metavar="FILE.json", help="What 'emoseg evaluate' measured with these settings, for the card."),
    ] = None,
    notes: Annotated[Path | None, typer.Option(metavar="FILE.md", help="Text for the end of the model card.")] = None,
    workers: Workers = None,
    cache: Cache = None,
    quiet: Quiet = False,
) -> None:
    """Learn a model folder from a corpus; the same command goes on after an interruption."""
    from emoseg.training import train as learn_model

    settings = _train_config(config, frontend, method, soft_labels=soft_labels)
    songs = _load(corpus, space, threshold, margin, labels, split, audio)
    trained = learn_model(
        songs,
        out,
        config=settings,
        seed=seed,
        measured=measured,
        notes=notes,
        workers=workers,
        cache=cache,
        quiet=quiet,
    )
    for line in trained.left_out:
        tell(f"left out: {line}")
    figures = trained.model.config.figures
    put(
        f"{out}: {trained.model.config.training['songs']} songs, held-out macro-F1 {figures['held_out_macro_f1']:.3f}, "
        f"calibration error {figures['held_out_calibration_error']:.3f}, "
        f"{figures['segments_flagged']:.1%} of segment labels not trusted"
    )


@app.command()
def evaluate(
    corpus: CorpusSpec,
    out: Annotated[Path, typer.Option(metavar="FILE.json", help="Result file to write.")],
    methods: Annotated[
        list[str] | None,
        typer.Option("--method", help="Repeatable; default mixup and sssl; see docs/methods.md."),
    ] = None,
    frontend: Frontends = None,
    config: ConfigFile = None,
    soft_labels: SoftLabels = False,
    folds: Annotated[int | None, typer.Option(min=2, help="Default: 10.")] = None,
    test_split: Annotated[
        str | None,
        typer.Option(metavar="NAME[+NAME]", help="Instead of folds: test on these official parts, learn from others."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds: 0, 1, ...")] = 3,
    group: Annotated[Literal["artist", "none"], typer.Option(help="Keep artists together, or only songs.")] = "artist",
    noise: Annotated[str, typer.Option(help="none, segment:R, song:R or splice:R, into training songs.")] = "none",
    figure: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the result too; .png, .svg or .pdf.")
    ] = None,
    fraction: Annotated[
        float, typer.Option(help="Share of the training songs that keep their label; the others stay as audio.")
    ] = 1.0,
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
    """Compare methods on the same folds of a corpus; the same command goes on after an interruption."""
    from rich.console import Console

    from emoseg.evaluation import Protocol, print_result, unfinished_folder, write_result
    from emoseg.evaluation import evaluate as run
    from emoseg.evaluation.figure import require_figure, write_figure
    from emoseg.evaluation.injected_noise import InjectedNoise

    if not out.absolute().parent.is_dir():
        raise ConfigError(f"{out}: its folder does not exist")
    if out.is_dir():
        raise ConfigError(f"{out}: is a folder; --out is the result file to write")
    if figure:
        require_figure(figure)
    if folds is not None and test_split is not None:
        raise ConfigError("--folds and --test-split: give one of them, official parts are no folds")
    named = cast("tuple[MethodName, ...]", tuple(methods or ("mixup", "emoseg")))  # checked by the protocol
    parts = 1 if test_split is not None else folds or Protocol.folds
    protocol = Protocol(named, parts, seeds, group, InjectedNoise.parse(noise), fraction, test_split)
    result = run(
        _load(corpus, space, threshold, margin, labels, split, audio),
        protocol,
        config=_train_config(config, frontend, soft_labels=soft_labels),
        workers=workers,
        cache=cache,
        work=unfinished_folder(out),
        quiet=quiet,
    )
    write_result(result, out)
    print_result(result, Console(width=None if sys.stdout.isatty() else 100))
    if figure:
        write_figure(result, figure)


@model_app.command("list")
def model_list(
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a model.")] = False,
) -> None:
    """List the models that come with the package."""
    from emoseg.analysis.model_folder import bundled_models, load_model

    for name in bundled_models():
        found = load_model(name)
        facts = found.facts()
        if as_json:
            put_json(facts)
            continue
        learnt = f"learnt from {facts['corpus']} ({facts['songs']} songs)"
        put(f"{name}: {', '.join(facts['labels'])}; {learnt}, {facts['megabytes']:.1f} MB")


@model_app.command("show")
def model_show(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="The model's config.json.")] = False,
) -> None:
    """Say what a model is, what it was learnt from and how good it is: its card."""
    from emoseg.analysis.model_folder import load_model, read_card

    found = load_model(model)
    card = read_card(found)
    if as_json or not card:
        put_json(found.config.model_dump(mode="json"), indent=2)
    else:
        put(card.rstrip())


@model_app.command("export")
def model_export(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write; must not exist.")],
    weights: Annotated[
        bool, typer.Option(help="With the weights that further training needs, where the model has them.")
    ] = True,
) -> None:
    """Copy a model to a folder of its own."""
    from emoseg.analysis.model_folder import export_model

    export_model(model, out, weights=weights)
    put(str(out))


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
    from emoseg.checking.check import check_corpus

    songs = _load(corpus, space, threshold, margin, labels, split, audio)
    report = check_corpus(songs, cache=cache, workers=workers, quiet=quiet)
    if as_json:
        put_json(report.to_json(), indent=1)
    else:
        put("\n".join(report.lines()))
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
    from emoseg.evaluation.figure import write_label_change_figure
    from emoseg.evaluation.label_change import measure_label_change

    labels: Literal["song"] | None = "song" if corpus.startswith("emopia:") else None
    noise = measure_label_change(_load(corpus, space, threshold, margin, labels, split, audio), segment_s=segment)
    for problem in noise.problems:
        tell(problem)
    if as_json:
        put_json(noise.to_json(), indent=1)
    else:
        put("\n".join(noise.lines()))
    if figure:
        write_label_change_figure(noise, figure)
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
    from emoseg.synthesis.corpus import write_corpus

    write_corpus(out, songs=songs, seed=seed, workers=workers, quiet=quiet)
    put(f"synth:{out}: {songs} songs")

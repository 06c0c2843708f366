"""Arguments and options that several commands share.

A command that works on a corpus is decorated with `takes_corpus` and has one parameter ``corpus: CorpusChoice``. On the
command line this parameter is the argument CORPUS and all options of `emoseg.corpora.CorpusOptions`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from emoseg.config import TrainConfig
    from emoseg.corpora import Corpus

# --- any command -----------------------------------------------------------------------------------------------------

Model = Annotated[
    str | None,
    typer.Option(metavar="NAME|DIR", help="A bundled model or a model folder; default: the bundled model 4q."),
]
ModelArgument = Annotated[str, typer.Argument(metavar="NAME|DIR", help="A bundled model or a model folder.")]
Hop = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", help="Seconds from the start of one segment to the next; default: the model's."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress on standard error.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Number of processes; default: one per core. Results do not depend on it.")
]
Cache = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Folder of the feature store; default: EMOSEG_CACHE or ~/.cache/emoseg."),
]
Seed = Annotated[int, typer.Option(min=0, help="Seed of all random choices.")]

# --- learning --------------------------------------------------------------------------------------------------------

Frontends = Annotated[
    str | None,
    typer.Option(
        "--frontend", metavar="NAME[+NAME]", help="logmel, descriptors or compare; several are joined by '+'."
    ),
]
ConfigFile = Annotated[
    Path | None, typer.Option("--config", metavar="FILE.toml", help="Settings; see docs/configuration.md.")
]
SoftLabels = Annotated[
    bool, typer.Option("--soft-labels", help="Learn from the corpus' soft labels, such as shares of listeners.")
]


def train_config(
    config: Path | None, frontend: str | None, method: str | None = None, *, soft_labels: bool
) -> TrainConfig:
    """Return the settings of a file, or the defaults, with those options in their place that were given.

    Raises
    ------
    ConfigError
        The file cannot be read, or a setting breaks a rule.
    """
    from emoseg.config import load_train_config, parse_frontends, replace_settings

    settings = load_train_config(config)
    if frontend:
        settings = replace_settings(settings, frontends=parse_frontends(frontend))
    if soft_labels:
        learning = settings.learning.model_copy(update={"soft_labels": True})
        settings = replace_settings(settings, learning=learning)
    return replace_settings(settings, method=method) if method else settings


# --- a corpus --------------------------------------------------------------------------------------------------------

_PANEL = "How the corpus is read"
CorpusArgument = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS",
        help="NAME:PATH, such as folder:songs; 'emoseg corpus list' prints all names, and docs/corpora.md explains.",
    ),
]
# One entry per field of `emoseg.corpora.CorpusOptions`, which has the defaults and checks the values.
CORPUS_OPTIONS: dict[str, Any] = {
    "space": Annotated[
        str | None,
        typer.Option(
            help="4q (quadrants), valence or arousal; a corpus of mood tags also takes mood:NAME and moods:FILE.csv.",
            rich_help_panel=_PANEL,
        ),
    ],
    "threshold": Annotated[
        str | None,
        typer.Option(
            metavar="middle|mean|V[/A]",
            help="The rating from which valence and arousal count as high; default: the middle of the scale.",
            rich_help_panel=_PANEL,
        ),
    ],
    "margin": Annotated[
        float | None,
        typer.Option(
            help="Leave out songs whose rating is nearer to an axis than this; half the scale is 1.",
            rich_help_panel=_PANEL,
        ),
    ],
    "labels": Annotated[
        str | None,
        typer.Option(
            metavar="clip|song",
            help="Where a song has several labelled clips: each clip's own label, or the label of most clips.",
            rich_help_panel=_PANEL,
        ),
    ],
    "split": Annotated[
        str | None,
        typer.Option(metavar="NAME[+NAME]", help="Use only songs of these official parts.", rich_help_panel=_PANEL),
    ],
    "audio": Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of the recordings, if they are not below PATH.", rich_help_panel=_PANEL
        ),
    ],
}


@dataclass(frozen=True)
class CorpusChoice:
    """A corpus as a user names it: ``NAME:PATH``, and those options that were given."""

    spec: str
    options: dict[str, Any]

    def load(self, **defaults: Any) -> Corpus:
        """Load the corpus.

        Parameters
        ----------
        **defaults
            Values of options that the user did not give; those that do not apply to the corpus are ignored.

        Raises
        ------
        CorpusError
            It cannot be read.
        ConfigError
            An option does not apply to it.
        """
        from emoseg.corpora import CORPORA, CorpusOptions, load_corpus

        name = self.spec.partition(":")[0]
        takes = CORPORA[name].takes if name in CORPORA else frozenset()
        applicable = {option: value for option, value in defaults.items() if option in takes}
        return load_corpus(self.spec, CorpusOptions(**{**applicable, **self.options}))


def takes_corpus(command: Callable[..., None]) -> Callable[..., None]:
    """Return a command for Typer in which the parameter ``corpus`` is an argument and the `CORPUS_OPTIONS`."""
    signature = inspect.signature(command, eval_str=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        parameter.replace(kind=keyword, annotation=CorpusArgument if name == "corpus" else parameter.annotation)
        for name, parameter in signature.parameters.items()
    ]
    parameters += [
        inspect.Parameter(name, keyword, default=None, annotation=annotation)
        for name, annotation in CORPUS_OPTIONS.items()
    ]

    @functools.wraps(command)
    def run(*, corpus: str, **values: Any) -> None:
        options = {name: value for name in CORPUS_OPTIONS if (value := values.pop(name)) is not None}
        command(corpus=CorpusChoice(corpus, options), **values)

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run

"""The method `emoseg`, the default: estimate how many labels are wrong, and correct them as far as evidence goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from emoseg.learning.cross_fit import SegmentFit
from emoseg.learning.methods.base import Method, MethodFit, Run, average_frontends
from emoseg.learning.methods.emoseg.evidence import weigh_labels
from emoseg.learning.methods.emoseg.settings import EmosegSettings
from emoseg.learning.methods.emoseg.song_votes import SongVoting
from emoseg.learning.methods.inherit import MixupTrainer, NetworksOnlyMixupTrainer
from emoseg.learning.training_set import TrainingSet


class Emoseg(Method):
    """Plain training with mixup; a second one with corrected targets where labels are wrong; votes of whole songs.

    1. A cross-fit on the given labels shows how many of them are wrong, and which (`weigh_labels`).
    2. Where labels of segments are wrong, networks learn again: labels that are considered wrong are replaced by
       predictions of members that did not learn from them. Where no label changes, the first cross-fit is kept, which
       is what plain training gives.
    3. The emotion of a song is a blend of the mean over its segments with the votes of machines on the whole song
       (`SongVoting`), weighted by how well each predicts held-out songs.

    Labels are weighed on one frontend, the one that is fastest to learn. Networks on the others learn once.
    """

    version = 1
    settings_class = EmosegSettings

    settings: EmosegSettings

    def fit(self, data: TrainingSet, run: Run) -> MethodFit:
        """Return what the method learns from a training set."""
        settings = self.settings
        vectors = [name for name, table in data.features.items() if table.ndim == 2]
        weighed = (vectors or list(data.features))[0]
        first = run.cross_fit(data, weighed, MixupTrainer, name=f"{weighed}-first", early_share=settings.early_share)
        song_voting = SongVoting(data, run, vectors, settings) if vectors and settings.song_votes else None
        evidence = weigh_labels(first, data, weighed, settings, song_voting)
        targets = evidence.targets if evidence.changed and settings.relearn else None

        def learn(frontend: str) -> SegmentFit:
            if frontend == weighed and targets is None:
                return first
            return run.cross_fit(data, frontend, NetworksOnlyMixupTrainer, name=frontend, targets=targets)

        fit = average_frontends({name: learn(name) for name in data.features}, data, run.config)
        assumed_rate = evidence.song_rate if settings.allow_for_wrong_songs else 0.0
        if song_voting:
            fit = song_voting.without(evidence.atypical).add_to(fit, assumed_rate)
        return replace(
            fit,
            clean=evidence.clean,
            flagged=evidence.clean < 0.5,
            guesses=evidence.guesses,
            noise_rate=evidence.rate,
            song_rate=assumed_rate,
        )

    def passes(self, epochs: Mapping[str, int], members: int) -> int:
        """Return the largest number of passes: all frontends once, and the one that labels are weighed on twice."""
        return members * (sum(epochs.values()) + min(epochs.values()))

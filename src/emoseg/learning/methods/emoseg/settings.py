"""Settings of the method `emoseg`."""

from __future__ import annotations

from pydantic import Field, PositiveFloat

from emoseg.config import MethodSettings


class EmosegSettings(MethodSettings):
    """Settings of the method `emoseg`; docs/methods.md explains its steps."""

    # --- how many labels are wrong
    negligible_rate: float = Field(
        0.02,
        ge=0,
        le=1,
        description="Share of wrong labels up to which all count as right: chance gives as much on clean labels.",
    )
    rate_significance: float = Field(
        1.92,
        ge=0,
        description="Log-likelihood ratio, in nats, below which an estimated share of wrong labels counts as 0. The "
        "default is half the 95 % point of chi-squared with one degree of freedom.",
    )
    rate_tie_break: float = Field(
        0.003,
        ge=0,
        description="Penalty on the temperature's logarithm, in nats per unit, while a share of wrong labels is "
        "estimated; it decides for noise where noise and a high temperature explain disagreement equally well.",
    )

    # --- which labels are wrong
    early_share: float = Field(
        2 / 3,
        gt=0,
        le=1,
        description="Share of the passes in which networks have not yet memorised whole songs; what was learnt in them "
        "is evidence on songs that are labelled wrongly as a whole.",
    )
    held_out_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of the log odds from members that did not learn from a segment or song, beside those from "
        "members that did.",
    )
    learnt_weight: float = Field(
        0.5,
        ge=0,
        description="Weight of the log odds from members that learnt from a segment, where its song's segments were "
        "labelled one by one.",
    )
    odds_floor: float = Field(
        1e-3, gt=0, lt=0.5, description="Distance from 0 and 1 at which probabilities are cut before log odds."
    )
    smoothing_width: float = Field(
        1.5,
        ge=0,
        le=100,
        description="Standard deviation, in segments, of the average over neighbours in time; 0 turns smoothing off.",
    )
    smoothing_likeness: float = Field(
        0.5,
        gt=0,
        description="Squared distance of features, relative to the median within a song, at which the weight of a "
        "neighbour is multiplied by 1 / e.",
    )
    consensus_disagreement: float = Field(
        0.02,
        gt=0,
        le=1,
        description="Share of labels that must differ from their song's majority before the labels of a song's other "
        "segments count as votes; 1 turns these votes off.",
    )
    consensus_floor: float = Field(
        0.02, gt=0, lt=1, description="Smallest probability of a label after the votes of a song's other segments."
    )

    # --- learning again
    relearn: bool = Field(
        True, description="Learn a second time with corrected targets where labels of segments are found to be wrong."
    )

    # --- whole songs
    song_votes: bool = Field(
        True, description="Blend the mean over segments with the votes of support vector machines on whole songs."
    )
    drop_atypical_below: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Where a smaller share of the noise than this is in whole songs, the machines learn songs without "
        "the segments whose labels are found to be wrong; 0 turns this off.",
    )
    costs: tuple[PositiveFloat, ...] = Field(
        (1.0, 3.0, 10.0), min_length=1, description="Costs C of the machines to choose from, each above 0."
    )
    kernel_width: float = Field(
        0.25, gt=0, description="Gamma of the machines' kernel, times the mean squared norm of the summaries."
    )
    weigh_summaries: bool = Field(
        True, description="Weigh each summary of a song by the share of its variance that is between labels."
    )
    deviation_weight: float = Field(
        0.5, ge=0, description="Weight of standard deviations within a song, relative to means."
    )
    vote_sharpness: float = Field(
        3.0, gt=0, description="Factor s of a vote tanh(s d), where d is the decision value of a machine."
    )
    guessed_share: float = Field(
        0.6,
        ge=0,
        le=1,
        description="Share of the unlabelled songs that the machines learn in a second round, with the label that was "
        "voted for; those with the clearest votes are used.",
    )
    guessed_weight: float = Field(
        0.15, gt=0, description="Weight of such a song, relative to a labelled one, in the second round."
    )
    blend_penalty: float = Field(
        1e-3, ge=0, description="Penalty that holds the weights of the blend to their starting values."
    )
    allow_for_wrong_songs: bool = Field(
        True,
        description="Take the share of wrongly labelled songs into account while the blend and the song model are "
        "fitted.",
    )

"""The methods of learning, one module a method or a close family, behind one registry.

`METHODS` maps each name of `emoseg.config.MethodName` to a `Method`. A new method is a `Trainer` (what one pass does)
and a line ``CrossFitted(NewTrainer)`` here, or, where one cross-fit is not all there is to it, a `Method` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from emoseg.config import MethodName
from emoseg.learning.methods.attention_mil import AttentionMil
from emoseg.learning.methods.base import CrossFitted, Method
from emoseg.learning.methods.co_teaching import CoTeaching
from emoseg.learning.methods.confident import ConfidentLearning
from emoseg.learning.methods.dividemix import DivideMix
from emoseg.learning.methods.elr import Elr
from emoseg.learning.methods.emoseg.method import EvidenceLearner
from emoseg.learning.methods.inherit import Inherit, Mixup
from emoseg.learning.methods.mean_teacher import MeanTeacher
from emoseg.learning.methods.sssl import SelfLearner
from emoseg.learning.methods.svm_compare import SvmCompare
from emoseg.learning.methods.whole_song import WholeSong

__all__ = ["METHODS", "Method"]

METHODS: Mapping[MethodName, Method] = MappingProxyType(
    {
        "inherit": CrossFitted(Inherit),
        "mixup": CrossFitted(Mixup),
        "elr": CrossFitted(Elr),
        "co-teaching": CrossFitted(CoTeaching),
        "dividemix": CrossFitted(DivideMix),
        "confident": ConfidentLearning(),
        "mean-teacher": CrossFitted(MeanTeacher),
        "attention-mil": AttentionMil(),
        "whole-song": WholeSong(),
        "svm-compare": SvmCompare(),
        "sssl": CrossFitted(SelfLearner),
        "emoseg": EvidenceLearner(),
    }
)

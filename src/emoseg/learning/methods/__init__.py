"""The methods of learning, one module a method or a close family, behind one registry.

`METHODS` maps each name of `emoseg.config.MethodName` to a `Method`. A new method is a `Trainer` (what one pass does)
and a line ``CrossFitted(NewTrainer)`` here, or, where one cross-fit is not all there is to it, a `Method` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from emoseg.config import MethodName
from emoseg.learning.methods.base import CrossFitted, Method
from emoseg.learning.methods.inherit import Inherit, Mixup
from emoseg.learning.methods.sssl import SelfLearner

__all__ = ["METHODS", "Method"]

METHODS: Mapping[MethodName, Method] = MappingProxyType(
    {
        "inherit": CrossFitted(Inherit),
        "mixup": CrossFitted(Mixup),
        "sssl": CrossFitted(SelfLearner),
    }
)

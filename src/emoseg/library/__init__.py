"""Batches: a whole library of recordings, analysed once each into two tables; resumable, sharded, mergeable."""

from emoseg.library.manifest import Failure, Manifest
from emoseg.library.merge import MergeReport, merge
from emoseg.library.run import BatchReport, run_batch
from emoseg.library.shards import Shard

__all__ = ["BatchReport", "Failure", "Manifest", "MergeReport", "Shard", "merge", "run_batch"]
